// SPDX-License-Identifier: Apache-2.0
/*
 * The worker role: one migration, from either side, then the end. It joins what may not know each
 * other: the engine, the monitor's messages, systemd.
 *
 * What it says before it acts is what the monitor believes if it dies: a change of state goes out
 * before the engine enters it.
 */
#include <ctype.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "engine/engine.h"
#include "engine/hook.h"
#include "engine/network.h"
#include "kernel/confine.h"
#include "roles/ipc.h"
#include "roles/journal.h"
#include "roles/outcome.h"
#include "roles/place.h"
#include "roles/policy.h"
#include "roles/refuse.h"
#include "roles/remember.h"
#include "roles/role.h"
#include "roles/subject.h"
#include "roles/take.h"
#include "roles/unit.h"
#include "roles/worker.h"
#include "wire/err_wire.h"

#define NUMBERS_MIN_US 100000 /* between two progress messages of one state */

const char *worker_side(const struct worker *w)
{
	return w->work->receive ? "destination" : "source";
}

/* A monitor that hangs is waited for once: the process may stand still meanwhile. */
struct err *worker_tell_with(struct worker *w, const Migrate__Ipc *m, int fd)
{
	struct err *e;

	if (w->monitor_gone)
		return err_new(ERR_GONE, "the monitor has ended");
	e = ipc_send(
		IPC_FD, m, &fd, fd >= 0 ? 1 : 0, deadline_in(w->monitor_hangs ? 0 : WORKER_SAY_US));
	w->monitor_gone = e && err_code(e) == ERR_GONE;
	w->monitor_hangs = e && err_code(e) == ERR_TIMEOUT;
	return e;
}

struct err *worker_tell(struct worker *w, const Migrate__Ipc *m)
{
	return worker_tell_with(w, m, -1);
}

void worker_say(struct worker *w, const Migrate__Ipc *m)
{
	err_free(worker_tell(w, m));
}

char *worker_text(const char *s)
{
	return (char *)(uintptr_t)(s ? s : "");
}

/* Borrows everything. */
void worker_fill_progress(
	const struct worker *w, const struct engine_stats *s, Migrate__Progress *p)
{
	migrate__progress__init(p);
	p->id = worker_text(w->id);
	p->side = worker_text(worker_side(w));
	p->state = worker_text(s->state);
	p->owner = worker_text(owner_name(s->owner));
	p->pid = w->pid;
	p->comm = worker_text(w->comm);
	p->peer = w->work->peer;
	p->processes = (uint32_t)w->pids.n;
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
	p->stop_rule = worker_text(s->stop_rule);
	p->stall_us = (uint64_t)MAX(s->stall_us, (int64_t)0);
	p->objects = s->objects;
	p->tracker = worker_text(s->tracker);
	p->source = worker_text(s->source);
	p->sink = worker_text(s->sink);
	p->stream = worker_text(w->carrier);
	p->bytes_copied = s->bytes_copied;
	p->source_fds = s->source_fds;
	p->source_pipe_bytes = s->source_pipe_bytes;
	p->streams = s->streams;
	p->connections = s->connections;
}

static struct err *tell_progress(struct worker *w, const struct engine_stats *s, bool round_end)
{
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	Migrate__Progress p;

