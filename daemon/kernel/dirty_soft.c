// SPDX-License-Identifier: Apache-2.0
/*
 * Soft-dirty bits: bit 55 of a pagemap word, cleared for the whole process by writing 4 to
 * clear_refs. Reading and clearing are two steps, and what is written between them is lost (half of
 * all pages in a test on 6.1 and 6.12), so both happen in begin(), while the target is held.
 *
 * Three things the bits do not tell:
 * - MADV_DONTNEED: the page is absent, or the zero page after a read, and "clean". So `had` keeps
 *   one bit per page that was there at the last look.
 * - that a mapping is new. The kernel sets the bit for all its pages, absent ones too, but the list
 *   of mappings that we are given may be older than the mapping: what reads as one may be an old
 *   one and a new one. So nobody is told to drop a whole mapping; `had` names the pages that have
 *   gone with the old one.
 * - mremap by whole page tables (2 MiB, aligned; 6.1 and 6.12): pages that come one by one are
 *   marked, those of a table are not. So of each such block the first and the last page are
 *   remembered, with their frames (`anchors`): if neither has stayed, all of the block counts as
 *   written.
 * Shared memory is not tracked: when its page is swapped out, the bit is lost with the page table's
 * entry.
 *
 * The zero page is known by its page frame, which needs CAP_SYS_ADMIN to be seen.
 */
#include "kernel/dirty_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "kernel/pagemap.h"

#define WORDS      8192
#define HUGE_BYTES (2u << 20)
#define HUGE_PAGES (HUGE_BYTES / PAGE_BYTES)

/* What begin() found in one VMA. */
struct found {
	uint64_t start, end;
	size_t first, n; /* in pending */
};

struct dirty {
	int pagemap_fd, clear_fd;
	struct zero_frames zero;
	void *huge_map; /* keeps the huge zero page where it is */
	struct pagebits had;
	struct anchors anchors;
	struct page_runs pending;
	struct found *found;
	size_t n_found, cap_found;
	uint64_t words[WORDS];
};

/* ---- pages ---- */

static bool is_zero(uint64_t word, const struct zero_frames *z)
{
	uint64_t frame = word & PAGEMAP_PFN_MASK;

	return (word & PAGEMAP_PRESENT) && frame &&
	       (frame == z->small || (z->huge && frame - z->huge < HUGE_PAGES));
}

static bool is_own(uint64_t word, const struct zero_frames *z)
{
	return (word & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) &&
	       !(word & (PAGEMAP_FILE | PAGEMAP_GUARD)) && !is_zero(word, z);
}

/* ---- page tables that were moved ---- */

static uint64_t frame_in(uint64_t word)
{
	return word & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED | PAGEMAP_PFN_MASK);
}

static void remember(struct anchor_list *l, uint64_t at, uint64_t word, bool first)
{
	const uint64_t frame = frame_in(word);

	if (!first) {
		l->v[l->n - 1].at[1] = at;
		l->v[l->n - 1].frame[1] = frame;
		return;
	}
	if (l->n == l->cap) {
		l->cap = l->cap * 2 + 64;
		l->v = xrealloc_array(l->v, l->cap, sizeof(*l->v));
	}
	l->v[l->n++] = (struct anchor){ { at, at }, { frame, frame } };
}

static bool stayed(const struct soft_look *look, const struct anchor *a)
{
	const uint64_t end = look->start + look->n * PAGE_BYTES;

	for (int i = 0; i < 2; i++)
		if (a->at[i] >= look->start && a->at[i] < end &&
			frame_in(look->words[(a->at[i] - look->start) / PAGE_BYTES]) == a->frame[i])
			return true;
	return false;
}

/* Whether the words, of one block, may be those of another page table than at the last look. */
static bool table_moved(const struct soft_look *look, struct anchors *a)
{
	const uint64_t end = look->start + look->n * PAGE_BYTES;

	/* Looks go upwards, so this one does as well. */
	while (a->next < a->before.n && a->before.v[a->next].at[1] < look->start)
		a->next++;
	for (size_t i = a->next; i < a->before.n && a->before.v[i].at[0] < end; i++)
		if (stayed(look, &a->before.v[i]))
			return false;
	return true;
}

void anchors_turn(struct anchors *a)
{
	struct anchor_list old = a->before;

	old.n = 0;
	*a = (struct anchors){ .before = a->now, .now = old };
}

void anchors_fini(struct anchors *a)
{
	free(a->before.v);
	free(a->now.v);
	*a = (struct anchors){ .next = 0 };
}

/* ---- the decision ---- */

