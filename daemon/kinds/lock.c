// SPDX-License-Identifier: Apache-2.0
/*
 * File locks: POSIX record locks (of the process), those of an open file description (F_OFD_SETLK)
 * and flock(2) (also of the description). fdinfo shows those that were taken through a description,
 * in "lock:" lines.
 *
 * Where both hosts see one file, only one of them can hold the lock: the source gives it up when
 * everything else is done (yield), the destination takes it (finish, STAGE_LOCK), and if that fails
 * the source takes it back (release). Somebody who already waits for the lock would get it in
 * between: then nothing is given up and the migration fails.
 *
 * All is done by remote calls: a record lock belongs to the process that makes the call.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "kinds/kind.h"
#include "lock.pb-c.h"

#define PROC_LOCKS_BYTES_MAX (16u << 20)
/* How long a lock that was given up is waited for; the target stands still meanwhile, but without
 * its lock it must not run. A destination that was cut off holds it until it has borne 30 s of
 * silence. */
#define REGAIN_US      45000000
#define REGAIN_STEP_US 2000

/* One line, as /proc/locks and fdinfo have it (fs/locks.c). */
struct lock_line {
	char type[8];   /* POSIX, OFDLCK, FLOCK, LEASE, DELEG */
	char access[8]; /* READ, WRITE, UNLCK */
	int pid;
	char file[48]; /* major:minor:inode */
	int64_t start, len;
};

static bool parse_line(const char *s, struct lock_line *l)
{
	char mode[16], end[24];
	long long start, last;

	if (sscanf(s, "%*d: %7s %15s %7s %d %47s %lld %23s", l->type, mode, l->access, &l->pid,
		    l->file, &start, end) != 7)
		return false;
	l->start = start;
	l->len = 0;
	if (strcmp(end, "EOF") != 0) {
		if (sscanf(end, "%lld", &last) != 1 || last < start || last == LLONG_MAX)
			return false;
		l->len = last - start + 1;
	}
	return true;
}

/* Steps to the next "lock:" line of an fdinfo text; NULL when there is none. */
static const char *next_lock(const char *p)
{
	p = strstr(p, "\nlock:");
	return p ? p + 6 : NULL;
}

static struct err *refuse_lock(const struct file *f, const char *what)
{
	return err_hint(err_new(ERR_UNSUPPORTED, "descriptor %d (%s) holds %s", f->slots[0].number,
				f->link, what),
		"let the program give it up first");
}

/* A daemon's parent may have taken its lock before it forked; it has ended since. */
static bool runs(pid_t pid)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d", pid);
	return pid > 0 && access(path, F_OK) == 0;
}

static bool is_ofd(const struct lock_line *l)
{
	return strcmp(l->type, "OFDLCK") == 0;
}

/* NULL when the lock can be moved. */
static struct err *check_line(
	const struct capture *c, const struct file *f, const struct lock_line *l)
{
	if (is_ofd(l)) /* of nobody; who shares the description is looked for by shared.c */
		return NULL;
	if (strcmp(l->type, "LEASE") == 0 || strcmp(l->type, "DELEG") == 0)
		return refuse_lock(f, "a lease (F_SETLEASE)");
	if (strcmp(l->type, "POSIX") != 0 && strcmp(l->type, "FLOCK") != 0)
		return refuse_lock(f, "a lock of an unknown type");
	if (!capture_inside(c, l->pid) && runs(l->pid))
		return refuse_lock(f, "a lock that another process took and may share");
	return NULL;
}

/* What belongs to the description: the process with the first descriptor of it tells. */
static bool told_by_another(
	const struct capture *c, const struct file *f, const struct lock_line *l)
{
	return (l->type[0] == 'F' || is_ofd(l)) && file_pid(f->id) != c->task->pid;
}

static struct err *capture_file(struct capture *c, const struct file *f)
{
	Migrate__Kind__Locks m = MIGRATE__KIND__LOCKS__INIT;
	size_t cap = 0;

	m.number = (uint32_t)f->slots[0].number;
	for (const char *p = f->fdinfo; (p = next_lock(p));) {
		Migrate__Kind__Lock *k = arena_alloc(c->arena, sizeof(*k));
		struct lock_line l;

		if (!parse_line(p, &l))
			return err_new(
				ERR_KERNEL, "lock of descriptor %u does not parse", m.number);
		if (told_by_another(c, f, &l))
			continue;
		TRY(check_line(c, f, &l));
		migrate__kind__lock__init(k);
		k->flock = l.type[0] == 'F';
		k->ofd = is_ofd(&l);
		k->write = strcmp(l.access, "WRITE") == 0;
		k->start = l.start;
		k->len = l.len;
		m.locks = arena_grow(c->arena, m.locks, &cap, m.n_locks + 1, sizeof(*m.locks));
		m.locks[m.n_locks++] = k;
	}
	if (m.n_locks)
		capture_emit(c, f->id, &m.base);
	return NULL;
}

