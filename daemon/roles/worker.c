// SPDX-License-Identifier: Apache-2.0
/*
 * The worker role: one migration, from either side, then the end. It joins what may not know each
 * other: the engine, the monitor's messages, systemd.
 *
 * What it says before it acts is what the monitor believes if it dies: a change of state goes out
 * before the engine enters it.
 */
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "engine/engine.h"
#include "engine/hook.h"
#include "engine/patience.h"
#include "kernel/confine.h"
#include "roles/hooks.h"
#include "roles/ipc.h"
#include "roles/journal.h"
#include "roles/place.h"
#include "roles/policy.h"
#include "roles/refuse.h"
#include "roles/remember.h"
#include "roles/role.h"
#include "roles/subject.h"
#include "roles/unit.h"
#include "roles/worker_priv.h"
#include "wire/err_wire.h"
#include "wire/handoff.h"
#include "wire/stream_relay.h"

#define SAY_US         2000000            /* how long the monitor may take to read */
#define OPEN_MAX_US    INT64_C(600000000) /* for one more connection */
#define NUMBERS_MIN_US 100000             /* between two progress messages of one state */
#define NOTES_BYTES    (160 << 10) /* of blockers and warnings in Done: it must fit one message */

const char *worker_side(const struct worker *w)
{
	return w->work->receive ? "destination" : "source";
}

/* A monitor that hangs is waited for once: the process may stand still meanwhile. */
struct err *worker_tell(struct worker *w, const Migrate__Ipc *m)
{
	struct err *e;

	if (w->monitor_gone)
		return err_new(ERR_GONE, "the monitor has ended");
	e = ipc_send(IPC_FD, m, NULL, 0, deadline_in(w->monitor_hangs ? 0 : SAY_US));
	w->monitor_gone = e && err_code(e) == ERR_GONE;
	w->monitor_hangs = e && err_code(e) == ERR_TIMEOUT;
	return e;
}

static void say(struct worker *w, const Migrate__Ipc *m)
{
	err_free(worker_tell(w, m));
}

static char *text_of(const char *s)
{
	return (char *)(uintptr_t)(s ? s : "");
}

/* Borrows everything. */
static void fill_progress(
	const struct worker *w, const struct engine_stats *s, Migrate__Progress *p)
{
	migrate__progress__init(p);
	p->id = text_of(w->id);
	p->side = text_of(worker_side(w));
	p->state = text_of(s->state);
	p->owner = text_of(owner_name(s->owner));
	p->pid = w->pid;
	p->comm = text_of(w->comm);
	p->peer = w->work->peer;
	p->round = s->round;
	p->resident_bytes = s->resident_bytes;
	p->bytes_sent = s->bytes_sent;
	p->bytes_sent_frozen = s->bytes_sent_frozen;
	p->round_dirty_bytes = s->round_dirty_bytes;
	p->round_sent_bytes = s->round_sent_bytes;
	p->dirty_rate_bytes_s = s->dirty_rate_bytes_s;
	p->bandwidth_bytes_s = s->bandwidth_bytes_s;
	p->total_us = (uint64_t)MAX(s->total_us, (int64_t)0);
	p->downtime_us = (uint64_t)MAX(s->downtime_us, (int64_t)0);
	p->predicted_downtime_us = (uint64_t)MAX(s->predicted_downtime_us, (int64_t)0);
	p->stop_rule = text_of(s->stop_rule);
	p->stall_us = (uint64_t)MAX(s->stall_us, (int64_t)0);
	p->objects = s->objects;
	p->tracker = text_of(s->tracker);
	p->source = text_of(s->source);
	p->sink = text_of(s->sink);
	p->stream = text_of(w->carrier);
	p->bytes_copied = s->bytes_copied;
	p->source_fds = s->source_fds;
	p->source_pipe_bytes = s->source_pipe_bytes;
	p->streams = s->streams;
}

static struct err *tell_progress(struct worker *w, const struct engine_stats *s, bool round_end)
{
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	Migrate__Progress p;

