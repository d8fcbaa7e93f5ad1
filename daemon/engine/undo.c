// SPDX-License-Identifier: Apache-2.0
#include "engine/undo.h"

#include <errno.h>
#include <signal.h>
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

	TRY(objects_parse(s->arena, spec->list, spec->len, &d));
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

static void take_back(struct task *t, struct snapshot *s, const struct undo_spec *spec)
{
	capture_release(t, s, s->objects.n, OUTCOME_KEPT);
	spec->on_undone(spec->arg);
}

static struct err *undo(const struct undo_spec *spec, struct snapshot *s)
{
	autotask struct task *t = NULL;
	struct err *e, *let;

	TRY(read_list(s, spec));
	TRY(task_open(spec->pid, &t));
	if (t->start_time != spec->start_time)
		return err_new(ERR_GONE, "process %d has ended", spec->pid);
	e = hold_for_calls(t, spec);
	if (!e)
		take_back(t, s, spec);
	let = task_let_go(t);
	if (!e)
		return let;
	err_free(let);
	return e;
}

static struct err *forget(const struct undo_spec *spec, struct snapshot *s)
{
	struct task gone = { .pid = spec->pid, .pidfd = -1, .mem_fd = -1 };

	TRY(read_list(s, spec));
	capture_release(&gone, s, s->objects.n, OUTCOME_MOVED);
	return NULL;
}

static struct err *with_snapshot(const struct undo_spec *spec, struct notes *notes,
	struct err *(*fn)(const struct undo_spec *, struct snapshot *))
{
	struct kind_cache *cache = kind_cache_new();
	struct snapshot s;
	struct err *e;

	snapshot_init(&s, notes, cache);
	e = fn(spec, &s);
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
