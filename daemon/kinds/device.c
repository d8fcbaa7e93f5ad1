// SPDX-License-Identifier: Apache-2.0
/*
 * /dev/null and its relatives: the same on every host, no state behind the descriptor.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "device.pb-c.h"
#include "kinds/kind.h"

#define MEM_MAJOR 1 /* Documentation/admin-guide/devices.txt */

static const struct {
	unsigned minor;
	const char *path;
} devices[] = {
	{ 3, "/dev/null" },
	{ 5, "/dev/zero" },
	{ 7, "/dev/full" },
	{ 8, "/dev/random" },
	{ 9, "/dev/urandom" },
};

#define KEPT_OPEN_FLAGS (O_ACCMODE | O_APPEND | O_DSYNC | O_SYNC | O_NOFOLLOW)
#define STATUS_FLAGS    SETFL_FLAGS

static bool is_device(mode_t mode, dev_t rdev, unsigned minor)
{
	return S_ISCHR(mode) && rdev == makedev(MEM_MAJOR, minor);
}

static bool known_minor(unsigned minor)
{
	for (size_t i = 0; i < ARRAY_LEN(devices); i++)
		if (devices[i].minor == minor)
			return true;
	return false;
}

static bool device_claims(const struct file *f)
{
	return S_ISCHR(f->st.st_mode) && major(f->st.st_rdev) == MEM_MAJOR &&
	       known_minor(minor(f->st.st_rdev)) && !(f->flags & O_PATH);
}

static struct err *device_capture(struct capture *c)
{
	Migrate__Kind__Device m = MIGRATE__KIND__DEVICE__INIT;
	const struct file *f = c->file;
	struct stat st;

	m.minor = minor(f->st.st_rdev);
	if (stat(f->link, &st) < 0 || !is_device(st.st_mode, st.st_rdev, m.minor))
		return err_new(
			ERR_UNSUPPORTED, "%s does not lead to that device any more", f->link);
	m.path = (char *)f->link;
	m.flags = f->flags;
	capture_emit(c, f->id, &m.base);
	return NULL;
}

/* Looked at before it is opened: opening another device could do anything. */
static struct err *find(const Migrate__Kind__Device *m, int *ret)
{
	autoclose int found = -1;
	struct stat st;

	if (!known_minor(m->minor))
		return err_new(ERR_PEER, "device 1:%u is none that can be moved", m->minor);
	if (m->path[0] != '/')
		return err_new(ERR_PEER, "path %s is not absolute", m->path);
	found = open(m->path, O_PATH | O_CLOEXEC);
	if (found < 0 || fstat(found, &st) < 0)
		return err_errno(errno, "look at %s", m->path);
	if (!is_device(st.st_mode, st.st_rdev, m->minor))
		return err_new(
			ERR_MISMATCH, "%s is not device %u:%u there", m->path, MEM_MAJOR, m->minor);
	*ret = take_fd(&found);
	return NULL;
}

static struct err *device_check(
	struct rebuild *r unused_arg, const struct object *o unused_arg, const void *msg)
{
	autoclose int found = -1;

	return find(msg, &found);
}

static struct err *device_rebuild(
	struct rebuild *r unused_arg, const struct object *o unused_arg, const void *msg, int *fd)
{
	const Migrate__Kind__Device *m = msg;
	int flags = (int)(m->flags & KEPT_OPEN_FLAGS) | O_CLOEXEC | O_NOCTTY;
	autoclose int found = -1, made = -1;
	char again[40];
	struct stat st;

	TRY(find(m, &found));
	snprintf(again, sizeof(again), "/proc/self/fd/%d", found);
	/* O_NOFOLLOW stays with the description, and does not go through the link. */
	made = open(flags & O_NOFOLLOW ? m->path : again, flags | O_NONBLOCK);
	if (made < 0 || fstat(made, &st) < 0)
		return err_errno(errno, "open %s", m->path);
	if (!is_device(st.st_mode, st.st_rdev, m->minor))
		return err_new(ERR_MISMATCH, "%s was replaced meanwhile", m->path);
	if (fcntl(made, F_SETFL, (int)(m->flags & STATUS_FLAGS)) < 0)
		return err_errno(errno, "set the flags of %s", m->path);
	*fd = take_fd(&made);
	return NULL;
}

/* /dev/random can ask for signals; see pipe.c. */
static struct err *device_link(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__Device *m = msg;

	if (!(m->flags & O_ASYNC))
		return NULL;
	return REMOTE(r->task, r->thread, NULL, "ask for signals of a device", SYS_fcntl,
		(uint64_t)o->slots[0].number, F_SETFL, m->flags & (STATUS_FLAGS | O_ASYNC));
}

const struct kind kind_device = {
	.id = 23,
	.name = "device",
	.scope = KIND_FILE,
	.stage = STAGE_FILE,
	.msg = &migrate__kind__device__descriptor,
	.claims = device_claims,
	.capture = device_capture,
	.check = device_check,
	.rebuild = device_rebuild,
	.link = device_link,
};
