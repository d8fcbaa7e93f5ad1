// SPDX-License-Identifier: Apache-2.0
/*
 * System V message queues. MSG_COPY shows a message without taking it (CONFIG_CHECKPOINT_RESTORE).
 *
 * A queue goes along with the process that was the last to send to it or to receive from it. For
 * the other host to say the same of it, the process itself sends there what is in it; and where
 * somebody has received once, a message before that and receives it again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kinds/sysv.h"
#include "sysv_msg.pb-c.h"

#ifndef MSG_COPY
#define MSG_COPY 040000
#endif
/* It is described in one frame, and sent while the process stands still. */
#define QUEUE_BYTES_MAX (8u << 20)

/* ---- source ---- */

static struct err *read_message(int id, uint64_t n, struct msgbuf *buf, size_t room, size_t *len)
{
	ssize_t got = msgrcv(id, buf, room, (long)n, MSG_COPY | IPC_NOWAIT);

	if (got < 0 && errno == ENOSYS)
		return err_new(ERR_UNSUPPORTED,
			"this kernel does not show what is in a message queue (MSG_COPY)");
	if (got < 0)
		return err_errno(errno, "look at message %ju of queue %d", (uintmax_t)n, id);
	*len = (size_t)got;
	return NULL;
}

static struct err *read_messages(
	struct capture *c, const struct sysv_object *o, Migrate__Kind__SysvMsg *m)
{
	autofree struct msgbuf *buf = NULL;
	size_t room = (size_t)o->held;

	if (o->held > QUEUE_BYTES_MAX)
		return err_new(ERR_LIMIT, "more than %u MiB are in it", QUEUE_BYTES_MAX >> 20);
	buf = xcalloc(1, sizeof(*buf) + room);
	m->messages = arena_array(c->arena, o->n, sizeof(*m->messages));
	for (uint64_t i = 0; i < o->n; i++) {
		Migrate__Kind__SysvMsg__Message *to = arena_alloc(c->arena, sizeof(*to));
		size_t len = 0;

		TRY(read_message(o->id, i, buf, room, &len));
		migrate__kind__sysv_msg__message__init(to);
		to->type = buf->mtype;
		to->text.len = len;
		to->text.data = len ? arena_dup(c->arena, buf->mtext, len) : NULL;
		m->messages[m->n_messages++] = to;
	}
	return NULL;
}

static enum sysv_user users(const struct capture *c, const struct sysv_object *o, pid_t *stays)
{
	enum sysv_user first = sysv_user(c, o->first), last = sysv_user(c, o->last);

	*stays = first == SYSV_STAYS ? o->first : o->last;
	return sysv_users(first, last);
}

static struct err *capture_queue(struct capture *c, const struct sysv_object *o, bool *ours)
{
	Migrate__Kind__SysvMsg m = MIGRATE__KIND__SYSV_MSG__INIT;
	pid_t stays;

	*ours = sysv_user(c, o->first) == SYSV_MOVES || sysv_user(c, o->last) == SYSV_MOVES;
	if (!*ours)
		return NULL;
	if (users(c, o, &stays) == SYSV_STAYS)
		return sysv_shared(c, SYSV_MSG, o, stays);
	TRY(sysv_may_take(c, SYSV_MSG, o));
	m.identity = sysv_identity(c->arena, o);
	m.room = o->bytes;
	m.sent = o->in_s;
	m.received = o->out_s;
	TRY_IN(read_messages(c, o, &m), "%s", sysv_say(c->arena, SYSV_MSG, o->id, o->key));
	capture_emit(c, (uint64_t)o->id + 1, &m.base);
	return NULL;
}

static struct err *capture(struct capture *c)
{
	struct sysv_unknown unknown = { .n = 0 };
	struct sysv_object *all;
	size_t n;

	if (!capture_is_root(c))
		return NULL;
	TRY(sysv_list(c->arena, SYSV_MSG, &all, &n));
	for (size_t i = 0; i < n; i++) {
		bool ours;
		struct err *e = capture_queue(c, &all[i], &ours);

		if (e)
			capture_refuse(c, e);
		else if (!ours)
			sysv_unknown_add(c, &unknown, &all[i]);
	}
	sysv_unknown_warn(c, SYSV_MSG, &unknown);
	return NULL;
}

/* Somebody may have come meanwhile. */
static struct err *leave(struct capture *c, const Migrate__Kind__SysvMsg *m)
{
	struct sysv_object o;
	pid_t stays;
	bool still;

	TRY(sysv_still(SYSV_MSG, m->identity, &o, &still));
	if (!still)
		return NULL;
	if (users(c, &o, &stays) == SYSV_STAYS)
		return err_new(ERR_LIMIT, "process %d has used it meanwhile", (int)stays);
	return sysv_remove(SYSV_MSG, o.id);
}

static void release(
	struct capture *c, const struct object *o unused_arg, const void *msg, enum outcome out)
{
	const Migrate__Kind__SysvMsg *m = msg;
	autoerr struct err *e = out == OUTCOME_MOVED ? leave(c, m) : NULL;
	autofree char *line = e ? err_line(e) : NULL;

