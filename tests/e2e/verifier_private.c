// SPDX-License-Identifier: Apache-2.0
/* Lots of private memory: what is done to them. See verifier.h. */
#include "verifier.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#define MADV_GUARD_REMOVE  103
#endif

#define HUGE_BYTES (2UL << 20)

/* ---- ranges ---- */

typedef bool (*page_test)(const struct page *p);

static bool is_gone(const struct page *p)
{
	return p->what == GONE;
}

static bool is_there(const struct page *p)
{
	return p->what != GONE;
}

static bool is_anon(const struct page *p)
{
	return p->what == ANON;
}

static bool is_open(const struct page *p)
{
	return p->what != GONE && p->prot == RW && !(p->flags & GUARDED);
}

static bool all_are(struct lot *l, uint32_t from, uint32_t n, page_test test)
{
	for (uint32_t i = from; i < from + n; i++) {
		struct page p = model_get(l, i);

		if (!test(&p))
			return false;
	}
	return true;
}

/* The length of the run of pages from `from` that are all so, or all not so. */
static uint32_t run_of(struct lot *l, uint32_t from, uint32_t end, page_test test, bool *is)
{
	struct page p = model_get(l, from);
	uint32_t i = from + 1;

	*is = test(&p);
	for (; i < end; i++) {
		p = model_get(l, i);
		if (test(&p) != *is)
			break;
	}
	return i - from;
}

static void become(struct lot *l, uint32_t i, enum what what, uint32_t mapped)
{
	struct page p = { .what = (uint8_t)what, .prot = what == GONE ? 0 : RW, .mapped = mapped };

	if (what == COW) {
		p.content = OF_FILE;
		p.of_file = mapped;
	}
	model_set(l, i, p);
}

/* ---- deeds ---- */

static void write_range(struct lot *l, uint32_t from, uint32_t n, bool all)
{
	for (uint32_t i = from; i < from + n; i++) {
		struct page p = model_get(l, i);

		if (is_open(&p))
			page_write(l, i, page_at(l, i), all);
	}
}

void do_touch(struct lot *l, uint32_t from, uint32_t n)
{
	write_range(l, from, n, false);
}

void do_fill(struct lot *l, uint32_t from, uint32_t n)
{
	write_range(l, from, n, true);
}

static void do_unmap(struct lot *l, uint32_t from, uint32_t n)
{
	for (uint32_t i = from, run; i < from + n; i += run) {
		bool there;

		run = run_of(l, i, from + n, is_there, &there);
		if (!there)
			continue;
		MUST(munmap(page_at(l, i), run * PAGE) == 0);
		for (uint32_t k = i; k < i + run; k++)
			become(l, k, GONE, 0);
	}
}

/* Where nothing is mapped, somebody else may be by now: then it is left to him. */
static void map_run(struct lot *l, uint32_t from, uint32_t n, bool gone, uint32_t file_page)
{
	bool cow = file_page != UINT32_MAX;
	int flags = (cow ? MAP_PRIVATE : ANON_FLAGS) | (gone ? MAP_FIXED_NOREPLACE : MAP_FIXED);
	void *p = mmap(page_at(l, from), n * PAGE, RW, flags, cow ? l->owner->file : -1,
		cow ? (off_t)(file_page * PAGE) : 0);

	if (p == MAP_FAILED && gone && errno == EEXIST)
		return;
	MUST(p == page_at(l, from));
	for (uint32_t i = 0; i < n; i++)
		become(l, from + i, cow ? COW : ANON, cow ? file_page + i : 0);
}

static void map_range(struct lot *l, uint32_t from, uint32_t n, uint32_t file_page)
{
	for (uint32_t i = from, run; i < from + n; i += run) {
		bool gone;

		run = run_of(l, i, from + n, is_gone, &gone);
		map_run(l, i, run, gone,
			file_page == UINT32_MAX ? UINT32_MAX : file_page + (i - from));
	}
}

static void do_map(struct lot *l, uint32_t from, uint32_t n)
{
	map_range(l, from, n, UINT32_MAX);
}

static void do_map_file(struct lot *l, uint32_t from, uint32_t n)
{
	if (n <= file_pages)
		map_range(l, from, n, (uint32_t)dice(l->owner, file_pages - n + 1));
}

