// SPDX-License-Identifier: Apache-2.0
/*
 * Inotify watches. The kernel shows inodes, not names: a path is found by the file handle beside
 * them. They are laid when the process stands still, by itself and with its own rights: so nothing
 * that happens before is told there, and nobody watches what he may not read. Numbers are kept
 * (INOTIFY_IOC_SETNEXTWD, Linux 4.16, CONFIG_CHECKPOINT_RESTORE).
 *
 * Events cannot be put back: a queue must be empty when the process is stopped, which is waited
 * for. What happens from then on until the watches are laid is not told; if some of it is seen,
 * that is said.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/text.h"
#include "inotify.pb-c.h"
#include "kernel/inode_path.h"
#include "kinds/calls.h"
#include "kinds/kind.h"

#define IOC_SETNEXTWD _IOW('I', 0, int32_t)
#define STATUS_FLAGS  (SETFL_FLAGS | O_ASYNC)
/* What fdinfo shows of a watch, and inotify_add_watch(2) takes. */
#define WATCH_MASK    (IN_ALL_EVENTS | IN_UNMOUNT | IN_EXCL_UNLINK | IN_ONESHOT)
#define HANDLE_BYTES  128 /* MAX_HANDLE_SZ */
#define WAIT_STEPS    20
#define WAIT_STEP_US  10000

typedef Migrate__Kind__Inotify__Watch Watch;

static bool inotify_claims(const struct file *f)
{
	return strcmp(f->link, "anon_inode:inotify") == 0 ||
	       strcmp(f->link, "anon_inode:[inotify]") == 0;
}

/* ---- source ---- */

static bool scan_field(const char **p, const char *name, unsigned base, uint64_t *ret)
{
	while (**p == ' ')
		(*p)++;
	return text_scan_lit(p, name) && text_scan_u64(p, base, ret);
}

static bool scan_handle(const char **p, struct file_handle *h)
{
	uint64_t bytes, type;

	if (!scan_field(p, "fhandle-bytes:", 16, &bytes) || bytes > HANDLE_BYTES ||
		!scan_field(p, "fhandle-type:", 16, &type) || !text_scan_lit(p, " f_handle:"))
		return false;
	h->handle_bytes = (unsigned)bytes;
	h->handle_type = (int)type;
	for (size_t i = 0; i < bytes; i++, *p += 2)
		if (sscanf(*p, "%2hhx", &h->f_handle[i]) != 1)
			return false;
	return true;
}

/* The kernel's own encoding: 12 bits of major, 20 of minor. */
static dev_t device(uint64_t sdev)
{
	return makedev(sdev >> 20, sdev & 0xfffff);
}

/* "inotify wd:1 ino:a74566 sdev:fe00000 mask:100 ignored_mask:0 fhandle-bytes:8 ..." */
static struct err *read_watch(const struct inode_paths *paths, const char *line, Watch *w)
{
	union {
		struct file_handle h;
		char room[sizeof(struct file_handle) + HANDLE_BYTES];
	} handle;
	uint64_t wd, ino, sdev, mask, ignored;
	const char *path;
	mode_t mode;

	if (!text_scan_lit(&line, "inotify ") || !scan_field(&line, "wd:", 16, &wd) ||
		!scan_field(&line, "ino:", 16, &ino) || !scan_field(&line, "sdev:", 16, &sdev) ||
		!scan_field(&line, "mask:", 16, &mask) ||
		!scan_field(&line, "ignored_mask:", 16, &ignored) || wd > INT32_MAX)
		return err_new(ERR_KERNEL, "inotify in fdinfo does not parse");
	if (!scan_handle(&line, &handle.h))
		return err_new(ERR_UNSUPPORTED,
			"it watches inode %ju, of a file system that shows no file handles",
			(uintmax_t)ino);
	TRY_IN(inode_path(paths, device(sdev), &handle.h, &path, &mode), "inode %ju",
		(uintmax_t)ino);
	w->wd = (int32_t)wd;
	w->mask = (uint32_t)mask & WATCH_MASK;
	w->path = (char *)(uintptr_t)path;
	w->type = mode & S_IFMT;
	return NULL;
}

static int by_wd(const void *a, const void *b)
{
	const Watch *x = *(Watch *const *)a, *y = *(Watch *const *)b;

	return (x->wd > y->wd) - (x->wd < y->wd);
}

static struct err *read_watches(struct capture *c, Migrate__Kind__Inotify *m)
{
	struct inode_paths paths;
	const char *p = c->file->fdinfo;
	size_t room = 0;

	TRY(inode_paths_init(c->arena, &paths));
	for (; (p = strstr(p, "inotify wd:")); p++) {
		Watch *w = arena_alloc(c->arena, sizeof(*w));

		migrate__kind__inotify__watch__init(w);
		TRY(read_watch(&paths, p, w));
		m->watches = arena_grow(
			c->arena, m->watches, &room, m->n_watches + 1, sizeof(*m->watches));
		m->watches[m->n_watches++] = w;
	}
	if (m->n_watches)
		qsort(m->watches, m->n_watches, sizeof(*m->watches), by_wd);
	return NULL;
}

static struct err *wait_empty(struct capture *c, int home)
{
	int bytes = 0;

	for (int i = 0;; i++) {
		if (ioctl(home, FIONREAD, &bytes) < 0)
			return err_errno(errno, "ask how many events wait");
		if (!bytes)
			return NULL;
		if (c->stopped) {
			capture_warn(c,
				"something happened to what descriptor %d watches (inotify) "
				"while it stood still: it is not told of that",
				c->file->slots[0].number);
			return NULL;
		}
		if (i == WAIT_STEPS)
			break;
		usleep(WAIT_STEP_US);
	}
	return err_hint(
		err_new(ERR_UNSUPPORTED, "it has events that were not read (%d bytes)", bytes),
		"they cannot be put back; try again when nothing happens to what it watches");
}

