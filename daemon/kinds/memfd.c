// SPDX-License-Identifier: Apache-2.0
/*
 * A descriptor of a memfd, or of a file that was unlinked. The object (name, size, contents) is
 * made by kinds/shm before any descriptor and found by its number on the source; here each
 * description of it is opened again through /proc/self/fd, which gives the same link and flags as
 * memfd_create(2). Seals come last, when all contents are in place. (An object made without
 * MFD_ALLOW_SEALING shows F_SEAL_SEAL alone: applying that gives the same.)
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "kernel/proc.h"
#include "kinds/kind.h"
#include "kinds/unlinked.h"
#include "memfd.pb-c.h"

#define KEPT_OPEN_FLAGS (O_ACCMODE | O_APPEND | O_DSYNC | O_SYNC | O_DIRECT | O_NOATIME)
#define STATUS_FLAGS    (O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | O_ASYNC)

static bool is_memfd(const struct file *f)
{
	return S_ISREG(f->st.st_mode) && strncmp(f->link, "/memfd:", 7) == 0 && f->st.st_nlink == 0;
}

static bool is_unlinked(const struct file *f)
{
	uint64_t id;

	return unlinked_of(f->link, &f->st, &id) && !file_is_queue(f);
}

static bool memfd_claims(const struct file *f)
{
	return (is_memfd(f) || is_unlinked(f)) && !(f->flags & O_PATH);
}

/* Those of the kernel (/proc) forget names, and are still there. */
static struct err *check_unlinked(const struct file *f, int home)
{
	struct statfs fs;

	if (fstatfs(home, &fs) < 0)
		return err_errno(errno, "statfs");
	if (fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC)
		return err_new(ERR_UNSUPPORTED, "%s was deleted while it was open", f->link);
	return unlinked_check(f->link, home);
}

static struct err *memfd_capture(struct capture *c)
{
	Migrate__Kind__Memfd m = MIGRATE__KIND__MEMFD__INIT;
	const struct file *f = c->file;
	struct statfs fs;
	int home, seals;

	TRY(capture_home(c, &home));
	if (fstatfs(home, &fs) < 0)
		return err_errno(errno, "statfs");
	if (fs.f_type == HUGETLBFS_MAGIC)
		return err_new(ERR_UNSUPPORTED, "a memfd of huge pages (MFD_HUGETLB)");
	m.space = f->st.st_ino;
	if (unlinked_of(f->link, &f->st, &m.space))
		TRY(check_unlinked(f, home));
	seals = is_memfd(f) ? fcntl(home, F_GET_SEALS) : 0;
	if (seals < 0)
		return err_errno(errno, "ask for the seals of a memfd");
	m.flags = f->flags;
	m.pos = f->pos;
	m.seals = (uint32_t)seals;
	m.uid = f->st.st_uid;
	m.gid = f->st.st_gid;
	m.mode = f->st.st_mode & 07777;
	capture_emit(c, f->id, &m.base);
	return NULL;
}

static struct err *find_space(struct rebuild *r, const Migrate__Kind__Memfd *m, int *fd)
{
	*fd = rebuild_space_get(r, m->space);
	if (*fd < 0)
		return err_new(ERR_PEER, "no shared memory object %ju", (uintmax_t)m->space);
	return NULL;
}

static struct err *memfd_rebuild(
	struct rebuild *r, const struct object *o unused_arg, const void *msg, int *fd)
{
	const Migrate__Kind__Memfd *m = msg;
	autoclose int made = -1;
	char path[64];
	int space;

	TRY(find_space(r, m, &space));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", space);
	made = open(path, (int)(m->flags & KEPT_OPEN_FLAGS) | O_CLOEXEC);
	if (made < 0)
		return err_errno(errno, "open a memfd again");
	if (fcntl(made, F_SETFL, (int)(m->flags & STATUS_FLAGS)) < 0)
		return err_errno(errno, "set the flags of a memfd");
	if (lseek(made, (off_t)m->pos, SEEK_SET) < 0)
		return err_errno(errno, "set the position of a memfd to %ju", (uintmax_t)m->pos);
	if (fchown(made, m->uid, m->gid) < 0 || fchmod(made, m->mode) < 0)
		return err_errno(errno, "set the owner of a memfd");
	*fd = take_fd(&made);
	return NULL;
}

static struct err *memfd_finish(
	struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Memfd *m = msg;
	int space, seals;

	if (!m->seals)
		return NULL;
	TRY(find_space(r, m, &space));
	seals = fcntl(space, F_GET_SEALS);
	if (seals < 0)
		return err_errno(errno, "ask for the seals of a memfd");
	if ((m->seals & ~(uint32_t)seals) && fcntl(space, F_ADD_SEALS, m->seals) < 0)
		return err_errno(errno, "seal a memfd");
	return NULL;
}

const struct kind kind_memfd = {
	.id = 28,
	.name = "memfd",
	.scope = KIND_FILE,
	.stage = STAGE_FILE,
	.msg = &migrate__kind__memfd__descriptor,
	.claims = memfd_claims,
	.capture = memfd_capture,
	.rebuild = memfd_rebuild,
	.finish = memfd_finish,
};
