// SPDX-License-Identifier: Apache-2.0
/*
 * Pages by reference: the pump fills a pipe (kernel/pump.h), and when it has said how many pages
 * are in it, header and run table are written, and the pipe is spliced behind them. There are two
 * pipes, so that one is filled while the other is sent.
 *
 * The pump stops in front of a page that the process cannot read itself; that one, and as many more
 * each time as went wrong before, goes by source_copy. A page that is gone is left out there.
 *
 * Several sources of one process share its pump: one thread in the target puts more pages into
 * pipes than many streams carry. The others order one pipeful at a time, under a lock, and move it
 * (by reference again) into pipes of their own.
 *
 * Shared memory objects need no pump: their pages are spliced out of the file, into a pipe whose
 * ends are both ours (so one descriptor).
 */
#include "pages/pages_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/io.h"
#include "kernel/pump.h"

#define ENTRIES_MAX 512 /* runs of one frame */
#define ANSWER_US   10000000

/* What one filling of a pipe is about, in order. */
struct batch {
	struct run v[ENTRIES_MAX];
	bool first[ENTRIES_MAX]; /* a mapping begins here */
	size_t n;
	size_t pages;  /* DATA among them */
	size_t pieces; /* as many runs of DATA */
	size_t filled; /* pages that are in the pipe, where it was ordered and answered */
	bool ordered;
};

/* One for all sources of the process; the first one's. */
struct shared_pump {
	struct pump *pump;
	pthread_mutex_t lock;
};

struct page_source {
	struct task *t;
	uint64_t space;
	struct shared_pump *shared;
	struct pump *pump; /* shared->pump */
	bool first;
	int pipes[PUMP_PIPES]; /* where the pages of a batch are; those of the first are the pump's
				*/
	size_t room;           /* pages in each */
	struct page_source *copy;
	struct frame_out out; /* tables only */
	struct batch batch[PUMP_PIPES];
	unsigned now;  /* the one that is being collected */
	size_t streak; /* pages that went by copy in a row */
	int own_pipe;
	size_t own_pages; /* what it holds */
};

static void close_pump(struct page_source *s)
{
	pump_free(s->pump);
	if (s->shared)
		pthread_mutex_destroy(&s->shared->lock);
	free(s->shared);
}

static void pump_source_close(struct page_source *s)
{
	if (s->first)
		close_pump(s);
	else
		for (unsigned i = 0; i < PUMP_PIPES; i++)
			fd_closep(&s->pipes[i]);
	if (s->copy)
		source_copy.close(s->copy);
	frame_out_fini(&s->out);
	fd_closep(&s->own_pipe);
	free(s);
}

static struct err *open_pump(struct page_source *s)
{
	TRY(pump_open(s->t, &s->pump));
	s->shared = xcalloc(1, sizeof(*s->shared));
	s->shared->pump = s->pump;
	pthread_mutex_init(&s->shared->lock, NULL);
	for (unsigned i = 0; i < PUMP_PIPES; i++)
		s->pipes[i] = pump_pipe(s->pump, i);
	s->room = pump_room(s->pump);
	return NULL;
}

static struct err *open_pipes(struct page_source *s)
{
	s->pump = s->shared->pump;
	s->room = pump_room(s->pump);
	for (unsigned i = 0; i < PUMP_PIPES; i++) {
		TRY(io_pipe_single(&s->pipes[i]));
		s->room = MIN(s->room,
			io_pipe_grow(s->pipes[i], FRAME_PAGES_MAX * PAGE_BYTES) / PAGE_BYTES);
	}
	return s->room ? NULL : err_new(ERR_KERNEL, "a pipe of less than a page");
}

static struct err *open_all(struct page_source *s)
{
	TRY(io_pipe_single(&s->own_pipe));
	s->own_pages = io_pipe_grow(s->own_pipe, FRAME_PAGES_MAX * PAGE_BYTES) / PAGE_BYTES;
	TRY(source_copy.open(s->t, s->space, &s->copy));
	return s->first ? open_pump(s) : open_pipes(s);
}

