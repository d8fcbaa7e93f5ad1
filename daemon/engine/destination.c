// SPDX-License-Identifier: Apache-2.0
/* The destination's states. Until COMMIT everything is undone by forgetting it: the seedling dies.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "engine/destination.h"
#include "engine/hook.h"
#include "engine/machine.h"
#include "engine/patience.h"
#include "engine/process_list.h"
#include "engine/rebuild.h"
#include "engine/source.h"
#include "pages/pages.h"
#include "session.pb-c.h"
#include "wire/err_wire.h"

enum destination_state {
	D_BUG,
	D_HELLO,
	D_CHECK,
	D_RECEIVE,
	D_REBUILD,
	D_READY,
	D_COMMIT,
	D_RUNNING,
	D_DISCARDED,
};

#define ROUND_BYTES_SLACK (64u << 20)

#define CHECKS_MAX 8          /* more than any source asks for */
#define TELL_BYTES (16 << 20) /* of pages, between two reports */

static void progress(struct destination *d)
{
	struct engine_stats *st = &d->out->stats;

	st->bytes_sent = d->peer.ch.bytes_in + lanes_bytes(&d->lanes);
	st->bytes_copied = sinks_copied(&d->sinks);
	st->total_us = clock_us() - st->started_us;
	if (d->io->on_progress)
		d->io->on_progress(d->io->arg, st);
}

static struct err *hook(struct destination *d, const char *event)
{
	/* The source's patience ends earlier than a limit of ours could. */
	return hook_veto(&d->peer, event, DEADLINE_NEVER, &d->out->stats);
}

static struct err *mark(const struct destination *d, enum engine_mark m)
{
	return d->io->on_mark ? d->io->on_mark(d->io->arg, m) : NULL;
}

/* ---- frames ---- */

static struct err *take_objects(struct destination *d, const struct frame_head *h)
{
	autofree uint8_t *body = xcalloc(1, h->length);

	TRY(channel_read(&d->peer.ch, body, h->length));
	return site_objects(d->site, body, h->length);
}

static struct err *take_layout(struct destination *d, const struct frame_head *h)
{
	autofree uint8_t *body = xcalloc(1, h->length);
	pid_t pid;

	TRY(channel_read(&d->peer.ch, body, h->length));
	if (h->arg > INT32_MAX)
		return err_new(ERR_PEER, "a memory layout of process %ju", (uintmax_t)h->arg);
	pid = h->arg ? (pid_t)h->arg : d->begin->pid;
	TRY(site_layout(d->site, pid, body, h->length));
	return d->sinks.site ? sinks_layout(&d->sinks, pid) : NULL;
}

static void close_placers(struct destination *d)
{
	for (unsigned i = 0; i < ENGINE_STREAMS_MAX; i++) {
		placer_close(d->ends[i].placer);
		d->ends[i].placer = NULL;
	}
}

/* Page streams lead into the main one. */
static void forget_process(void *arg, pid_t pid)
{
	struct destination *d = arg;

	if (pid == d->sinks.main)
		close_placers(d);
	sinks_forget(&d->sinks, pid);
}

static struct err *admit_tree(const struct destination *d, const struct process_list *l)
{
	autoarena struct arena *a = arena_new();
	const struct pids pids = processes_living(a, l);

	if (d->opt->on_processes)
		TRY(d->opt->on_processes(d->io->arg, processes_uids(a, l), pids.n));
	if (d->io->on_tree)
		d->io->on_tree(d->io->arg, &pids);
	return NULL;
}

static struct err *take_tree(struct destination *d, const struct frame_head *h)
{
	autofree uint8_t *body = xcalloc(1, h->length + 1);

	TRY(channel_read(&d->peer.ch, body, h->length));
	TRY(site_tree(d->site, body, h->length));
	TRY(admit_tree(d, site_processes(d->site)));
	return site_grow(d->site);
}

static struct err *take_pages(struct destination *d, const struct frame_head *h)
{
	TRY(sinks_frame(&d->sinks, h, &d->peer.ch));
	if (d->peer.ch.bytes_in - d->told_bytes < TELL_BYTES)
		return NULL;
	d->told_bytes = d->peer.ch.bytes_in;
	progress(d);
	return NULL;
}

static struct err *take_network(struct destination *d, const struct frame_head *h)
{
	autofree uint8_t *body = xcalloc(1, h->length + 1);

