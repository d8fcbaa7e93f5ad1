// SPDX-License-Identifier: Apache-2.0
/* The source's states: what each one does, and how it is undone. The table is at the end. */
#include "engine/source.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "engine/clocks.h"
#include "engine/facts.h"
#include "engine/hook.h"
#include "engine/late.h"
#include "engine/machine.h"
#include "engine/patience.h"
#include "kernel/trace.h"
#include "kinds/cache.h"
#include "session.pb-c.h"
#include "wire/err_wire.h"

enum source_state {
	S_BUG,
	S_HELLO,
	S_REHEARSE,
	S_PRECOPY,
	S_FREEZE,
	S_FINAL,
	S_OFFERED,
	S_HOLD,
	S_COMMIT,
	S_DONE,
	S_IN_DOUBT,
	S_RESUMED,
	S_ESTIMATE,
	S_CHECKED,
};

void source_progress(struct source *s)
{
	struct engine_stats *st = &s->out->stats;

	st->bytes_sent = source_bytes(s);
	st->total_us = clock_us() - st->started_us;
	if (s->io->on_progress)
		s->io->on_progress(s->io->arg, st);
}

static struct err *hook(struct source *s, const char *event)
{
	return hook_veto(&s->peer, event, s->until, &s->out->stats);
}

struct err *source_blocked(struct source *s)
{
	const struct notes *n = &s->out->notes;
	autofree char *first = NULL;

	if (n->n_blockers == s->known_blockers)
		return NULL;
	first = err_line(n->blockers[s->known_blockers]);
	s->known_blockers = n->n_blockers;
	return err_hint(err_new(ERR_UNSUPPORTED, "%s", first),
		"migratectl check %d shows everything that hinders it at once", s->opt->pid);
}

/* ---- pre-copy ---- */

struct err *source_layout(struct source *s, struct source_member *m, bool with_flags)
{
	struct snapshot next;
	struct capture_priv p;
	struct capture c;
	struct layout *now;
	const uint8_t *bytes;
	size_t len;

	snapshot_init(&next, &s->out->notes, s->cache);
	snapshot_see(&next, m->task->held ? &s->frozen : &s->sent);
	capture_context(&c, &p, m->task, &next);
	struct err *e = layout_capture(&c, with_flags, m->layout, &now);

	if (!e)
		e = layout_diff(next.arena, m->layout, now, &bytes, &len);
	if (!e && len)
		e = peer_reason(&s->peer,
			channel_send(&s->peer.ch, FRAME_LAYOUT,
				m->task == s->task ? 0 : (uint64_t)m->task->pid, bytes, len));
	if (e) {
		snapshot_fini(&next);
		return e;
	}
	spaces_compare(s, m, now);
	ranges_clear(&m->fresh);
	if (m->layout)
		layout_fresh(m->layout, now, &m->fresh);
	snapshot_fini(&m->layout_of);
	m->layout_of = next;
	m->layout = now;
	return NULL;
}

struct err *source_each_told(
	struct source *s, struct err *(*fn)(struct source *s, struct source_member *m))
{
	for (struct source_member *m = NULL; (m = source_next(s, m));) {
		struct err *e = m->told ? fn(s, m) : NULL;

		if (e && (s->peer.failed_there || !source_member_ended(s, m)))
			return e;
		err_free(e);
	}
	return NULL;
}

static struct err *layout_with_flags(struct source *s, struct source_member *m)
{
	return source_layout(s, m, true);
}

struct err *source_layouts(struct source *s)
{
	return source_each_told(s, layout_with_flags);
}

static struct err *not_converging(
	const struct source *s, const struct precopy_limits *l, const struct precopy_forecast *f)
{
	return err_hint(
		err_new(ERR_LIMIT,
			"after %u rounds it still writes %ju MiB/s, the link carries %ju MiB/s, "
			"and "
			"%ju MiB would be left for the freeze: a downtime of %jd ms, %jd ms are "
			"allowed",
			s->round.number + 1, (uintmax_t)(f->dirty_rate_bytes_s >> 20),
			(uintmax_t)(s->round.bandwidth_bytes_s >> 20),
			(uintmax_t)(f->dirty_bytes >> 20), (intmax_t)(f->downtime_us / 1000),
			(intmax_t)(l->downtime_us / 1000)),
		"allow it with --downtime %jd, or freeze in any case with --force-switch",
		(intmax_t)(f->downtime_us / 1000 + 1));
}

