// SPDX-License-Identifier: Apache-2.0
/*
 * System V semaphore sets. The kernel says of each semaphore who has set or changed it last, and of
 * each set when; undo values have to be found out (sysv_undo.c), and come with the set.
 *
 * A set goes along when the process is the last to have used one of its semaphores, or has an undo
 * value of one. A process that has undo values of its own making (its list is not one that threads
 * share) has used some set: when no trace of that is left, it is refused.
 *
 * Whether anybody has ever changed the set (sem_otime) tells some programs that it is initialised.
 */
#include <errno.h>
#include <string.h>
#include <sys/sem.h>
#include <sys/syscall.h>

#include "kinds/calls.h"
#include "kinds/sysv.h"
#include "kinds/sysv_undo.h"
#include "sysv_sem.pb-c.h"

#define VALUE_MAX 32767
#define SEMS_MAX  32768
#define UNDO_MAX  32768

/* ---- source ---- */

/* One set as it is looked at. */
struct set {
	const struct sysv_object *o;
	pid_t *pids; /* who has used each last */
	uint16_t *values;
	int32_t *undo; /* NULL: none */
	enum sysv_user user;
	pid_t stays; /* one of those who stay */
};

static void look_at_users(struct capture *c, struct set *s)
{
	for (uint32_t i = 0; i < s->o->n; i++) {
		enum sysv_user u = sysv_user(c, s->pids[i]);

		s->user = sysv_users(s->user, u);
		if (u == SYSV_STAYS)
			s->stays = s->pids[i];
	}
}

static bool any_moves(const struct capture *c, const struct set *s)
{
	for (uint32_t i = 0; i < s->o->n; i++)
		if (sysv_user(c, s->pids[i]) == SYSV_MOVES)
			return true;
	return false;
}

/* Undo values of one thread; the set is not its own to change: none. */
static struct err *look_at_undo(struct capture *c, struct thread *th, struct set *s, bool *any)
{
	int32_t *undo = arena_array(c->arena, s->o->n, sizeof(*undo));
	bool may;

	*any = false;
	TRY(undo_read(&(struct undo_of){ c->task, th, s->o->id, s->values, s->o->n }, undo, &may));
	for (uint32_t i = 0; may && i < s->o->n; i++)
		*any = *any || undo[i];
	if (*any)
		s->undo = undo;
	return NULL;
}

struct lists {
	struct thread *leader; /* has a list */
	struct thread **own;   /* threads with another one */
	size_t n_own;
};

static struct err *look_at_lists(struct capture *c, struct lists *ret)
{
	struct task *t = c->task;
	bool there, same;

	ret->own = arena_array(c->arena, t->n_threads, sizeof(*ret->own));
	TRY(undo_list_there(t->pid, &there));
	ret->leader = there ? task_leader(t) : NULL;
	for (size_t i = 0; i < t->n_threads; i++) {
		TRY(undo_list_there(t->threads[i]->tid, &there));
		if (!there || t->threads[i] == task_leader(t))
			continue;
		TRY(undo_list_shared(t->pid, t->threads[i]->tid, &same));
		if (!same)
			ret->own[ret->n_own++] = t->threads[i];
	}
	return NULL;
}

static struct err *read_set(struct capture *c, const struct sysv_object *o, struct set *ret)
{
	struct set s = { .o = o };

	s.pids = arena_array(c->arena, o->n, sizeof(*s.pids));
	s.values = arena_array(c->arena, o->n, sizeof(*s.values));
	for (uint32_t i = 0; i < o->n; i++)
		TRY(sysv_sem_pid(o->id, i, &s.pids[i]));
	TRY(sysv_sem_values(o->id, s.values));
	look_at_users(c, &s);
	*ret = s;
	return NULL;
}

static void emit(struct capture *c, const struct set *s)
{
	Migrate__Kind__SysvSem m = MIGRATE__KIND__SYSV_SEM__INIT;

	m.identity = sysv_identity(c->arena, s->o);
	m.operated = s->o->in_s;
	m.n_values = m.n_used = s->o->n;
	m.values = arena_array(c->arena, s->o->n, sizeof(*m.values));
	m.used = arena_array(c->arena, s->o->n, sizeof(*m.used));
	for (uint32_t i = 0; i < s->o->n; i++) {
		m.values[i] = s->values[i];
		m.used[i] = s->pids[i] || s->values[i];
	}
	m.n_undo = s->undo ? s->o->n : 0;
	m.undo = s->undo;
	capture_emit(c, (uint64_t)s->o->id + 1, &m.base);
}