	fill_progress(w, s, &p);
	p.round_end = round_end;
	ipc.body_case = MIGRATE__IPC__BODY_PROGRESS;
	ipc.progress = &p;
	TRY(worker_tell(w, &ipc));
	w->said_us = clock_us();
	return NULL;
}

static void say_progress(struct worker *w, const struct engine_stats *s, bool round_end)
{
	err_free(tell_progress(w, s, round_end));
}

static bool same_state(const struct engine_stats *a, const struct engine_stats *b)
{
	return a->state && b->state && strcmp(a->state, b->state) == 0;
}

/* The engine does not say when a round is over: the next round, or the next state, does. */
static void on_progress(void *arg, const struct engine_stats *s)
{
	struct worker *w = arg;
	bool new_state = !same_state(&w->seen, s);
	bool precopy = w->seen.state && strcmp(w->seen.state, "precopy") == 0;
	bool round_end = precopy && w->seen.round_dirty_bytes + w->seen.round_sent_bytes > 0 &&
			 (new_state || w->seen.round != s->round);

	if (round_end)
		say_progress(w, &w->seen, true);
	w->seen = *s;
	worker_watch_growth(w);
	if (!w->id) /* a peer that has not said what it wants: on_begin says it */
		return;
	if (new_state || clock_us() - w->said_us >= NUMBERS_MIN_US)
		say_progress(w, s, false);
}

/* ---- the journal ---- */

/* A cancel, or the end of the monitor. */
static bool interrupted(const struct worker *w)
{
	struct pollfd p = { w->interrupt_fd, POLLIN, 0 };

	return poll(&p, 1, 0) > 0;
}

static struct err *on_mark(void *arg, enum engine_mark mark)
{
	struct worker *w = arg;

	if (w->journal.fd >= 0)
		return journal_add(&w->journal, mark);
	TRY(remember_begin(
		w->work, &(struct remembered){ w->id, w->comm, w->pid }, mark, &w->journal));
	/* The monitor that would settle it may be gone, and the next one may have looked already.
	 */
	if (!interrupted(w))
		return NULL;
	journal_remove(&w->journal);
	return err_new(ERR_CANCELLED, "cancelled");
}

static struct err *on_undo(void *arg, const uint8_t *list, size_t len)
{
	struct worker *w = arg;

	return journal_put_undo(&w->journal, list, len);
}

/* What was written while nobody had time for the disk. Should that fail, the monitor tries it again
 * and says so. */
static void end_journal(struct worker *w, enum engine_result result)
{
	/* It has taken back what it had given up. */
	if (w->journal.fd >= 0 && !w->work->receive && result == RESULT_KEPT)
		journal_drop_undo(&w->journal);
	if (w->journal.fd >= 0)
		err_free(journal_sync(&w->journal));
	journal_close(&w->journal);
}

/* ---- asking the monitor ---- */

/* The next message, or GONE, TIMEOUT; CANCELLED if that may be. @calls pages: poll */
static struct err *next_message(
	const struct worker *w, bool cancellable, struct deadline d, struct ipc_msg *msg)
{
	struct pollfd p[] = { { IPC_FD, POLLIN, 0 }, { w->interrupt_fd, POLLIN, 0 } };

	if (cancellable) {
		(void)poll(p, ARRAY_LEN(p), deadline_poll_ms(d));
		if (p[1].revents)
			return err_new(ERR_CANCELLED, "cancelled");
	}
	return ipc_recv(IPC_FD, d, msg);
}

static bool is_late(const Migrate__Ipc *m, uint32_t wanted)
{
	return m->body_case == MIGRATE__IPC__BODY_OPENED && m->opened->number != wanted;
}

/* The answer to what was asked. A connection whose asker has given up may come in between: it is
 * closed. `wanted`: the number of the one that is asked for, 0 for something else. */
struct err *worker_next_answer(
	const struct worker *w, uint32_t wanted, struct deadline d, struct ipc_msg *ret)
{
	for (;;) {
		TRY(next_message(w, wanted, d, ret));
		if (!is_late(ret->m, wanted))
			return NULL;
		ipc_msg_fini(ret);
	}
}

