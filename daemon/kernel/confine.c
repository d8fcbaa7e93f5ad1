// SPDX-License-Identifier: Apache-2.0
/*
 * Lists that several others take in:
 *
 * What glibc does by itself (heap, stdio, threads, time where there is no vdso). A process may not
 * signal another; abort() needs its own SIGABRT.
 * @calls base: brk munmap mremap madvise futex restart_syscall rt_sigreturn rt_sigprocmask
 * @calls base: exit exit_group getpid gettid clock_gettime clock_nanosleep gettimeofday nanosleep
 * @calls base: tgkill[2=SIGABRT] sched_yield getrandom rseq set_robust_list
 * @calls base: write[0=STDERR_FILENO] writev[0=STDERR_FILENO] lseek[0=STDERR_FILENO]
 *
 * Memory that can be executed cannot be made.
 * @calls base: mmap[2&PROT_EXEC=0] mprotect[2&PROT_EXEC=0]
 *
 * The event loop of libevent, and its buffers on sockets. It looks at FIONREAD before it reads.
 * @calls libevent: epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd2
 * @calls libevent: timerfd_create timerfd_settime readv writev ioctl[1=FIONREAD] shutdown close
 * @calls libevent: pipe2 getuid geteuid getgid getegid socketpair[0=AF_UNIX]
 * @calls libevent: fcntl[1=F_GETFD] fcntl[1=F_SETFD] fcntl[1=F_GETFL] fcntl[1=F_SETFL]
 *
 * OpenSSL on a connected socket; it tells a fork by the process id, and locks what holds the key.
 * @calls openssl: read write getpid mlock munlock close
 *
 * What calls.py collects is in the order of enum confine_list.
 */
#include "kernel/confine.h"

#include <asm/prctl.h>
#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <linux/tls.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define CONDITIONS_MAX 3

/* A sanitizer makes calls that no list has, reads /proc, and to look for leaks traces the process.
 * Such a build is for tests only. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

struct allowed {
	int call;
	unsigned n;
	struct scmp_arg_cmp conditions[CONDITIONS_MAX];
};

#include "calls.inc"

/* ---- system calls ---- */

static struct err *add_rules(scmp_filter_ctx ctx, const struct allowed *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct allowed *a = &list[i];
		int rc = seccomp_rule_add_array(
			ctx, SCMP_ACT_ALLOW, a->call, a->n, a->n ? a->conditions : NULL);

		if (rc < 0)
			return err_errno(-rc, "allow system call %d", a->call);
	}
	return NULL;
}

/* The filter of another architecture's calls (32 bits, x32) is the same as of one not allowed. */
static struct err *fill(scmp_filter_ctx ctx, enum confine_list which, uint32_t otherwise)
{
	int rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, otherwise);

	if (rc < 0)
		return err_errno(-rc, "set up a filter of system calls");
	TRY(add_rules(ctx, lists[which].calls, lists[which].n));
	rc = seccomp_load(ctx);
	if (rc < 0)
		return err_hint(err_errno(-rc, "load the filter of system calls"),
			"migrated needs a kernel with seccomp filters (CONFIG_SECCOMP_FILTER)");
	return NULL;
}

struct err *confine_calls(enum confine_list which)
{
	uint32_t otherwise =
		which == CONFINE_NAMES ? SCMP_ACT_ERRNO(EACCES) : SCMP_ACT_KILL_PROCESS;
	scmp_filter_ctx ctx = SANITIZED ? NULL : seccomp_init(otherwise);
	struct err *e;

	if (SANITIZED)
		return NULL;
	if (!ctx)
		return err_new(ERR_KERNEL, "no filter of system calls can be made");
	e = fill(ctx, which, otherwise);
	seccomp_release(ctx);
	return err_in(e, "confine to the calls of %s", lists[which].name);
}

/* ---- capabilities ---- */

/* The bounding set first: that takes CAP_SETPCAP. A capability that the kernel does not know cannot
 * be dropped from it. SECBIT_NOROOT: being root, should it ever be, gives none. */
struct err *confine_capabilities(uint64_t keep)
{
	const int bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
			 SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
			 SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

	for (unsigned cap = 0; cap < 64 && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return err_errno(errno, "drop a capability from the bounding set");
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
		prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) < 0)
		return err_errno(errno, "make capabilities stay away");
	capng_clear(CAPNG_SELECT_CAPS);
	for (unsigned cap = 0; cap < 64; cap++)
		if (keep >> cap & 1)
			(void)capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, cap);
	if (capng_apply(CAPNG_SELECT_CAPS) < 0)
		return err_errno(errno, "give up capabilities");
	return NULL;
}

/* ---- the file system ---- */

/* The old root is what the new one lies on, and goes. An initramfs cannot be pivoted away from:
 * there, chroot; nobody comes out of it who has neither capabilities nor a directory open. */
static struct err *change_root(void)
{
	if (syscall(SYS_pivot_root, ".", ".") == 0) {
		if (umount2(".", MNT_DETACH) < 0)
			return err_errno(errno, "leave the old root");
	} else if (errno != EINVAL || chroot(".") < 0) {
		return err_errno(errno, "change to an empty root");
	}
	return chdir("/") < 0 ? err_errno(errno, "change to an empty root") : NULL;
}

/* /proc is a directory on every system that we run on, and what lies on it there goes with it. */
struct err *confine_root(int flags)
{
	if (SANITIZED)
		return NULL;
	if (unshare(CLONE_NEWNS | CLONE_NEWIPC | flags) < 0)
		return err_hint(err_errno(errno, "make namespaces of its own"),
			"migrated needs CAP_SYS_ADMIN");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("none", "/proc", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
			"mode=555,size=4k,nr_inodes=2") < 0 ||
		chdir("/proc") < 0)
		return err_errno(errno, "make an empty root");
	return change_root();
}

/* ---- memory ---- */

struct err *confine_memory(void)
{
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_errno(errno, "forbid core dumps");
	return NULL;
}

/* ---- page threads ---- */

/* CAP_SYS_PTRACE is what process_vm_readv and process_vm_writev ask for. */
struct err *confine_page_thread(void)
{
	TRY(confine_capabilities(UINT64_C(1) << CAP_SYS_PTRACE));
	return confine_calls(CONFINE_PAGES);
}