/* Setting a value takes the undo values of all processes off. */
static bool several(const struct capture *c)
{
	return c->inside && c->inside->n > 1;
}

/* *ours: it is this process's. */
static struct err *capture_set(
	struct capture *c, const struct lists *lists, const struct sysv_object *o, bool *ours)
{
	struct set s;
	bool undo = false, other = false;

	*ours = false;
	TRY(read_set(c, o, &s));
	for (size_t i = 0; i < lists->n_own; i++) {
		TRY(look_at_undo(c, lists->own[i], &s, &other));
		if (other)
			return err_new(ERR_UNSUPPORTED,
				"thread %d has undo values of its own for %s",
				(int)lists->own[i]->tid,
				sysv_say(c->arena, SYSV_SEM, o->id, o->key));
	}
	if (lists->leader)
		TRY(look_at_undo(c, lists->leader, &s, &undo));
	if (undo && several(c))
		return err_new(ERR_UNSUPPORTED,
			"process %d has undo values for %s, and others move with it",
			c->task->pid, sysv_say(c->arena, SYSV_SEM, o->id, o->key));
	*ours = undo || any_moves(c, &s);
	if (!*ours || !capture_is_root(c))
		return NULL;
	if (s.user == SYSV_STAYS)
		return sysv_shared(c, SYSV_SEM, o, s.stays);
	TRY(sysv_may_take(c, SYSV_SEM, o));
	emit(c, &s);
	return NULL;
}

static bool single(const struct lists *l, const struct task *t)
{
	return l->leader && t->n_threads == 1;
}

static struct err *capture(struct capture *c)
{
	struct sysv_unknown unknown = { .n = 0 };
	struct lists lists = { 0 };
	struct sysv_object *all;
	size_t n, n_ours = 0;

	TRY(sysv_list(c->arena, SYSV_SEM, &all, &n));
	if (!n)
		return NULL;
	TRY(look_at_lists(c, &lists));
	for (size_t i = 0; i < n; i++) {
		bool ours;
		struct err *e = capture_set(c, &lists, &all[i], &ours);

		if (e)
			capture_refuse(c, e);
		else if (!ours)
			sysv_unknown_add(c, &unknown, &all[i]);
		n_ours += e || ours;
	}
	if (single(&lists, c->task) && !n_ours)
		capture_refuse(c, err_new(ERR_UNSUPPORTED,
					  "it has used System V semaphores (SEM_UNDO), and nothing "
					  "tells which"));
	else
		sysv_unknown_warn(c, SYSV_SEM, &unknown);
	return NULL;
}

/* Somebody may have come meanwhile. */
static struct err *leave(struct capture *c, const Migrate__Kind__SysvSem *m)
{
	struct sysv_object o;
	struct set s;
	bool still;

	TRY(sysv_still(SYSV_SEM, m->identity, &o, &still));
	if (!still)
		return NULL;
	TRY(read_set(c, &o, &s));
	if (s.user == SYSV_STAYS)
		return err_new(ERR_LIMIT, "process %d has used it meanwhile", (int)s.stays);
	return sysv_remove(SYSV_SEM, o.id);
}

static void release(
	struct capture *c, const struct object *o unused_arg, const void *msg, enum outcome out)
{
	const Migrate__Kind__SysvSem *m = msg;
	autoerr struct err *e = out == OUTCOME_MOVED ? leave(c, m) : NULL;
	autofree char *line = e ? err_line(e) : NULL;

	if (line)
		capture_warn(c, "%s stays here, too: %s",
			sysv_say(c->arena, SYSV_SEM, m->identity->id, m->identity->key), line);
}

/* ---- destination ---- */

static struct err *valid(const struct object *o, const Migrate__Kind__SysvSem *m)
{
	bool ok = m->identity && m->identity->id >= 0 && o->id == (uint64_t)m->identity->id + 1 &&
		  m->n_values && m->n_values < SEMS_MAX && m->n_used == m->n_values &&
		  (!m->n_undo || m->n_undo == m->n_values);

