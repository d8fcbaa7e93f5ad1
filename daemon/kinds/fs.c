// SPDX-License-Identifier: Apache-2.0
/*
 * Working directory, root directory and umask: what CLONE_FS shares. The root must be the daemon's
 * own, otherwise no path of the process means here what it means there.
 *
 * The working directory travels as a path and must exist there; the seedling enters it before it
 * loses its privileges. The umask does not disturb the rebuild: files are opened by the daemon.
 */
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <errno.h>

#include "fs.pb-c.h"
#include "kinds/calls.h"
#include "kinds/identity.h"
#include "kinds/kind.h"

/* proc(5): appended to the target of a link whose directory entry is gone. */
#define DELETED " (deleted)"

/* Is the directory that we reached by its path the one that the process is in? */
static struct err *same_directory(struct capture *c, const char *name, const char *path, bool *same)
{
	char *magic = arena_printf(c->arena, "/proc/%d/%s", (int)c->task->pid, name);
	struct stat is, found;

	if (stat(magic, &is) < 0)
		return err_errno(errno, "look at %s", magic);
	*same = stat(path, &found) == 0 && is.st_dev == found.st_dev && is.st_ino == found.st_ino;
	return NULL;
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

static struct err *fs_capture(struct capture *c)
{
	Migrate__Kind__Fs m = MIGRATE__KIND__FS__INIT;
	char *cwd, *root;
	bool same;

	TRY(proc_link(c->arena, c->task->pid, "root", &root));
	TRY(same_directory(c, "root", "/", &same));
	if (!same)
		capture_refuse(c, err_new(ERR_UNSUPPORTED,
					  "its root directory %s is not that of the daemon", root));
	TRY(proc_link(c->arena, c->task->pid, "cwd", &cwd));
	TRY_IN(file_process_check(c->task->pid, cwd), "its working directory");
	TRY(same_directory(c, "cwd", cwd, &same));
	if (!same)
		return err_new(ERR_UNSUPPORTED,
			ends_with(cwd, DELETED) ? "its working directory is deleted: %s"
						: "its working directory cannot be reached as %s",
			cwd);
	m.cwd.data = (uint8_t *)cwd;
	m.cwd.len = strlen(cwd);
	m.umask = c->status->umask;
	capture_emit(c, 0, &m.base);
	return NULL;
}

/* As a string; the peer's bytes may be anything. */
static struct err *fs_cwd(struct rebuild *r, const Migrate__Kind__Fs *m, const char **ret)
{
	char *s;

	if (m->cwd.len == 0 || m->cwd.len >= PATH_MAX || m->cwd.data[0] != '/' ||
		memchr(m->cwd.data, 0, m->cwd.len))
		return err_new(ERR_PEER, "a working directory that is no path");
	s = arena_alloc(r->arena, m->cwd.len + 1);
	memcpy(s, m->cwd.data, m->cwd.len);
	*ret = s;
	return NULL;
}

static struct err *fs_check(struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	struct stat st;
	const char *cwd = "";

	TRY(fs_cwd(r, msg, &cwd));
	if (stat(cwd, &st) < 0)
		return err_errno(errno, "its working directory %s is not there", cwd);
	if (!S_ISDIR(st.st_mode))
		return err_new(ERR_MISMATCH, "its working directory %s is no directory there", cwd);
	return NULL;
}

static struct err *fs_rebuild(
	struct rebuild *r, const struct object *o unused_arg, const void *msg, int *fd unused_arg)
{
	const Migrate__Kind__Fs *m = msg;
	struct calls calls = { 0 };
	const char *cwd = "";

	_Static_assert(PATH_MAX <= REMOTE_SCRATCH_BYTES, "scratch too small for a path");
	TRY(fs_cwd(r, m, &cwd));
	TRY(remote_put(r->task, 0, cwd, strlen(cwd) + 1));
	CALL(&calls, "enter the working directory", SYS_chdir, remote_scratch(r->task).v);
	CALL(&calls, "set the umask", SYS_umask, m->umask & 0777);
	return calls_run(&calls, r->task, r->thread);
}

const struct kind kind_fs = {
	.id = 10,
	.name = "working directory",
	.scope = KIND_PROCESS,
	.stage = STAGE_FS,
	.msg = &migrate__kind__fs__descriptor,
	.capture = fs_capture,
	.check = fs_check,
	.rebuild = fs_rebuild,
};