struct precopy_limits source_limits(const struct source *s)
{
	return (struct precopy_limits){
		.downtime_us =
			s->opt->downtime_us ? s->opt->downtime_us : ENGINE_DOWNTIME_US_DEFAULT,
		.max_rounds = s->opt->max_rounds ? s->opt->max_rounds : ENGINE_ROUNDS_DEFAULT,
		.force_switch = s->opt->force_switch,
		.tracked = s->ops != &dirty_none,
	};
}

static struct err *precopy(void *ctx)
{
	struct source *s = ctx;
	const struct precopy_limits limits = source_limits(s);
	struct precopy_trend trend = { 0 };
	struct precopy_forecast f;

	source_wait(s);
	TRY(source_streams_open(s));
	TRY(source_pages_open(s));
	s->first_round_us = clock_us();
	s->first_round_bytes = source_bytes(s);
	for (;; s->round.number++) {
		enum precopy_step step;

		source_wait(s);
		TRY(task_check_alive(s->task));
		TRY(channel_interrupted(&s->peer.ch));
		if (s->round.number)
			TRY(source_layouts(s));
		TRY(source_blocked(s));
		TRY(source_round(s, false));
		step = precopy_decide(&s->round, &limits, &trend, &f);
		if (s->untrusted)
			step = PRECOPY_AGAIN; /* once: from now on it is looked at stopped */
		s->out->stats.stop_rule = step == PRECOPY_AGAIN ? NULL : f.stop_rule;
		s->out->stats.dirty_rate_bytes_s = f.dirty_rate_bytes_s;
		s->out->stats.predicted_downtime_us =
			f.downtime_us == INT64_MAX ? 0 : f.downtime_us;
		source_progress(s);
		TRY(source_in_time(s));
		if (step == PRECOPY_FREEZE)
			return NULL;
		if (step == PRECOPY_GIVE_UP)
			return not_converging(s, &limits, &f);
	}
}

static void precopy_undo(void *ctx)
{
	source_untrack(ctx);
}

/* ---- freeze and the last round ---- */

static struct err *mark(const struct source *s, enum engine_mark m)
{
	return s->io->on_mark ? s->io->on_mark(s->io->arg, m) : NULL;
}

struct err *source_hold(struct source *s)
{
	TRY_IN(tree_hold(&s->tree, deadline_in(ENGINE_STOP_US)), "freeze %d", s->opt->pid);
	return source_tree_sync(s);
}

static struct err *freeze(void *ctx)
{
	struct source *s = ctx;
	struct err *e;

	TRY(hook(s, "pre-freeze"));
	TRY(mark(s, MARK_INTENT));
	TRY(source_network_close(s));
	e = source_join_group(s);
	if (e && err_code(e) != ERR_UNSUPPORTED)
		return err_in(e, "prepare to hold %d", s->opt->pid);
	if (e)
		notes_warn(
			&s->out->notes, "no cgroup v2 here: the process is held by ptrace alone");
	err_free(e);
	source_begin_still(s);
	TRY(source_hold(s));
	s->frozen_ns = clock_ns();
	TRY(source_drain(s));
	TRY(source_join_rest(s));
	s->peer.ch.hurried = true;
	s->out->stats.bytes_sent_frozen = source_bytes(s);
	return hook(s, "frozen");
}

static void freeze_undo(void *ctx)
{
	struct source *s = ctx;

	source_network_back(s);
	source_not_undone(s, tree_let_go(&s->tree));
	if (s->freezer.dir)
		source_not_undone(s, freezer_undo(&s->freezer, s->opt->pid));
}

/* Guard pages that were put up since the last look at all of its memory. */
static struct err *send_late_guards(struct source *s, struct source_member *m)
{
	struct ranges seen AUTO(ranges_fini) = { 0 }, there AUTO(ranges_fini) = { 0 };
	struct capture_priv p;
	struct capture c;
	struct layout *now;
	const uint8_t *bytes;
	size_t len;
	bool known = m->dirty && s->ops->guards;

