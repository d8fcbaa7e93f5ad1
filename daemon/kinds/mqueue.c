// SPDX-License-Identifier: Apache-2.0
/*
 * Descriptors of POSIX message queues. What is in a queue nobody can read without taking it, and
 * what is taken is nowhere if we die before it is put back. So only an empty queue goes along:
 * that is waited for, and one that stays full ends the move.
 * Nor does the kernel show the value that comes with a notification (mq_notify), which is refused.
 *
 * A queue that has a name goes along like a System V object (sysv.h): it is made in the rehearsal,
 * for root alone until the process stands still; a note in the scratch directory says what to
 * remove should the migration come to nothing; and it is removed at the source after the move. Of
 * several descriptions of one queue the first does all this, and all share a group.
 */
#include "kinds/mqueue_notes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/io.h"
#include "kernel/outside.h"
#include "kinds/kind.h"
#include "kinds/scratch_notes.h"
#include "mqueue.pb-c.h"

#define MQUEUE_KIND_ID 63
#define MAGIC_MQUEUE   0x19800202 /* not in linux/magic.h */
#define OPEN_FLAGS     (O_ACCMODE | O_NONBLOCK)
#define NOTE           "mq."
#define DELETED        " (deleted)"

/* For the queue to be empty, while the process runs. */
#define WAIT_STEPS   40
#define WAIT_STEP_US 5000

/* A queue's group has this at the top. */
#define GROUP_OF_QUEUES ((uint64_t)MQUEUE_KIND_ID << 56)

/* ---- names ---- */

/* mq_open(3) wants the slash. */
struct queue_path {
	char text[NAME_MAX + 2];
};

static struct queue_path path_of(const char *name)
{
	struct queue_path p;

	snprintf(p.text, sizeof(p.text), "/%s", name);
	return p;
}

static int open_queue(const char *name, int flags)
{
	return mq_open(path_of(name).text, flags | O_CLOEXEC);
}

static void unlink_queue(const char *name)
{
	(void)mq_unlink(path_of(name).text);
}

static bool name_ok(const char *name)
{
	return *name && strlen(name) <= NAME_MAX && !strchr(name, '/') && strcmp(name, ".") &&
	       strcmp(name, "..");
}

/* ---- source ---- */

struct others {
	const struct file *file;
	pid_t pid;
};

static void look_at_other(void *arg, pid_t pid, int number, const char *link)
{
	struct others *o = arg;
	char path[64];
	struct stat st;

	if (o->pid || strcmp(link, o->file->link) != 0)
		return;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, number);
	if (stat(path, &st) == 0 && st.st_ino == o->file->st.st_ino &&
		st.st_dev == o->file->st.st_dev)
		o->pid = pid;
}

static struct err *check_others(struct capture *c)
{
	struct others o = { .file = c->file };
	struct proc_stat st = { .comm = "?" };
	autoerr struct err *e = NULL;

	if (c->stopped)
		return NULL;
	TRY(outside_walk(c->inside, look_at_other, &o));
	if (!o.pid)
		return NULL;
	e = proc_stat(c->arena, o.pid, 0, &st);
	return err_hint(
		err_new(ERR_UNSUPPORTED, "it is used by process %d (%.16s), which stays behind",
			(int)o.pid, e ? "?" : st.comm),
		"processes that work together by it must stay on one host");
}

/* "QSIZE:0          NOTIFY:0     SIGNO:0     NOTIFY_PID:0" */
static struct err *check_notification(struct capture *c)
{
	const char *path =
		arena_printf(c->arena, "/proc/%d/fd/%d", c->task->pid, c->file->slots[0].number);
	const char *at;
	char *text;
	long pid;

	TRY(io_read_file(c->arena, path, 4096, &text, NULL));
	at = strstr(text, "NOTIFY_PID:");
	pid = at ? strtol(at + strlen("NOTIFY_PID:"), NULL, 10) : 0;
	if (!at)
		return err_new(ERR_KERNEL, "a message queue says \"%s\"", text);
	if (!pid)
		return NULL;
	return err_hint(err_new(ERR_UNSUPPORTED,
				"process %ld waits to be told of a message (mq_notify)", pid),
		"the kernel does not show what it is to be told");
}

static struct err *wait_empty(struct capture *c, int home, struct mq_attr *a)
{
	for (int i = 0;; i++) {
		if (mq_getattr(home, a) < 0)
			return err_errno(errno, "ask for the attributes of a message queue");
		if (!a->mq_curmsgs)
			return NULL;
		if (c->stopped || i == WAIT_STEPS)
			break;
		usleep(WAIT_STEP_US);
	}
	return err_hint(err_new(ERR_UNSUPPORTED, "%ld message%s in it", a->mq_curmsgs,
				a->mq_curmsgs == 1 ? " is" : "s are"),
		"nobody can look at them without taking them; try again when they are received");
}