	if (line)
		capture_warn(c, "%s stays here, too: %s",
			sysv_say(c->arena, SYSV_MSG, m->identity->id, m->identity->key), line);
}

/* ---- destination ---- */

static struct err *valid(const struct object *o, const Migrate__Kind__SysvMsg *m)
{
	bool ok = m->identity && m->identity->id >= 0 && o->id == (uint64_t)m->identity->id + 1 &&
		  m->sent == (m->received || m->n_messages);
	size_t all = 0;

	for (size_t i = 0; ok && i < m->n_messages; i++) {
		all += m->messages[i]->text.len;
		ok = m->messages[i]->type > 0 && all <= QUEUE_BYTES_MAX;
	}
	return ok ? NULL : err_new(ERR_PEER, "impossible System V message queue");
}

static struct err *check(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__SysvMsg *m = msg;

	TRY(valid(o, m));
	return sysv_check(r, SYSV_MSG, m->identity);
}

/* Memory of the process for as long as it sends. */
struct sender {
	struct rebuild *r;
	struct thread *th;
	uint64_t id, at, room;
};

static struct err *send_one(struct sender *s, int64_t type, const void *text, size_t len)
{
	const long head = (long)type;

	TRY(task_write(s->r->task, s->at, &head, sizeof(head)));
	if (len)
		TRY(task_write(s->r->task, s->at + sizeof(head), text, len));
	return REMOTE(s->r->task, s->th, NULL, "send a message", SYS_msgsnd, s->id, s->at, len,
		IPC_NOWAIT);
}

static struct err *send_all(struct sender *s, const Migrate__Kind__SysvMsg *m)
{
	/* What nobody has received from still has all that was sent. */
	if (m->received) {
		TRY(send_one(s, 1, NULL, 0));
		TRY(REMOTE(s->r->task, s->th, NULL, "receive a message", SYS_msgrcv, s->id, s->at,
			0, 0, IPC_NOWAIT));
	}
	for (size_t i = 0; i < m->n_messages; i++)
		TRY(send_one(s, m->messages[i]->type, m->messages[i]->text.data,
			m->messages[i]->text.len));
	return NULL;
}

static struct err *fill(struct rebuild *r, const Migrate__Kind__SysvMsg *m)
{
	struct sender s = { .r = r,
		.th = task_leader(r->task),
		.id = (uint64_t)m->identity->id,
		.room = sizeof(long) };
	struct err *e, *unmapped;
	int64_t at;

	for (size_t i = 0; i < m->n_messages; i++)
		s.room = MAX(s.room, sizeof(long) + m->messages[i]->text.len);
	s.room = PAGE_UP(s.room);
	TRY(REMOTE(r->task, s.th, &at, "map memory for messages", SYS_mmap, 0, s.room,
		PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0));
	s.at = (uint64_t)at;
	e = send_all(&s, m);
	unmapped = REMOTE(r->task, s.th, NULL, "unmap it", SYS_munmap, s.at, s.room);
	if (!e)
		return unmapped;
	err_free(unmapped);
	return err_hint(e, "see kernel.msgmax and kernel.msgmnb at the destination");
}

/* Once more when something in it has changed: another one of the same id. */
static struct err *rebuild(
	struct rebuild *r, const struct object *o, const void *msg, int *none unused_arg)
{
	const Migrate__Kind__SysvMsg *m = msg;
	const struct sysv_making w = { .sort = SYSV_MSG,
		.identity = m->identity,
		.key = m->identity ? m->identity->key : 0,
		.get = { .nr = SYS_msgget, .args = { 0, 0 } },
		.flags = 1 };
	uint64_t bytes = 0;

	TRY(valid(o, m));
	sysv_discard(r, SYSV_MSG, m->identity->id);
	TRY(sysv_make(r, &w));
	/* It may be less by now than what is in it; it bounds the number of messages, too. */
	for (size_t i = 0; i < m->n_messages; i++)
		bytes += m->messages[i]->text.len;
	TRY(sysv_msg_room(m->identity->id, MAX(m->room, MAX(bytes, (uint64_t)m->n_messages))));
	if (m->sent)
		TRY_IN(fill(r, m), "%s %d", sysv_names[SYSV_MSG], m->identity->id);
	return sysv_msg_room(m->identity->id, m->room);
}

static struct err *finish(struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__SysvMsg *m = msg;

	return sysv_own(r, SYSV_MSG, m->identity);
}

static void discard(struct rebuild *r, const struct object *o, const void *msg unused_arg)
{
	sysv_discard(r, SYSV_MSG, (int)(o->id - 1));
}

static struct err *take_away(struct rebuild *r, const struct object *o, const void *msg)
{
	discard(r, o, msg);
	return NULL;
}

const struct kind kind_sysv_msg = {
	.id = 62,
	.name = "System V message queue",
	.scope = KIND_PROCESS,
	.stage = STAGE_FILE,
	.msg = &migrate__kind__sysv_msg__descriptor,
	.capture = capture,
	.check = check,
	.rebuild = rebuild,
	.remove = take_away,
	.finish = finish,
	.discard = discard,
	.yield = sysv_yield,
	.release = release,
};
