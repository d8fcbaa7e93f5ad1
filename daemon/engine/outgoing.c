// SPDX-License-Identifier: Apache-2.0
/* See outgoing.h. */
#include "engine/outgoing.h"

#include <poll.h>
#include <stdlib.h>

#include "engine/source.h"

/* Sent over the control stream between two looks at progress, cancel and bandwidth. */
#define PIECE_BYTES (64ULL << 20)
/* What one page stream takes at a time: so that the last ones to end do not end much later than
 * the first. */
#define LANE_PIECE_BYTES     (4ULL << 20)
#define LANE_PIECE_MIN_BYTES (512ULL << 10)
#define LANE_PIECES          4 /* to each stream, at least, where that is not below the minimum */
/* Less goes over the control stream alone. Getting two or four streams to work and waiting for all
 * of them takes 25 or 40 us (an empty round over socketpairs; 100 to 150 on a busy machine), one
 * stream takes 4 to 6 ms for 4 MiB. For the last round, while the process stands still, the same
 * holds. */
#define SPREAD_MIN_BYTES (4ULL << 20)
/* Who limits the bandwidth gets pieces of a quarter of a second, so that the peer never waits long
 * for the next one. */
#define PIECES_PER_S         4
#define SLOW_PIECE_MIN_BYTES (16ULL << 10)
/* For what the peer has to say. */
#define WORDS_US 2000000

void outgoing_init(struct outgoing *o, struct source_member *of, size_t n_work)
{
	*o = (struct outgoing){ .of = of,
		.work = xcalloc(MAX(n_work, (size_t)1), sizeof(*o->work)) };
	pthread_mutex_init(&o->lock, NULL);
}

void outgoing_fini(struct outgoing *o)
{
	for (size_t i = 0; i < o->n_work; i++)
		page_runs_fini(&o->work[i].runs);
	free(o->work);
	free(o->parts);
	pthread_mutex_destroy(&o->lock);
	*o = (struct outgoing){ 0 };
}

/* ---- what there is ---- */

static bool tangled(const struct page_runs *runs)
{
	uint64_t behind = 0;

	for (size_t i = 0; i < runs->n; i++) {
		if (runs->v[i].start < behind)
			return true;
		behind = runs->v[i].start + runs->v[i].pages * PAGE_BYTES;
	}
	return false;
}

static void add_ranges(struct page_runs *runs, const struct ranges *r, enum page_class class)
{
	for (size_t i = 0; i < r->n; i++)
		page_runs_add(
			runs, r->v[i].start, (r->v[i].end - r->v[i].start) / PAGE_BYTES, class);
}

void outgoing_untangle(struct page_runs *runs)
{
	struct ranges is[2] = { { 0 } };

	if (!tangled(runs))
		return;
	for (size_t i = 0; i < runs->n; i++) {
		uint64_t start = runs->v[i].start, end = start + runs->v[i].pages * PAGE_BYTES;
		bool gone = runs->v[i].class == PAGE_GONE;

		ranges_sub(&is[!gone], start, end);
		ranges_add(&is[gone], start, end);
	}
	runs->n = 0;
	add_ranges(runs, &is[1], PAGE_GONE);
	add_ranges(runs, &is[0], PAGE_DATA);
	ranges_fini(&is[0]);
	ranges_fini(&is[1]);
}

void outgoing_add(struct outgoing *o, const struct vma_work *w)
{
	for (size_t i = 0; i < w->runs.n; i++)
		if (w->runs.v[i].class == PAGE_DATA)
			o->bytes += w->runs.v[i].pages * PAGE_BYTES;
}

