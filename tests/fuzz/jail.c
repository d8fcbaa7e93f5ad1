// SPDX-License-Identifier: Apache-2.0
/*
 * Where targets run that open what a peer names, and ask the kernel about threads that it names:
 * nothing can be written, nobody be reached, no process but ours be seen.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"

/* What is left of root's rights: enough to make a rebuild go on, nothing that others would feel. */
static const unsigned kept[] = { CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER,
	CAP_FSETID, CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_NET_RAW, CAP_SETGID, CAP_SETUID,
	CAP_SYS_CHROOT, CAP_SYS_ADMIN };

const char *fuzz_nothing(void)
{
	return NULL;
}

static bool empty(const char *path)
{
	return mount("none", path, "tmpfs", MS_NOSUID, "size=64m,mode=755") == 0;
}

static bool over_itself(const char *path)
{
	return mount(path, path, NULL, MS_BIND | MS_REC, NULL) == 0;
}

static bool read_only(const char *path)
{
	return mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0;
}

static bool devices(void)
{
	static const struct {
		const char *path;
		unsigned minor;
	} all[] = { { "/dev/null", 3 }, { "/dev/zero", 5 }, { "/dev/full", 7 },
		{ "/dev/random", 8 }, { "/dev/urandom", 9 } };
	bool ok = true;

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		ok = ok && mknod(all[i].path, S_IFCHR | 0666, makedev(1, all[i].minor)) == 0;
	return ok;
}

static bool fill(void)
{
	int fd = open(FUZZ_DIR "/file", O_CREAT | O_RDWR | O_CLOEXEC, 0755);
	bool ok = fd >= 0 && write(fd, "text\n", 5) == 5;

	if (fd >= 0)
		close(fd);
	return ok && mkdir(FUZZ_DIR "/state", 0700) == 0 && mkfifo(FUZZ_DIR "/fifo", 0644) == 0 &&
	       mkdir(FUZZ_DIR "/dir", 0755) == 0 && symlink("file", FUZZ_DIR "/link") == 0 &&
	       devices();
}

/* The loopback of a network of our own. */
static bool loopback(void)
{
	struct ifreq r = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool ok;

	r.ifr_flags = IFF_UP;
	ok = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &r) == 0;
	close(fd);
	return ok;
}

static const char *mounts(void)
{
	char cwd[4096];

	/* libFuzzer writes where we are. */
	if (!getcwd(cwd, sizeof(cwd)) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return "cannot change its mounts";
	if (!over_itself(cwd) || !empty("/run") || !empty("/dev") || mkdir(FUZZ_DIR, 0755) < 0 ||
		!fill())
		return "cannot make file systems of its own";
	if (mount("none", "/proc", "proc", MS_RDONLY, NULL) < 0 || !over_itself("/sys") ||
		!read_only("/sys"))
		return "cannot make /proc and /sys read-only";
	(void)read_only("/"); /* not where the root is no mount of its own */
	return chdir(cwd) < 0 ? "its working directory is gone" : NULL;
}

static bool drop_rights(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { 0 } };

	for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
		data[kept[i] / 32].effective |= 1u << kept[i] % 32;
		data[kept[i] / 32].permitted |= 1u << kept[i] % 32;
	}
	return syscall(SYS_capset, &head, data) == 0;
}

/* Ends as the child does. */
static void follow(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) != child)
		;
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* Goes on in a child; the parent waits for it. */
static bool descend(void)
{
	pid_t child = fork();

	if (child > 0)
		follow(child);
	return child == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
}

const char *fuzz_jail(void)
{
	const char *why;

	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWPID) < 0)
		return "makes namespaces: only root may";
	/* The first process of a namespace is init, whom signals do not end: we are the second. */
	if (!descend() || !descend())
		return "cannot fork";
	why = loopback() ? mounts() : "has no loopback";
	if (!why && !drop_rights())
		why = "cannot give up its rights";
	return why;
}