static bool inotify_waits(struct capture *c)
{
	int home, bytes = 0;
	autoerr struct err *e = capture_home(c, &home);

	return !e && ioctl(home, FIONREAD, &bytes) == 0 && bytes > 0;
}

static struct err *inotify_capture(struct capture *c)
{
	Migrate__Kind__Inotify m = MIGRATE__KIND__INOTIFY__INIT;
	int home;

	TRY(capture_home(c, &home));
	TRY(wait_empty(c, home));
	TRY(read_watches(c, &m));
	m.flags = c->file->flags & STATUS_FLAGS;
	capture_emit(c, c->file->id, &m.base);
	return NULL;
}

/* ---- destination ---- */

static bool makes_sense(const Migrate__Kind__Inotify *m)
{
	int32_t last = 0;

	for (size_t i = 0; i < m->n_watches; i++) {
		const Watch *w = m->watches[i];

		if (w->wd <= last || w->path[0] != '/' || !w->mask || (w->mask & ~WATCH_MASK) ||
			strlen(w->path) >= REMOTE_SCRATCH_BYTES)
			return false;
		last = w->wd;
	}
	return true;
}

static struct err *make(int *ret)
{
	*ret = inotify_init1(IN_CLOEXEC);
	return *ret < 0 ? err_errno(errno, "make an inotify descriptor") : NULL;
}

/* Without this, numbers come one after the other. */
static struct err *check_numbers(const Migrate__Kind__Inotify *m)
{
	autoclose int fd = -1;
	size_t n = m->n_watches;

	TRY(make(&fd));
	if (n && m->watches[n - 1]->wd != (int32_t)n && ioctl(fd, IOC_SETNEXTWD, 1) < 0)
		return err_new(ERR_MISMATCH,
			"the kernel there cannot give watches their numbers "
			"(CONFIG_CHECKPOINT_RESTORE)");
	return NULL;
}

static struct err *inotify_check(
	struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Inotify *m = msg;

	if (!makes_sense(m))
		return err_new(ERR_PEER, "watches make no sense");
	for (size_t i = 0; i < m->n_watches; i++) {
		const Watch *w = m->watches[i];
		struct stat st;

		if (lstat(w->path, &st) < 0 || (st.st_mode & S_IFMT) != w->type)
			rebuild_refuse(r, err_hint(err_new(ERR_MISMATCH,
							   "%s, which it watches, is not there",
							   w->path),
						  "make it on both hosts"));
	}
	return check_numbers(m);
}

static struct err *inotify_rebuild(
	struct rebuild *r unused_arg, const struct object *o unused_arg, const void *msg, int *fd)
{
	const Migrate__Kind__Inotify *m = msg;
	autoclose int made = -1;

	if (!makes_sense(m))
		return err_new(ERR_PEER, "watches make no sense");
	TRY(make(&made));
	if (fcntl(made, F_SETFL, (int)(m->flags & STATUS_FLAGS)) < 0)
		return err_errno(errno, "set the flags of an inotify descriptor");
	*fd = take_fd(&made);
	return NULL;
}

/* The first of these watches whose paths fit the scratch memory. */
static struct err *lay(struct rebuild *r, uint64_t fd, Watch *const *w, size_t n, size_t *done)
{
	struct call calls[REMOTE_CALLS_MAX];
	size_t at = 0;

	for (*done = 0; *done < n && 2 * *done + 2 <= ARRAY_LEN(calls); (*done)++) {
		const Watch *x = w[*done];
		size_t len = strlen(x->path) + 1;

		if (at + len > REMOTE_SCRATCH_BYTES)
			break;
		TRY(remote_put(r->task, at, x->path, len));
		calls[2 * *done] = (struct call){ .nr = SYS_ioctl,
			.args = { fd, IOC_SETNEXTWD, (uint64_t)x->wd } };
		calls[2 * *done + 1] = (struct call){ .nr = SYS_inotify_add_watch,
			.args = { fd, remote_scratch(r->task).v + at,
				x->mask | IN_DONT_FOLLOW | IN_MASK_CREATE } };
		at += len;
	}
	TRY(remote_run(r->task, r->thread, calls, 2 * *done));
	for (size_t i = 0; i < *done; i++) {
		int64_t got = calls[2 * i + 1].ret;

		if (got < 0)
			return err_errno((int)-got, "watch %s", w[i]->path);
		if (got != w[i]->wd)
			return err_new(ERR_KERNEL, "watch %d became %d", w[i]->wd, (int)got);
	}
	return NULL;
}

static struct err *inotify_finish(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__Inotify *m = msg;

	if (!makes_sense(m))
		return err_new(ERR_PEER, "watches make no sense");
	for (size_t i = 0, done; i < m->n_watches; i += done)
		TRY(lay(r, (uint64_t)o->slots[0].number, m->watches + i, m->n_watches - i, &done));
	return NULL;
}

const struct kind kind_inotify = {
	.id = 30,
	.name = "inotify",
	.scope = KIND_FILE,
	.stage = STAGE_LAST,
	.msg = &migrate__kind__inotify__descriptor,
	.claims = inotify_claims,
	.capture = inotify_capture,
	.waits = inotify_waits,
	.check = inotify_check,
	.rebuild = inotify_rebuild,
	.finish = inotify_finish,
};