	capture_context(&c, &p, m->task, &m->layout_of);
	if (known)
		s->ops->guards(m->dirty, &seen);
	TRY(layout_guards(&c, m->layout, known ? &seen : NULL, &there));
	now = layout_with_guards(m->layout_of.arena, m->layout, &there);
	if (!now)
		return NULL;
	TRY(layout_diff(m->layout_of.arena, m->layout, now, &bytes, &len));
	m->layout = now;
	return peer_reason(
		&s->peer, channel_send(&s->peer.ch, FRAME_LAYOUT,
				  m->task == s->task ? 0 : (uint64_t)m->task->pid, bytes, len));
}

/* Who came after the rehearsal: all of it goes now, and its memory is there before what is in it.
 */
static struct err *send_newcomers(struct source *s)
{
	for (struct source_member *m = NULL; (m = source_next(s, m));) {
		if (m->told)
			continue;
		TRY(dirty_none.open(m->task, &m->everything));
		TRY(source_layout(s, m, true));
	}
	return NULL;
}

static struct err *send_layouts(struct source *s)
{
	for (struct source_member *m = NULL; (m = source_next(s, m));)
		if (m->told)
			TRY(source_layout(s, m, false));
	return NULL;
}

/* All of them: our bytes in their stacks must be gone before these are read. */
static struct err *put_all_back(struct source *s)
{
	for (struct source_member *m = NULL; (m = source_next(s, m));)
		TRY(remote_put_back(m->task));
	return NULL;
}

static struct err *send_objects(struct source *s)
{
	uint64_t changed;

	TRY(source_tree_renew(s));
	TRY(source_tree_tell(s, true));
	TRY(capture_all(&s->tree, &s->frozen));
	TRY(source_blocked(s));
	TRY(send_newcomers(s));
	TRY(peer_reason(&s->peer,
		objects_send_diff(&s->peer.ch, &s->sent.objects, &s->frozen.objects, &changed)));
	TRY(send_layouts(s));
	return source_blocked(s);
}

static struct err *send_last(void *ctx)
{
	struct source *s = ctx;
	Migrate__Final m = MIGRATE__FINAL__INIT;

	TRY(send_objects(s));
	TRY(undo_note(s->io, &s->frozen, &s->gives));
	TRY(capture_yield(&s->frozen, &s->yielded));
	TRY(put_all_back(s));
	s->round.number++;
	TRY(source_round(s, true));
	TRY(source_pages_leave(s));
	/* That was the last remote call. What has given something up must not run when we die. */
	if (s->gives)
		TRY(source_hold_group(s));
	for (struct source_member *one = NULL; (one = source_next(s, one));)
		TRY(send_late_guards(s, one));
	TRY(source_network_lock(s));
	TRY(source_network_leave(s));
	TRY(hook(s, "address"));
	TRY(source_network_send(s));
	m.frozen_ns = s->frozen_ns + s->clock.offset_ns;
	m.rounds = s->round.number + 1;
	return peer_send(&s->peer, FRAME_FINAL, &m.base);
}

static void send_last_undo(void *ctx)
{
	struct source *s = ctx;

	source_thaw(s); /* ptrace holds it */
	/* What was given up can only be taken back when the peer has let go of it. */
	if ((s->yielded || s->network.given_up) && s->out->error)
		peer_give_up(&s->peer, FRAME_ABORT, s->out->error, s->out->side, s->out->state);
	source_network_back(s);
	capture_release(&s->frozen, s->yielded, OUTCOME_KEPT);
	/* It must not be taken back again when the process has gone on and perhaps given it up. */
	if (s->gives && s->io->on_undo)
		err_free(s->io->on_undo(s->io->arg, NULL, 0));
}

static struct err *offered(void *ctx)
{
	struct source *s = ctx;
	autoarena struct arena *a = arena_new();
	void *msg;