void outgoing_add_part(struct outgoing *o, const struct shared_part *part)
{
	struct shared_part *last = o->n_parts ? &o->parts[o->n_parts - 1] : NULL;
	struct shared_part add = *part;

	if (last && last->space == add.space) {
		uint64_t behind = last->offset + last->bytes, end = add.offset + add.bytes;

		/* Ends of data need not be ends of pages: none may come in two parts. */
		if (add.offset <= behind) {
			last->bytes = MAX(end, behind) - last->offset;
			o->bytes += MAX(end, behind) - behind;
			return;
		}
	}
	if (o->n_parts == o->cap_parts) {
		o->cap_parts = o->cap_parts * 2 + 16;
		o->parts = xrealloc_array(o->parts, o->cap_parts, sizeof(*o->parts));
	}
	o->parts[o->n_parts++] = add;
	o->bytes += add.bytes;
}

/* ---- pieces ---- */

/* As much of the VMA's data as fits into *room; true when all of it is in pieces now. */
static bool take_from_vma(
	struct outgoing *o, const struct page_runs *from, uint64_t *room, struct page_runs *to)
{
	for (; o->run < from->n; o->run++, o->page = 0) {
		const struct page_run *r = &from->v[o->run];
		uint64_t n;

		if (r->class != PAGE_DATA)
			continue;
		if (!*room)
			return false;
		n = MIN(r->pages - o->page, *room);
		page_runs_add_first(to, r->start + o->page * PAGE_BYTES, n, PAGE_DATA);
		*room -= n;
		o->page += n;
		if (o->page < r->pages)
			return false;
	}
	return true;
}

/* What the process can read and what it cannot do not go in one piece. */
static void take_runs(struct outgoing *o, uint64_t room, struct page_runs *to)
{
	for (; o->vma < o->n_work; o->vma++, o->run = 0) {
		const struct vma_work *w = &o->work[o->vma];

		if (!layout_vma_private(w->vma) || !w->runs.n)
			continue;
		if (to->n && w->runs.unreadable != to->unreadable)
			return;
		to->unreadable = w->runs.unreadable;
		if (!take_from_vma(o, &w->runs, &room, to))
			return;
	}
}

static bool take_part(struct outgoing *o, uint64_t bytes, struct shared_part *ret)
{
	const struct shared_part *p = &o->parts[o->part];

	if (o->part == o->n_parts)
		return false;
	*ret = *p;
	ret->offset += o->offset;
	ret->bytes = MIN(p->bytes - o->offset, PAGE_UP(bytes));
	o->offset += ret->bytes;
	if (o->offset == p->bytes) {
		o->part++;
		o->offset = 0;
	}
	return true;
}

bool outgoing_next(struct outgoing *o, uint64_t bytes, struct piece_out *ret)
{
	bool any;

	*ret = (struct piece_out){ .part = { .bytes = 0 } };
	pthread_mutex_lock(&o->lock);
	take_runs(o, MAX(bytes / PAGE_BYTES, (uint64_t)1), &ret->runs);
	any = ret->runs.n || take_part(o, bytes, &ret->part);
	pthread_mutex_unlock(&o->lock);
	return any;
}

/* ---- out with it ---- */

struct outflow {
	struct source *s;
	struct outgoing *o;
	uint64_t piece_bytes;
	const struct page_source_ops *ops;
};

/* The main process has sources that stay, until it ends; those of others are made when they have
 * something to send, as there may be thousands. */
static bool has_source(const struct source *s, const struct outgoing *o)
{
	return o->of == s->main && s->pages;
}

static struct err *pages_of(struct source *s, const struct outgoing *o, struct page_source **ret)
{
	if (!has_source(s, o))
		return source_copy.open(o->of->task, source_space(s, o->of), ret);
	*ret = s->pages;
	return NULL;
}

static const struct page_source_ops *ops_of(const struct source *s, const struct outgoing *o)
{
	return has_source(s, o) ? s->pages_ops : &source_copy;
}

static void pages_done(const struct source *s, struct page_source *pages)
{
	if (pages != s->pages)
		source_copy.close(pages);
}

/* The peer has nothing to say in a round but that it fails; its last words must not wait for the
 * end of that. */
static struct err *hear_peer(struct source *s)
{
	autoarena struct arena *a = arena_new();

	if (!channel_news(&s->peer.ch))
		return NULL;
	channel_until(&s->peer.ch, deadline_in(WORDS_US));
	return peer_next(&s->peer, a);
}