/* With the pump of others, or one of its own. */
static struct err *make(
	struct task *t, uint64_t space, struct shared_pump *shared, struct page_source **ret)
{
	struct page_source *s = xcalloc(1, sizeof(*s));
	struct err *e;

	s->t = t;
	s->space = space;
	s->shared = shared;
	s->first = !shared;
	s->own_pipe = -1;
	for (unsigned i = 0; i < PUMP_PIPES; i++)
		s->pipes[i] = -1;
	frame_out_init(&s->out);
	e = open_all(s);
	if (e)
		pump_source_close(s);
	else
		*ret = s;
	return e;
}

static struct err *pump_source_open(struct task *t, uint64_t space, struct page_source **ret)
{
	return make(t, space, NULL, ret);
}

static struct err *pump_source_another(struct page_source *first, struct page_source **ret)
{
	return make(first->t, first->space, first->shared, ret);
}

static void pump_source_facts(const struct page_source *s, struct source_facts *ret)
{
	struct pump_facts f = { .fds = PUMP_PIPES,
		.pipe_bytes = PUMP_PIPES * s->room * PAGE_BYTES };

	if (s->first)
		pump_facts(s->pump, &f);
	*ret = (struct source_facts){ .stop_us = f.stop_us,
		.fds = f.fds + 1,
		.pipe_bytes = f.pipe_bytes + s->own_pages * PAGE_BYTES };
}

static struct err *pump_source_leave(struct page_source *s)
{
	return pump_end(s->pump);
}

/* ---- private memory ---- */

/* @calls pages: splice */
/* All that a pipe of the pump's holds, into one of ours that is empty. */
static struct err *move_pipe(int from, int to, size_t bytes)
{
	while (bytes) {
		ssize_t n = splice(from, NULL, to, NULL, bytes, SPLICE_F_NONBLOCK);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_errno(n ? errno : EIO, "move pages from pipe to pipe");
		bytes -= (size_t)n;
	}
	return NULL;
}

/* Through the first pipe of a pump that others use, too. */
static struct err *order_shared(
	struct page_source *s, unsigned which, const struct iovec *v, size_t n)
{
	size_t bytes = 0;
	struct err *e;

	pthread_mutex_lock(&s->shared->lock);
	e = pump_order(s->pump, 0, v, n);
	if (!e)
		e = pump_result(s->pump, deadline_in(ANSWER_US), &bytes);
	if (!e)
		e = move_pipe(pump_pipe(s->pump, 0), s->pipes[which], bytes);
	pthread_mutex_unlock(&s->shared->lock);
	s->batch[which].filled = bytes / PAGE_BYTES;
	return e;
}

static struct err *order(struct page_source *s, unsigned which)
{
	struct batch *b = &s->batch[which];
	struct iovec v[PUMP_VECTOR_MAX];
	size_t n = 0;

	b->filled = 0;
	if (!b->pages)
		return NULL;
	for (size_t i = 0; i < b->n; i++)
		if (b->v[i].kind == RUN_DATA)
			v[n++] = (struct iovec){ (void *)(uintptr_t)b->v[i].start,
				b->v[i].pages * PAGE_BYTES };
	TRY(s->first ? pump_order(s->pump, which, v, n) : order_shared(s, which, v, n));
	b->ordered = true;
	return NULL;
}

static struct err *answer(struct page_source *s, struct batch *b)
{
	size_t bytes = b->filled * PAGE_BYTES;

	if (!b->ordered)
		return NULL;
	if (s->first)
		TRY(pump_result(s->pump, deadline_in(ANSWER_US), &bytes));
	b->ordered = false;
	b->filled = bytes / PAGE_BYTES;
	if (b->filled)
		s->streak = 0;
	return NULL;
}

/* Forgets what is done: n entries, and `pages` of the one behind them. */
static void forget(struct batch *b, size_t n, size_t pages)
{
	for (size_t i = 0; i < n; i++)
		if (b->v[i].kind == RUN_DATA) {
			b->pages -= b->v[i].pages;
			b->pieces--;
		}
	b->n -= n;
	memmove(b->v, b->v + n, b->n * sizeof(b->v[0]));
	memmove(b->first, b->first + n, b->n * sizeof(b->first[0]));
	if (!pages)
		return;
	b->v[0].start += pages * PAGE_BYTES;
	b->v[0].pages -= pages;
	b->first[0] = false;
	b->pages -= pages;
}

