// SPDX-License-Identifier: Apache-2.0
/* See lanes.h. */
#include "engine/lanes.h"

/* How long a connection may take to be made. */
#define OPEN_US 10000000
/* Without kernel TLS a stream keeps two processors busy at either end: who reads or places pages,
 * and who encrypts. More than this has not been tried. */
#define CPUS_PER_STREAM 2
#define AUTO_MAX        4

unsigned lanes_auto(unsigned cpus)
{
	return MIN(MAX(cpus / CPUS_PER_STREAM, 1U), AUTO_MAX);
}

/* ---- open and close ---- */

static struct err *open_one(struct lanes *l, const struct engine_io *io)
{
	struct lane *lane = &l->v[l->n];

	if (!io->open_stream)
		return err_new(ERR_BUG, "there can be no other connection");
	*lane = (struct lane){ .stream = NULL };
	TRY(io->open_stream(io->arg, l->n + 1, deadline_in(OPEN_US), &lane->stream));
	l->n++;
	return NULL;
}

static void on_step(void *arg)
{
	lanes_count(arg);
}

struct err *lanes_open(
	struct lanes *l, const struct engine_io *io, unsigned n, const struct channel_more *more)
{
	struct err *e = NULL;

	if (n > ENGINE_STREAMS_MAX)
		return err_new(ERR_PEER, "%u page streams", n);
	while (l->n < n && !e)
		e = err_in(open_one(l, io), "connect page stream %u", l->n + 1);
	if (!e)
		e = crew_new(n, io->page_thread, &l->crew);
	if (e) {
		lanes_close(l);
		return e;
	}
	for (unsigned i = 0; i < n; i++) {
		channel_init(&l->v[i].ch, l->v[i].stream, crew_stop_fd(l->crew));
		l->v[i].ch.more = *more;
		l->v[i].ch.on_step = on_step;
		l->v[i].ch.step_arg = &l->v[i];
	}
	return NULL;
}

void lanes_stop(struct lanes *l)
{
	crew_free(l->crew);
	l->crew = NULL;
}

void lanes_close(struct lanes *l)
{
	lanes_stop(l);
	for (unsigned i = 0; i < l->n; i++)
		stream_close(l->v[i].stream);
	l->n = 0;
}

uint64_t lanes_bytes(const struct lanes *l)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < l->n; i++)
		sum += atomic_load_explicit(&l->v[i].bytes, memory_order_relaxed);
	return sum;
}

/* ---- one round ---- */

struct round {
	struct lanes *l;
	const struct lanes_round *r;
	int64_t progress_us; /* when it was last told */
	bool spoken;
};

void lanes_count(struct lane *lane)
{
	atomic_store_explicit(
		&lane->bytes, lane->ch.bytes_in + lane->ch.bytes_out, memory_order_relaxed);
}

static struct err *send_all(const struct lanes_round *r, unsigned number, struct lane *lane)
{
	bool any;

	do {
		channel_wait(&lane->ch, r->timeout_us, r->until);
		TRY(r->send(r->arg, number, &lane->ch, &any));
		lanes_count(lane);
	} while (any);
	TRY(channel_send(&lane->ch, FRAME_ROUND, r->number, NULL, 0));
	lanes_count(lane);
	return NULL;
}

static struct err *take_all(const struct lanes_round *r, unsigned number, struct lane *lane)
{
	struct frame_head h;

	for (;;) {
		channel_wait(&lane->ch, r->timeout_us, r->until);
		TRY(channel_head(&lane->ch, &h));
		if (h.type == FRAME_ROUND && h.arg == r->number)
			break;
		if (h.type != FRAME_PAGES)
			return err_new(ERR_PEER, "unexpected %s frame", frame_name(h.type));
		TRY(r->place(r->arg, number, &lane->ch, &h));
		lanes_count(lane);
	}
	lanes_count(lane);
	return NULL;
}

static struct err *send_work(void *arg, unsigned member)
{
	struct round *o = arg;

	return err_in(
		send_all(o->r, member, &o->l->v[member]), "send pages over stream %u", member + 1);
}

static struct err *take_work(void *arg, unsigned member)
{
	struct round *o = arg;

	return err_in(take_all(o->r, member, &o->l->v[member]), "receive pages over stream %u",
		member + 1);
}

static struct err *meanwhile(void *arg, struct pollfd *also)
{
	struct round *o = arg;

	if (clock_us() - o->progress_us >= CREW_TICK_MS * 1000LL) {
		o->progress_us = clock_us();
		o->r->progress(o->r->arg);
	}
	/* Asked in any case: what wakes us may have been for bytes that were taken long ago. */
	if (o->spoken || !channel_news(o->r->control))
		return NULL;
	o->spoken = true;
	also->fd = -1;
	return o->r->spoken(o->r->arg);
}

static struct err *run(
	struct lanes *l, const struct lanes_round *r, struct err *(*work)(void *arg, unsigned n))
{
	struct round o = { .l = l, .r = r, .progress_us = clock_us() };
	struct crew_job job = {
		.work = work,
		.meanwhile = meanwhile,
		.arg = &o,
		.also = r->control->in->ops->wants(r->control->in, POLLIN),
		.interrupt_fd = r->interrupt_fd,
	};

	return crew_run(l->crew, &job);
}

struct err *lanes_send(struct lanes *l, const struct lanes_round *r)
{
	return run(l, r, send_work);
}

struct err *lanes_take(struct lanes *l, const struct lanes_round *r)
{
	return run(l, r, take_work);
}