	for (size_t i = 0; ok && i < m->n_values; i++)
		ok = m->values[i] <= VALUE_MAX &&
		     (!m->n_undo || (m->undo[i] >= -UNDO_MAX && m->undo[i] < UNDO_MAX));
	return ok ? NULL : err_new(ERR_PEER, "impossible System V semaphore set");
}

static struct err *check(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__SysvSem *m = msg;

	TRY(valid(o, m));
	return sysv_check(r, SYSV_SEM, m->identity);
}

/* By the process, which counts as their last user then. It takes undo values off, too. */
static struct err *set_values(struct rebuild *r, const Migrate__Kind__SysvSem *m)
{
	struct call calls[REMOTE_CALLS_MAX];
	size_t n = 0;

	for (size_t i = 0; i <= m->n_values; i++) {
		if (n == ARRAY_LEN(calls) || (i == m->n_values && n)) {
			TRY(remote_run(r->task, task_leader(r->task), calls, n));
			for (size_t k = 0; k < n; k++)
				if (calls[k].ret < 0)
					return err_errno((int)-calls[k].ret,
						"set a value of semaphore set %d", m->identity->id);
			n = 0;
		}
		if (i < m->n_values && m->used[i])
			calls[n++] = (struct call){ .nr = SYS_semctl,
				.args = { (uint64_t)m->identity->id, i, SETVAL, m->values[i] } };
	}
	return NULL;
}

static struct err *set_undo(struct rebuild *r, const Migrate__Kind__SysvSem *m)
{
	autofree uint16_t *values = xcalloc(m->n_values, sizeof(*values));
	const struct undo_of u = { r->task, task_leader(r->task), m->identity->id, values,
		m->n_values };

	for (size_t i = 0; i < m->n_values; i++)
		values[i] = (uint16_t)m->values[i];
	for (size_t i = 0; i < m->n_undo; i++)
		if (m->undo[i])
			TRY(undo_set(&u, i, m->undo[i]));
	return NULL;
}

/* Up and down, or the other way: the set has been changed. */
static struct err *operate(struct rebuild *r, const Migrate__Kind__SysvSem *m)
{
	struct sembuf ops[2] = { { .sem_flg = IPC_NOWAIT }, { .sem_flg = IPC_NOWAIT } };
	size_t i = 0;

	while (i < m->n_values && !m->used[i])
		i++;
	if (!m->operated || i == m->n_values)
		return NULL;
	ops[0].sem_num = ops[1].sem_num = (unsigned short)i;
	ops[0].sem_op = m->values[i] == VALUE_MAX ? -1 : 1;
	ops[1].sem_op = (short)-ops[0].sem_op;
	TRY(remote_put(r->task, 0, ops, sizeof(ops)));
	return REMOTE(r->task, task_leader(r->task), NULL, "change a semaphore", SYS_semop,
		(uint64_t)m->identity->id, remote_scratch(r->task).v, ARRAY_LEN(ops));
}

static struct err *rebuild(
	struct rebuild *r, const struct object *o, const void *msg, int *none unused_arg)
{
	const Migrate__Kind__SysvSem *m = msg;
	const struct sysv_making w = { .sort = SYSV_SEM,
		.identity = m->identity,
		.key = m->identity ? m->identity->key : 0,
		.get = { .nr = SYS_semget, .args = { 0, m->n_values, 0 } },
		.flags = 2 };

	TRY(valid(o, m));
	if (!sysv_made(r, SYSV_SEM, m->identity->id))
		TRY(sysv_make(r, &w));
	TRY(set_values(r, m));
	TRY(set_undo(r, m));
	return operate(r, m);
}

static struct err *finish(struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__SysvSem *m = msg;

	return sysv_own(r, SYSV_SEM, m->identity);
}

static void discard(struct rebuild *r, const struct object *o, const void *msg unused_arg)
{
	sysv_discard(r, SYSV_SEM, (int)(o->id - 1));
}

static struct err *take_away(struct rebuild *r, const struct object *o, const void *msg)
{
	discard(r, o, msg);
	return NULL;
}

const struct kind kind_sysv_sem = {
	.id = 61,
	.name = "System V semaphores",
	.scope = KIND_PROCESS,
	.stage = STAGE_FILE,
	.msg = &migrate__kind__sysv_sem__descriptor,
	.capture = capture,
	.check = check,
	.rebuild = rebuild,
	.remove = take_away,
	.finish = finish,
	.discard = discard,
	.yield = sysv_yield,
	.release = release,
};