/* A frame of what is in the pipe, and of drops up to the next data that is not. */
static struct err *send_filled(struct page_source *s, unsigned which)
{
	struct batch *b = &s->batch[which];
	size_t i = 0, left = b->filled;

	for (; i < b->n; i++) {
		struct run r = b->v[i];

		if (r.kind == RUN_DATA && left < r.pages)
			r.pages = left;
		if (!r.pages)
			break;
		if (r.kind == RUN_DATA)
			left -= r.pages;
		TRY(frame_out_run(&s->out, &r, r.kind == RUN_DATA && !b->first[i]));
		if (r.pages < b->v[i].pages) {
			TRY(frame_out_flush_pipe(&s->out, s->pipes[which]));
			forget(b, i, r.pages);
			b->filled = 0;
			return NULL;
		}
	}
	TRY(frame_out_flush_pipe(&s->out, s->pipes[which]));
	forget(b, i, 0);
	b->filled = 0;
	return NULL;
}

/* The first pages of a batch, which the pump cannot have. */
static struct err *copy_first(struct page_source *s, struct batch *b)
{
	struct page_run r = { b->v[0].start, 0, PAGE_DATA };
	const struct page_runs one = { .v = &r, .n = 1 };
	size_t n = MIN(b->v[0].pages, MAX(s->streak, (size_t)1));

	r.pages = n;
	TRY(source_copy.send(s->copy, &one, s->out.ch, s->out.st));
	s->streak += n;
	if (n == b->v[0].pages)
		forget(b, 1, 0);
	else
		forget(b, 0, n);
	return NULL;
}

/* The pump has stopped somewhere in it: the rest, step by step. */
static struct err *finish(struct page_source *s, unsigned which)
{
	struct batch *b = &s->batch[which];

	for (;;) {
		size_t filled = b->filled;

		TRY(send_filled(s, which));
		if (!b->n)
			return NULL;
		if (!filled)
			TRY(copy_first(s, b));
		TRY(order(s, which));
		TRY(answer(s, b));
	}
}

/* The batch that was collected is ordered, the one before it sent meanwhile. */
static struct err *turn(struct page_source *s)
{
	unsigned other = (s->now + 1) % PUMP_PIPES;
	struct batch *b = &s->batch[s->now], *before = &s->batch[other];

	TRY(answer(s, before));
	if (before->filled < before->pages)
		TRY(finish(s, other));
	TRY(order(s, s->now));
	TRY(send_filled(s, other));
	if (!b->pages) /* drops alone */
		TRY(send_filled(s, s->now));
	else
		s->now = other;
	return NULL;
}

static struct err *finish_all(struct page_source *s)
{
	TRY(turn(s));
	return turn(s);
}

static void add(struct batch *b, const struct run *r, bool first)
{
	b->v[b->n] = *r;
	b->first[b->n++] = first;
	if (r->kind != RUN_DATA)
		return;
	b->pages += r->pages;
	b->pieces++;
}

static struct err *add_data(struct page_source *s, const struct page_run *r)
{
	struct run left = { r->start, r->pages, RUN_DATA };
	bool first = true;

	while (left.pages) {
		struct batch *b = &s->batch[s->now];
		struct run part = left;

		if (b->n == ENTRIES_MAX || b->pieces == PUMP_VECTOR_MAX || b->pages == s->room) {
			TRY(turn(s));
			continue;
		}
		part.pages = MIN(left.pages, s->room - b->pages);
		add(b, &part, first);
		first = false;
		left.start += part.pages * PAGE_BYTES;
		left.pages -= part.pages;
	}
	return NULL;
}

static struct err *add_drop(struct page_source *s, const struct page_run *r)
{
	if (s->batch[s->now].n == ENTRIES_MAX)
		TRY(turn(s));
	add(&s->batch[s->now], &(struct run){ r->start, r->pages, RUN_DROP }, true);
	return NULL;
}

