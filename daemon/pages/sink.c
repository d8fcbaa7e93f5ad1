// SPDX-License-Identifier: Apache-2.0
/*
 * PAGES frames into the process under construction. This file checks what the peer sent, sink_put.c
 * and sink_splice.c place it. A frame is checked as a whole before any of it is placed.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/dirty_priv.h"
#include "pages/pages_priv.h"
#include "pages/sink_priv.h"

/* UFFD_USER_MODE_ONLY: faults of system calls, ours included, are errors there instead of waiting
 * for somebody to resolve them. So nothing can ever wait for us. */
#define USER_MODE_ONLY 1

const char *const page_sink_names[SINK_WAYS] = {
	[SINK_COPY] = "copy",
	[SINK_SPLICE] = "splice",
};

/* A userfaultfd of the seedling, -1 where the kernel has none. */
static struct err *make_uffd(struct task *t, int *ret)
{
	/* A fault in user mode would be a bug of ours: it kills instead of waiting. */
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_SIGBUS };
	struct call c = {
		.nr = SYS_userfaultfd,
		.args = { O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY },
	};
	autoclose int fd = -1;
	struct err *e;

	TRY(remote_run(t, task_leader(t), &c, 1));
	*ret = -1;
	if (c.ret < 0)
		return NULL;
	e = remote_fd_home(t, (int)c.ret, &fd);
	c = (struct call){ .nr = SYS_close, .args = { (uint64_t)c.ret } };
	if (!e)
		e = remote_run(t, task_leader(t), &c, 1);
	if (e)
		return e;
	if (ioctl(fd, UFFDIO_API, &api) == 0)
		*ret = take_fd(&fd);
	return NULL;
}

static struct err *run_here(void *arg unused_arg, struct err *(*fn)(void *what), void *what)
{
	return fn(what);
}

struct err *placer_run(const struct placer *p, struct err *(*fn)(void *what), void *what)
{
	return p->remote.run(p->remote.arg, fn, what);
}

static void placer_init(struct placer *p, struct page_sink *s, const struct placer_remote *remote)
{
	*p = (struct placer){ .s = s, .remote = *remote };
	p->drops = xcalloc(REMOTE_CALLS_MAX, sizeof(*p->drops));
	p->table = xcalloc(1, TABLE_BYTES);
	p->data =
		mmap(NULL, PIECE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->data == MAP_FAILED)
		abort();
}

static void placer_fini(struct placer *p)
{
	splice_close(p);
	free(p->drops);
	free(p->table);
	munmap(p->data, PIECE_BYTES);
}

struct placer *placer_open(struct page_sink *s, const struct placer_remote *remote)
{
	struct placer *p = xcalloc(1, sizeof(*p));

	placer_init(p, s, remote);
	if (s->splices)
		err_free(splice_open(p, 1));
	return p;
}

void placer_close(struct placer *p)
{
	if (!p)
		return;
	placer_fini(p);
	free(p);
}

/* A sink that splices has no userfaultfd: where the process writes by itself, memory that is
 * registered for missing pages would be in its way. */
static struct err *open_way(struct page_sink *s, enum page_sink_way way)
{
	s->splices = way == SINK_SPLICE;
	if (s->splices)
		TRY_IN(splice_open(&s->own, OWN_PIPES), "lead pipes into process %d", s->t->pid);
	else
		TRY_IN(make_uffd(s->t, &s->uffd), "prepare to receive pages");
	return NULL;
}

struct err *page_sink_open(const struct page_sink_spec *spec, struct page_sink **ret)
{
	struct page_sink *s = xcalloc(1, sizeof(*s));
	struct err *e;

	s->t = spec->t;
	s->space = spec->space;
	s->space_fd = spec->space_fd;
	s->arg = spec->arg;
	s->round_bytes_max = spec->round_bytes_max;
	s->uffd = -1;
	s->put.shift = (unsigned)__builtin_ctzll(PAGE_BYTES);
	pthread_mutex_init(&s->lock, NULL);
	placer_init(&s->own, s, &(struct placer_remote){ run_here, NULL });
	e = open_way(s, spec->way);
	if (e)
		page_sink_close(s);
	else
		*ret = s;
	return e;
}

void page_sink_round(struct page_sink *s)
{
	s->round_bytes = 0;
}

uint64_t page_sink_copied(const struct page_sink *s)
{
	return s->copied;
}

struct err *page_sink_settle(struct page_sink *s)
{
	return splice_settle(&s->own);
}