void do_give_back(struct lot *l, uint32_t from, uint32_t n)
{
	if (!all_are(l, from, n, is_there))
		return;
	MUST(madvise(page_at(l, from), n * PAGE, MADV_DONTNEED) == 0);
	for (uint32_t i = from; i < from + n; i++) {
		struct page p = model_get(l, i);

		page_becomes(l, i, p.what == COW ? OF_FILE : ZERO, p.mapped);
	}
}

static void do_free(struct lot *l, uint32_t from, uint32_t n)
{
	if (!all_are(l, from, n, is_anon))
		return;
	MUST(madvise(page_at(l, from), n * PAGE, MADV_FREE) == 0);
	for (uint32_t i = from; i < from + n; i++) {
		struct page p = model_get(l, i);

		p.flags |= FREED;
		model_set(l, i, p);
	}
}

static void do_protect(struct lot *l, uint32_t from, uint32_t n)
{
	static const int prots[] = { PROT_NONE, PROT_READ, RW, RW };
	int prot = prots[dice(l->owner, 4)];

	if (!all_are(l, from, n, is_there))
		return;
	MUST(mprotect(page_at(l, from), n * PAGE, prot) == 0);
	for (uint32_t i = from; i < from + n; i++) {
		struct page p = model_get(l, i);

		p.prot = (uint8_t)prot;
		model_set(l, i, p);
	}
}

static void do_guard(struct lot *l, uint32_t from, uint32_t n)
{
	if (!all_are(l, from, n, is_anon))
		return;
	if (madvise(page_at(l, from), n * PAGE, MADV_GUARD_INSTALL) < 0) {
		MUST(errno == EINVAL); /* before 6.13 */
		return;
	}
	for (uint32_t i = from; i < from + n; i++) {
		struct page p = model_get(l, i);

		page_becomes(l, i, ZERO, 0);
		p = model_get(l, i);
		p.flags = GUARDED;
		model_set(l, i, p);
	}
}

static void do_unguard(struct lot *l, uint32_t from, uint32_t n)
{
	if (!all_are(l, from, n, is_anon))
		return;
	if (madvise(page_at(l, from), n * PAGE, MADV_GUARD_REMOVE) < 0) {
		MUST(errno == EINVAL);
		return;
	}
	for (uint32_t i = from; i < from + n; i++) {
		struct page p = model_get(l, i);

		p.flags &= (uint8_t)~GUARDED;
		model_set(l, i, p);
	}
}

/* ---- reading from the file: the kernel writes, or a device does ---- */

static void read_pages(struct lot *l, uint32_t from, uint32_t n, int fd)
{
	uint32_t first = (uint32_t)dice(l->owner, file_pages - n + 1);

	MUST(pread(fd, page_at(l, from), n * PAGE, (off_t)(first * PAGE)) == (ssize_t)(n * PAGE));
	for (uint32_t i = 0; i < n; i++)
		page_becomes(l, from + i, OF_FILE, first + i);
	l->owner->written += n;
}

static void do_read(struct lot *l, uint32_t from, uint32_t n)
{
	if (n <= file_pages && all_are(l, from, n, is_open))
		read_pages(l, from, n, l->owner->file);
}

static void do_read_direct(struct lot *l, uint32_t from, uint32_t n)
{
	if (l->owner->direct >= 0 && n <= file_pages && all_are(l, from, n, is_open))
		read_pages(l, from, n, l->owner->direct);
}

/* ---- mremap ---- */

bool is_mapped(const char *at)
{
	unsigned char there;

	return syscall(SYS_mincore, at, PAGE, &there) == 0;
}

/* What the destination of a move replaces must be ours. */
static bool own(struct lot *l, uint32_t from, uint32_t n)
{
	for (uint32_t i = from, run; i < from + n; i += run) {
		bool gone;

		run = run_of(l, i, from + n, is_gone, &gone);
		if (gone)
			map_run(l, i, run, true, UINT32_MAX);
	}
	return all_are(l, from, n, is_there);
}