	TRY(channel_read(&d->peer.ch, body, h->length));
	return network_site_plan(&d->network, body, h->length);
}

/* The addresses are there, or whoever brings them has been asked, before the first connection is
 * rebuilt. */
static struct err *prepare_network(struct destination *d)
{
	if (d->network_ready)
		return NULL;
	d->network_ready = true;
	TRY(network_site_prepare(&d->network));
	return hook(d, "address");
}

static struct err *take_connections(struct destination *d, const struct frame_head *h)
{
	autofree uint8_t *body = xcalloc(1, h->length + 1);

	TRY(channel_read(&d->peer.ch, body, h->length));
	TRY(network_site_connections(&d->network, body, h->length));
	return prepare_network(d);
}

static struct err *take_ping(struct destination *d, const struct frame_head *h unused_arg)
{
	return peer_pong(&d->peer);
}

/* ---- page streams ---- */

/* In a page stream's thread. */
static struct err *ask_engine(void *arg, struct err *(*fn)(void *what), void *what)
{
	const struct lane_end *end = arg;

	return crew_ask(end->d->lanes.crew, fn, what);
}

static struct err *take_streams(struct destination *d, const struct frame_head *h)
{
	const struct channel_more more = peer_more(&d->peer, false);

	if (h->arg < 2 || h->arg > d->streams || d->lanes.n)
		return err_new(ERR_PEER, "%ju page streams of %u", (uintmax_t)h->arg, d->streams);
	TRY(lanes_open(&d->lanes, d->io, (unsigned)h->arg, &more));
	for (unsigned i = 0; i < d->lanes.n; i++) {
		d->ends[i].d = d;
		d->ends[i].placer = placer_open(
			sinks_main(&d->sinks), &(struct placer_remote){ ask_engine, &d->ends[i] });
	}
	d->out->stats.streams = d->lanes.n;
	return NULL;
}

static struct err *lane_place(
	void *arg, unsigned lane, struct channel *ch, const struct frame_head *h)
{
	struct destination *d = arg;

	return placer_frame(d->ends[lane].placer, h, ch);
}

static void alive(void *arg)
{
	struct destination *d = arg;

	peer_alive(&d->peer);
}

/* The page streams' threads say nothing on the control stream. */
static void lane_progress(void *arg)
{
	struct destination *d = arg;
	uint64_t bytes = lanes_bytes(&d->lanes);

	progress(d);
	if (bytes != d->lanes_seen)
		alive(d);
	d->lanes_seen = bytes;
}

static bool is_end(uint16_t type)
{
	return type == FRAME_ABORT || type == FRAME_ERROR || type == FRAME_BYE;
}

/* What the source says while pages come is its end, or for later. */
static struct err *look_ahead(void *arg)
{
	struct destination *d = arg;
	struct frame_head h;

	destination_wait(d, ENGINE_PEER_TIMEOUT_US);
	TRY(channel_head(&d->peer.ch, &h));
	if (is_end(h.type))
		return peer_unexpected(&d->peer, d->arena, &h);
	d->ahead = h;
	d->is_ahead = true;
	return NULL;
}

static struct err *take_spread(struct destination *d, const struct frame_head *h)
{
	const struct lanes_round r = {
		.number = h->arg,
		.timeout_us = ENGINE_PEER_TIMEOUT_US,
		.until = DEADLINE_NEVER,
		.interrupt_fd = d->peer.ch.interrupt_fd,
		.control = &d->peer.ch,
		.arg = d,
		.place = lane_place,
		.progress = lane_progress,
		.spoken = look_ahead,
	};
	struct err *e;

	if (!d->lanes.n || !d->ends[0].placer)
		return err_new(ERR_PEER, "pages over streams that there are not");
	e = lanes_take(&d->lanes, &r);
	destination_wait(d, ENGINE_PEER_TIMEOUT_US);
	return d->is_ahead ? e : peer_reason_of(&d->peer, e, LANES_DESTINATION_LISTENS_US);
}

/* At the end of each round; page_sink's own limit holds in between. */
static struct err *check_memory(struct destination *d)
{
	uint64_t max = d->opt->max_memory, bytes;

