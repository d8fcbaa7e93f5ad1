// SPDX-License-Identifier: Apache-2.0
#include "engine/undo.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fault.h"
#include "kernel/remote.h"
#include "kernel/task.h"
#include "kinds/cache.h"

#define HOLD_US 5000000
#define STEP_US 1000

struct err *undo_note(const struct engine_io *io, const struct snapshot *s, bool *any)
{
	autoarena struct arena *a = arena_new();
	struct object_set given = { 0 };
	const uint8_t *list;
	size_t len;

	for (size_t i = 0; i < s->objects.n; i++)
		if (s->objects.v[i]->kind->yield)
			objects_push(a, &given, s->objects.v[i]);
	*any = given.n > 0;
	if (!given.n || !io->on_undo)
		return NULL;
	objects_pack(a, &given, &list, &len);
	return io->on_undo(io->arg, list, len);
}

static struct err *read_list(struct snapshot *s, const struct undo_spec *spec)
{
	struct objects_delta d;

	TRY(objects_parse(s->arena, spec->pid, spec->list, spec->len, &d));
	for (size_t i = 0; i < d.n_changed; i++) {
		if (!d.changed[i]->kind->yield)
			return err_new(
				ERR_BUG, "%s is nothing to take back", d.changed[i]->kind->name);
		objects_push(s->arena, &s->objects, d.changed[i]);
	}
	return NULL;
}

/* Whoever may run when the group is thawed: all of them are held before one takes anything back, as
 * they may share it. */
struct held {
	struct task **v;
	size_t n;
};

static void held_fini(struct held *h)
{
	for (size_t i = 0; i < h->n; i++)
		task_free(h->v[i]);
	free(h->v);
	*h = (struct held){ NULL, 0 };
}

/* A process that was held by SIGSTOP, for want of a group, cannot be held by ptrace before it goes
 * on: it runs for some microseconds. */
static struct err *hold(struct task *t, const struct undo_spec *spec)
{
	if (!spec->group[0] && syscall(SYS_pidfd_send_signal, t->pidfd, SIGCONT, NULL, 0) < 0)
		return err_errno(errno, "let process %d go on", spec->pid);
	return task_hold(t, deadline_in(HOLD_US));
}

/* One that has ended is none. */
static struct err *add_held(struct held *h, const struct undo_spec *spec, pid_t pid)
{
	autotask struct task *t = NULL;
	struct err *e = task_open(pid, &t);

	if (!e && pid == spec->pid && t->start_time != spec->start_time)
		e = err_new(ERR_GONE, "process %d has ended", pid);
	if (!e)
		e = hold(t, spec);
	if (e && (err_code(e) == ERR_GONE || err_sysno(e) == ESRCH)) {
		err_free(e);
		return NULL;
	}
	TRY(e);
	h->v[h->n++] = take(&t);
	return NULL;
}

static struct err *hold_all(struct held *h, const struct undo_spec *spec)
{
	autoarena struct arena *a = arena_new();
	struct freezer f = { .dir = (char *)(uintptr_t)spec->group };
	struct pids in = { .v = &spec->pid, .n = 1 };

	if (spec->group[0])
		TRY(freezer_members(a, &f, &in));
	h->v = xcalloc(MAX(in.n, (size_t)1), sizeof(*h->v));
	for (size_t i = 0; i < in.n; i++)
		if (in.v[i] > 1)
			TRY(add_held(h, spec, in.v[i]));
	return NULL;
}

/* A frozen process makes no calls. While the group is thawed ptrace holds them all; but should
 * we die then, they run: so it is frozen again as soon as may be. */
static struct err *let_call(const struct undo_spec *spec, bool may)
{
	struct freezer f = { .dir = (char *)(uintptr_t)spec->group };

	return spec->group[0] ? freezer_set(&f, !may, false) : NULL;
}

/* The worker may have died in the middle of a remote call, which is over as soon as the process
 * goes on: then it is let go for a moment. Without this, its locks would be lost. */
static struct err *until_calls(struct task *t, const struct undo_spec *spec)
{
	struct deadline d = deadline_in(HOLD_US);

	for (;;) {
		struct err *e = REMOTE(t, task_leader(t), NULL, "look", SYS_getpid, 0);

		if (!e || err_code(e) != ERR_UNSUPPORTED || deadline_passed(d))
			return e;
		err_free(e);
		TRY(task_let_go(t));
		usleep(STEP_US);
		TRY(hold(t, spec));
	}
}