	source_wait(s);
	TRY(peer_expect(&s->peer, a, FRAME_READY, &migrate__ready__descriptor, &msg));
	TRY(hook(s, "pre-commit"));
	TRY(channel_interrupted(&s->peer.ch));
	TRY(source_in_time(s));
	/* Hooks take their time: a peer that is gone by now must not get the process. */
	if (!channel_news(&s->peer.ch))
		return NULL;
	source_wait(s);
	return peer_next(&s->peer, a);
}

/* Who has ended one while it stood still meant the process, not this copy of it. A thread that has
 * SIGKILL pending answers to no ptrace request, before it has ended too. */
static struct err *still_there(const struct source *s)
{
	for (size_t i = 0; i < s->tree.n; i++) {
		uint64_t mask;
		pid_t pid = s->tree.v[i]->pid;
		autoerr struct err *e = trace_get_mask(pid, &mask);

		if (e)
			return err_new(ERR_GONE, "process %d has ended", pid);
	}
	return NULL;
}

/* From here on nothing but us or the operator makes it run, not even our own death. ptrace keeps it
 * still until the group is frozen. Without cgroup v2 it is stopped, which any SIGCONT ends: no
 * hold, but all there is. */
static struct err *hold(void *ctx)
{
	struct source *s = ctx;

	TRY(still_there(s));
	TRY(source_hold_group(s));
	if (s->group_frozen)
		return mark(s, MARK_COMMIT);
	/* Who takes the hold back could not know that it was stopped before. */
	if (s->task->stop_signal)
		return err_new(ERR_UNSUPPORTED, "process %d has been stopped by job control",
			s->opt->pid);
	if (syscall(SYS_pidfd_send_signal, s->task->pidfd, SIGSTOP, NULL, 0) < 0)
		return err_errno(errno, "stop %d", s->opt->pid);
	s->stopped = true;
	return mark(s, MARK_COMMIT);
}

static void hold_undo(void *ctx)
{
	struct source *s = ctx;

	/* Only behind COMMIT is there anything to take back; then the peer has refused it. */
	err_free(mark(s, MARK_INTENT));
	source_thaw(s);
	if (s->stopped) /* it was not delivered yet: this takes it back */
		(void)syscall(SYS_pidfd_send_signal, s->task->pidfd, SIGCONT, NULL, 0);
	s->stopped = false;
}

/* ---- commit and the ends ---- */

static struct err *commit(void *ctx)
{
	struct source *s = ctx;
	autoarena struct arena *a = arena_new();
	Migrate__Running *m;
	struct err *e;
	void *msg;

	s->peer.ch.interrupt_fd = -1;
	channel_wait(&s->peer.ch, ENGINE_FROZEN_TIMEOUT_US, DEADLINE_NEVER);
	TRY(channel_send(&s->peer.ch, FRAME_COMMIT, 0, NULL, 0));
	FAULT("source.commit-sent");
	TRY(peer_expect(&s->peer, a, FRAME_RUNNING, &migrate__running__descriptor, &msg));
	m = msg;
	e = mark(s, MARK_MOVED); /* else the peer is asked again, and has to know */
	s->remembered = !e;
	err_free(e);
	s->first_ns = m->first_ns - s->clock.offset_ns;
	for (size_t i = 0; i < m->n_warnings; i++)
		notes_warn(&s->out->notes, m->warnings[i]);
	return NULL;
}

/* ERROR in place of RUNNING: it was about to give up when COMMIT was on its way. It says so when
 * nothing is left there, and does not take COMMIT any more. */
static enum event commit_event(void *ctx, const struct err *e)
{
	const struct source *s = ctx;

	return e && s->peer.failed_there ? EV_REFUSED : event_of(e);
}

/* After it the destination knows nothing more of the migration: so it must be known here that it
 * was moved, whatever happens. */
static void say_goodbye(struct source *s)
{
	struct err *e = s->io->on_ended ? s->io->on_ended(s->io->arg) : NULL;

	if (!e && s->remembered)
		e = channel_send(&s->peer.ch, FRAME_BYE, 0, NULL, 0);
	err_free(e);
}