struct err *page_sink_leave(struct page_sink *s)
{
	TRY(page_sink_settle(s));
	/* The last holder: every registration ends. */
	fd_closep(&s->uffd);
	return s->splices ? seedling_take_back(s->t) : NULL;
}

void page_sink_close(struct page_sink *s)
{
	if (!s)
		return;
	fd_closep(&s->uffd);
	pagebits_fini(&s->put);
	placer_fini(&s->own);
	pthread_mutex_destroy(&s->lock);
	free(s->vmas);
	free(s);
}

/* ---- layout ---- */

struct vma_table {
	const struct sink_vma *v;
	size_t n;
};

static const struct sink_vma *vma_in(const struct vma_table *l, uint64_t addr)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (l->v[mid].end > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo < l->n && l->v[lo].start <= addr ? &l->v[lo] : NULL;
}

static const struct sink_vma *sink_vma_at(const struct page_sink *s, uint64_t addr)
{
	return vma_in(&(struct vma_table){ s->vmas, s->n_vmas }, addr);
}

/* By the engine's thread. @calls none: ioctl */
static bool register_range(const struct page_sink *s, const struct vma *v)
{
	struct uffdio_register r = {
		.range = { v->start, v->end - v->start },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	return s->uffd >= 0 && ioctl(s->uffd, UFFDIO_REGISTER, &r) == 0;
}

/* True when `before` has the same mapping registered. Should it have been made anew meanwhile, its
 * pages go the slower way. */
static bool registered_before(const struct vma_table *before, const struct vma *v)
{
	const struct sink_vma *old = vma_in(before, v->start);

	return old && old->start == v->start && old->end == v->end && old->place == PLACE_COPY;
}

/* What is not there yet could not be made by plain writes, or by faults, while it is registered. */
static void unregister_range(const struct page_sink *s, const struct vma *v)
{
	struct uffdio_range r = { v->start, v->end - v->start };

	if (s->uffd >= 0)
		(void)ioctl(s->uffd, UFFDIO_UNREGISTER, &r);
}

/* Memory that is not writable (yet, or now) is registered too: the kernel joins mappings whose
 * pages were made while they differed in their protection alone, and in nothing of ours. */
static enum place place_of(
	const struct page_sink *s, const struct vma *v, const struct vma_table *before)
{
	if (v->shared || !dirty_vma_tracked(v))
		return PLACE_NONE;
	/* What the process writes by itself is never registered. */
	if (s->splices)
		return v->prot & PROT_WRITE ? PLACE_SELF : PLACE_WRITE;
	/* Huge pages come by faults only; UFFDIO_COPY makes small ones. */
	if (v->inode || (v->flags & VMF_HUGEPAGE)) {
		unregister_range(s, v);
		return PLACE_WRITE;
	}
	return registered_before(before, v) || register_range(s, v) ? PLACE_COPY : PLACE_WRITE;
}

struct err *page_sink_layout(struct page_sink *s, const struct vma_list *maps)
{
	const struct vma_table before = { s->vmas, s->n_vmas };
	autofree struct sink_vma *old unused_arg = s->vmas; /* freed when `before` is not needed */
	uint64_t behind = 0;

	s->vmas = xcalloc(MAX(maps->n, (size_t)1), sizeof(*s->vmas));
	s->n_vmas = 0;
	for (size_t i = 0; i < maps->n; i++) {
		const struct vma *v = &maps->v[i];

		if (v->start < behind || v->end <= v->start)
			return err_new(
				ERR_BUG, "mappings are not in order at %#jx", (uintmax_t)v->start);
		pagebits_clear(&s->put, behind, v->start);
		behind = v->end;
		s->vmas[s->n_vmas++] = (struct sink_vma){
			.start = v->start,
			.end = v->end,
			.place = place_of(s, v, &before),
			.forced = !(v->prot & PROT_WRITE),
			.file = v->inode != 0,
			.huge = v->flags & VMF_HUGEPAGE,
		};
	}
	pagebits_clear(&s->put, behind, UINT64_MAX);
	pagebits_trim(&s->put);
	return NULL;
}

/* ---- checks ---- */

/* @calls pages: newfstatat[3&AT_EMPTY_PATH=AT_EMPTY_PATH] */
static struct err *shared_bytes(struct target *to)
{
	struct stat st;

	if (fstat(to->fd, &st) < 0)
		return err_errno(errno, "look at shared memory");
	to->bytes = (uint64_t)st.st_size;
	return NULL;
}

static struct err *find_target(struct page_sink *s, uint64_t space, struct target *ret)
{
	*ret = (struct target){ .space = space, .fd = -1, .private = space == s->space };
	if (ret->private)
		return NULL;
	ret->fd = s->space_fd ? s->space_fd(s->arg, space) : -1;
	if (ret->fd < 0)
		return err_new(ERR_PEER, "pages for unknown shared memory %ju", (uintmax_t)space);
	return shared_bytes(ret);
}

static struct err *check_run(
	const struct page_sink *s, const struct target *to, const struct run *r)
{
	uint64_t end = r->start + r->pages * PAGE_BYTES; /* run_decode: no overflow */
	const struct sink_vma *v;
	bool fits;

	if (to->private) {
		v = sink_vma_at(s, r->start);
		fits = v && v->place != PLACE_NONE && end <= v->end;
	} else {
		/* It may have grown since the peer told its size. */
		fits = end <= SPACE_BYTES_MAX;
	}
	if (fits)
		return NULL;
	return err_new(ERR_PEER, "pages %#jx-%#jx lie outside of what was announced",
		(uintmax_t)r->start, (uintmax_t)end);
}

/* Another thread may have made it larger still meanwhile. @calls pages: ftruncate */
static struct err *grow_to(struct target *to, uint64_t end)
{
	TRY(shared_bytes(to));
	if (end <= PAGE_UP(to->bytes))
		return NULL;
	if (ftruncate(to->fd, (off_t)end) < 0)
		return err_errno(errno, "resize shared memory %ju", (uintmax_t)to->space);
	to->bytes = end;
	return NULL;
}

/* Its last size comes with the object itself, when the process stands still. */
static struct err *grow_shared(struct page_sink *s, struct target *to, const struct run *r)
{
	uint64_t end = r->start + r->pages * PAGE_BYTES;
	struct err *e;

	if (to->private || r->kind != RUN_DATA || end <= PAGE_UP(to->bytes))
		return NULL;
	pthread_mutex_lock(&s->lock);
	e = grow_to(to, end);
	pthread_mutex_unlock(&s->lock);
	return e;
}

/* What takes memory, at most: zeros do where a file would show through. */
static struct err *count_bytes(struct page_sink *s, const struct target *to, const struct run *r)
{
	uint64_t bytes = r->pages * PAGE_BYTES;
	bool zeros = r->kind == RUN_ZERO && to->private && sink_vma_at(s, r->start)->file;

	if (r->kind != RUN_DATA && !zeros)
		return NULL;
	if (!s->round_bytes_max ||
		atomic_fetch_add(&s->round_bytes, bytes) + bytes <= s->round_bytes_max)
		return NULL;
	return err_new(ERR_LIMIT, "more than %ju MiB of memory came in one round",
		(uintmax_t)(s->round_bytes_max >> 20));
}

static struct err *decode(const struct placer *p, size_t i, struct run *r)
{
	return run_decode(p->table + RUN_HEAD_BYTES + i * RUN_BYTES, r);
}

/* The whole table, before anything is done; returns the number of runs. */
static struct err *read_table(struct placer *p, const struct frame_head *head, struct channel *ch,
	struct target *to, size_t *ret)
{
	uint64_t data = 0, limit = MIN((uint64_t)head->length, (uint64_t)PAGES_FRAME_BYTES);
	uint32_t n, zero;

	if (head->type != FRAME_PAGES || head->length < RUN_HEAD_BYTES)
		return err_new(ERR_PEER, "a PAGES frame of %u bytes", head->length);
	TRY(channel_read(ch, p->table, RUN_HEAD_BYTES));
	memcpy(&n, p->table, sizeof(n));
	memcpy(&zero, p->table + sizeof(n), sizeof(zero));
	n = le32toh(n);
	if (zero || n > PAGES_RUNS_MAX || head->length < RUN_HEAD_BYTES + n * RUN_BYTES)
		return err_new(ERR_PEER, "a run table of %u runs in %u bytes", n, head->length);
	TRY(channel_read(ch, p->table + RUN_HEAD_BYTES, n * RUN_BYTES));
	for (size_t i = 0; i < n; i++) {
		struct run r;

		TRY(decode(p, i, &r));
		TRY(check_run(p->s, to, &r));
		TRY(count_bytes(p->s, to, &r));
		if (r.kind != RUN_DATA)
			continue;
		if (r.pages > (limit - data) / PAGE_BYTES)
			return err_new(ERR_PEER, "more page data announced than a frame holds");
		data += r.pages * PAGE_BYTES;
		TRY(grow_shared(p->s, to, &r));
	}
	if (head->length != RUN_HEAD_BYTES + n * RUN_BYTES + data)
		return err_new(ERR_PEER, "a PAGES frame of %u bytes with %ju bytes of data",
			head->length, (uintmax_t)data);
	*ret = n;
	return NULL;
}

/* ---- placing ---- */

struct placing {
	struct placer *by;
	const struct target *to;
	const struct sink_vma *v; /* private memory */
};
typedef struct err *(*place_fn)(const struct placing *p, struct range where, const uint8_t *data);

/* The pages of a run, piece by piece as they come. */
static struct err *place_run(
	const struct placing *p, struct channel *ch, const struct run *r, place_fn fn)
{
	uint64_t at = r->start, end = r->start + r->pages * PAGE_BYTES;

	while (at < end) {
		uint64_t n = MIN(end - at, (uint64_t)PIECE_BYTES);
		const uint8_t *data;

		TRY(channel_borrow(ch, p->by->data, n, &data));
		p->by->s->copied += n;
		TRY(fn(p, (struct range){ at, at + n }, data));
		at += n;
	}
	return NULL;
}

/* @calls pages: pwrite64 */
static struct err *put_shared(const struct placing *p, struct range r, const uint8_t *data)
{
	uint64_t end = MIN(r.end, p->to->bytes), at = r.start;

	while (at < end) {
		ssize_t w = pwrite(p->to->fd, data + (at - r.start), end - at, (off_t)at);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return err_errno(w ? errno : EIO, "write shared memory %ju",
				(uintmax_t)p->to->space);
		at += (uint64_t)w;
	}
	return NULL;
}

/* @calls pages: fallocate */
static struct err *drop_shared(const struct target *to, const struct run *r)
{
	if (fallocate(to->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)r->start,
		    (off_t)(r->pages * PAGE_BYTES)) < 0)
		return err_errno(errno, "drop pages of shared memory %ju", (uintmax_t)to->space);
	return NULL;
}

