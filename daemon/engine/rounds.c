// SPDX-License-Identifier: Apache-2.0
/*
 * Pre-copy rounds: layout, then what was written since the last round, then a barrier.
 *
 * Private memory goes by address, shared memory objects by offset (spaces.h).
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "engine/patience.h"
#include "engine/source.h"
#include "kernel/direct_io.h"

/* A shorter round says nothing about the link. */
#define BANDWIDTH_MIN_BYTES (1u << 20)

static uint64_t data_bytes(const struct page_runs *runs)
{
	uint64_t pages = 0;

	for (size_t i = 0; i < runs->n; i++)
		if (runs->v[i].class == PAGE_DATA)
			pages += runs->v[i].pages;
	return pages * PAGE_BYTES;
}

static bool mapped_anew(const struct source *s, const struct vma *v)
{
	size_t i = ranges_find(&s->fresh, v->start);

	return i < s->fresh.n && s->fresh.v[i].start < v->end;
}

static void only_gone(struct page_runs *runs)
{
	size_t n = 0;

	for (size_t i = 0; i < runs->n; i++)
		if (runs->v[i].class == PAGE_GONE)
			runs->v[n++] = runs->v[i];
	runs->n = n;
}

/* Looks at one VMA and arms it again. What the peer has just mapped anew is empty there, whatever
 * was written since the last look: then everything that exists goes. But it may be a part of the
 * VMA only: what has gone elsewhere, the tracker alone knows. */
static struct err *collect_vma(struct source *s, struct vma_work *w)
{
	struct vma_dirty info = { 0 };
	struct err *e = s->ops->collect(s->dirty, w->vma, &w->runs, &info);

	w->fresh = info.fresh;
	w->runs.unreadable = !(w->vma->prot & PROT_READ);
	if (!e && (s->untrusted || mapped_anew(s, w->vma))) {
		only_gone(&w->runs);
		e = dirty_none.collect(s->everything, w->vma, &w->runs, &info);
	}
	outgoing_untangle(&w->runs);
	if (!e && s->ops->sends)
		s->ops->sends(s->dirty, w->vma, &w->runs);
	return e ? err_in(e, "look at memory %jx-%jx", (uintmax_t)w->vma->start,
			   (uintmax_t)w->vma->end)
		 : NULL;
}

/* ---- a round ---- */

static bool tracked_shared(const struct vma *v)
{
	uint64_t space;

	return shm_vma_space(v, &space);
}

static struct err *collect_all(struct source *s, struct outgoing *o)
{
	const struct vma_list *maps = layout_vmas(s->layout);

	s->collect_us = clock_us();
	if (s->ops->begin)
		TRY(s->ops->begin(s->dirty, maps));
	for (size_t i = 0; i < maps->n; i++) {
		struct vma_work *w = &o->work[o->n_work];

		if (!layout_vma_private(&maps->v[i]) && !tracked_shared(&maps->v[i]))
			continue;
		w->vma = &maps->v[i];
		o->n_work++;
		if (!s->still_us)
			peer_alive(&s->peer);
		TRY(collect_vma(s, w));
	}
	s->untrusted = false;
	return NULL;
}

static struct err *collect_stopped(struct source *s, struct outgoing *o)
{
	int64_t stopped;
	struct err *e, *let;

	TRY(task_hold(s->task, deadline_in(ENGINE_STOP_US)));
	stopped = clock_us();
	e = collect_all(s, o);
	let = task_let_go(s->task);
	s->out->stats.stall_us = MAX(s->out->stats.stall_us, clock_us() - stopped);
	if (!e)
		return let;
	err_free(let);
	return e;
}

/* Asked before the look and behind it: what was opened in between may have had a read on its way
 * while pages were armed. Then they all go again, in a look that stops the process. (A descriptor
 * that is opened, read from and closed within one look, some milliseconds, is not noticed.) */
static struct err *collect_running(struct source *s, struct outgoing *o)
{
	bool direct;

	TRY(collect_all(s, o));
	TRY(direct_io_any(s->opt->pid, &direct));
	s->direct_io = s->untrusted = direct;
	return NULL;
}

static struct err *collect(struct source *s, struct outgoing *o)
{
	if (s->task->held)
		return collect_all(s, o);
	if (!s->ops->collect_held && !s->direct_io)
		TRY(direct_io_any(s->opt->pid, &s->direct_io));
	return s->ops->collect_held || s->direct_io ? collect_stopped(s, o) : collect_running(s, o);
}