static struct err *pump_send(struct page_source *s, const struct page_runs *runs,
	struct channel *ch, struct pages_stats *st)
{
	if (runs->unreadable)
		return source_copy.send(s->copy, runs, ch, st);
	frame_out_start(&s->out, ch, st, s->space);
	for (unsigned i = 0; i < PUMP_PIPES; i++)
		s->batch[i].n = s->batch[i].pages = s->batch[i].pieces = 0;
	s->streak = 0;
	for (size_t i = 0; i < runs->n; i++)
		TRY(runs->v[i].class == PAGE_DATA ? add_data(s, &runs->v[i])
						  : add_drop(s, &runs->v[i]));
	return finish_all(s);
}

/* ---- shared memory objects ---- */

static struct err *pad(struct page_source *s, size_t n)
{
	static const uint8_t zeros[PAGE_BYTES];

	return n ? io_write_full(s->own_pipe, zeros, n, "a pipe of ours") : NULL;
}

/* Up to `want` bytes of the file into the pipe, whole pages; none behind its end. *no: this file
 * gives nothing by reference. */
static struct err *fill_from_file(
	struct page_source *s, int fd, struct range want, size_t *bytes, bool *no)
{
	loff_t at = (loff_t)want.start;

	*bytes = 0;
	*no = false;
	while ((uint64_t)at < want.end) {
		ssize_t n = splice(
			fd, &at, s->own_pipe, NULL, want.end - (uint64_t)at, SPLICE_F_NONBLOCK);

		if (n < 0 && errno == EINTR)
			continue;
		*no = n < 0 && errno == EINVAL && !*bytes;
		if (n < 0 && errno != EAGAIN && !*no)
			return err_errno(errno, "read shared memory");
		if (n <= 0) /* the end, or the pipe is full of parts of pages */
			break;
		*bytes += (size_t)n;
	}
	return pad(s, PAGE_UP(*bytes) - *bytes);
}

static struct err *copy_shared(struct page_source *s, int fd, const struct range *data)
{
	const struct shared_part rest = { s->out.space, fd, data->start, data->end - data->start };

	TRY(frame_out_flush_pipe(&s->out, s->own_pipe));
	return source_copy.send_shared(s->copy, &rest, s->out.ch, s->out.st);
}

static struct err *send_file_pages(struct page_source *s, int fd, struct range data)
{
	while (data.start < data.end) {
		struct range want = data;
		size_t bytes;
		bool no;

		want.end = MIN(want.end, want.start + s->own_pages * PAGE_BYTES);
		TRY(fill_from_file(s, fd, want, &bytes, &no));
		if (no)
			return copy_shared(s, fd, &data);
		if (!bytes) /* cut off meanwhile */
			return frame_out_run(&s->out,
				&(struct run){ data.start, (data.end - data.start) / PAGE_BYTES,
					RUN_DROP },
				true);
		TRY(frame_out_run(&s->out,
			&(struct run){ data.start, PAGE_UP(bytes) / PAGE_BYTES, RUN_DATA }, true));
		TRY(frame_out_flush_pipe(&s->out, s->own_pipe));
		data.start += PAGE_UP(bytes);
	}
	return NULL;
}

static struct err *pump_send_shared(struct page_source *s, const struct shared_part *part,
	struct channel *ch, struct pages_stats *st)
{
	uint64_t end = part->offset + PAGE_UP(part->bytes);

	frame_out_start(&s->out, ch, st, part->space);
	for (uint64_t at = part->offset; at < end;) {
		struct range data;

		if (!shared_next(part->fd, at, end, &data))
			data = (struct range){ at, end };
		if (data.start > at)
			TRY(frame_out_run(&s->out,
				&(struct run){ at, (data.start - at) / PAGE_BYTES, RUN_DROP },
				true));
		TRY(send_file_pages(s, part->fd, data));
		at = data.end;
	}
	return frame_out_flush_pipe(&s->out, s->own_pipe);
}

const struct page_source_ops source_pump = {
	.name = "pump",
	.open = pump_source_open,
	.send = pump_send,
	.send_shared = pump_send_shared,
	.another = pump_source_another,
	.leave = pump_source_leave,
	.facts = pump_source_facts,
	.close = pump_source_close,
};