static struct err *end_originals(struct source *s)
{
	for (size_t i = 0; i < s->tree.n; i++)
		TRY(task_kill(s->tree.v[i]));
	for (size_t i = 0; i < s->tree.n; i++)
		TRY(task_wait_end(s->tree.v[i], deadline_in(ENGINE_STOP_US)));
	return NULL;
}

static struct err *done(void *ctx)
{
	struct source *s = ctx;
	struct engine_stats *st = &s->out->stats;
	struct err *e;

	st->downtime_us = (s->first_ns - s->frozen_ns) / 1000;
	st->bytes_sent_frozen = source_bytes(s) - st->bytes_sent_frozen;
	st->bytes_sent = source_bytes(s);
	st->total_us = clock_us() - st->started_us;
	late_look(s);
	capture_release(&s->frozen, s->frozen.objects.n, OUTCOME_MOVED);
	e = end_originals(s);
	if (e) {
		autofree char *line = err_line(e);

		notes_warn(&s->out->notes, line);
		err_free(e);
	}
	source_network_ended(s);
	source_remove_groups(s);
	FAULT("source.original-ended");
	s->out->result = RESULT_MOVED;
	say_goodbye(s);
	hook_tell(&s->peer, "committed", &s->out->stats);
	return NULL;
}

static struct err *in_doubt(void *ctx)
{
	struct source *s = ctx;

	s->out->result = RESULT_IN_DOUBT;
	return NULL;
}

static struct err *resumed(void *ctx)
{
	struct source *s = ctx;

	s->out->result = RESULT_KEPT;
	if (s->out->error)
		peer_give_up(&s->peer, FRAME_ABORT, s->out->error, s->out->side, s->out->state);
	hook_tell(&s->peer, "failed", &s->out->stats);
	return NULL;
}

/* A check that found no blocker: what would it take? */
static struct err *estimate(void *ctx)
{
	return source_estimate(ctx);
}

/* A check ends here: nothing is kept anywhere. */
static struct err *checked(void *ctx)
{
	struct source *s = ctx;
	autoerr struct err *e = err_new(ERR_CANCELLED, "it was a check");

	s->out->result = RESULT_KEPT;
	peer_give_up(&s->peer, FRAME_ABORT, e, "source", "check");
	return NULL;
}

#define ANY_FAILURE(next) \
	[EV_FAILED] = (next), [EV_LOST] = (next), [EV_CANCELLED] = (next), [EV_TIMEOUT] = (next), \
	[EV_REFUSED] = (next)

static const struct state_row move_rows[] = {
	[S_BUG] = { "bug", OWNER_UNKNOWN },
	[S_HELLO] = { "hello", OWNER_SOURCE, source_hello,
		.on = { [EV_OK] = S_REHEARSE, ANY_FAILURE(UNDO) } },
	[S_REHEARSE] = { "rehearse", OWNER_SOURCE, source_rehearse, precopy_undo,
		.on = { [EV_OK] = S_PRECOPY, ANY_FAILURE(UNDO) } },
	[S_PRECOPY] = { "precopy", OWNER_SOURCE, precopy,
		.on = { [EV_OK] = S_FREEZE, ANY_FAILURE(UNDO) } },
	[S_FREEZE] = { "freeze", OWNER_NOBODY, freeze, freeze_undo,
		.on = { [EV_OK] = S_FINAL, ANY_FAILURE(UNDO) } },
	[S_FINAL] = { "final", OWNER_NOBODY, send_last, send_last_undo,
		.on = { [EV_OK] = S_OFFERED, ANY_FAILURE(UNDO) } },
	[S_OFFERED] = { "offered", OWNER_NOBODY, offered,
		.on = { [EV_OK] = S_HOLD, ANY_FAILURE(UNDO) } },
	[S_HOLD] = { "hold", OWNER_NOBODY, hold, hold_undo,
		.on = { [EV_OK] = S_COMMIT, ANY_FAILURE(UNDO) } },
	/* COMMIT may have arrived whatever went wrong afterwards, unless the peer has said no. */
	[S_COMMIT] = { "commit", OWNER_UNKNOWN, commit, .event = commit_event,
		.on = { [EV_OK] = S_DONE,
			[EV_FAILED] = S_IN_DOUBT,
			[EV_LOST] = S_IN_DOUBT,
			[EV_CANCELLED] = S_IN_DOUBT,
			[EV_TIMEOUT] = S_IN_DOUBT,
			[EV_REFUSED] = UNDO } },
	[S_DONE] = { "done", OWNER_DESTINATION, done, .cut = true,
		.on = { [EV_OK] = END, ANY_FAILURE(END) } },
	[S_IN_DOUBT] = { "in_doubt", OWNER_UNKNOWN, in_doubt,
		.on = { [EV_OK] = END, ANY_FAILURE(END) } },
	[S_RESUMED] = { "resumed", OWNER_SOURCE, resumed,
		.on = { [EV_OK] = END, ANY_FAILURE(END) } },
};

