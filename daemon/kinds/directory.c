// SPDX-License-Identifier: Apache-2.0
/*
 * An open directory. The position is a cookie of the file system (a hash in ext4, an index in
 * tmpfs): it means something in the same directory only, so a directory that was partly read needs
 * the same one, any other just one of that name.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "directory.pb-c.h"
#include "kinds/identity.h"
#include "kinds/kind.h"

#define STATUS_FLAGS (SETFL_FLAGS | O_DSYNC | O_SYNC)

static bool directory_claims(const struct file *f)
{
	return S_ISDIR(f->st.st_mode) && f->link[0] == '/' && !(f->flags & O_PATH);
}

static struct err *directory_capture(struct capture *c)
{
	Migrate__Kind__Directory m = MIGRATE__KIND__DIRECTORY__INIT;
	const struct file *f = c->file;
	int home;

	TRY(capture_home(c, &home));
	TRY(file_process_check(c->task->pid, f->link));
	TRY(file_path_check(home, f->link));
	TRY(file_mount_check(home, f->link));
	TRY(file_identity(c->arena, home, false, &m.identity));
	m.path = (char *)f->link;
	m.flags = f->flags & (O_DIRECTORY | O_NOFOLLOW | STATUS_FLAGS);
	m.pos = f->pos;
	capture_emit(c, f->id, &m.base);
	return NULL;
}

static struct err *open_directory(const Migrate__Kind__Directory *m, int *ret)
{
	int flags = (int)(m->flags & (O_DIRECTORY | O_NOFOLLOW | STATUS_FLAGS)) | O_CLOEXEC;
	autoclose int found = -1, fd = -1;
	char again[40];

	if (m->path[0] != '/')
		return err_new(ERR_PEER, "path %s is not absolute", m->path);
	found = open(m->path, O_PATH | O_DIRECTORY | (flags & O_NOFOLLOW) | O_CLOEXEC);
	if (found < 0 && (errno == ENOENT || errno == ENOTDIR))
		return err_hint(err_new(ERR_MISMATCH, "%s is no directory there", m->path),
			"make the directory on that host");
	/* Without O_DIRECTORY, where the process did without; the dot is no link. */
	snprintf(again, sizeof(again), "/proc/self/fd/%d/.", found);
	fd = found < 0 ? -1 : open(again, flags);
	if (fd < 0)
		return err_errno(errno, "open %s", m->path);
	if (m->pos && (!m->identity || !file_identity_same(fd, m->identity)))
		return err_hint(
			err_new(ERR_MISMATCH,
				"%s was partly read, and the directory there is not the same one",
				m->path),
			"put it on storage that both hosts share, or let the program close it");
	*ret = take_fd(&fd);
	return NULL;
}

static struct err *directory_check(
	struct rebuild *r unused_arg, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Directory *m = msg;
	autoclose int fd = -1;

	/* It may be about the process itself, which does not exist yet. */
	if (m->identity && m->identity->fs == PROC_SUPER_MAGIC)
		return NULL;
	return open_directory(m, &fd);
}

static struct err *directory_rebuild(
	struct rebuild *r unused_arg, const struct object *o unused_arg, const void *msg, int *fd)
{
	const Migrate__Kind__Directory *m = msg;
	autoclose int made = -1;

	TRY(open_directory(m, &made));
	if (m->pos && lseek(made, (off_t)m->pos, SEEK_SET) < 0)
		return err_errno(
			errno, "set the position of %s to %ju", m->path, (uintmax_t)m->pos);
	*fd = take_fd(&made);
	return NULL;
}

const struct kind kind_directory = {
	.id = 22,
	.name = "directory",
	.scope = KIND_FILE,
	.stage = STAGE_FILE,
	.msg = &migrate__kind__directory__descriptor,
	.claims = directory_claims,
	.capture = directory_capture,
	.check = directory_check,
	.rebuild = directory_rebuild,
	.rebuilt_late = true,
};