/* ---- further connections ---- */

static struct err *carry(const struct worker *w, int fd, bool kernel_tls, struct stream *ret);

static struct err *ask_stream(
	struct worker *w, unsigned number, struct deadline d, struct ipc_msg *msg)
{
	Migrate__Open open = MIGRATE__OPEN__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	int64_t left_us = d.at_us - clock_us();

	open.number = number;
	open.limit_us = (uint64_t)MIN(MAX(left_us, (int64_t)0), OPEN_MAX_US);
	ipc.body_case = MIGRATE__IPC__BODY_OPEN;
	ipc.open = &open;
	TRY_IN(worker_tell(w, &ipc), "tell the monitor");
	/* It knows best why there is none: it gets some time to say so. */
	TRY(worker_next_answer(w, number, deadline_in((int64_t)open.limit_us + SAY_US), msg));
	if (msg->m->body_case != MIGRATE__IPC__BODY_OPENED)
		return err_new(ERR_BUG, "the monitor answered something else");
	if (msg->m->opened->error)
		return err_from_wire(msg->m->opened->error);
	return msg->n_fds == 1 ? NULL : err_new(ERR_BUG, "the monitor sent no connection");
}

static struct err *add_stream(
	struct worker *w, unsigned number, struct deadline d, struct stream **ret)
{
	autoipc struct ipc_msg msg = { .m = NULL };
	struct joined *j;
	struct stream s;

	TRY(ask_stream(w, number, d, &msg));
	TRY(carry(w, take_fd(&msg.fds[0]), msg.m->opened->kernel_tls, &s));
	j = xcalloc(1, sizeof(*j));
	*j = (struct joined){ w->joined, s };
	w->joined = j;
	*ret = &j->stream;
	return NULL;
}

static struct err *on_open_stream(
	void *arg, unsigned number, struct deadline d, struct stream **ret)
{
	struct worker *w = arg;
	struct err *e;

	pthread_mutex_lock(&w->asking);
	e = add_stream(w, number, d, ret);
	pthread_mutex_unlock(&w->asking);
	return err_in(e, "open connection %u", number);
}

static void close_joined(struct worker *w)
{
	while (w->joined) {
		struct joined *j = w->joined;

		w->joined = j->next;
		stream_close(&j->stream);
		free(j);
	}
}

/* ---- hooks ---- */

/* Until there is something to read or `limit`, and the peer hears meanwhile that somebody is at
 * work. An error is the reason for not waiting any more. */
static struct err *await_hooks(
	const struct worker *w, const struct engine_hook *h, struct deadline limit)
{
	struct pollfd p[] = { { IPC_FD, POLLIN, 0 },
		{ h->told_only ? -1 : w->interrupt_fd, POLLIN, 0 } };
	struct deadline d = deadline_min(limit, h->until);

	while (!deadline_passed(limit)) {
		struct deadline next = deadline_min(deadline_in(ENGINE_ALIVE_US), d);

		if (poll(p, ARRAY_LEN(p), deadline_poll_ms(next)) < 0 && errno != EINTR)
			return err_errno(errno, "wait for the hooks");
		if (p[0].revents)
			return NULL;
		if (p[1].revents)
			return err_new(ERR_CANCELLED, "cancelled");
		if (deadline_passed(h->until))
			return err_new(ERR_TIMEOUT, "its time is up");
		TRY(h->alive(h->arg));
	}
	return NULL;
}

/* Who is cancelled, or has no time left, does not wait for a program that hangs. */
static struct err *stop_hooks(struct worker *w, const struct engine_hook *h, struct err *why)
{
	Migrate__HookStop stop = MIGRATE__HOOK_STOP__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	autoipc struct ipc_msg msg = { .m = NULL };
	autoerr struct err *e = NULL;

