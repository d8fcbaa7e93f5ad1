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

#include "engine/source.h"
#include "kernel/direct_io.h"

/* Sent between two looks at progress and bandwidth. */
#define SLICE_PAGES ((64ULL << 20) / PAGE_BYTES)
/* A shorter round says nothing about the link. */
#define BANDWIDTH_MIN_BYTES (1u << 20)

struct vma_work {
	const struct vma *vma;
	struct page_runs runs;
	bool fresh;
};

static struct err *throttle(struct source *s)
{
	int64_t due_us, now = clock_us();
	uint64_t sent = s->peer.ch.bytes_out - s->first_round_bytes;

	if (!s->opt->bandwidth || s->task->held)
		return NULL;
	due_us = s->first_round_us + (int64_t)((double)sent * 1e6 / (double)s->opt->bandwidth);
	if (due_us > now) {
		struct pollfd p = { s->io->interrupt_fd, POLLIN, 0 };

		if (poll(&p, s->io->interrupt_fd >= 0, (int)((due_us - now) / 1000)) > 0)
			return err_new(ERR_CANCELLED, "cancelled");
	}
	return NULL;
}

static struct err *send_slice(struct source *s, const struct page_runs *slice)
{
	struct pages_stats st = { 0 };

	TRY(peer_reason(&s->peer, s->pages_ops->send(s->pages, slice, &s->peer.ch, &st)));
	s->out->stats.round_sent_bytes += (st.pages_data + st.pages_zero) * PAGE_BYTES;
	s->out->stats.bytes_copied += st.pages_copied * PAGE_BYTES;
	s->peer.ch.deadline =
		deadline_in(s->task->held ? ENGINE_FROZEN_TIMEOUT_US : ENGINE_PEER_TIMEOUT_US);
	source_progress(s);
	return throttle(s);
}

/* Long lists are cut, so that cancel and progress stay prompt. */
static struct err *send_runs(struct source *s, const struct page_runs *runs)
{
	struct page_runs slice = { .unreadable = runs->unreadable };
	uint64_t pages = 0;
	struct err *e = NULL;

	for (size_t i = 0; i < runs->n && !e; i++) {
		struct page_run r = runs->v[i];

		while (r.pages && !e) {
			uint64_t n = MIN(r.pages, SLICE_PAGES - pages);

			page_runs_add(&slice, r.start, n, r.class);
			r.start += n * PAGE_BYTES;
			r.pages -= n;
			pages += n;
			if (pages == SLICE_PAGES) {
				e = send_slice(s, &slice);
				slice.n = pages = 0;
			}
		}
	}
	if (!e && slice.n)
		e = send_slice(s, &slice);
	page_runs_fini(&slice);
	return e;
}

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
	return e ? err_in(e, "look at memory %jx-%jx", (uintmax_t)w->vma->start,
			   (uintmax_t)w->vma->end)
		 : NULL;
}

static struct err *send_vma(struct source *s, const struct vma_work *w)
{
	struct pages_stats st = { 0 };

	s->round.dirty_bytes += data_bytes(&w->runs);
	s->out->stats.round_dirty_bytes = s->round.dirty_bytes;
	/* Mapped anew: what the peer has there is of the mapping before. */
	if (w->fresh && s->round.number)
		TRY(peer_reason(&s->peer, pages_send_drop(&s->peer.ch, SPACE_PRIVATE, w->vma->start,
						  w->vma->end - w->vma->start, &st)));
	return send_runs(s, &w->runs);
}

/* ---- shared memory objects ---- */

static struct err *send_spaces(struct source *s, const struct vma_work *work, size_t n_work)
{
	struct space_work *w;
	struct err *e;
	size_t n;

	TRY(spaces_open(s, &w, &n));
	for (size_t i = 0; i < n_work; i++)
		spaces_add_runs(w, n, work[i].vma, &work[i].runs);
	e = spaces_send(s, w, n);
	spaces_close(w, n);
	return e;
}

/* ---- a round ---- */

static bool tracked_shared(const struct vma *v)
{
	uint64_t space;

	return shm_vma_space(v, &space);
}

static struct err *collect_all(struct source *s, struct vma_work *work, size_t *n_work)
{
	const struct vma_list *maps = layout_vmas(s->layout);

	s->collect_us = clock_us();
	if (s->ops->begin)
		TRY(s->ops->begin(s->dirty, maps));
	for (size_t i = 0; i < maps->n; i++) {
		struct vma_work *w = &work[*n_work];

		if (!layout_vma_private(&maps->v[i]) && !tracked_shared(&maps->v[i]))
			continue;
		w->vma = &maps->v[i];
		(*n_work)++;
		TRY(collect_vma(s, w));
	}
	s->untrusted = false;
	return NULL;
}

static struct err *collect_stopped(struct source *s, struct vma_work *work, size_t *n_work)
{
	int64_t stopped;
	struct err *e, *let;

	TRY(task_hold(s->task, deadline_in(ENGINE_FROZEN_TIMEOUT_US)));
	stopped = clock_us();
	e = collect_all(s, work, n_work);
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
static struct err *collect_running(struct source *s, struct vma_work *work, size_t *n_work)
{
	bool direct;

	TRY(collect_all(s, work, n_work));
	TRY(direct_io_any(s->opt->pid, &direct));
	s->direct_io = s->untrusted = direct;
	return NULL;
}

static struct err *collect(struct source *s, struct vma_work *work, size_t *n_work)
{
	if (s->task->held)
		return collect_all(s, work, n_work);
	if (!s->ops->collect_held && !s->direct_io)
		TRY(direct_io_any(s->opt->pid, &s->direct_io));
	return s->ops->collect_held || s->direct_io ? collect_stopped(s, work, n_work)
						    : collect_running(s, work, n_work);
}

static struct err *round_pages(struct source *s, struct vma_work *work, size_t *n_work)
{
	TRY(collect(s, work, n_work));
	for (size_t i = 0; i < *n_work; i++)
		if (layout_vma_private(work[i].vma))
			TRY(send_vma(s, &work[i]));
	return send_spaces(s, work, *n_work);
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
	uint64_t bytes = s->peer.ch.bytes_out - bytes_before;

	s->round.length_us = clock_us() - began_us;
	if (bytes >= BANDWIDTH_MIN_BYTES && s->round.length_us > 0)
		s->round.bandwidth_bytes_s =
			(uint64_t)((double)bytes * 1e6 / (double)s->round.length_us);
	s->out->stats.bandwidth_bytes_s = s->round.bandwidth_bytes_s;
}

struct err *source_round(struct source *s, bool last)
{
	const struct vma_list *maps = layout_vmas(s->layout);
	struct vma_work *work = xcalloc(maps->n, sizeof(*work));
	uint64_t before = s->peer.ch.bytes_out;
	int64_t began = clock_us(), previous = s->collect_us;
	size_t n_work = 0;
	struct err *e;

	s->round.dirty_bytes = 0;
	s->out->stats.round_dirty_bytes = s->out->stats.round_sent_bytes = 0;
	s->out->stats.round = s->round.number;
	e = round_pages(s, work, &n_work);
	for (size_t i = 0; i < n_work; i++)
		page_runs_fini(&work[i].runs);
	mem_freep(&work);
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
		TRY(task_hold(s->task, deadline_in(ENGINE_FROZEN_TIMEOUT_US)));
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
