// SPDX-License-Identifier: Apache-2.0
/*
 * Pre-copy rounds: layout, then what was written since the last round, then a barrier.
 *
 * Private memory goes by address, shared memory objects by offset (spaces.h).
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
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

static bool mapped_anew(const struct source_member *m, const struct vma *v)
{
	size_t i = ranges_find(&m->fresh, v->start);

	return i < m->fresh.n && m->fresh.v[i].start < v->end;
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
static struct err *collect_vma(struct source *s, struct source_member *m, struct vma_work *w)
{
	struct vma_dirty info = { 0 };
	const struct dirty_ops *ops = m->dirty ? s->ops : &dirty_none;
	struct dirty *dirty = m->dirty ? m->dirty : m->everything;
	struct err *e = ops->collect(dirty, w->vma, &w->runs, &info);

	w->fresh = info.fresh;
	w->runs.unreadable = !(w->vma->prot & PROT_READ);
	if (!e && m->dirty && (s->untrusted || mapped_anew(m, w->vma))) {
		only_gone(&w->runs);
		e = dirty_none.collect(m->everything, w->vma, &w->runs, &info);
	}
	outgoing_untangle(&w->runs);
	if (!e && ops->sends)
		ops->sends(dirty, w->vma, &w->runs);
	return e ? err_in(e, "look at memory %jx-%jx of %d", (uintmax_t)w->vma->start,
			   (uintmax_t)w->vma->end, m->task->pid)
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
	struct source_member *m = o->of;
	const struct vma_list *maps = layout_vmas(m->layout);

	if (m->dirty && s->ops->begin)
		TRY(s->ops->begin(m->dirty, maps));
	for (size_t i = 0; i < maps->n; i++) {
		struct vma_work *w = &o->work[o->n_work];

		if (!layout_vma_private(&maps->v[i]) && !tracked_shared(&maps->v[i]))
			continue;
		w->vma = &maps->v[i];
		o->n_work++;
		if (!s->still_us)
			peer_alive(&s->peer);
		TRY(collect_vma(s, m, w));
	}
	return NULL;
}

static struct err *collect_stopped(struct source *s, struct outgoing *o)
{
	struct task *t = o->of->task;
	int64_t stopped;
	struct err *e, *let;

	TRY(task_hold(t, deadline_in(ENGINE_STOP_US)));
	stopped = clock_us();
	e = collect_all(s, o);
	let = task_let_go(t);
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
	TRY(direct_io_any(o->of->task->pid, &direct));
	o->of->direct_io |= direct;
	s->next_untrusted |= direct;
	return NULL;
}

static struct err *collect(struct source *s, struct outgoing *o)
{
	struct source_member *m = o->of;

	if (m->task->held)
		return collect_all(s, o);
	if (!s->ops->collect_held && !m->direct_io)
		TRY(direct_io_any(m->task->pid, &m->direct_io));
	return s->ops->collect_held || m->direct_io ? collect_stopped(s, o) : collect_running(s, o);
}

/* What a round has to send, of each process that is there; the main one is the last. */
struct loads {
	struct outgoing *v;
	size_t n;
};

static void loads_fini(struct loads *l)
{
	for (size_t i = 0; i < l->n; i++)
		outgoing_fini(&l->v[i]);
	free(l->v);
	*l = (struct loads){ NULL, 0 };
}

static struct err *load(struct source *s, struct loads *l, struct source_member *m)
{
	struct outgoing *o = &l->v[l->n];
	struct err *e;

	if (!m->layout || (!m->dirty && !m->everything))
		return NULL;
	outgoing_init(o, m, layout_vmas(m->layout)->n);
	l->n++;
	e = collect(s, o);
	if (!e || !source_member_ended(s, m))
		return e;
	err_free(e);
	outgoing_fini(o);
	l->n--;
	return NULL;
}

/* The main one may have ended just now, and another one be in its place. */
static void main_last(const struct source *s, struct loads *l)
{
	for (size_t i = 0; i + 1 < l->n; i++) {
		struct outgoing o = l->v[i];

		if (o.of != s->main)
			continue;
		l->v[i] = l->v[l->n - 1];
		l->v[l->n - 1] = o;
	}
}