static struct err *put_private(const struct placing *p, struct range r, const uint8_t *data)
{
	return sink_put(p->by, p->v, r, data);
}

static bool splices(const struct placer *p, const struct channel *ch)
{
	return p->splice.pipes && channel_splices_in(ch);
}

static struct err *place_shared(
	struct placer *by, const struct target *to, struct channel *ch, const struct run *r)
{
	struct placing p = { .by = by, .to = to };
	struct range where = { r->start, r->start + r->pages * PAGE_BYTES };

	if (r->kind != RUN_DATA)
		return drop_shared(to, r);
	if (splices(by, ch))
		return splice_to_file(by, ch, to, where);
	return place_run(&p, ch, r, put_shared);
}

/* The order of runs counts, where they meet, and that of the stream's bytes always. */
static struct err *place_private(
	struct placer *by, const struct target *to, struct channel *ch, const struct run *r)
{
	struct placing p = { .by = by, .to = to, .v = sink_vma_at(by->s, r->start) };
	struct range where = { r->start, r->start + r->pages * PAGE_BYTES };

	if (r->kind == RUN_DATA && p.v->place == PLACE_SELF && splices(by, ch))
		return splice_add(by, p.v, where, ch);
	if (r->kind == RUN_DATA || splice_waits(by, where))
		TRY(splice_flush(by, ch));
	if (r->kind != RUN_DATA)
		return sink_drop(by, p.v, where, r->kind == RUN_ZERO);
	TRY(splice_settle(by)); /* which may need the buffer, too */
	TRY(sink_prepare(by, p.v, where));
	return place_run(&p, ch, r, put_private);
}

struct err *placer_frame(struct placer *p, const struct frame_head *head, struct channel *ch)
{
	struct target to;
	size_t n = 0;

	TRY(find_target(p->s, head->arg, &to));
	TRY(read_table(p, head, ch, &to, &n));
	for (size_t i = 0; i < n; i++) {
		struct run r;

		TRY(decode(p, i, &r));
		TRY(to.private ? place_private(p, &to, ch, &r) : place_shared(p, &to, ch, &r));
	}
	TRY(splice_flush(p, ch));
	return sink_flush_drops(p);
}

struct err *page_sink_frame(struct page_sink *s, const struct frame_head *head, struct channel *ch)
{
	return placer_frame(&s->own, head, ch);
}