static bool mqueue_waits(struct capture *c)
{
	struct mq_attr a;
	int home;
	autoerr struct err *e = capture_home(c, &home);

	return !e && mq_getattr(home, &a) == 0 && a.mq_curmsgs > 0;
}

/* It takes the name along. */
static struct err *check_owner(const struct capture *c)
{
	uint32_t euid = c->status->uid[1];

	if (euid == 0 || euid == c->file->st.st_uid)
		return NULL;
	return err_new(ERR_UNSUPPORTED, "it belongs to uid %u, and would have to go along",
		c->file->st.st_uid);
}

static bool is_first(const struct capture *c)
{
	for (size_t i = 0; i < c->all->n; i++) {
		const struct file *f = &c->all->v[i];

		if (f->st.st_ino == c->file->st.st_ino && f->st.st_dev == c->file->st.st_dev)
			return f->id == c->file->id;
	}
	return true;
}

static const char *name_of(struct capture *c, bool unlinked)
{
	const char *link = c->file->link + 1;
	size_t n = strlen(link), tail = unlinked ? strlen(DELETED) : 0;

	return arena_printf(c->arena, "%.*s", (int)(n - MIN(n, tail)), link);
}

static struct err *mqueue_capture(struct capture *c)
{
	Migrate__Kind__Mqueue m = MIGRATE__KIND__MQUEUE__INIT;
	const struct file *f = c->file;
	struct mq_attr a = { 0 };
	struct object *o;
	struct statfs fs;
	int home;

	TRY(capture_home(c, &home));
	if (fstatfs(home, &fs) < 0)
		return err_errno(errno, "statfs");
	if (fs.f_type != MAGIC_MQUEUE)
		return err_new(ERR_UNSUPPORTED, "a file that has no path on this host");
	TRY(check_others(c));
	TRY(check_owner(c));
	TRY(check_notification(c));
	TRY(wait_empty(c, home, &a));
	m.unlinked = f->st.st_nlink == 0;
	m.name = (char *)(uintptr_t)name_of(c, m.unlinked);
	m.queue = f->st.st_ino;
	m.flags = f->flags & (OPEN_FLAGS | SETFL_FLAGS);
	m.messages_max = (uint64_t)a.mq_maxmsg;
	m.message_bytes = (uint64_t)a.mq_msgsize;
	m.uid = f->st.st_uid;
	m.gid = f->st.st_gid;
	m.mode = f->st.st_mode & 07777;
	m.first = is_first(c);
	o = capture_emit(c, f->id, &m.base);
	o->group = GROUP_OF_QUEUES ^ f->st.st_ino;
	return NULL;
}

/* What leaves the source must be in the list that outlives us. */
static struct err *yield(
	struct capture *c unused_arg, const struct object *o unused_arg, const void *msg unused_arg)
{
	return NULL;
}

static void release(struct capture *c unused_arg, const struct object *o unused_arg,
	const void *msg, enum outcome out)
{
	const Migrate__Kind__Mqueue *m = msg;
	autoclose int fd = -1;
	struct stat st;

	if (out != OUTCOME_MOVED || m->unlinked || !m->first || !name_ok(m->name))
		return;
	fd = open_queue(m->name, O_RDONLY);
	/* Somebody may have made another one of this name. */
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == m->queue)
		unlink_queue(m->name);
}

/* ---- notes ---- */

static const char *note_path(const struct rebuild *r, uint64_t queue)
{
	return arena_printf(r->arena, "%s/" NOTE "%jx", r->scratch_dir, (uintmax_t)queue);
}

/* By its name, too: a peer could have said another one with the same number. */
static bool made(const struct rebuild *r, const Migrate__Kind__Mqueue *m)
{
	return note_says(note_path(r, m->queue), m->name);
}

struct noted {
	mqueue_noted_fn fn;
	void *arg;
};

static struct err *look_at_noted(void *arg, const char *file unused_arg, const char *name)
{
	const struct noted *n = arg;
	autoclose int fd = name_ok(name) ? open_queue(name, O_RDONLY) : -1;
	struct stat st;

	return fd < 0 || fstat(fd, &st) < 0 ? NULL : n->fn(n->arg, name, st.st_uid);
}

