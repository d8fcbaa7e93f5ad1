// SPDX-License-Identifier: Apache-2.0
/* PAGES frames on their way out: run table and data are collected, then sent in one piece. */
#include "pages/pages_priv.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* In front of the pages of a frame in the making. */
#define FRONT_BYTES (RUN_HEAD_BYTES + FRAME_RUNS_MAX * RUN_BYTES)

void frame_out_init(struct frame_out *o)
{
	*o = (struct frame_out){ .table = xcalloc(1, FRONT_BYTES) };
	o->own = mmap(NULL, FRAME_PAGES_MAX * PAGE_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (o->own == MAP_FAILED)
		abort();
}

void frame_out_fini(struct frame_out *o)
{
	if (o->own)
		munmap(o->own, FRAME_PAGES_MAX * PAGE_BYTES);
	free(o->table);
	*o = (struct frame_out){ 0 };
}

static void settle_last(struct frame_out *o)
{
	if (o->last.pages)
		run_encode(&o->last, o->table + RUN_HEAD_BYTES + (o->n_runs - 1) * RUN_BYTES);
	o->last.pages = 0;
}

/* Its pages lie in the stream: the table goes right in front of them. */
static struct err *send_made(struct frame_out *o, size_t table)
{
	struct frame_head h = {
		.length = (uint32_t)(table + o->pages * PAGE_BYTES),
		.type = FRAME_PAGES,
		.arg = o->space,
	};

	memcpy(o->data - table, o->table, table);
	return channel_send_made(o->ch, &h, o->data - table);
}

static struct err *send_copied(struct frame_out *o, size_t table)
{
	struct iovec iov[] = { { o->table, table }, { o->data, o->pages * PAGE_BYTES } };

	return channel_sendv(o->ch, FRAME_PAGES, o->space, iov, o->pages ? 2 : 1);
}

/* Completes the table; its size. */
static size_t finish_table(struct frame_out *o)
{
	uint32_t head[2] = { htole32((uint32_t)o->n_runs), 0 };
	size_t table = RUN_HEAD_BYTES + o->n_runs * RUN_BYTES;

	settle_last(o);
	memcpy(o->table, head, sizeof(head));
	o->st->bytes_wire += FRAME_HEAD_BYTES + table + o->pages * PAGE_BYTES;
	return table;
}

static void begin_frame(struct frame_out *o)
{
	o->n_runs = o->pages = 0;
	o->data = NULL;
}

struct err *frame_out_flush(struct frame_out *o)
{
	size_t table;

	if (!o->n_runs)
		return NULL;
	table = finish_table(o);
	o->st->pages_copied += o->pages;
	TRY(o->pages && o->data != o->own ? send_made(o, table) : send_copied(o, table));
	begin_frame(o);
	return NULL;
}

struct err *frame_out_flush_pipe(struct frame_out *o, int pipe_fd)
{
	struct iovec iov = { .iov_base = o->table };

	if (!o->n_runs)
		return NULL;
	iov.iov_len = finish_table(o);
	TRY(channel_send_body(o->ch, FRAME_PAGES, o->space,
		&(struct frame_body){ &iov, 1, pipe_fd, o->pages * PAGE_BYTES }));
	begin_frame(o);
	return NULL;
}

void frame_out_start(
	struct frame_out *o, struct channel *ch, struct pages_stats *st, uint64_t space)
{
	o->ch = ch;
	o->st = st;
	o->space = space;
	o->last.pages = 0;
	begin_frame(o);
}

struct err *frame_out_run(struct frame_out *o, const struct run *r, bool join)
{
	struct run *l = &o->last;

	if (r->kind == RUN_DATA) {
		o->pages += r->pages;
		o->st->pages_data += r->pages;
	} else if (r->kind == RUN_ZERO) {
		o->st->pages_zero += r->pages;
	}
	if (join && l->pages && l->kind == r->kind &&
		l->start + l->pages * PAGE_BYTES == r->start) {
		l->pages += r->pages;
		return NULL;
	}
	if (r->kind == RUN_DROP)
		o->st->runs_dropped++;
	if (o->n_runs == FRAME_RUNS_MAX && r->kind == RUN_DATA)
		return err_new(ERR_BUG, "no room for a run of data");
	if (o->n_runs == FRAME_RUNS_MAX)
		TRY(frame_out_flush(o));
	settle_last(o);
	*l = *r;
	o->n_runs++;
	return NULL;
}

static struct err *place(struct frame_out *o)
{
	uint8_t *at;

	o->data = o->own;
	if (!channel_makes(o->ch))
		return NULL;
	TRY(channel_make(o->ch, FRONT_BYTES + FRAME_PAGES_MAX * PAGE_BYTES, &at));
	o->data = at + FRAME_HEAD_BYTES + FRONT_BYTES;
	return NULL;
}

struct err *frame_out_reserve(struct frame_out *o, size_t *room)
{
	if (o->pages + FRAME_ROOM_MIN > FRAME_PAGES_MAX ||
		o->n_runs + FRAME_PAGES_MAX > FRAME_RUNS_MAX)
		TRY(frame_out_flush(o));
	if (!o->data)
		TRY(place(o));
	*room = FRAME_PAGES_MAX - o->pages;
	return NULL;
}

/* Pages lie in a ring as they come, at any address. */
typedef uint64_t word __attribute__((aligned(1), may_alias));

bool page_is_zero(const uint8_t *page)
{
	const word *w = (const word *)(const void *)page;

	/* Most pages show it in the first word or somewhere in the first lines. */
	for (size_t i = 0; i < PAGE_BYTES / sizeof(*w); i += 16) {
		uint64_t any = 0;

		for (size_t k = 0; k < 16; k++)
			any |= w[i + k];
		if (any)
			return false;
	}
	return true;
}

struct err *frame_out_pages(struct frame_out *o, const uint64_t *addrs, size_t n)
{
	/* frame_out_run moves o->pages on with each page that is kept. */
	const uint8_t *from = frame_out_at(o, 0);

	for (size_t i = 0; i < n; i++, from += PAGE_BYTES) {
		struct run r = { .start = PAGE_DOWN(addrs[i]), .pages = 1, .kind = RUN_DATA };
		bool zero;

		if (addrs[i] == PAGE_LOST)
			continue;
		zero = page_is_zero(from);
		if (!zero && from != frame_out_at(o, 0))
			memcpy(frame_out_at(o, 0), from, PAGE_BYTES);
		if (zero)
			r.kind = RUN_ZERO;
		TRY(frame_out_run(o, &r, !(addrs[i] & PAGE_FIRST)));
	}
	return NULL;
}

struct err *pages_send_drop(
	struct channel *ch, uint64_t space, uint64_t offset, uint64_t bytes, struct pages_stats *st)
{
	uint8_t table[RUN_HEAD_BYTES + RUN_BYTES];
	struct frame_out o = { .ch = ch, .st = st, .space = space, .table = table };

	TRY(frame_out_run(
		&o, &(struct run){ offset, PAGE_UP(bytes) / PAGE_BYTES, RUN_DROP }, false));
	return frame_out_flush(&o);
}

/* Zero pages as holes: the others move together. */
struct err *pages_send_data(struct channel *ch, uint64_t space, const struct range *where,
	uint8_t *data, struct pages_stats *st)
{
	uint8_t table[RUN_HEAD_BYTES + PAGES_DATA_MAX * RUN_BYTES];
	struct frame_out o = { .ch = ch, .st = st, .space = space, .table = table, .data = data };
	size_t pages = (where->end - where->start) / PAGE_BYTES;

	if (pages > PAGES_DATA_MAX)
		return err_new(ERR_BUG, "%zu pages in one go", pages);
	for (size_t i = 0, k; i < pages; i += k) {
		uint8_t *from = data + i * PAGE_BYTES;
		bool zero = page_is_zero(from);

		for (k = 1; i + k < pages && page_is_zero(from + k * PAGE_BYTES) == zero; k++)
			;
		if (!zero && from != frame_out_at(&o, 0))
			memmove(frame_out_at(&o, 0), from, k * PAGE_BYTES);
		TRY(frame_out_run(&o,
			&(struct run){
				where->start + i * PAGE_BYTES, k, zero ? RUN_DROP : RUN_DATA },
			false));
	}
	o.own = data; /* it does not lie in the stream */
	return frame_out_flush(&o);
}