static void decode_block(const struct soft_look *look, struct soft_state *s, struct run_sink *out)
{
	bool moved = table_moved(look, s->anchors), first = true;

	for (size_t i = 0; i < look->n; i++) {
		uint64_t word = look->words[i], at = look->start + i * PAGE_BYTES;
		bool own = is_own(word, s->zero), had_it = pagebits_test(s->had, at);
		struct range page = { at, at + PAGE_BYTES };

		if (own)
			remember(&s->anchors->now, at, word, first);
		first &= !own;
		if (own && (!had_it || moved || (word & PAGEMAP_SOFT_DIRTY)))
			run_sink_add(out, page, PAGE_DATA);
		if (!own && had_it)
			run_sink_add(out, page, PAGE_GONE);
		if (own && !had_it)
			pagebits_set(s->had, page.start, page.end);
		if (!own && had_it)
			pagebits_clear(s->had, page.start, page.end);
	}
}

void dirty_soft_decode(const struct soft_look *look, struct soft_state *s, struct run_sink *out)
{
	for (size_t done = 0; done < look->n;) {
		struct soft_look part = { look->words + done, look->n - done,
			look->start + done * PAGE_BYTES };

		part.n = MIN(part.n, (HUGE_BYTES - part.start % HUGE_BYTES) / PAGE_BYTES);
		decode_block(&part, s, out);
		done += part.n;
	}
}

/* ---- zero pages ---- */

/* The frame behind an address of ours that was only read. */
static struct err *frame_of(int fd, const volatile char *p, uint64_t *frame)
{
	uint64_t word;

	(void)*p;
	TRY(pagemap_words(fd, (uintptr_t)p, &word, 1));
	*frame = word & PAGEMAP_PRESENT ? word & PAGEMAP_PFN_MASK : 0;
	return NULL;
}