	sinks_round(&d->sinks);
	if (!max)
		return NULL;
	TRY(site_memory(d->site, &bytes));
	if (bytes <= max)
		return NULL;
	return err_hint(err_new(ERR_DENIED,
				"it takes %ju MiB already, and processes of up to %ju MiB may come "
				"here",
				(uintmax_t)(bytes >> 20), (uintmax_t)(max >> 20)),
		"see max_memory in migrated.conf of the destination");
}

static struct err *take_round(struct destination *d, const struct frame_head *h)
{
	d->out->stats.round = (uint32_t)h->arg;
	progress(d);
	TRY(check_memory(d));
	TRY(site_settle(d->site));
	return channel_send(&d->peer.ch, FRAME_ROUND_OK, h->arg, NULL, 0);
}

static const struct frame_handler {
	uint16_t type;
	bool rehearsal, receive; /* when it may come */
	struct err *(*handle)(struct destination *d, const struct frame_head *h);
} handlers[] = {
	{ FRAME_TREE, true, true, take_tree },
	{ FRAME_OBJECTS, true, true, take_objects },
	{ FRAME_LAYOUT, true, true, take_layout },
	{ FRAME_PAGES, false, true, take_pages },
	{ FRAME_STREAMS, false, true, take_streams },
	{ FRAME_SPREAD, false, true, take_spread },
	{ FRAME_ROUND, false, true, take_round },
	{ FRAME_NETWORK, true, false, take_network },
	{ FRAME_CONNECTIONS, false, true, take_connections },
	{ FRAME_PING, true, true, take_ping },
};

static struct err *next_head(struct destination *d, struct frame_head *h)
{
	destination_wait(d, ENGINE_PEER_TIMEOUT_US);
	if (!d->is_ahead)
		return channel_head(&d->peer.ch, h);
	*h = d->ahead;
	d->is_ahead = false;
	return NULL;
}

/* Takes frames until `last` comes; its header is in *h, its body not read. */
static struct err *take_until(struct destination *d, uint16_t last, struct frame_head *h)
{
	bool rehearsal = last == FRAME_REHEARSED;

	for (;;) {
		const struct frame_handler *f = NULL;

		TRY(next_head(d, h));
		/* A peer that never lets us wait is no reason to miss it. */
		TRY(channel_interrupted(&d->peer.ch));
		if (h->type == last)
			return NULL;
		for (size_t i = 0; i < ARRAY_LEN(handlers); i++)
			if (handlers[i].type == h->type &&
				(rehearsal ? handlers[i].rehearsal : handlers[i].receive))
				f = &handlers[i];
		if (!f)
			return peer_unexpected(&d->peer, d->arena, h);
		if (h->type != FRAME_PAGES)
			TRY(sinks_settle(&d->sinks));
		TRY(f->handle(d, h));
	}
}

/* ---- check: what was announced is examined, then made ---- */

static struct err *make_scratch(struct destination *d)
{
	snprintf(d->scratch, sizeof(d->scratch), "%s/" ENGINE_SCRATCH "%s", d->opt->state_dir,
		d->begin->id);
	if (mkdir(d->scratch, 0700) < 0)
		return err_errno(errno, "make the directory %s", d->scratch);
	TRY(io_open(d->scratch, O_RDONLY | O_DIRECTORY, &d->scratch_fd));
	if (flock(d->scratch_fd, LOCK_EX | LOCK_NB) < 0)
		return err_errno(errno, "lock %s", d->scratch);
	return NULL;
}

static bool is_locked(void *arg, const struct net_pair *pair)
{
	const struct destination *d = arg;

	return network_site_has(&d->network, pair);
}

static struct err *make_site(struct destination *d)
{
	const Migrate__Begin *b = d->begin;

	TRY(make_scratch(d));
	d->site = site_new(&(struct site_spec){
		.pid = b->pid,
		.tids = b->tids,
		.n_tids = b->n_tids,
		.fd_max = (int)b->fd_max,
		.monotonic_offset_ns = b->monotonic_offset_ns,
		.boottime_offset_ns = b->boottime_offset_ns,
		.cgroup_dir = d->opt->cgroup_dir,
		.scratch_dir = d->scratch,
		.interrupt_fd = d->peer.ch.interrupt_fd,
		.notes = &d->notes,
		.alive = alive,
		.leaving = forget_process,
		.locked = is_locked,
		.arg = d,
	});
	return NULL;
}