static struct err *collect_tree(struct source *s, struct loads *l)
{
	l->v = xcalloc(s->n_members, sizeof(*l->v));
	s->collect_us = clock_us();
	s->next_untrusted = false;
	for (struct source_member *m = NULL; (m = source_next(s, m));)
		if (m != s->main)
			TRY(load(s, l, m));
	TRY(load(s, l, s->main));
	main_last(s, l);
	s->untrusted = s->next_untrusted;
	return NULL;
}

/* What it sends is sent; counts go on from there. */
static void done_with(struct source *s, const struct outgoing *o)
{
	s->sent_before += o->sent_bytes;
	s->copied_before += o->copied_bytes;
}

/* Drops what the peer must not keep, then sends. A process that ends meanwhile is dropped by the
 * next TREE. */
static struct err *send_load(struct source *s, struct outgoing *o)
{
	struct err *e = outgoing_send_drops(s, o);

	if (!e)
		e = outgoing_send(s, o);
	if (e && !s->peer.failed_there && source_member_ended(s, o->of)) {
		err_free(e);
		e = NULL;
	}
	done_with(s, o);
	return e;
}

static void add_private(struct outgoing *o, struct space_work *spaces, size_t n_spaces)
{
	for (size_t i = 0; i < o->n_work; i++) {
		if (layout_vma_private(o->work[i].vma))
			outgoing_add(o, &o->work[i]);
		else
			spaces_add_runs(spaces, n_spaces, o->work[i].vma, &o->work[i].runs);
	}
}

static struct err *send_collected(
	struct source *s, struct loads *l, struct space_work *spaces, size_t n_spaces)
{
	struct outgoing *last = &l->v[l->n - 1];

	for (size_t i = 0; i < l->n; i++) {
		add_private(&l->v[i], spaces, n_spaces);
		s->round.dirty_bytes += l->v[i].bytes;
	}
	for (size_t i = 0; i + 1 < l->n; i++)
		TRY(send_load(s, &l->v[i]));
	s->round.dirty_bytes -= last->bytes;
	TRY(outgoing_send_drops(s, last));
	TRY(spaces_plan(s, spaces, n_spaces, last));
	s->round.dirty_bytes += last->bytes;
	s->out->stats.round_dirty_bytes = s->round.dirty_bytes;
	return outgoing_send(s, last);
}

static struct err *round_pages(struct source *s, struct loads *l)
{
	struct space_work *spaces;
	size_t n_spaces;
	struct err *e;

	TRY(collect_tree(s, l));
	if (!l->n || l->v[l->n - 1].of != s->main)
		return err_new(ERR_GONE, "process %d has ended", s->main->task->pid);
	TRY(spaces_open(s, &spaces, &n_spaces));
	e = spaces_watch(s, spaces, n_spaces);
	if (!e)
		e = send_collected(s, l, spaces, n_spaces);
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
	struct loads l = { NULL, 0 };
	struct err *e;

	s->work_of = arena_new();
	s->copied_before = s->out->stats.bytes_copied;
	s->sent_before = 0;
	s->round.dirty_bytes = 0;
	s->out->stats.round_dirty_bytes = s->out->stats.round_sent_bytes = 0;
	s->out->stats.round = s->round.number;
	e = round_pages(s, &l);
	loads_fini(&l);
	arena_free(take(&s->work_of));
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

static struct err *count_member(struct source *s, struct source_member *m, uint64_t *bytes)
{
	const struct vma_list *maps = layout_vmas(m->layout);
	bool held = s->ops->collect_held;
	struct err *e = NULL, *let;

	if (held)
		TRY(task_hold(m->task, deadline_in(ENGINE_STOP_US)));
	if (s->ops->begin)
		e = s->ops->begin(m->dirty, maps);
	for (size_t i = 0; i < maps->n && !e; i++) {
		struct vma_work w = { .vma = &maps->v[i] };

		if (!layout_vma_private(w.vma))
			continue;
		e = collect_vma(s, m, &w);
		*bytes += data_bytes(&w.runs);
		page_runs_fini(&w.runs);
	}
	let = held ? task_let_go(m->task) : NULL;
	if (!e)
		return let;
	err_free(let);
	return e;
}

static struct err *count_dirty(struct source *s, uint64_t *bytes)
{
	*bytes = 0;
	s->collect_us = clock_us();
	for (struct source_member *m = NULL; (m = source_next(s, m));) {
		struct err *e = m->layout && m->dirty ? count_member(s, m, bytes) : NULL;

		if (e && !source_member_ended(s, m))
			return e;
		err_free(e);
	}
	return NULL;
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
