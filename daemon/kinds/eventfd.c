// SPDX-License-Identifier: Apache-2.0
/*
 * A 64-bit counter behind a descriptor. fdinfo shows all of it (the semaphore flag since Linux
 * 6.5: without that line the mode cannot be told, and the object is refused). eventfd2() takes 32
 * bits, so the counter is written.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "eventfd.pb-c.h"
#include "kinds/kind.h"

#define EVENTFD_STATUS_FLAGS (SETFL_FLAGS | O_ASYNC)

static bool eventfd_claims(const struct file *f)
{
	return strcmp(f->link, "anon_inode:[eventfd]") == 0;
}

static struct err *eventfd_capture(struct capture *c)
{
	Migrate__Kind__Eventfd m = MIGRATE__KIND__EVENTFD__INIT;
	uint64_t semaphore;

	TRY(fdinfo_u64(c->file->fdinfo, "eventfd-count", 16, &m.count));
	TRY(fdinfo_u64(c->file->fdinfo, "eventfd-semaphore", 10, &semaphore));
	/* Only the kernel itself can drive a counter there, and nobody can write it. */
	if (m.count == UINT64_MAX)
		return err_new(ERR_UNSUPPORTED, "the counter has overflowed");
	m.semaphore = semaphore != 0;
	m.flags = c->file->flags & EVENTFD_STATUS_FLAGS;
	capture_emit(c, c->file->id, &m.base);
	return NULL;
}

static struct err *eventfd_rebuild(
	struct rebuild *r unused_arg, const struct object *o unused_arg, const void *msg, int *fd)
{
	const Migrate__Kind__Eventfd *m = msg;
	autoclose int made = eventfd(0, EFD_CLOEXEC | (m->semaphore ? EFD_SEMAPHORE : 0));

	if (made < 0)
		return err_errno(errno, "make an eventfd");
	if (m->count == UINT64_MAX)
		return err_new(ERR_PEER, "eventfd counter out of range");
	if (m->count && write(made, &m->count, sizeof(m->count)) != sizeof(m->count))
		return err_errno(errno, "set an eventfd counter");
	if (fcntl(made, F_SETFL, (int)(m->flags & EVENTFD_STATUS_FLAGS)) < 0)
		return err_errno(errno, "set the flags of an eventfd");
	*fd = take_fd(&made);
	return NULL;
}

const struct kind kind_eventfd = {
	.id = 21,
	.name = "eventfd",
	.scope = KIND_FILE,
	.stage = STAGE_FILE,
	.msg = &migrate__kind__eventfd__descriptor,
	.claims = eventfd_claims,
	.capture = eventfd_capture,
	.rebuild = eventfd_rebuild,
};
