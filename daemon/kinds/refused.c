// SPDX-License-Identifier: Apache-2.0
/*
 * A table from what a descriptor looks like to a reason. Only for words: what is not listed here is
 * refused just as well.
 */
#include "kinds/refused.h"

#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>

struct reason {
	const char *link; /* how the link begins; NULL: any */
	mode_t type;      /* S_IFMT bits; 0: any */
	unsigned major;   /* of a device; 0: any */
	const char *why, *hint;
};

static const char tty_hint[] = "start the program without a terminal, e.g. by setsid with its "
			       "input from /dev/null and its output in a file";
static const char close_hint[] = "let the program close it, or stop what uses it";

/* The first that fits. Majors: Documentation/admin-guide/devices.txt. */
static const struct reason reasons[] = {
	{ "anon_inode:[fanotify]", 0, 0, "fanotify marks cannot be moved", close_hint },
	{ "anon_inode:[io_uring]", 0, 0,
		"io_uring rings are shared with the kernel and cannot be "
		"moved",
		"turn io_uring off in the program (e.g. UV_USE_IO_URING=0)" },
	{ "anon_inode:[userfaultfd]", 0, 0, "a userfaultfd cannot be moved", close_hint },
	{ "anon_inode:[perf_event]", 0, 0, "performance counters cannot be moved", close_hint },
	{ "anon_inode:bpf", 0, 0, "BPF objects belong to the kernel of this host", close_hint },
	{ "anon_inode:btf", 0, 0, "BPF objects belong to the kernel of this host", close_hint },
	{ "anon_inode:seccomp notify", 0, 0, "a seccomp listener decides for other processes",
		close_hint },
	{ "anon_inode:landlock-ruleset", 0, 0, "a Landlock rule set cannot be read back",
		close_hint },
	{ "anon_inode:[landlock-ruleset]", 0, 0, "a Landlock rule set cannot be read back",
		close_hint },
	{ "anon_inode:kvm", 0, 0, "a virtual machine (KVM) cannot be moved like a process",
		"use the migration of the virtual machine monitor" },
	{ "anon_inode:[fscontext]", 0, 0, "a mount in preparation cannot be moved", close_hint },
	{ "anon_inode:[fuse", 0, 0, "a FUSE server's connection belongs to a mount of this host",
		close_hint },
	{ "anon_inode:dmabuf", 0, 0, "device memory cannot be moved", close_hint },
	{ "/dmabuf:", 0, 0, "device memory cannot be moved", close_hint },
	{ "anon_inode:sync_file", 0, 0, "device state cannot be moved", close_hint },
	{ "anon_inode:", 0, 0, "a kernel object of a kind that cannot be moved", close_hint },
	{ "mnt:[", 0, 0, "a namespace of this host", close_hint },
	{ "net:[", 0, 0, "a namespace of this host", close_hint },
	{ "pid:[", 0, 0, "a namespace of this host", close_hint },
	{ "user:[", 0, 0, "a namespace of this host", close_hint },
	{ "uts:[", 0, 0, "a namespace of this host", close_hint },
	{ "ipc:[", 0, 0, "a namespace of this host", close_hint },
	{ "cgroup:[", 0, 0, "a namespace of this host", close_hint },
	{ "time:[", 0, 0, "a namespace of this host", close_hint },
	{ "socket:[", 0, 0, "a socket of a family, type or state that cannot be moved",
		close_hint },
	{ "/secretmem", 0, 0, "secret memory cannot be read, so it cannot be moved", NULL },
	{ "/[aio]", 0, 0, "an AIO context has requests in the kernel", close_hint },
	{ NULL, S_IFIFO, 0, "a named FIFO cannot be moved yet: its other end may be anybody's",
		close_hint },
	{ NULL, S_IFCHR, 4, "a terminal cannot be moved", tty_hint },
	{ NULL, S_IFCHR, 5, "a terminal cannot be moved", tty_hint },
	{ NULL, S_IFCHR, 136, "a terminal cannot be moved", tty_hint },
	{ "/dev/fuse", S_IFCHR, 0, "a FUSE server's connection belongs to a mount of this host",
		close_hint },
	{ "/dev/net/tun", S_IFCHR, 0, "a TUN or TAP interface belongs to this host", close_hint },
	{ "/dev/kvm", S_IFCHR, 0, "a virtual machine (KVM) cannot be moved like a process",
		"use the migration of the virtual machine monitor" },
	{ "/dev/dri/", S_IFCHR, 0, "a graphics device has state that cannot be moved", close_hint },
	{ "/dev/nvidia", S_IFCHR, 0, "a graphics device has state that cannot be moved",
		close_hint },
	{ "/dev/rtc", S_IFCHR, 0, "a clock device has state that cannot be moved", close_hint },
	{ NULL, S_IFCHR, 1, "a memory device of this host cannot be moved", close_hint },
	{ NULL, S_IFCHR, 10, "a device of this host cannot be moved", close_hint },
	{ NULL, S_IFCHR, 13, "an input device cannot be moved", close_hint },
	{ NULL, S_IFCHR, 116, "a sound device cannot be moved", close_hint },
	{ NULL, S_IFCHR, 0, "a character device cannot be moved", close_hint },
	{ NULL, S_IFBLK, 0, "a block device of this host cannot be moved", close_hint },
	{ "(unreachable)", 0, 0, "a file that has no path below the root of this host",
		close_hint },
	{ NULL, S_IFREG, 0, "a file that has no path on this host", close_hint },
	{ NULL, S_IFDIR, 0, "a directory that has no path on this host", close_hint },
};

static bool fits(const struct reason *r, const struct file *f)
{
	if (r->link && strncmp(f->link, r->link, strlen(r->link)) != 0)
		return false;
	if (r->type && (f->st.st_mode & S_IFMT) != r->type)
		return false;
	return !r->major || major(f->st.st_rdev) == r->major;
}

const char *refused_reason(const struct file *f, const char **hint)
{
	if (f->flags & O_PATH) {
		*hint = close_hint;
		return "a descriptor that is only a place (O_PATH), of something without a path";
	}
	for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
		if (fits(&reasons[i], f)) {
			*hint = reasons[i].hint;
			return reasons[i].why;
		}
	}
	*hint = NULL;
	return "a descriptor of a kind that cannot be moved";
}