	ipc.body_case = MIGRATE__IPC__BODY_HOOK_STOP;
	ipc.hook_stop = &stop;
	say(w, &ipc);
	e = worker_next_answer(w, 0, deadline_in(SAY_US), &msg);
	w->no_hooks = e;
	if (e || msg.m->body_case != MIGRATE__IPC__BODY_HOOK_RESULT || !msg.m->hook_result->error)
		return why;
	/* It names the program that took all the time. */
	if (deadline_passed(h->until) && msg.m->hook_result->error->code == ERR_TIMEOUT) {
		err_free(why);
		return err_in(err_from_wire(msg.m->hook_result->error), "hook %s", h->event);
	}
	return why;
}

static struct err *hook_result(struct worker *w, const struct engine_hook *h)
{
	autoipc struct ipc_msg msg = { .m = NULL };
	/* Each program has its time limit, and the monitor some to tell us. */
	int64_t limit_us =
		(int64_t)(hooks_count(w->work->hooks_dir) * w->work->hook_limit_us) + SAY_US;
	struct deadline limit = deadline_in(limit_us);
	struct err *e = await_hooks(w, h, limit);

	if (e)
		return stop_hooks(w, h, e);
	e = worker_next_answer(w, 0, limit, &msg);
	if (e) { /* the monitor hangs */
		w->no_hooks = true;
		e = err_hint(err_in(e, "run hooks"), "see what holds up migrated here");
	} else if (msg.m->body_case != MIGRATE__IPC__BODY_HOOK_RESULT) {
		e = err_new(ERR_BUG, "the monitor answered something else");
	} else if (msg.m->hook_result->error) {
		e = err_from_wire(msg.m->hook_result->error);
	}
	return err_in(e, "hook %s", h->event);
}

static struct err *ask_hooks(
	struct worker *w, const struct engine_hook *h, const struct engine_stats *s)
{
	Migrate__HookRun run = MIGRATE__HOOK_RUN__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	Migrate__Progress p;
	struct err *e;

	if (w->no_hooks || w->monitor_gone || !hooks_count(w->work->hooks_dir))
		return NULL;
	fill_progress(w, s, &p);
	run.event = text_of(h->event);
	run.told_only = h->told_only;
	run.progress = &p;
	ipc.body_case = MIGRATE__IPC__BODY_HOOK_RUN;
	ipc.hook_run = &run;
	pthread_mutex_lock(&w->asking);
	say(w, &ipc);
	e = hook_result(w, h);
	pthread_mutex_unlock(&w->asking);
	return e;
}

static struct err *on_hook(void *arg, const struct engine_hook *h, const struct engine_stats *s)
{
	struct worker *w = arg;

	TRY(worker_check_rights(w, h->event));
	return ask_hooks(w, h, s);
}

/* ---- the end ---- */

/* As many as fit; what is left out is said. */
static void fill_notes(struct arena *a, const struct notes *n, const char *where, Migrate__Done *d)
{
	size_t room = NOTES_BYTES, left = 0;

	d->blockers = arena_array(a, n->n_blockers + 1, sizeof(*d->blockers));
	d->warnings = arena_array(a, n->n_warnings + 1, sizeof(*d->warnings));
	for (size_t i = 0; i < n->n_blockers; i++) {
		Migrate__Error *e = err_to_wire(a, n->blockers[i], where, NULL);
		size_t size = migrate__error__get_packed_size(e) + 8;

		if (size > room) {
			left++;
			continue;
		}
		room -= size;
		d->blockers[d->n_blockers++] = e;
	}
	for (size_t i = 0; i < n->n_warnings; i++) {
		size_t size = strlen(n->warnings[i]) + 8;

		if (size > room) {
			left++;
			continue;
		}
		room -= size;
		d->warnings[d->n_warnings++] = n->warnings[i];
	}
	if (left)
		d->warnings[d->n_warnings < n->n_warnings ? d->n_warnings++ : d->n_warnings - 1] =
			arena_printf(a, "and %zu more that are not shown", left);
}