static struct err *send_checked(struct destination *d)
{
	autoarena struct arena *a = arena_new();
	Migrate__Checked m = MIGRATE__CHECKED__INIT;

	destination_wait(d, ENGINE_PEER_TIMEOUT_US);
	m.n_blockers = d->notes.n_blockers;
	m.blockers = arena_array(a, m.n_blockers, sizeof(*m.blockers));
	for (size_t i = 0; i < m.n_blockers; i++)
		m.blockers[i] = err_to_wire(a, d->notes.blockers[i], "destination", "check");
	m.n_warnings = d->notes.n_warnings;
	m.warnings = d->notes.warnings;
	return peer_send(&d->peer, FRAME_CHECKED, &m.base);
}

/* Where something hinders it, the source may look again and say what has changed. */
static struct err *is_told_more(struct destination *d, bool *more)
{
	TRY(next_head(d, &d->ahead));
	d->is_ahead = true;
	*more = d->ahead.type == FRAME_OBJECTS || d->ahead.type == FRAME_REHEARSED;
	return NULL;
}

static struct err *check_site(struct destination *d, bool *fits)
{
	TRY(site_check(d->site));
	TRY(network_site_check(&d->network));
	d->peer.network = &d->network.list;
	*fits = !d->notes.n_blockers;
	if (*fits)
		TRY(site_build(d->site));
	if (!d->notes.n_blockers && !d->begin->dry_run)
		TRY(mark(d, MARK_BUILDING));
	d->out->stats.objects = site_objects_count(d->site);
	TRY(send_checked(d));
	notes_fini(&d->notes);
	return NULL;
}

static struct err *check(void *ctx)
{
	struct destination *d = ctx;
	struct frame_head h;
	bool fits, more = true;

	TRY(make_site(d));
	for (unsigned looks = 0; more && looks <= CHECKS_MAX; looks++) {
		TRY(take_until(d, FRAME_REHEARSED, &h));
		if (!looks)
			TRY(hook(d, "check"));
		TRY(check_site(d, &fits));
		more = false;
		if (!fits)
			TRY(is_told_more(d, &more));
	}
	return NULL;
}

/* No more pages: no more threads. */
static void stop_placing(struct destination *d)
{
	lanes_stop(&d->lanes);
	close_placers(d);
}

static void close_sink(struct destination *d)
{
	stop_placing(d);
	sinks_close(&d->sinks);
}

static void check_undo(void *ctx)
{
	struct destination *d = ctx;

	close_sink(d);
	site_free(d->site);
	d->site = NULL;
	network_site_undo(&d->network);
}

/* ---- receive, rebuild, ready ---- */

/* A round has each page once, but for what is asked for again while it is read. */
static uint64_t round_bytes_max(uint64_t max_memory)
{
	return max_memory ? max_memory + max_memory / 8 + ROUND_BYTES_SLACK : 0;
}

static struct err *open_sink(struct destination *d, enum page_sink_way way)
{
	if (way == SINK_SPLICE && !channel_splices_in(&d->peer.ch))
		return err_new(ERR_UNSUPPORTED, "this connection gives nothing by reference");
	d->sinks.site = d->site;
	d->sinks.round_bytes_max = round_bytes_max(d->opt->max_memory);
	TRY(sinks_open_main(&d->sinks, site_processes(d->site)->main, way));
	d->out->stats.sink = page_sink_names[way];
	return NULL;
}

/* By reference where the stream's bytes have not been in memory of ours yet: the kernel has
 * decrypted them. Else they are there already, and copying is all that is left to do. */
static struct err *choose_sink(struct destination *d)
{
	const char *want = d->opt->sink;
	bool splice = want ? strcmp(want, page_sink_names[SINK_SPLICE]) == 0
			   : channel_splices_in(&d->peer.ch);
	autoerr struct err *e = NULL;
	autofree char *why = NULL;

	if (splice) {
		e = open_sink(d, SINK_SPLICE);
		if (!e)
			return NULL;
		TRY(site_alive(d->site));
		why = err_line(e);
		notes_warnf(&d->notes, "memory is copied into it: %s", why);
	}
	return open_sink(d, SINK_COPY);
}

/* It stopped after it was announced, and before now: on our clock, as well as the source knows it.
 */
static int64_t frozen_at(const struct destination *d, int64_t said_ns)
{
	return MIN(MAX(said_ns, d->out->stats.started_us * 1000), clock_ns());
}