static struct err *lock_capture(struct capture *c)
{
	for (size_t i = 0; i < c->files->n; i++) {
		struct err *e;

		if (!next_lock(c->files->v[i].fdinfo))
			continue;
		e = capture_file(c, &c->files->v[i]);
		if (e)
			capture_refuse(c, e);
	}
	return NULL;
}

/* Sets (type F_RDLCK or F_WRLCK) or drops (F_UNLCK) one lock; never waits. */
static struct err *set_lock(
	struct task *t, struct thread *th, uint64_t number, const Migrate__Kind__Lock *k, bool hold)
{
	struct flock fl = {
		.l_type = !hold      ? F_UNLCK
			  : k->write ? F_WRLCK
				     : F_RDLCK,
		.l_whence = SEEK_SET,
		.l_start = k->start,
		.l_len = k->len,
	};
	uint64_t op = !hold ? LOCK_UN : k->write ? LOCK_EX : LOCK_SH;
	const char *what = hold ? "take the lock" : "give up the lock";

	if (k->flock)
		return REMOTE(t, th, NULL, what, SYS_flock, number, op | LOCK_NB);
	TRY(remote_put(t, 0, &fl, sizeof(fl)));
	return REMOTE(t, th, NULL, what, SYS_fcntl, number, k->ofd ? F_OFD_SETLK : F_SETLK,
		remote_scratch(t).v);
}

static struct err *set_all(
	struct task *t, struct thread *th, const Migrate__Kind__Locks *m, bool hold)
{
	for (size_t i = 0; i < m->n_locks; i++)
		TRY_IN(set_lock(t, th, m->number, m->locks[i], hold), "descriptor %u", m->number);
	return NULL;
}

static bool is_taken(const struct err *e)
{
	return e && (err_sysno(e) == EAGAIN || err_sysno(e) == EACCES);
}

static struct err *lock_finish(
	struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Locks *m = msg;
	struct err *e = set_all(r->task, r->thread, m, true);

	if (is_taken(e))
		return err_hint(e, "somebody on that side holds a lock on the same file");
	return e;
}

/* Is somebody waiting for a lock of this file? A waiter's line in /proc/locks has an arrow:
 * "5: -> POSIX  ADVISORY  WRITE 812 08:01:4711 0 EOF" */
static struct err *check_waiters(struct capture *c, const char *file)
{
	char *text;

	TRY(io_read_file(c->arena, "/proc/locks", PROC_LOCKS_BYTES_MAX, &text, NULL));
	for (const char *p = text; (p = strstr(p, "-> "));) {
		char waits_for[48];
		int pid;

		p += 3;
		if (sscanf(p, "%*s %*s %*s %d %47s", &pid, waits_for) == 2 &&
			strcmp(waits_for, file) == 0)
			return err_hint(
				err_new(ERR_UNSUPPORTED, "process %d waits for the lock", pid),
				"it would get the lock in the middle of the move; try again later");
	}
	return NULL;
}

static struct err *lock_yield(struct capture *c, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Locks *m = msg;
	struct lock_line l;
	const char *p;
	char *fdinfo;

	TRY(proc_fdinfo(c->arena, c->task->pid, (int)m->number, &fdinfo));
	p = next_lock(fdinfo);
	if (p && parse_line(p, &l))
		TRY_IN(check_waiters(c, l.file), "descriptor %u", m->number);
	return set_all(c->task, task_leader(c->task), m, false);
}

/* Locks that were never given up are simply taken again. The destination may have taken the others
 * already; it lets go of them when its process ends. */
static void lock_release(
	struct capture *c, const struct object *o unused_arg, const void *msg, enum outcome out)
{
	struct deadline d = deadline_in(REGAIN_US);
	autofree char *line = NULL;
	autoerr struct err *e = NULL;

	if (out != OUTCOME_KEPT)
		return;
	e = set_all(c->task, task_leader(c->task), msg, true);
	while (is_taken(e) && !deadline_passed(d)) {
		usleep(REGAIN_STEP_US);
		err_free(e);
		e = set_all(c->task, task_leader(c->task), msg, true);
	}
	if (!e)
		return;
	line = err_line(e);
	capture_warn(c, "a file lock is lost: %s", line);
}

const struct kind kind_lock = {
	.id = 29,
	.name = "file locks",
	.scope = KIND_PROCESS,
	.stage = STAGE_LOCK,
	.msg = &migrate__kind__locks__descriptor,
	.capture = lock_capture,
	.finish = lock_finish,
	.yield = lock_yield,
	.release = lock_release,
};