static int64_t due_us(const struct source *s)
{
	uint64_t sent = source_bytes(s) - s->first_round_bytes;

	if (!s->opt->bandwidth || s->task->held)
		return 0;
	return s->first_round_us + (int64_t)((double)sent * 1e6 / (double)s->opt->bandwidth);
}

/* Waits until all streams together were allowed to send what they have sent, if there is time.
 * @calls pages: poll */
static struct err *throttle(struct source *s, const struct channel *ch)
{
	const struct deadline due = deadline_min((struct deadline){ due_us(s) }, s->until);
	bool control = ch == &s->peer.ch;
	struct pollfd p[] = { { ch->interrupt_fd, POLLIN, 0 }, { -1, 0, 0 } };

	if (control)
		p[1] = ch->in->ops->wants(ch->in, POLLIN);
	for (;;) {
		TRY(source_in_time(s));
		if (control)
			TRY(hear_peer(s));
		if (deadline_passed(due))
			return NULL;
		if (poll(p, ARRAY_LEN(p), deadline_poll_ms(due)) > 0 && p[0].revents)
			return err_new(ERR_CANCELLED, "cancelled");
	}
}

static void count_piece(
	struct outgoing *o, const struct piece_out *piece, const struct pages_stats *st)
{
	pthread_mutex_lock(&o->lock);
	o->sent_bytes += piece->part.bytes ? piece->part.bytes
					   : (st->pages_data + st->pages_zero) * PAGE_BYTES;
	o->copied_bytes += st->pages_copied * PAGE_BYTES;
	pthread_mutex_unlock(&o->lock);
}

static struct err *send_piece(
	const struct outflow *f, struct page_source *from, struct channel *ch, bool *any)
{
	struct pages_stats st = { 0 };
	struct piece_out piece;
	struct err *e;

	*any = outgoing_next(f->o, f->piece_bytes, &piece);
	if (!*any)
		return NULL;
	e = piece.part.bytes ? f->ops->send_shared(from, &piece.part, ch, &st)
			     : f->ops->send(from, &piece.runs, ch, &st);
	count_piece(f->o, &piece, &st);
	page_runs_fini(&piece.runs);
	return e;
}

static void progress(void *arg)
{
	const struct outflow *f = arg;
	struct engine_stats *st = &f->s->out->stats;

	pthread_mutex_lock(&f->o->lock);
	st->round_sent_bytes = f->s->sent_before + f->o->sent_bytes;
	st->bytes_copied = f->s->copied_before + f->o->copied_bytes;
	pthread_mutex_unlock(&f->o->lock);
	source_progress(f->s);
}

/* ---- over the control stream ---- */

struct err *outgoing_sent(struct source *s, struct outgoing *o, uint64_t bytes, uint64_t copied)
{
	struct outflow f = { s, o, 0, NULL };

	o->bytes += bytes;
	o->sent_bytes += bytes;
	o->copied_bytes += copied;
	source_wait(s);
	progress(&f);
	return throttle(s, &s->peer.ch);
}

static struct err *send_pieces(struct outflow *f, struct page_source *pages)
{
	struct source *s = f->s;
	bool any;

	for (;;) {
		TRY(peer_reason(&s->peer, send_piece(f, pages, &s->peer.ch, &any)));
		if (!any)
			return NULL;
		source_wait(s);
		progress(f);
		TRY(throttle(s, &s->peer.ch));
	}
}

static struct err *send_over_control(struct outflow *f)
{
	struct page_source *pages;
	struct err *e;

	TRY(pages_of(f->s, f->o, &pages));
	e = send_pieces(f, pages);
	pages_done(f->s, pages);
	return e;
}

/* ---- over the page streams ---- */

static struct err *lane_send(void *arg, unsigned lane, struct channel *ch, bool *any)
{
	const struct outflow *f = arg;
	struct source *s = f->s;

	ch->hurried = s->task->held;
	TRY(send_piece(f, s->lane_pages[lane], ch, any));
	lanes_count(&s->lanes.v[lane]);
	return throttle(s, ch);
}