static const struct state_row check_rows[] = {
	[S_BUG] = { "bug", OWNER_UNKNOWN },
	[S_HELLO] = { "hello", OWNER_SOURCE, source_hello,
		.on = { [EV_OK] = S_REHEARSE, ANY_FAILURE(UNDO) } },
	[S_REHEARSE] = { "rehearse", OWNER_SOURCE, source_rehearse, precopy_undo,
		.on = { [EV_OK] = S_ESTIMATE, ANY_FAILURE(UNDO) } },
	[S_RESUMED] = { "resumed", OWNER_SOURCE, resumed,
		.on = { [EV_OK] = END, ANY_FAILURE(END) } },
	[S_ESTIMATE] = { "estimate", OWNER_SOURCE, estimate,
		.on = { [EV_OK] = S_CHECKED, ANY_FAILURE(UNDO) } },
	[S_CHECKED] = { "checked", OWNER_SOURCE, checked,
		.on = { [EV_OK] = END, ANY_FAILURE(END) } },
};

const struct state_row *source_move_rows(size_t *n)
{
	*n = ARRAY_LEN(move_rows);
	return move_rows;
}

const struct state_row *source_check_rows(size_t *n)
{
	*n = ARRAY_LEN(check_rows);
	return check_rows;
}

static void on_state(void *ctx, const struct state_row *row)
{
	struct source *s = ctx;

	s->out->stats.state = row->name;
	s->out->stats.owner = row->owner;
	source_progress(s);
	FAULT_STATE("source", row->name);
}

static void on_error(void *ctx, const struct state_row *row, struct err *e)
{
	struct source *s = ctx;

	if (s->out->error) {
		err_free(e);
		return;
	}
	if (s->io->why && err_code(e) == ERR_CANCELLED && !s->peer.failed_there)
		e = s->io->why(s->io->arg, e);
	s->out->error = source_reason(s, e);
	s->out->side = s->peer.failed_there ? "destination" : "source";
	snprintf(s->out->state, sizeof(s->out->state), "%s", row->name);
}

static void source_fini(struct source *s)
{
	source_untrack(s);
	lanes_close(&s->lanes);
	source_pages_close(s);
	snapshot_fini(&s->sent);
	while (s->n_looks)
		snapshot_fini(&s->looks[--s->n_looks]);
	snapshot_fini(&s->frozen);
	source_network_fini(s);
	kind_cache_free(s->cache);
	freezer_fini(&s->freezer);
	spaces_fini(s);
	source_tree_fini(s);
}

void engine_send(
	const struct engine_io *io, const struct send_options *opt, struct engine_outcome *out)
{
	struct source s = { .io = io, .opt = opt, .out = out };
	const struct machine m = {
		.rows = opt->dry_run ? check_rows : move_rows,
		.n_rows = opt->dry_run ? ARRAY_LEN(check_rows) : ARRAY_LEN(move_rows),
		.first = S_HELLO,
		.undone = S_RESUMED,
		.on_state = on_state,
		.on_error = on_error,
	};

	*out = (struct engine_outcome){ .result = RESULT_KEPT, .side = "source" };
	out->stats.started_us = clock_us();
	s.cache = kind_cache_new();
	snapshot_init(&s.sent, &out->notes, s.cache);
	snapshot_init(&s.frozen, &out->notes, s.cache);
	peer_init(&s.peer, io, true);
	source_begin_time(&s);
	machine_run(&m, &s);
	source_fini(&s);
}
