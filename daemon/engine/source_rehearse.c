// SPDX-License-Identifier: Apache-2.0
/*
 * The rehearsal: everything is captured and rebuilt once while the processes run, so that what
 * hinders the move is known before they stand still.
 */
#include <fcntl.h>
#include <unistd.h>

#include "base/io.h"
#include "engine/hook.h"
#include "engine/patience.h"
#include "engine/source.h"
#include "wire/err_wire.h"

static struct err *choose_tracker(struct source *s)
{
	s->ops = s->opt->tracker ? dirty_by_name(s->opt->tracker) : dirty_choose();
	if (!s->ops)
		return err_new(ERR_INVALID, "no dirty tracker is called \"%s\"", s->opt->tracker);
	if (s->opt->tracker && !s->ops->probe())
		return err_hint(err_new(ERR_UNSUPPORTED, "tracker %s does not work on this kernel",
					s->opt->tracker),
			"set tracker = auto in migrated.conf");
	s->out->stats.tracker = s->ops->name;
	return NULL;
}

static struct err *track(struct source *s, struct source_member *m)
{
	autoarena struct arena *a = arena_new();
	struct proc_stat st;

	TRY(proc_stat(a, m->task->pid, 0, &st));
	m->start_stack = st.start_stack;
	m->told = true;
	TRY(io_open(arena_printf(a, "/proc/%d/mem", m->task->pid), O_RDONLY, &m->mm_fd));
	TRY(dirty_none.open(m->task, &m->everything));
	return s->ops->open(m->task, &m->dirty);
}

/* Those whose descriptors were looked at; who came since is for later. */
static struct err *track_all(struct source *s)
{
	TRY(choose_tracker(s));
	for (struct source_member *m = NULL; (m = source_next(s, m));)
		if (pids_have(&s->sent.seen, m->task->pid))
			TRY(track(s, m));
	source_choose_main(s);
	return source_tree_tell(s, false);
}

typedef struct err *(*look_fn)(struct source *s, struct snapshot *to);

/* The short stop: what only the processes themselves can be asked. */
static struct err *stopped(struct source *s, look_fn fn, struct snapshot *to)
{
	int64_t began;
	struct err *e, *let;

	TRY_IN(tree_hold(&s->tree, deadline_in(ENGINE_STOP_US)), "stop %d for a moment",
		s->opt->pid);
	began = clock_us();
	e = fn(s, to);
	let = tree_let_go(&s->tree);
	s->out->stats.stall_us = MAX(s->out->stats.stall_us, clock_us() - began);
	if (!e)
		return let;
	err_free(let);
	return e;
}

static struct err *look_first(struct source *s, struct snapshot *to)
{
	TRY(source_tree_sync(s));
	TRY(capture_stopped(&s->tree, to));
	return track_all(s);
}

static struct err *look_once_more(struct source *s, struct snapshot *to)
{
	return capture_stopped(&s->tree, to);
}

static struct err *take_checked(struct source *s)
{
	autoarena struct arena *a = arena_new();
	Migrate__Checked *m;
	void *msg;

	TRY(peer_reason(&s->peer, channel_send(&s->peer.ch, FRAME_REHEARSED, 0, NULL, 0)));
	TRY(peer_expect(&s->peer, a, FRAME_CHECKED, &migrate__checked__descriptor, &msg));
	m = msg;
	for (size_t i = 0; i < m->n_blockers; i++)
		notes_refuse(&s->out->notes,
			err_in(err_from_wire(m->blockers[i]), "the destination cannot take it"));
	for (size_t i = 0; i < m->n_warnings; i++)
		notes_warn(&s->out->notes, m->warnings[i]);
	return NULL;
}

/* Nothing of it is sent: for a check without another host. */
static struct err *layout_alone(struct source *s, struct source_member *m)
{
	struct capture_priv p;
	struct capture c;

	snapshot_see(&m->layout_of, &s->sent);
	capture_context(&c, &p, m->task, &m->layout_of);
	return layout_capture(&c, true, NULL, &m->layout);
}

/* Without those that may be gone soon. But what hinders it may be just that one of them is
 * missing (the other end of a socketpair or pipe): then they are looked at, too. */
static struct err *rehearse_running(struct source *s)
{
	const struct capture_choice settled = { source_has_settled, s };
	struct notes *notes = &s->out->notes;
	const size_t blockers = notes->n_blockers;

	TRY(capture_running(&s->tree, &settled, &s->sent));
	if (notes->n_blockers == blockers || s->sent.seen.n == s->sent.inside.n)
		return NULL;
	notes_forget_blockers(notes, blockers);
	snapshot_fini(&s->sent);
	snapshot_init(&s->sent, notes, s->cache);
	return capture_running(&s->tree, NULL, &s->sent);
}

static bool was_seen(void *arg, const struct task *t)
{
	const struct source *s = arg;

	return pids_have(&s->sent.seen, t->pid);
}

/* The same processes once more, and the peer gets what has changed. What it has had stays: others
 * refer to it. */
static struct err *look_again(struct source *s, uint64_t *changed)
{
	const struct capture_choice seen = { was_seen, s };
	struct snapshot *last = &s->looks[s->n_looks], next;
	struct err *e;

	snapshot_init(&next, &s->out->notes, s->cache);
	e = capture_running(&s->tree, &seen, &next);
	if (!e)
		e = stopped(s, look_once_more, &next);
	if (!e)
		e = peer_reason(&s->peer,
			objects_send_diff(
				&s->peer.ch, &s->sent.objects, &next.objects, changed));
	if (e) {
		snapshot_fini(&next);
		return e;
	}
	*last = s->sent;
	s->n_looks++;
	s->sent = next;
	return NULL;
}

/* A file that was written under another name first, or a program that was about to change: what
 * hinders the destination may be gone a moment later. If nothing has changed, it is not. */
static struct err *check_until_settled(struct source *s)
{
	struct notes *notes = &s->out->notes;
	const bool hindered_here = notes->n_blockers > 0;
	uint64_t changed;
	size_t found;

	for (;;) {
		TRY(take_checked(s));
		found = notes->n_blockers;
		if (!found || hindered_here || s->n_looks == LOOKS_MAX)
			return NULL;
		usleep(LOOK_PAUSE_US);
		TRY(look_again(s, &changed));
		if (!changed || notes->n_blockers > found)
			return NULL;
		notes_forget_blockers(notes, 0);
	}
}

struct err *source_rehearse(void *ctx)
{
	struct source *s = ctx;
	struct object_set none = { .sorted = true };

	TRY(rehearse_running(s));
	TRY(stopped(s, look_first, &s->sent));
	source_check_groups(s);
	TRY(source_network_plan(s));
	s->out->stats.objects = s->sent.objects.n;
	if (!s->io->stream) {
		TRY(source_each_told(s, layout_alone));
	} else {
		uint64_t changed;

		TRY(peer_reason(&s->peer,
			objects_send_diff(&s->peer.ch, &none, &s->sent.objects, &changed)));
		TRY(source_layouts(s));
		TRY(source_tree_tell_ended(s));
		TRY(check_until_settled(s));
	}
	TRY(hook_veto(&s->peer, "check", s->until, &s->out->stats));
	return source_blocked(s);
}