/* Drops what the peer must not keep, then sends. */
static struct err *send_collected(
	struct source *s, struct outgoing *o, struct space_work *spaces, size_t n_spaces)
{
	for (size_t i = 0; i < o->n_work; i++) {
		if (layout_vma_private(o->work[i].vma))
			outgoing_add(o, &o->work[i]);
		else
			spaces_add_runs(spaces, n_spaces, o->work[i].vma, &o->work[i].runs);
	}
	TRY(outgoing_send_drops(s, o));
	TRY(spaces_plan(s, spaces, n_spaces, o));
	s->round.dirty_bytes = s->out->stats.round_dirty_bytes = o->bytes;
	return outgoing_send(s, o);
}

static struct err *round_pages(struct source *s, struct outgoing *o)
{
	struct space_work *spaces;
	size_t n_spaces;
	struct err *e;

	TRY(collect(s, o));
	TRY(spaces_open(s, &spaces, &n_spaces));
	e = send_collected(s, o, spaces, n_spaces);
	spaces_close(spaces, n_spaces);
	return e;
}

static struct err *barrier(struct source *s)
{
	autoarena struct arena *a = arena_new();
	void *msg;

	TRY(peer_reason(
		&s->peer, channel_send(&s->peer.ch, FRAME_ROUND, s->round.number, NULL, 0)));
	return peer_expect(&s->peer, a, FRAME_ROUND_OK, NULL, &msg);
}

static void measure(struct source *s, int64_t began_us, uint64_t bytes_before)
{
	uint64_t bytes = source_bytes(s) - bytes_before;

	s->round.length_us = clock_us() - began_us;
	if (bytes >= BANDWIDTH_MIN_BYTES && s->round.length_us > 0)
		s->round.bandwidth_bytes_s =
			(uint64_t)((double)bytes * 1e6 / (double)s->round.length_us);
	s->out->stats.bandwidth_bytes_s = s->round.bandwidth_bytes_s;
}

struct err *source_round(struct source *s, bool last)
{
	uint64_t before = source_bytes(s);
	int64_t began = clock_us(), previous = s->collect_us;
	struct outgoing o;
	struct err *e;

	outgoing_init(&o, layout_vmas(s->layout)->n);
	s->copied_before = s->out->stats.bytes_copied;
	s->round.dirty_bytes = 0;
	s->out->stats.round_dirty_bytes = s->out->stats.round_sent_bytes = 0;
	s->out->stats.round = s->round.number;
	e = round_pages(s, &o);
	outgoing_fini(&o);
	if (e)
		return e;
	s->round.since_us = previous ? s->collect_us - previous : 0;
	if (last)
		return NULL;
	TRY(barrier(s));
	measure(s, began, before);
	return NULL;
}

/* ---- check ---- */

/* How long a check watches the process write. */
#define WATCH_MS 500

static struct err *count_dirty(struct source *s, uint64_t *bytes)
{
	const struct vma_list *maps = layout_vmas(s->layout);
	bool held = s->ops->collect_held;
	struct err *e = NULL, *let;

	*bytes = 0;
	if (held)
		TRY(task_hold(s->task, deadline_in(ENGINE_STOP_US)));
	s->collect_us = clock_us();
	if (s->ops->begin)
		e = s->ops->begin(s->dirty, maps);
	for (size_t i = 0; i < maps->n && !e; i++) {
		struct vma_work w = { .vma = &maps->v[i] };

		if (!layout_vma_private(w.vma))
			continue;
		e = collect_vma(s, &w);
		*bytes += data_bytes(&w.runs);
		page_runs_fini(&w.runs);
	}
	let = held ? task_let_go(s->task) : NULL;
	if (!e)
		return let;
	err_free(let);
	return e;
}

struct err *source_estimate(struct source *s)
{
	const struct precopy_limits limits = source_limits(s);
	struct engine_stats *st = &s->out->stats;
	struct pollfd p = { s->io->interrupt_fd, POLLIN, 0 };
	struct precopy_plan plan;
	uint64_t all, written;
	int64_t began;

	TRY(count_dirty(s, &all));
	began = s->collect_us;
	if (poll(&p, s->io->interrupt_fd >= 0, WATCH_MS) > 0)
		return err_new(ERR_CANCELLED, "cancelled");
	TRY(count_dirty(s, &written));
	if (s->ops != &dirty_none)
		st->dirty_rate_bytes_s = (uint64_t)((double)written * 1e6 /
						    (double)MAX(s->collect_us - began, (int64_t)1));
	precopy_plan(all, st->dirty_rate_bytes_s, 0, &limits, &plan);
	st->round = plan.rounds;
	st->round_dirty_bytes = all;
	st->bandwidth_bytes_s = PRECOPY_BANDWIDTH_GUESS;
	st->predicted_downtime_us = plan.downtime_us;
	return NULL;
}