static struct err *receive(void *ctx)
{
	struct destination *d = ctx;
	struct frame_head h;
	autofree uint8_t *body = NULL;

	/* Blockers were reported, nothing was built: the only thing that can follow is the end. */
	if (!site_task(d->site)) {
		TRY(next_head(d, &h));
		return peer_unexpected(&d->peer, d->arena, &h);
	}
	TRY(choose_sink(d));
	for (size_t i = 0; i < site_processes(d->site)->n; i++)
		TRY(sinks_layout(&d->sinks, site_processes(d->site)->v[i].pid));
	TRY(take_until(d, FRAME_FINAL, &h));
	body = xcalloc(1, h.length);
	TRY(channel_read(&d->peer.ch, body, h.length));
	Migrate__Final *m = migrate__final__unpack(NULL, h.length, body);

	if (!m)
		return err_new(ERR_PEER, "FINAL frame that does not parse");
	d->out->stats.round = (uint32_t)m->rounds;
	d->frozen_at_ns = frozen_at(d, m->frozen_ns);
	migrate__final__free_unpacked(m, NULL);
	return NULL;
}

static struct err *rebuild(void *ctx)
{
	struct destination *d = ctx;
	/* frozen_ns is on the destination's clock already. */
	int64_t elapsed = clock_ns() - d->frozen_at_ns;

	destination_wait(d, ENGINE_PEER_TIMEOUT_US);
	stop_placing(d);
	TRY(sinks_leave(&d->sinks));
	progress(d);
	alive(d);
	close_sink(d);
	TRY(hook(d, "frozen"));
	TRY(prepare_network(d));
	TRY(site_finish(d->site, MAX(elapsed, (int64_t)0)));
	FAULT("destination.finished");
	return site_hold(d->site);
}

static struct err *ready(void *ctx)
{
	struct destination *d = ctx;
	Migrate__Ready m = MIGRATE__READY__INIT;
	struct frame_head h;

	TRY(hook(d, "pre-commit"));
	m.objects = site_objects_count(d->site);
	destination_wait(d, ENGINE_PEER_TIMEOUT_US);
	TRY(peer_send(&d->peer, FRAME_READY, &m.base));
	FAULT("destination.ready-sent");
	TRY(channel_head(&d->peer.ch, &h));
	if (h.type != FRAME_COMMIT)
		return peer_unexpected(&d->peer, d->arena, &h);
	/* Somebody may have killed one: the source must not end the originals for that. */
	TRY(site_alive(d->site));
	return mark(d, MARK_COMMITTED);
}

/* ---- it is ours ---- */

static struct err *commit(void *ctx)
{
	struct destination *d = ctx;
	struct err *e;

	d->peer.ch.interrupt_fd = -1;
	network_site_open(&d->network, d->begin->pid);
	e = site_start(d->site);
	FAULT("destination.thawed");
	d->first_ns = clock_ns();
	if (e && err_code(e) == ERR_GONE) /* it ran, and ended at once: its own affair */
		err_free(take(&e));
	if (e) /* it is ours, and stands still */
		d->out->result = RESULT_IN_DOUBT;
	return e;
}

static struct err *running(void *ctx)
{
	struct destination *d = ctx;
	Migrate__Running m = MIGRATE__RUNNING__INIT;

	d->out->result = RESULT_MOVED;
	err_free(mark(d, MARK_RUNNING)); /* that it was committed is enough to know */
	site_publish(d->site);
	m.first_ns = d->first_ns;
	m.pid = d->begin->pid;
	m.warnings = d->notes.warnings;
	m.n_warnings = d->notes.n_warnings;
	destination_wait(d, ENGINE_PEER_TIMEOUT_US);
	err_free(peer_send(&d->peer, FRAME_RUNNING, &m.base));
	FAULT("destination.running-sent");
	network_site_done(&d->network);
	d->out->stats.downtime_us = (d->first_ns - d->frozen_at_ns) / 1000;
	hook_tell(&d->peer, "running", &d->out->stats);
	return NULL;
}

static struct err *discarded(void *ctx)
{
	struct destination *d = ctx;

	d->out->result = RESULT_KEPT;
	if (d->out->error)
		peer_give_up(&d->peer, FRAME_ERROR, d->out->error, "destination", d->out->state);
	hook_tell(&d->peer, "failed", &d->out->stats);
	return NULL;
}