static const char *outcome_name(const struct worker *w, const struct engine_outcome *out)
{
	bool dry = !w->work->receive && w->work->send->dry_run;

	if (dry)
		return out->error || out->notes.n_blockers ? "blocked" : "movable";
	return engine_result_name(out->result);
}

static void say_done(struct worker *w, const struct engine_outcome *out)
{
	autoarena struct arena *a = arena_new();
	Migrate__Done d = MIGRATE__DONE__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	Migrate__Progress last;
	const char *where = out->side ? out->side : worker_side(w);

	fill_progress(w, &out->stats, &last);
	d.last = &last;
	d.outcome = text_of(outcome_name(w, out));
	if (out->error)
		d.error = err_to_wire(a, out->error, where, out->state);
	fill_notes(a, &out->notes, where, &d);
	w->monitor_hangs = false; /* this one is worth waiting for */
	ipc.body_case = MIGRATE__IPC__BODY_DONE;
	ipc.done = &d;
	say(w, &ipc);
}

/* ---- source ---- */

static void send_engine(
	struct worker *w, const struct engine_io *io, const char *unit, struct engine_outcome *out)
{
	const Migrate__SendRequest *r = w->work->send;
	const struct send_options opt = {
		.pid = r->pid,
		.start_time = w->work->start_time,
		.id = w->id,
		.downtime_us = (int64_t)r->downtime_us,
		.force_switch = r->force_switch,
		.max_rounds = r->max_rounds,
		.streams = r->streams,
		.timeout_us = (int64_t)r->timeout_us,
		.spent_us = (int64_t)w->work->spent_us,
		.frozen_us = (int64_t)w->work->frozen_us,
		.bandwidth = r->bandwidth,
		.dry_run = r->dry_run,
		.unit = unit,
		.tracker = strcmp(w->work->tracker, "auto") == 0 ? NULL : w->work->tracker,
		.pages = strcmp(w->work->pages, "auto") == 0 ? NULL : w->work->pages,
	};

	engine_send(io, &opt, out);
}

static void run_send(struct worker *w, const struct engine_io *io, struct engine_outcome *out)
{
	const Migrate__SendRequest *r = w->work->send;
	bool may_stop = strcmp(r->unit_policy, "stop") == 0;
	struct unit unit;
	struct err *e;

	w->id = xstrdup(w->work->id);
	w->comm = xstrdup(w->work->comm);
	w->pid = r->pid;
	e = unit_around(r->pid, &unit);
	if (!e)
		e = unit_check(&unit, may_stop);
	/* A check goes on: all blockers are shown at once. */
	if (e && !r->dry_run) {
		out->error = e;
		snprintf(out->state, sizeof(out->state), "hello");
		unit_fini(&unit);
		return;
	}
	send_engine(w, io, unit.name ? unit.name : "", out);
	if (e)
		notes_refuse(&out->notes, e);
	if (out->result == RESULT_MOVED && unit.name && may_stop && !r->dry_run) {
		autoerr struct err *failed = unit_stop(&unit);

		if (failed) {
			autofree char *line = err_line(failed);

			notes_warn(&out->notes, line);
		}
	}
	unit_fini(&unit);
}

/* ---- destination ---- */

static char *clean_copy(const char *s)
{
	char *copy = xstrdup(s);

	if (strlen(copy) > 64)
		copy[64] = 0;
	for (char *c = copy; *c; c++)
		if (!isprint((unsigned char)*c) || *c == '"')
			*c = '?';
	return copy;
}

static struct err *on_begin(void *arg, const struct incoming *in)
{
	struct worker *w = arg;

	w->id = xstrdup(in->id);
	w->comm = clean_copy(in->comm);
	w->pid = in->pid;
	log_info("begin id=%s peer=%s pid=%d comm=%s uid=%u bytes=%ju", in->id, w->work->peer,
		in->pid, w->comm, in->uid, (uintmax_t)in->bytes);
	w->uid = in->uid;
	if (w->seen.state)
		say_progress(w, &w->seen, false);
	return worker_reserve(w, in->bytes);
}

