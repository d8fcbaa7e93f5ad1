// SPDX-License-Identifier: Apache-2.0
/*
 * A signal mask behind a descriptor; the signals themselves are pending in the process. Which
 * process they are taken from is decided by who reads, so the descriptor can be made anywhere.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kinds/kind.h"
#include "signalfd.pb-c.h"

#define STATUS_FLAGS (SETFL_FLAGS | O_ASYNC)

static bool signalfd_claims(const struct file *f)
{
	return strcmp(f->link, "anon_inode:[signalfd]") == 0;
}

static struct err *signalfd_capture(struct capture *c)
{
	Migrate__Kind__Signalfd m = MIGRATE__KIND__SIGNALFD__INIT;

	TRY(fdinfo_u64(c->file->fdinfo, "sigmask", 16, &m.mask));
	m.flags = c->file->flags & STATUS_FLAGS;
	capture_emit(c, c->file->id, &m.base);
	return NULL;
}

static struct err *signalfd_rebuild(
	struct rebuild *r unused_arg, const struct object *o unused_arg, const void *msg, int *fd)
{
	const Migrate__Kind__Signalfd *m = msg;
	/* The system call, not the function: its mask has the kernel's size. */
	autoclose int made = (int)syscall(SYS_signalfd4, -1, &m->mask, sizeof(m->mask), O_CLOEXEC);

	if (made < 0)
		return err_errno(errno, "make a signalfd");
	if (fcntl(made, F_SETFL, (int)(m->flags & STATUS_FLAGS)) < 0)
		return err_errno(errno, "set the flags of a signalfd");
	*fd = take_fd(&made);
	return NULL;
}

const struct kind kind_signalfd = {
	.id = 26,
	.name = "signalfd",
	.scope = KIND_FILE,
	.stage = STAGE_FILE,
	.msg = &migrate__kind__signalfd__descriptor,
	.claims = signalfd_claims,
	.capture = signalfd_capture,
	.rebuild = signalfd_rebuild,
};
