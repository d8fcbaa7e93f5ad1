/* SPDX-License-Identifier: Apache-2.0 */
/* What the sources share: a PAGES frame under construction. */
#pragma once

#include "base/ranges.h"
#include "pages/pages.h"

#define TABLE_BYTES (RUN_HEAD_BYTES + PAGES_RUNS_MAX * RUN_BYTES)
/* What we send at a time: small enough to be in the cache still when it is encrypted. */
#define FRAME_PAGES_MAX 256
#define FRAME_RUNS_MAX  1024
/* A frame with less room than this is sent rather than filled with a small read. */
#define FRAME_ROOM_MIN 32

struct frame_out {
	struct channel *ch;
	struct pages_stats *st;
	uint64_t space;
	uint8_t *table;  /* of FRAME_RUNS_MAX */
	uint8_t *own;    /* for FRAME_PAGES_MAX, page aligned: where the stream has no place */
	uint8_t *data;   /* where pages go: there, or in the stream; set by frame_out_reserve */
	struct run last; /* the newest run, not in the table yet; pages 0: none */
	size_t n_runs;   /* with last */
	size_t pages;    /* in data */
};

/* Memory for one frame; the rest is set per use. */
void frame_out_init(struct frame_out *o);
void frame_out_fini(struct frame_out *o);
/* Adds a run. RUN_DATA: its pages were put at frame_out_at(o, 0) before. Continues the newest run
 * where it can, if `join`: a run must not cross from one mapping into the next. Sends the frame
 * when the table is full, which for RUN_DATA the caller must have made impossible
 * (frame_out_reserve). */
struct err *frame_out_run(struct frame_out *o, const struct run *r, bool join) must_check;
/* Makes room for at least FRAME_ROOM_MIN pages of any kind and returns for how many. Before any
 * page is put into a frame. */
struct err *frame_out_reserve(struct frame_out *o, size_t *room) must_check;
static inline uint8_t *frame_out_at(const struct frame_out *o, size_t page)
{
	return o->data + (o->pages + page) * PAGE_BYTES;
}
/* Sends what is there. */
struct err *frame_out_flush(struct frame_out *o) must_check;
/* The same where the pages are in a pipe: no frame_out_reserve before, and so never more than
 * FRAME_RUNS_MAX runs. */
struct err *frame_out_flush_pipe(struct frame_out *o, int pipe_fd) must_check;
/* Begins anew. */
void frame_out_start(
	struct frame_out *o, struct channel *ch, struct pages_stats *st, uint64_t space);
/* Takes n pages that lie at frame_out_at(o, 0..n-1): addrs[i] is the address of each, or PAGE_LOST.
 * PAGE_FIRST in it: a mapping begins here. Zero pages become runs without data. */
#define PAGE_FIRST 1ULL
#define PAGE_LOST  UINT64_MAX
struct err *frame_out_pages(struct frame_out *o, const uint64_t *addrs, size_t n) must_check;

bool page_is_zero(const uint8_t *page);

/* The next data from `at` on, in whole pages up to `end`; what lies before is a hole. False when
 * the file system does not tell. The position of fd moves. */
bool shared_next(int fd, uint64_t at, uint64_t end, struct range *data);
