// SPDX-License-Identifier: Apache-2.0
/* A pidfd, of a process that lives and moves, too. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "kernel/proc.h"
#include "kinds/kind.h"
#include "pidfd.pb-c.h"

/* PIDFD_THREAD (Linux 6.9), which may name a single thread. */
#define OF_THREAD    O_EXCL
#define STATUS_FLAGS (SETFL_FLAGS | O_ASYNC)

static bool pidfd_claims(const struct file *f)
{
	return strcmp(f->link, "anon_inode:[pidfd]") == 0 || strncmp(f->link, "pidfd:", 6) == 0;
}

static struct err *pidfd_capture(struct capture *c)
{
	Migrate__Kind__Pidfd m = MIGRATE__KIND__PIDFD__INIT;
	const char *text = c->file->fdinfo;
	uint64_t pid;

	if (strstr(text, "\nPid:\t-1\n"))
		return err_new(ERR_UNSUPPORTED, "its process has ended, and was waited for");
	TRY(fdinfo_u64(text, "Pid", 10, &pid));
	if (c->file->flags & OF_THREAD)
		return err_new(ERR_UNSUPPORTED, "it is of a thread (PIDFD_THREAD)");
	if (!capture_inside(c, (pid_t)pid))
		return err_hint(
			err_new(ERR_UNSUPPORTED,
				"it refers to process %ju, which stays behind or has ended",
				(uintmax_t)pid),
			"let the program close it, or wait for the process");
	m.pid = (int32_t)pid;
	m.flags = c->file->flags & STATUS_FLAGS;
	capture_emit(c, c->file->id, &m.base);
	return NULL;
}

static struct err *pidfd_rebuild(
	struct rebuild *r, const struct object *o unused_arg, const void *msg, int *fd)
{
	const Migrate__Kind__Pidfd *m = msg;
	autoclose int made = -1;

	/* One that is young comes later, and so does what refers to it. */
	if (m->pid <= 1 || !rebuild_task(r, m->pid))
		return err_new(ERR_MISMATCH, "it refers to process %d, which has not come", m->pid);
	made = pidfd_open(m->pid, 0);
	if (made < 0)
		return err_errno(errno, "open process %d", m->pid);
	if (fcntl(made, F_SETFL, (int)(m->flags & STATUS_FLAGS)) < 0)
		return err_errno(errno, "set the flags of a pidfd");
	*fd = take_fd(&made);
	return NULL;
}

const struct kind kind_pidfd = {
	.id = 31,
	.name = "pidfd",
	.scope = KIND_FILE,
	.stage = STAGE_FILE,
	.msg = &migrate__kind__pidfd__descriptor,
	.claims = pidfd_claims,
	.capture = pidfd_capture,
	.rebuild = pidfd_rebuild,
	.rebuilt_late = true,
};