/* It has no reason to, but to say that it fails. */
static struct err *spoken(void *arg)
{
	const struct outflow *f = arg;
	autoarena struct arena *a = arena_new();

	channel_until(&f->s->peer.ch, deadline_in(WORDS_US));
	return peer_next(&f->s->peer, a);
}

static struct err *send_over_lanes(struct outflow *f)
{
	struct source *s = f->s;
	const struct lanes_round r = {
		.number = s->round.number,
		.timeout_us = source_silence_us(s),
		.until = s->until,
		.interrupt_fd = s->peer.ch.interrupt_fd,
		.control = &s->peer.ch,
		.arg = f,
		.send = lane_send,
		.progress = progress,
		.spoken = spoken,
	};
	struct err *e;

	TRY(peer_reason(
		&s->peer, channel_send(&s->peer.ch, FRAME_SPREAD, s->round.number, NULL, 0)));
	e = lanes_send(&s->lanes, &r);
	source_wait(s);
	progress(f);
	return peer_reason_of(&s->peer, e, LANES_SOURCE_LISTENS_US);
}

static uint64_t spread_bytes(const struct source *s)
{
	return s->opt->spread_bytes ? s->opt->spread_bytes : SPREAD_MIN_BYTES;
}

static uint64_t piece_bytes(const struct source *s, uint64_t bytes, unsigned streams)
{
	uint64_t piece = PIECE_BYTES, slow = s->opt->bandwidth / PIECES_PER_S / streams;
	uint64_t least = MIN(LANE_PIECE_MIN_BYTES, spread_bytes(s));

	if (streams > 1)
		piece = MIN(LANE_PIECE_BYTES, MAX(bytes / streams / LANE_PIECES, least));
	if (s->opt->bandwidth && !s->task->held)
		piece = MIN(piece, MAX(slow, SLOW_PIECE_MIN_BYTES));
	return piece;
}

struct err *outgoing_send(struct source *s, struct outgoing *o)
{
	uint64_t left = o->bytes - o->sent_bytes;
	bool spread = s->lanes.n && has_source(s, o) && s->lane_pages[0] && left >= spread_bytes(s);
	struct outflow f = { s, o, piece_bytes(s, left, spread ? s->lanes.n : 1), ops_of(s, o) };

	if (!left)
		return NULL;
	return spread ? send_over_lanes(&f) : send_over_control(&f);
}

/* ---- drops ---- */

static struct err *send_gone(struct source *s, const struct outgoing *o)
{
	struct page_runs gone = { .v = NULL };
	struct pages_stats st = { 0 };
	struct page_source *pages = NULL;
	struct err *e = NULL;

	for (size_t i = 0; i < o->n_work; i++) {
		const struct page_runs *runs = &o->work[i].runs;

		for (size_t k = 0; k < runs->n && layout_vma_private(o->work[i].vma); k++)
			if (runs->v[k].class == PAGE_GONE)
				page_runs_add_first(
					&gone, runs->v[k].start, runs->v[k].pages, PAGE_GONE);
	}
	if (gone.n)
		e = pages_of(s, o, &pages);
	if (pages) {
		e = ops_of(s, o)->send(pages, &gone, &s->peer.ch, &st);
		pages_done(s, pages);
	}
	page_runs_fini(&gone);
	return e;
}

struct err *outgoing_send_drops(struct source *s, struct outgoing *o)
{
	struct pages_stats st = { 0 };

	/* Mapped anew: what the peer has there is of the mapping before. */
	for (size_t i = 0; i < o->n_work && s->round.number; i++)
		if (layout_vma_private(o->work[i].vma) && o->work[i].fresh)
			TRY(peer_reason(&s->peer,
				pages_send_drop(&s->peer.ch, source_space(s, o->of),
					o->work[i].vma->start,
					o->work[i].vma->end - o->work[i].vma->start, &st)));
	return peer_reason(&s->peer, send_gone(s, o));
}
