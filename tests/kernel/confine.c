// SPDX-License-Identifier: Apache-2.0
/* Each case in a child, which gives rights up and then tries to use them: how it ends tells. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "kernel/confine.h"
#include "kernel/proc.h"

#define PTRACE_BIT (UINT64_C(1) << 19)

/* Exit status, or the signal plus 1000. */
static int in_child(int (*fn)(void *arg), void *arg)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(fn(arg));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* ---- system calls ---- */

struct
try {
	enum confine_list list;
	long call;
	uint64_t args[6];
	int ends; /* -1: of SIGSYS; else with that errno, 0 for success */
};

static int try_call(void *arg)
{
	const struct try *t = arg;

	if (confine_calls(t->list))
		return 200;
	errno = 0;
	return syscall(t->call, t->args[0], t->args[1], t->args[2], t->args[3], t->args[4],
		       t->args[5]) < 0
		       ? errno
		       : 0;
}

static void listed(void **state unused_arg)
{
	static const char path[] = "/etc/passwd";
	const uint64_t p = (uintptr_t)path, rw = PROT_READ | PROT_WRITE,
		       priv = MAP_PRIVATE | MAP_ANONYMOUS, none = (uint64_t)-1;
	const struct try tries[] = {
		/* nobody executes, traces, opens, or makes code */
		{ CONFINE_CONTROL, SYS_execve, { p }, -1 },
		{ CONFINE_NET, SYS_execve, { p }, -1 },
		{ CONFINE_PAGES, SYS_execve, { p }, -1 },
		{ CONFINE_NAMES, SYS_execve, { p }, EACCES },
		{ CONFINE_CONTROL, SYS_ptrace, { PTRACE_TRACEME }, -1 },
		{ CONFINE_NET, SYS_ptrace, { PTRACE_TRACEME }, -1 },
		{ CONFINE_PAGES, SYS_ptrace, { PTRACE_TRACEME }, -1 },
		{ CONFINE_CONTROL, SYS_openat, { (uint64_t)AT_FDCWD, p, O_RDONLY }, -1 },
		{ CONFINE_NET, SYS_openat, { (uint64_t)AT_FDCWD, p, O_RDONLY }, -1 },
		{ CONFINE_PAGES, SYS_openat, { (uint64_t)AT_FDCWD, p, O_RDONLY }, -1 },
		{ CONFINE_CONTROL, SYS_mmap, { 0, 4096, PROT_READ | PROT_EXEC, priv, none }, -1 },
		{ CONFINE_NET, SYS_mmap, { 0, 4096, PROT_READ | PROT_EXEC, priv, none }, -1 },
		{ CONFINE_NET, SYS_mmap, { 0, 4096, rw, priv, none }, 0 },
		/* names are looked up in files, which stay as they are */
		{ CONFINE_NAMES, SYS_openat, { (uint64_t)AT_FDCWD, p, O_RDONLY }, 0 },
		{ CONFINE_NAMES, SYS_openat, { (uint64_t)AT_FDCWD, p, O_RDWR }, EACCES },
		{ CONFINE_NAMES, SYS_openat, { (uint64_t)AT_FDCWD, p, O_CREAT }, EACCES },
		{ CONFINE_NAMES, SYS_unlink, { p }, EACCES },
		/* the network is net's */
		{ CONFINE_CONTROL, SYS_socket, { AF_INET, SOCK_STREAM }, -1 },
		{ CONFINE_CONTROL, SYS_socket, { AF_UNIX, SOCK_STREAM }, -1 },
		{ CONFINE_PAGES, SYS_socket, { AF_INET, SOCK_STREAM }, -1 },
		{ CONFINE_NET, SYS_socket, { AF_INET, SOCK_STREAM }, 0 },
		{ CONFINE_NET, SYS_socket, { AF_NETLINK, SOCK_RAW }, -1 },
		{ CONFINE_NET, SYS_socket, { AF_PACKET, SOCK_RAW }, -1 },
		{ CONFINE_NET, SYS_bind, { none }, -1 },
		{ CONFINE_NET, SYS_listen, { none }, -1 },
		/* conditions are upon all of an argument */
		{ CONFINE_NET, SYS_socket, { AF_INET | UINT64_C(1) << 32, SOCK_STREAM }, -1 },
		{ CONFINE_NET, SYS_kill, { (uint64_t)getpid(), SIGTERM }, -1 },
		{ CONFINE_PAGES, SYS_ioctl, { none, 0xaa00 }, -1 },
		/* namespaces, modules, keys, users: nobody */
		{ CONFINE_NET, SYS_unshare, { CLONE_NEWUSER }, -1 },
		{ CONFINE_NET, SYS_keyctl, { 0 }, -1 },
		{ CONFINE_NET, SYS_setresuid, { 0, 0, 0 }, -1 },
		{ CONFINE_PAGES, SYS_clone, { CLONE_VM }, -1 },
		{ CONFINE_PAGES, SYS_clone3, { 0 }, -1 },
		{ CONFINE_CONTROL, SYS_getpid, { 0 }, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
		int want = tries[i].ends < 0 ? 1000 + SIGSYS : tries[i].ends;
		int got = in_child(try_call, (void *)(uintptr_t)&tries[i]);

		if (got != want)
			fail_msg("case %zu (list %d, call %ld): %d, not %d", i, (int)tries[i].list,
				tries[i].call, got, want);
	}
}

#ifdef __x86_64__
/* The calls of another architecture are not a way around. */
static int by_int80(void *unused unused_arg)
{
	long ret = 20; /* getpid, which is allowed by its own number */

	if (confine_calls(CONFINE_CONTROL))
		return 200;
	__asm__ volatile("int $0x80" : "+a"(ret) : : "memory", "r8", "r9", "r10", "r11");
	return 0;
}

static int by_x32(void *unused unused_arg)
{
	if (confine_calls(CONFINE_CONTROL))
		return 200;
	return syscall(0x40000000 | SYS_getpid) < 0 ? 1 : 0;
}

static void other_numbers(void **state unused_arg)
{
	assert_int_equal(in_child(by_int80, NULL), 1000 + SIGSYS);
	assert_int_equal(in_child(by_x32, NULL), 1000 + SIGSYS);
}
#endif

/* A failed assertion is told apart from a call that is not listed. */
static int give_up(void *list)
{
	if (confine_calls(*(const enum confine_list *)list))
		return 200;
	abort();
}

static void aborts(void **state unused_arg)
{
	for (enum confine_list list = 0; list < CONFINE_LISTS; list++)
		assert_int_equal(in_child(give_up, &list), 1000 + SIGABRT);
}

/* ---- capabilities ---- */

static int nothing_left(void *unused unused_arg)
{
	autoarena struct arena *a = arena_new();
	struct proc_status s;

	if (confine_capabilities(0) || proc_status(a, getpid(), 0, &s))
		return 200;
	if (s.cap_inh | s.cap_prm | s.cap_eff | s.cap_bnd | s.cap_amb)
		return 1;
	/* nor does being root bring anything back */
	if (setresuid(1, 1, 1) == 0)
		return 2;
	execl("/bin/sh", "sh", "-c",
		"grep -q '^CapEff:[[:space:]]*0*$' /proc/self/status || exit 3", NULL);
	return 201;
}

static void capabilities(void **state unused_arg)
{
	if (geteuid() != 0)
		skip();
	assert_int_equal(in_child(nothing_left, NULL), 0);
}

/* ---- the root ---- */

static int no_files(void *unused unused_arg)
{
	autoclose int fd = -1;

	if (confine_root(CLONE_NEWNET))
		return 200;
	if (access("/etc", F_OK) == 0 || access("/..", F_OK) != 0 || access("/../etc", F_OK) == 0)
		return 1;
	fd = open("/new", O_CREAT | O_WRONLY, 0600);
	if (fd >= 0 || errno != EROFS)
		return 2;
	return mkdir("/new", 0700) == 0 ? 3 : 0;
}

static void root(void **state unused_arg)
{
	if (geteuid() != 0)
		skip();
	assert_int_equal(in_child(no_files, NULL), 0);
	assert_int_equal(access("/etc", F_OK), 0); /* ours is as it was */
}

/* ---- a thread ---- */

struct beside {
	pid_t other, tid;
	int result;
	bool misbehaves;
};

static const char beside_byte = 'x';

static void *page_thread(void *arg)
{
	struct beside *b = arg;
	char byte = 0;
	struct iovec local = { &byte, 1 }, remote = { (void *)(uintptr_t)&beside_byte, 1 };

	b->tid = (pid_t)syscall(SYS_gettid);
	b->result = confine_page_thread() ? 200 : 0;
	if (b->result == 0 && process_vm_readv(b->other, &local, 1, &remote, 1, 0) != 1)
		b->result = 1;
	if (b->result == 0 && byte != 'x')
		b->result = 2;
	if (b->misbehaves)
		(void)syscall(SYS_getppid);
	return NULL;
}

static int try_exec(void *unused unused_arg)
{
	execl("/bin/true", "true", NULL);
	return 1;
}

/* Another user's process is read by the thread; the process's own thread keeps all that it had. */
static int with_thread(void *arg)
{
	struct beside b = { .misbehaves = arg != NULL };
	autoarena struct arena *a = arena_new();
	struct proc_status before, after;
	pthread_t thread;

	b.other = fork();
	if (b.other == 0) {
		if (setresgid(1, 1, 1) < 0 || setresuid(1, 1, 1) < 0 ||
			prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
			_exit(1);
		pause();
		_exit(0);
	}
	if (b.other <= 1)
		return 99;
	usleep(50000);
	if (proc_status(a, getpid(), 0, &before) ||
		pthread_create(&thread, NULL, page_thread, &b) != 0)
		return 100;
	pthread_join(thread, NULL);
	if (kill(b.other, SIGKILL) < 0 || waitpid(b.other, NULL, 0) != b.other)
		return 98;
	if (proc_status(a, getpid(), 0, &after))
		return 101;
	if (before.cap_eff != after.cap_eff || before.cap_bnd != after.cap_bnd ||
		after.no_new_privs || after.seccomp)
		return 102;
	/* and so has what it makes */
	if (in_child(try_exec, NULL) != 0)
		return 103;
	return b.result;
}

static void thread(void **state unused_arg)
{
	if (geteuid() != 0)
		skip();
	assert_int_equal(in_child(with_thread, NULL), 0);
	/* all of the process dies of it, not one thread, whose work would be waited for */
	assert_int_equal(in_child(with_thread, (void *)(uintptr_t) "misbehave"), 1000 + SIGSYS);
}

/* ---- memory ---- */

static int not_dumpable(void *unused unused_arg)
{
	if (confine_memory() || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return 200;
	return 0;
}

static void memory(void **state unused_arg)
{
	assert_int_equal(in_child(not_dumpable, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listed),
		cmocka_unit_test(aborts),
#ifdef __x86_64__
		cmocka_unit_test(other_numbers),
#endif
		cmocka_unit_test(capabilities),
		cmocka_unit_test(root),
		cmocka_unit_test(thread),
		cmocka_unit_test(memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