/* *map stays mapped as long as zero.huge must hold. */
static struct err *find_zero_frames(struct zero_frames *zero, void **map)
{
	char *p = mmap(NULL, 2 * HUGE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *aligned = (char *)(((uintptr_t)p + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
	char *second = aligned == p ? p + HUGE_BYTES : p;
	struct zero_frames found = { 0 };
	autoclose int fd = -1;
	autoerr struct err *e = NULL;

	if (p == MAP_FAILED)
		return err_new(ERR_LIMIT, "map memory to find the zero page");
	e = pagemap_open(getpid(), &fd);
	(void)madvise(second, PAGE_BYTES, MADV_NOHUGEPAGE);
	if (!e)
		e = frame_of(fd, second, &found.small);
	/* Where there is no huge zero page, this is the small one again. */
	if (!e && madvise(aligned, HUGE_BYTES, MADV_HUGEPAGE) == 0)
		e = frame_of(fd, aligned, &found.huge);
	if (!e && !found.small)
		e = err_new(ERR_DENIED, "pagemap hides page frames: CAP_SYS_ADMIN is missing");
	if (e) {
		munmap(p, 2 * HUGE_BYTES);
		return take(&e);
	}
	if (found.huge == found.small || found.huge % HUGE_PAGES)
		found.huge = 0;
	*zero = found;
	*map = p;
	return NULL;
}

/* ---- the interface ---- */

static void soft_close(struct dirty *d)
{
	/* Soft-dirty has nothing to disarm: a cleared bit costs one fault at the next write. */
	fd_closep(&d->pagemap_fd);
	fd_closep(&d->clear_fd);
	if (d->huge_map)
		munmap(d->huge_map, 2 * HUGE_BYTES);
	pagebits_fini(&d->had);
	anchors_fini(&d->anchors);
	page_runs_fini(&d->pending);
	free(d->found);
	free(d);
}

static void soft_closep(struct dirty **d)
{
	if (*d)
		soft_close(*d);
}

struct err *dirty_soft_open_pid(pid_t pid, struct dirty **ret)
{
	AUTO(soft_closep) struct dirty *d = xcalloc(1, sizeof(*d));
	char path[64];

	d->pagemap_fd = d->clear_fd = -1;
	d->had.shift = (unsigned)__builtin_ctzll(PAGE_BYTES);
	TRY(pagemap_open(pid, &d->pagemap_fd));
	snprintf(path, sizeof(path), "/proc/%d/clear_refs", pid);
	TRY(io_open(path, O_WRONLY, &d->clear_fd));
	TRY(find_zero_frames(&d->zero, &d->huge_map));
	*ret = take(&d);
	return NULL;
}

static struct err *soft_open(struct task *t, struct dirty **ret)
{
	return dirty_soft_open_pid(t->pid, ret);
}

static struct err *look_at(struct dirty *d, const struct vma *v)
{
	struct found f = { .start = v->start, .end = v->end, .first = d->pending.n };
	struct run_sink out = { &d->pending, d->pending.n, v->inode != 0 };
	struct soft_state s = { &d->zero, &d->had, &d->anchors };

	for (uint64_t at = v->start; at < v->end;) {
		/* Blocks as wholes. */
		uint64_t most = WORDS * PAGE_BYTES - at % HUGE_BYTES;
		size_t n = (size_t)(MIN(v->end - at, most) / PAGE_BYTES);
		struct soft_look look = { d->words, n, at };

		TRY(pagemap_words(d->pagemap_fd, at, d->words, n));
		dirty_soft_decode(&look, &s, &out);
		at += n * PAGE_BYTES;
	}
	f.n = d->pending.n - f.first;
	if (d->n_found == d->cap_found) {
		d->cap_found = d->cap_found * 2 + 64;
		d->found = xrealloc_array(d->found, d->cap_found, sizeof(*d->found));
	}
	d->found[d->n_found++] = f;
	return NULL;
}

static struct err *soft_begin(struct dirty *d, const struct vma_list *maps)
{
	d->n_found = d->pending.n = 0;
	anchors_turn(&d->anchors);
	for (size_t i = 0; i < maps->n; i++)
		if (dirty_vma_tracked(&maps->v[i]) && !maps->v[i].shared)
			TRY(look_at(d, &maps->v[i]));
	if (pwrite(d->clear_fd, "4", 1, 0) != 1)
		return err_new(ERR_KERNEL, "clear soft-dirty bits");
	pagebits_trim(&d->had);
	return NULL;
}

static const struct found *find(const struct dirty *d, uint64_t start)
{
	size_t lo = 0, hi = d->n_found;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (d->found[mid].start < start)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < d->n_found && d->found[lo].start == start ? &d->found[lo] : NULL;
}

static struct err *soft_collect(
	struct dirty *d, const struct vma *v, struct page_runs *runs, struct vma_dirty *info)
{
	struct run_sink out = { runs, runs->n, true };
	const struct found *f = find(d, v->start);

	info->fresh = false;
	if (!dirty_vma_tracked(v))
		return NULL;
	if (v->shared) {
		info->fresh = true;
		dirty_whole(v, &out);
		return NULL;
	}
	if (!f || f->end != v->end)
		return err_new(ERR_BUG, "mapping at %#jx was not in the list given to begin",
			(uintmax_t)v->start);
	for (size_t i = f->first; i < f->first + f->n; i++) {
		const struct page_run *r = &d->pending.v[i];

		run_sink_add(&out, (struct range){ r->start, r->start + r->pages * PAGE_BYTES },
			r->class);
	}
	return NULL;
}

static void soft_sends(
	struct dirty *d, unused_arg const struct vma *v, const struct page_runs *runs)
{
	for (size_t i = 0; i < runs->n; i++)
		if (runs->v[i].class == PAGE_DATA)
			pagebits_set(&d->had, runs->v[i].start,
				runs->v[i].start + runs->v[i].pages * PAGE_BYTES);
}

/* ---- probe ---- */

static bool sees_write(struct dirty *d, char *p, bool write)
{
	struct vma v = { .start = (uintptr_t)p, .end = (uintptr_t)p + 2 * PAGE_BYTES, .path = "" };
	AUTO(page_runs_fini) struct page_runs runs = { 0 };
	struct vma_dirty info;
	autoerr struct err *e = NULL;

	if (write)
		((volatile char *)p)[0]++;
	e = soft_begin(d, &(struct vma_list){ &v, 1 });
	if (!e)
		e = soft_collect(d, &v, &runs, &info);
	return !e && (runs.n == 1) == write;
}

static bool soft_probe(void)
{
	char *p = mmap(
		NULL, 2 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	AUTO(soft_closep) struct dirty *d = NULL;
	autoerr struct err *e = dirty_soft_open_pid(getpid(), &d);
	bool works;

	if (p == MAP_FAILED)
		return false;
	p[PAGE_BYTES] = 1;
	works = !e && sees_write(d, p, true) && sees_write(d, p, false) && sees_write(d, p, true) &&
		sees_write(d, p, false);
	munmap(p, 2 * PAGE_BYTES);
	return works;
}

const struct dirty_ops dirty_soft = {
	.name = "soft",
	.probe = soft_probe,
	.collect_held = true,
	.open = soft_open,
	.begin = soft_begin,
	.collect = soft_collect,
	.sends = soft_sends,
	.close = soft_close,
};
