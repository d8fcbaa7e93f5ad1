// SPDX-License-Identifier: Apache-2.0
#include "engine/undo.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

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

/* A process that was held by SIGSTOP, for want of a group, cannot be held by ptrace before it goes
 * on: it runs for some microseconds. */
static struct err *hold(struct task *t, const struct undo_spec *spec)
{
	if (!spec->group[0] && syscall(SYS_pidfd_send_signal, t->pidfd, SIGCONT, NULL, 0) < 0)
		return err_errno(errno, "let process %d go on", spec->pid);
	return task_hold(t, deadline_in(HOLD_US));
}

/* The worker may have died in the middle of a remote call, which is over as soon as the process
 * goes on: then it is let go for a moment. Without this, its locks would be lost. */
static struct err *hold_for_calls(struct task *t, const struct undo_spec *spec)
{
	struct freezer f = { .dir = (char *)(uintptr_t)spec->group };
	struct deadline d = deadline_in(HOLD_US);

	for (;;) {
		struct err *e;

		TRY(hold(t, spec));
		/* ptrace holds it: then thawing the group does not let it run, but calls do. */
		if (spec->group[0])
			TRY(freezer_set(&f, false, false));
		e = REMOTE(t, task_leader(t), NULL, "look", SYS_getpid, 0);
		if (!e || err_code(e) != ERR_UNSUPPORTED || deadline_passed(d))
			return e;
		err_free(e);
		TRY(task_let_go(t));
		usleep(STEP_US);
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
	struct err *e, *let;

	snapshot_init(&s, notes, all->cache);
	only_of(&s, all, t);
	e = s.objects.n ? hold_for_calls(t, spec) : NULL;
	if (!e)
		capture_release(&s, s.objects.n, OUTCOME_KEPT);
	let = task_let_go(t);
	snapshot_fini(&s);
	if (!e)
		return let;
	err_free(let);
	return e;
}

/* Somebody of the tree who has ended has nothing to take back. Another process that has its number
 * by now is not in the group. */
static struct err *undo_other(
	const struct undo_spec *spec, const struct snapshot *all, pid_t pid, struct notes *notes)
{
	autofree char *group = NULL;
	autotask struct task *t = NULL;
	struct err *e = task_open(pid, &t);

	if (!e)
		e = freezer_current(pid, &group);
	if (e && (err_code(e) == ERR_GONE || err_sysno(e) == ESRCH || err_sysno(e) == ENOENT)) {
		err_free(e);
		return NULL;
	}
	TRY(e);
	return strcmp(group, spec->group) == 0 ? undo_one(spec, all, t, notes) : NULL;
}

static struct err *undo_others(
	const struct undo_spec *spec, const struct snapshot *all, struct notes *notes)
{
	pid_t done = spec->pid;

	for (size_t i = 0; i < all->objects.n; i++) {
		const struct object *o = all->objects.v[i];
		pid_t pid = object_is_file(o) ? o->slots[0].pid : o->pid;

		if (pid == spec->pid || pid == done)
			continue;
		TRY(undo_other(spec, all, pid, notes));
		done = pid;
	}
	return NULL;
}

static struct err *undo(const struct undo_spec *spec, struct snapshot *all, struct notes *notes)
{
	autotask struct task *t = NULL;

	TRY(read_list(all, spec));
	TRY(task_open(spec->pid, &t));
	if (t->start_time != spec->start_time)
		return err_new(ERR_GONE, "process %d has ended", spec->pid);
	TRY(undo_others(spec, all, notes));
	TRY(undo_one(spec, all, t, notes));
	spec->on_undone(spec->arg);
	return NULL;
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