#define ANY_FAILURE(next) \
	[EV_FAILED] = (next), [EV_LOST] = (next), [EV_CANCELLED] = (next), [EV_TIMEOUT] = (next), \
	[EV_REFUSED] = (next)

static const struct state_row rows[] = {
	[D_BUG] = { "bug", OWNER_UNKNOWN },
	[D_HELLO] = { "hello", OWNER_SOURCE, destination_hello,
		.on = { [EV_OK] = D_CHECK, ANY_FAILURE(UNDO) } },
	[D_CHECK] = { "check", OWNER_SOURCE, check, check_undo,
		.on = { [EV_OK] = D_RECEIVE, ANY_FAILURE(UNDO) } },
	[D_RECEIVE] = { "receive", OWNER_SOURCE, receive,
		.on = { [EV_OK] = D_REBUILD, ANY_FAILURE(UNDO) } },
	[D_REBUILD] = { "rebuild", OWNER_NOBODY, rebuild,
		.on = { [EV_OK] = D_READY, ANY_FAILURE(UNDO) } },
	[D_READY] = { "ready", OWNER_NOBODY, ready,
		.on = { [EV_OK] = D_COMMIT, ANY_FAILURE(UNDO) } },
	[D_COMMIT] = { "commit", OWNER_DESTINATION, commit, .cut = true,
		.on = { [EV_OK] = D_RUNNING, ANY_FAILURE(END) } },
	[D_RUNNING] = { "running", OWNER_DESTINATION, running,
		.on = { [EV_OK] = END, ANY_FAILURE(END) } },
	[D_DISCARDED] = { "discarded", OWNER_SOURCE, discarded,
		.on = { [EV_OK] = END, ANY_FAILURE(END) } },
};

const struct state_row *destination_rows(size_t *n)
{
	*n = ARRAY_LEN(rows);
	return rows;
}

static void on_state(void *ctx, const struct state_row *row)
{
	struct destination *d = ctx;

	d->out->stats.state = row->name;
	d->out->stats.owner = row->owner;
	progress(d);
	FAULT_STATE("destination", row->name);
}

static void on_error(void *ctx, const struct state_row *row, struct err *e)
{
	struct destination *d = ctx;

	if (d->out->error) {
		err_free(e);
		return;
	}
	if (d->io->why && err_code(e) == ERR_CANCELLED && !d->peer.failed_there)
		e = d->io->why(d->io->arg, e);
	d->out->error = e;
	d->out->side = d->peer.failed_there ? "source" : "destination";
	snprintf(d->out->state, sizeof(d->out->state), "%s", row->name);
}

/* Then the source knows, and will never ask. */
static void wait_for_goodbye(struct destination *d)
{
	struct frame_head h;
	struct err *e;

	destination_wait(d, ENGINE_PEER_TIMEOUT_US);
	e = channel_head(&d->peer.ch, &h);
	if (!e && h.type == FRAME_BYE)
		e = mark(d, MARK_CONFIRMED);
	err_free(e);
}

void engine_receive(
	const struct engine_io *io, const struct receive_options *opt, struct engine_outcome *out)
{
	struct destination d = {
		.io = io, .opt = opt, .out = out, .arena = arena_new(), .scratch_fd = -1
	};
	static const struct machine m = {
		.rows = rows,
		.n_rows = ARRAY_LEN(rows),
		.first = D_HELLO,
		.undone = D_DISCARDED,
		.on_state = on_state,
		.on_error = on_error,
	};

	*out = (struct engine_outcome){ .result = RESULT_KEPT, .side = "destination" };
	out->stats.started_us = clock_us();
	d.network =
		(struct network_site){ .io = io, .opt = opt, .notes = &d.notes, .arena = d.arena };
	network_init(&d.network.list, NULL);
	peer_init(&d.peer, io, false);
	d.peer.ch.on_step = alive;
	d.peer.ch.step_arg = &d;
	machine_run(&m, &d);
	close_sink(&d);
	lanes_close(&d.lanes);
	site_free(d.site);
	if (out->result == RESULT_MOVED)
		wait_for_goodbye(&d);
	fd_closep(&d.scratch_fd);
	network_fini(&d.network.list);
	notes_fini(&d.notes);
	arena_free(d.arena);
}