struct err *mqueue_notes_each(const char *scratch_dir, mqueue_noted_fn fn, void *arg)
{
	return notes_walk(scratch_dir, NOTE, look_at_noted, &(struct noted){ fn, arg });
}

static struct err *remove_noted(void *arg unused_arg, const char *name, uint32_t uid unused_arg)
{
	unlink_queue(name);
	return NULL;
}

void mqueue_notes_settle(const char *scratch_dir, bool moved)
{
	if (!moved)
		err_free(mqueue_notes_each(scratch_dir, remove_noted, NULL));
}

/* ---- destination ---- */

static struct err *taken(const char *name)
{
	return err_hint(err_new(ERR_LIMIT, "a message queue /%s is there already", name),
		"if nobody needs it any more, remove it: see /dev/mqueue there");
}

static struct err *valid(const struct object *o, const Migrate__Kind__Mqueue *m)
{
	if (!name_ok(m->name) || o->group != (GROUP_OF_QUEUES ^ m->queue) || !m->messages_max ||
		!m->message_bytes || m->messages_max > INT_MAX || m->message_bytes > INT_MAX ||
		m->mode > 07777)
		return err_new(ERR_PEER, "impossible message queue");
	return NULL;
}

static struct err *mqueue_check(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__Mqueue *m = msg;
	autoclose int fd = -1;

	TRY(valid(o, m));
	fd = open_queue(m->name, O_RDONLY);
	if (fd >= 0 && m->first)
		rebuild_refuse(r, taken(m->name));
	return NULL;
}

static struct err *make(struct rebuild *r, const Migrate__Kind__Mqueue *m)
{
	struct mq_attr a = { .mq_maxmsg = (long)m->messages_max,
		.mq_msgsize = (long)m->message_bytes };
	autoclose int fd =
		mq_open(path_of(m->name).text, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0, &a);
	struct err *e;

	if (fd < 0 && errno == EEXIST)
		return taken(m->name);
	if (fd < 0)
		return err_hint(
			err_errno(errno, "make message queue /%s for %ld messages of %ld bytes",
				m->name, a.mq_maxmsg, a.mq_msgsize),
			"see mq_overview(7) for limits: fs.mqueue.*, RLIMIT_MSGQUEUE of root");
	e = note_make(note_path(r, m->queue), m->name);
	if (e)
		unlink_queue(m->name);
	return e;
}

static struct err *mqueue_rebuild(
	struct rebuild *r, const struct object *o, const void *msg, int *fd)
{
	const Migrate__Kind__Mqueue *m = msg;
	autoclose int opened = -1;

	TRY(valid(o, m));
	if (!made(r, m))
		TRY(make(r, m));
	opened = open_queue(m->name, (int)(m->flags & OPEN_FLAGS));
	if (opened < 0)
		return err_errno(errno, "open message queue /%s", m->name);
	if (fcntl(opened, F_SETFL, (int)(m->flags & SETFL_FLAGS)) < 0)
		return err_errno(errno, "set the flags of a message queue");
	*fd = take_fd(&opened);
	return NULL;
}

/* Its own owner and mode, at last. */
static struct err *mqueue_finish(
	struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Mqueue *m = msg;
	autoclose int fd = -1;

	if (!m->first || !made(r, m))
		return NULL;
	fd = open_queue(m->name, O_RDONLY);
	if (fd < 0 || fchown(fd, m->uid, m->gid) < 0 || fchmod(fd, m->mode) < 0)
		return err_errno(errno, "give message queue /%s to its owner", m->name);
	if (m->unlinked)
		unlink_queue(m->name);
	return NULL;
}

static void mqueue_discard(struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Mqueue *m = msg;

	if (!name_ok(m->name) || !made(r, m))
		return;
	unlink_queue(m->name);
	note_drop(note_path(r, m->queue));
}

/* Should another description of it be left, all of the group are made again. */
static struct err *mqueue_remove(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__Mqueue *m = msg;

	if (m->first)
		mqueue_discard(r, o, msg);
	return NULL;
}

const struct kind kind_mqueue = {
	.id = MQUEUE_KIND_ID,
	.name = "POSIX message queue",
	.scope = KIND_FILE,
	.stage = STAGE_FILE,
	.msg = &migrate__kind__mqueue__descriptor,
	.claims = file_is_queue,
	.capture = mqueue_capture,
	.waits = mqueue_waits,
	.check = mqueue_check,
	.rebuild = mqueue_rebuild,
	.remove = mqueue_remove,
	.finish = mqueue_finish,
	.discard = mqueue_discard,
	.yield = yield,
	.release = release,
};