static void run_receive(struct worker *w, const struct engine_io *io, struct engine_outcome *out)
{
	AUTO(place_fini) struct place place = { .keeper = -1 };
	autoarena struct arena *a = arena_new();
	const struct receive_options opt = {
		.state_dir = w->work->state_dir,
		.cgroup_dir = NULL,
		.sink = strcmp(w->work->sink, "auto") == 0 ? NULL : w->work->sink,
		.max_memory = w->work->max_memory,
		.on_begin = on_begin,
	};
	struct receive_options with_group = opt;
	struct err *e;

	e = uid_set_parse(&w->policy.uids, w->work->allow_uids);
	w->policy.allow = true; /* the monitor would not have let it in */
	w->policy.max_memory = w->work->max_memory;
	w->policy.allow_capabilities = w->work->allow_capabilities;
	if (!e)
		e = place_make(&place, w->work->cgroup_dir);
	if (e) {
		refuse_stream(io->stream, err_to_wire(a, e, "destination", "hello"));
		out->error = e;
		snprintf(out->state, sizeof(out->state), "hello");
		return;
	}
	with_group.cgroup_dir = place.dir;
	engine_receive(io, &with_group, out);
}

/* With kernel TLS the socket takes pages in every way. To a relay, pages that must not be copied go
 * through a socket: the rings are written by us. */
static struct err *carry(const struct worker *w, int fd, bool kernel_tls, struct stream *ret)
{
	bool by_reference = w->work->receive ? strcmp(w->work->sink, "splice") == 0
					     : strcmp(w->work->pages, "pump") == 0;
	struct err *e;

	if (kernel_tls)
		return stream_ktls(fd, ret);
	if (!by_reference)
		return stream_relay(fd, ret);
	e = handoff_say(fd, HANDOFF_PLAIN, NULL, 0);
	if (!e)
		return stream_socket(fd, ret);
	close(fd);
	return e;
}

/* The monitor, which knows only that we have ended, refers to the log. */
static int not_begun(const struct err *e)
{
	autofree char *line = e ? err_line(e) : NULL;

	log_error("begin error=\"%s\"", line ? line : "the monitor said nothing of use");
	return 1;
}

int worker_main(void)
{
	autoipc struct ipc_msg msg = { .m = NULL };
	struct worker w = { .asking = PTHREAD_MUTEX_INITIALIZER, .journal = JOURNAL_NONE };
	struct engine_outcome out = { .result = RESULT_KEPT };
	struct stream stream = { .fd = -1 };
	struct engine_io io = { .interrupt_fd = -1,
		.arg = &w,
		.on_progress = on_progress,
		.why = worker_why,
		.on_hook = on_hook,
		.on_mark = on_mark,
		.on_undo = on_undo,
		.open_stream = on_open_stream,
		.page_thread = confine_page_thread };
	autoerr struct err *e = ipc_recv(IPC_FD, DEADLINE_NEVER, &msg);

	if (!e)
		e = ipc_no_room(&msg);
	if (e || msg.m->body_case != MIGRATE__IPC__BODY_WORK)
		return not_begun(e);
	if (msg.m->work->undo)
		return remember_undo(msg.m->work);
	if (msg.n_fds < 1)
		return not_begun(NULL);
	w.work = msg.m->work;
	io.interrupt_fd = w.interrupt_fd = msg.fds[0];
	if (msg.n_fds > 1) {
		e = carry(&w, take_fd(&msg.fds[1]), w.work->kernel_tls, &stream);
		if (e)
			return not_begun(e);
		io.stream = &stream;
		w.carrier = w.work->kernel_tls ? stream.ops->name : "relay";
	}
	if (w.work->receive)
		run_receive(&w, &io, &out);
	else
		run_send(&w, &io, &out);
	end_journal(&w, out.result);
	say_done(&w, &out);
	engine_outcome_fini(&out);
	free(w.id);
	free(w.comm);
	err_free(w.too_much);
	close_joined(&w);
	stream_close(&stream);
	uid_set_fini(&w.policy.uids);
	return 0;
}