	worker_fill_progress(w, s, &p);
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

static void on_tree(void *arg, const struct pids *pids)
{
	struct worker *w = arg;
	pid_t *v = xcalloc(pids->n, sizeof(*v));

	memcpy(v, pids->v, pids->n * sizeof(*v));
	free((pid_t *)(uintptr_t)w->pids.v);
	w->pids = (struct pids){ v, pids->n };
}

static void only_root(struct worker *w, pid_t pid)
{
	w->pid = pid;
	on_tree(w, &(struct pids){ &pid, 1 });
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

static struct err *put_aside(
	struct worker *w, enum journal_aside what, const uint8_t *list, size_t len)
{
	if (list)
		return journal_put_aside(&w->journal, what, list, len);
	journal_drop_aside(w->work->state_dir, w->id, w->work->receive, what);
	return NULL;
}

static struct err *on_undo(void *arg, const uint8_t *list, size_t len)
{
	return put_aside(arg, ASIDE_UNDO, list, len);
}

static struct err *on_network(void *arg, const uint8_t *list, size_t len)
{
	return put_aside(arg, ASIDE_NETWORK, list, len);
}

/* At once: a unit of systemd that restarts what has ended waits 100 ms for that, and hooks come
 * yet. */
static struct err *on_ended(void *arg)
{
	struct worker *w = arg;

	if (w->unit)
		w->unit_left = unit_stop(w->unit);
	return w->journal.fd >= 0 ? journal_sync(&w->journal) : NULL;
}

/* What was written while nobody had time for the disk. Should that fail, the monitor tries it again
 * and says so. */
static void end_journal(struct worker *w)
{
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
struct err *worker_answer(
	const struct worker *w, uint32_t wanted, struct deadline d, struct ipc_msg *ret)
{
	for (;;) {
		TRY(next_message(w, wanted, d, ret));
		if (!is_late(ret->m, wanted))
			return NULL;
		ipc_msg_fini(ret);
	}
}

/* For Done, when the engine's list is gone. */
static void note_addresses(struct worker *w, const struct network *n)
{
	if (!n)
		return;
	w->n_addresses = MIN(n->n_addresses, ARRAY_LEN(w->addresses));
	for (size_t i = 0; i < w->n_addresses; i++)
		(void)net_ip_text(&n->addresses[i].ip, w->addresses[i]);
}

static struct err *on_hook(void *arg, const struct engine_hook *h, const struct engine_stats *s)
{
	struct worker *w = arg;

	note_addresses(w, h->network);
	TRY(worker_check_rights(w, h->event));
	return worker_hooks(w, h, s);
}

/* ---- the end ---- */

static const char *outcome_name(const struct worker *w, const struct engine_outcome *out)
{
	bool dry = !w->work->receive && w->work->send->dry_run;

	if (dry)
		return out->error || out->notes.n_blockers ? "blocked" : "movable";
	return engine_result_name(out->result);
}

static void on_told(void *arg, const struct network *n)
{
	struct worker *w = arg;
	Migrate__Tell t = MIGRATE__TELL__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	ProtobufCBinaryData ips[NETWORK_ADDRESSES_MAX];
	uint32_t interfaces[NETWORK_ADDRESSES_MAX];

	for (size_t i = 0; i < n->n_addresses && i < ARRAY_LEN(ips); i++) {
		ips[t.n_ips].data = n->addresses[i].ip.bytes;
		ips[t.n_ips].len = net_ip_len(n->addresses[i].ip.family);
		interfaces[t.n_ips++] = n->addresses[i].index;
	}
	t.ips = ips;
	t.interfaces = interfaces;
	t.n_interfaces = t.n_ips;
	ipc.body_case = MIGRATE__IPC__BODY_TELL;
	ipc.tell = &t;
	if (t.n_ips)
		worker_say(w, &ipc);
}

static void say_done(struct worker *w, const struct engine_outcome *out)
{
	autoarena struct arena *a = arena_new();
	Migrate__Done d = MIGRATE__DONE__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	Migrate__Progress last;
	const char *where = out->side ? out->side : worker_side(w);

	worker_fill_progress(w, &out->stats, &last);
	d.last = &last;
	d.outcome = worker_text(outcome_name(w, out));
	if (out->error)
		d.error = err_to_wire(a, out->error, where, out->state);
	outcome_notes(a, &out->notes, where, &d);
	d.addresses = arena_array(a, w->n_addresses + 1, sizeof(*d.addresses));
	while (d.n_addresses < w->n_addresses) {
		d.addresses[d.n_addresses] = w->addresses[d.n_addresses];
		d.n_addresses++;
	}
	w->monitor_hangs = false; /* this one is worth waiting for */
	ipc.body_case = MIGRATE__IPC__BODY_DONE;
	ipc.done = &d;
	worker_say(w, &ipc);
}

/* ---- source ---- */

static void send_engine(
	struct worker *w, const struct engine_io *io, const char *unit, struct engine_outcome *out)
{
	const Migrate__SendRequest *r = w->work->send;
	struct taking taking;
	struct send_options opt = {
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

	(void)net_ip_parse(w->work->local_ip, &opt.own);
	opt.may_take = w->work->asker == 0;
	opt.reset_unaccepted = strcmp(r->accept_queue, "reset") == 0;
	out->error = taking_parse(r->take_address, &taking);
	if (out->error) {
		snprintf(out->state, sizeof(out->state), "hello");
		return;
	}
	opt.take = taking.take;
	opt.take_given = taking.v;
	opt.n_take_given = taking.n;
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
	only_root(w, r->pid);
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
	w->unit = unit.name && may_stop ? &unit : NULL;
	send_engine(w, io, unit.name ? unit.name : "", out);
	if (e)
		notes_refuse(&out->notes, e);
	if (w->unit_left) {
		autofree char *line = err_line(w->unit_left);

		notes_warn(&out->notes, line);
	}
	err_free(w->unit_left);
	w->unit = NULL;
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
	only_root(w, in->pid);
	log_info("begin id=%s peer=%s pid=%d comm=%s uid=%u bytes=%ju", in->id, w->work->peer,
		in->pid, w->comm, in->uid, (uintmax_t)in->bytes);
	w->uid = in->uid;
	if (w->seen.state)
		say_progress(w, &w->seen, false);
	return worker_reserve(w, in->bytes);
}

static struct err *on_address(void *arg, const struct net_ip *ip)
{
	return worker_check_address(arg, ip);
}

static struct err *on_processes(void *arg, const uint32_t *uids, size_t n)
{
	return worker_check_processes(arg, uids, n);
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
		.on_processes = on_processes,
		.on_address = on_address,
	};
	struct receive_options with_group = opt;
	struct err *e;

	e = uid_set_parse(&w->policy.uids, w->work->allow_uids);
	if (!e)
		e = ip_set_parse(&w->policy.addresses, w->work->allow_addresses);
	w->policy.allow = true; /* the monitor would not have let it in */
	w->policy.max_memory = w->work->max_memory;
	w->policy.max_processes = w->work->max_processes;
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
		.on_tree = on_tree,
		.why = worker_why,
		.on_hook = on_hook,
		.on_mark = on_mark,
		.on_undo = on_undo,
		.on_network = on_network,
		.on_told = on_told,
		.on_ended = on_ended,
		.open_stream = worker_open_stream,
		.page_thread = confine_page_thread };
	autoerr struct err *e = ipc_recv(IPC_FD, DEADLINE_NEVER, &msg);

	if (!e)
		e = ipc_no_room(&msg);
	if (e || msg.m->body_case != MIGRATE__IPC__BODY_WORK)
		return not_begun(e);
	if (msg.m->work->sweep)
		return remember_sweep(msg.m->work);
	if (msg.m->work->undo)
		return remember_undo(msg.m->work);
	if (msg.n_fds < 1)
		return not_begun(NULL);
	w.work = msg.m->work;
	io.interrupt_fd = w.interrupt_fd = msg.fds[0];
	if (msg.n_fds > 1) {
		e = worker_carry(&w, take_fd(&msg.fds[1]), w.work->kernel_tls, &stream);
		if (e)
			return not_begun(e);
		io.stream = &stream;
		w.carrier = w.work->kernel_tls ? stream.ops->name : "relay";
	}
	if (w.work->receive)
		run_receive(&w, &io, &out);
	else
		run_send(&w, &io, &out);
	end_journal(&w);
	say_done(&w, &out);
	engine_outcome_fini(&out);
	free((pid_t *)(uintptr_t)w.pids.v);
	free(w.id);
	free(w.comm);
	err_free(w.too_much);
	worker_close_streams(&w);
	stream_close(&stream);
	uid_set_fini(&w.policy.uids);
	ip_set_fini(&w.policy.addresses);
	return 0;
}