/* The objects of one process, or of descriptors of which it has the first. */
static void only_of(struct snapshot *s, const struct snapshot *all, struct task *t)
{
	struct view *v = arena_alloc(s->arena, sizeof(*v));
	pid_t *pid = arena_dup(s->arena, &t->pid, sizeof(t->pid));

	v->task = t;
	s->views = v;
	s->inside = s->seen = (struct pids){ .v = pid, .n = 1 };
	for (size_t i = 0; i < all->objects.n; i++) {
		struct object *o = all->objects.v[i];

		if ((object_is_file(o) ? o->slots[0].pid : o->pid) == t->pid)
			objects_push(s->arena, &s->objects, o);
	}
}

static struct err *undo_one(const struct undo_spec *spec, const struct snapshot *all,
	struct task *t, struct notes *notes)
{
	struct snapshot s;
	struct err *e;

	struct err *again;

	snapshot_init(&s, notes, all->cache);
	only_of(&s, all, t);
	e = s.objects.n ? let_call(spec, true) : NULL;
	if (!e && s.objects.n)
		e = until_calls(t, spec);
	if (!e)
		capture_release(&s, s.objects.n, OUTCOME_KEPT);
	again = s.objects.n ? let_call(spec, false) : NULL;
	snapshot_fini(&s);
	if (!e)
		return again;
	err_free(again);
	return e;
}

/* Of somebody who was moved out of the group nothing is known. */
static void warn_of_others(const struct snapshot *all, const struct held *h, struct notes *notes)
{
	for (size_t i = 0; i < all->objects.n; i++) {
		const struct object *o = all->objects.v[i];
		pid_t pid = object_is_file(o) ? o->slots[0].pid : o->pid;
		bool there = false;

		for (size_t k = 0; k < h->n; k++)
			there |= h->v[k]->pid == pid;
		if (!there)
			notes_warnf(notes,
				"%s of process %d, which has ended or is in another control group: "
				"not taken back",
				o->kind->name, pid);
	}
}

static struct err *undo(const struct undo_spec *spec, struct snapshot *all, struct notes *notes)
{
	struct held h AUTO(held_fini) = { NULL, 0 };
	struct err *e = NULL;

	TRY(read_list(all, spec));
	TRY(hold_all(&h, spec));
	if (!h.n)
		return err_new(ERR_GONE, "process %d has ended", spec->pid);
	FAULT("source.undo-held");
	for (size_t i = 0; i < h.n && !e; i++)
		e = undo_one(spec, all, h.v[i], notes);
	if (!e)
		spec->on_undone(spec->arg);
	for (size_t i = 0; i < h.n; i++) {
		struct err *let = task_let_go(h.v[i]);

		if (e)
			err_free(let);
		else
			e = let;
	}
	warn_of_others(all, &h, notes);
	return e;
}

/* They have ended: what they have left behind is all that there is to do. */
static struct err *forget(const struct undo_spec *spec, struct snapshot *all, struct notes *notes)
{
	pid_t done = 0;

	TRY(read_list(all, spec));
	for (size_t i = 0; i < all->objects.n; i++) {
		const struct object *o = all->objects.v[i];
		struct task gone = { .pidfd = -1, .mem_fd = -1 };
		struct snapshot s;

		gone.pid = object_is_file(o) ? o->slots[0].pid : o->pid;
		if (gone.pid == done)
			continue;
		done = gone.pid;
		snapshot_init(&s, notes, all->cache);
		only_of(&s, all, &gone);
		capture_release(&s, s.objects.n, OUTCOME_MOVED);
		snapshot_fini(&s);
	}
	return NULL;
}

static struct err *with_snapshot(const struct undo_spec *spec, struct notes *notes,
	struct err *(*fn)(const struct undo_spec *, struct snapshot *, struct notes *))
{
	struct kind_cache *cache = kind_cache_new();
	struct snapshot s;
	struct err *e;

	snapshot_init(&s, notes, cache);
	e = fn(spec, &s, notes);
	snapshot_fini(&s);
	kind_cache_free(cache);
	return e;
}

struct err *engine_undo(const struct undo_spec *spec, struct notes *notes)
{
	return with_snapshot(spec, notes, undo);
}

struct err *engine_undo_moved(const struct undo_spec *spec, struct notes *notes)
{
	return with_snapshot(spec, notes, forget);
}