/* It has moved a part: since Linux 6.17 mappings go one by one. */
static void moved_partly(struct lot *l, uint32_t from, uint32_t to, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct page p = model_get(l, from + i);

		if (!is_mapped(page_at(l, from + i))) {
			model_set(l, to + i, p);
			become(l, from + i, GONE, 0);
		} else if (!is_mapped(page_at(l, to + i))) {
			become(l, to + i, GONE, 0);
		}
	}
}

static void do_move(struct lot *l, uint32_t from, uint32_t n)
{
	uint32_t to = (uint32_t)dice(l->owner, l->pages - n + 1);
	struct page first = model_get(l, from);

	if (to < from + n && from < to + n)
		return;
	if (!all_are(l, from, n, is_anon) || !own(l, to, n))
		return;
	if (mremap(page_at(l, from), n * PAGE, n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		    page_at(l, to)) == MAP_FAILED) {
		/* several mappings: split by advice, protection or whoever watches */
		MUST(errno == EFAULT || errno == EINVAL);
		moved_partly(l, from, to, n);
		return;
	}
	(void)first;
	for (uint32_t i = 0; i < n; i++) {
		model_set(l, to + i, model_get(l, from + i));
		become(l, from + i, GONE, 0);
	}
}

static void do_advise(struct lot *l, uint32_t from, uint32_t n)
{
	static const int advice[] = { MADV_DONTFORK, MADV_DOFORK, MADV_DONTDUMP, MADV_DODUMP,
		MADV_HUGEPAGE, MADV_NOHUGEPAGE };

	if (all_are(l, from, n, is_there))
		MUST(madvise(page_at(l, from), n * PAGE, advice[dice(l->owner, 6)]) == 0);
}

/* Where huge pages are: a whole one at a time. */
static void do_give_huge_back(struct lot *l, uint32_t from, uint32_t n)
{
	uint32_t most = HUGE_BYTES / PAGE, at = from / most * most;

	(void)n;
	if (at + most <= l->pages)
		do_give_back(l, at, most);
}

const struct deed churn_deeds[] = {
	{ "touch", do_touch, 20, 24 },
	{ "fill", do_fill, 12, 24 },
	{ "unmap", do_unmap, 4, 24 },
	{ "map", do_map, 8, 24 },
	{ "map file", do_map_file, 6, 24 },
	{ "give back", do_give_back, 6, 24 },
	{ "free", do_free, 4, 24 },
	{ "protect", do_protect, 10, 24 },
	{ "guard", do_guard, 3, 8 },
	{ "unguard", do_unguard, 5, 48 },
	{ "read", do_read, 4, 24 },
	{ "read direct", do_read_direct, 4, 24 },
	{ "move", do_move, 8, 24 },
	{ "advise", do_advise, 2, 24 },
};
const size_t n_churn_deeds = sizeof(churn_deeds) / sizeof(churn_deeds[0]);

const struct deed bulk_deeds[] = {
	{ "touch", do_touch, 30, 64 },
	{ "fill", do_fill, 10, 64 },
	{ "give back", do_give_back, 3, 64 },
	{ "give huge page back", do_give_huge_back, 1, 1 },
	{ "free", do_free, 3, 64 },
	{ "map", do_map, 1, 256 },
	{ "read", do_read, 3, 64 },
	{ "read direct", do_read_direct, 10, 64 },
};
const size_t n_bulk_deeds = sizeof(bulk_deeds) / sizeof(bulk_deeds[0]);

/* Half of it is written, the rest only when somebody comes to it. */
void lot_private(struct lot *l, bool huge)
{
	size_t bytes = l->pages * PAGE;
	char *p = mmap(NULL, bytes + HUGE_BYTES, PROT_NONE, ANON_FLAGS, -1, 0);

	MUST(p != MAP_FAILED);
	p += HUGE_BYTES - (uintptr_t)p % HUGE_BYTES;
	MUST(mmap(p, bytes, RW, ANON_FLAGS | MAP_FIXED, -1, 0) == p);
	if (huge)
		MUST(madvise(p, bytes, MADV_HUGEPAGE) == 0);
	l->view[0] = p;
	l->n = l->pages;
	for (uint32_t i = 0; i < l->pages; i++)
		become(l, i, ANON, 0);
	for (uint32_t i = 0; i < l->pages; i++)
		if (i % 8 != 7)
			page_write(l, i, page_at(l, i), true);
}
