// SPDX-License-Identifier: Apache-2.0
/* Lots of shared memory, which is mapped twice, and those that grow. See verifier.h. */
#include "verifier.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/* ---- objects ---- */

/* Maps pages of the object once more: from its descriptor, or, without one, from its first mapping
 * (mremap of nothing maps shared memory again). */
static char *map_again(struct lot *l, uint32_t from, uint32_t n, char *at)
{
	int flags = MAP_SHARED | (at ? MAP_FIXED_NOREPLACE : 0);
	void *p;

	if (l->fd >= 0)
		return mmap(at, n * PAGE, RW, flags, l->fd, (off_t)(from * PAGE));
	if (!at)
		return mremap(page_at(l, from), 0, n * PAGE, MREMAP_MAYMOVE);
	p = mmap(at, n * PAGE, PROT_NONE, ANON_FLAGS | MAP_FIXED_NOREPLACE, -1, 0);
	if (p == MAP_FAILED)
		return p;
	return mremap(page_at(l, from), 0, n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at);
}

static char *some_view(struct lot *l)
{
	return l->view[1] && l->view_prot == RW && dice(l->owner, 2) ? l->view[1] : l->view[0];
}

static void do_object_touch(struct lot *l, uint32_t from, uint32_t n)
{
	for (uint32_t i = from; i < from + n; i++)
		page_write(l, i, some_view(l) + i * PAGE, false);
}

static void do_object_fill(struct lot *l, uint32_t from, uint32_t n)
{
	for (uint32_t i = from; i < from + n; i++)
		page_write(l, i, some_view(l) + i * PAGE, true);
}

/* The page is made elsewhere and written by the kernel. */
static void do_object_write(struct lot *l, uint32_t from, uint32_t n)
{
	static __thread char buffer[PAGE] __attribute__((aligned(8)));

	for (uint32_t i = from; l->fd >= 0 && i < from + n; i++) {
		page_write(l, i, buffer, true);
		MUST(pwrite(l->fd, buffer, PAGE, (off_t)(i * PAGE)) == (ssize_t)PAGE);
	}
}

static void lost(struct lot *l, uint32_t from, uint32_t n)
{
	for (uint32_t i = from; i < from + n; i++)
		page_becomes(l, i, ZERO, 0);
}

/* Shorter for a moment, in which nobody looks behind the end. */
static void do_object_shrink(struct lot *l, uint32_t from, uint32_t n)
{
	(void)n;
	if (l->fd < 0)
		return;
	from = l->pages - from / 8 - 1;
	MUST(ftruncate(l->fd, (off_t)(from * PAGE)) == 0);
	if (dice(l->owner, 2))
		usleep(500);
	MUST(ftruncate(l->fd, (off_t)(l->pages * PAGE)) == 0);
	lost(l, from, l->pages - from);
}

static void do_object_punch(struct lot *l, uint32_t from, uint32_t n)
{
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	if (l->fd < 0) {
		MUST(madvise(page_at(l, from), n * PAGE, MADV_REMOVE) == 0);
	} else {
		MUST(fallocate(l->fd, mode, (off_t)(from * PAGE), (off_t)(n * PAGE)) == 0);
	}
	lost(l, from, n);
}

/* Only the mapping forgets; the object does not. */
static void do_object_give_back(struct lot *l, uint32_t from, uint32_t n)
{
	MUST(madvise(some_view(l) + from * PAGE, n * PAGE, MADV_DONTNEED) == 0);
}

/* The last writes through a mapping that goes. */
static void do_object_drop(struct lot *l, uint32_t from, uint32_t n)
{
	if (!l->view[1])
		return;
	for (uint32_t i = from; l->view_prot == RW && i < from + n; i++)
		page_write(l, i, l->view[1] + i * PAGE, false);
	MUST(munmap(l->view[1], l->pages * PAGE) == 0);
	l->view[1] = NULL;
}

static void do_object_map(struct lot *l, uint32_t from, uint32_t n)
{
	char *p;

	if (l->view[1])
		return;
	p = map_again(l, 0, l->pages, l->second);
	if (p == MAP_FAILED) {
		MUST(errno == EEXIST); /* somebody else is there */
		return;
	}
	l->view[1] = p;
	l->view_prot = RW;
	for (uint32_t i = from; i < from + n; i++)
		page_write(l, i, p + i * PAGE, false);
}

/* A part of the second mapping goes after it was written, and comes back. */
static void do_object_tear(struct lot *l, uint32_t from, uint32_t n)
{
	char *at = l->view[1] + from * PAGE;

	if (!l->view[1] || l->view_prot != RW)
		return;
	for (uint32_t i = from; i < from + n; i++)
		page_write(l, i, l->view[1] + i * PAGE, false);
	MUST(munmap(at, n * PAGE) == 0);
	if (map_again(l, from, n, at) == at)
		return;
	MUST(errno == EEXIST);
	if (from)
		MUST(munmap(l->view[1], from * PAGE) == 0);
	if (from + n < l->pages)
		MUST(munmap(at + n * PAGE, (l->pages - from - n) * PAGE) == 0);
	l->view[1] = NULL;
}

/* A mapping that is there for a few writes only. */
static void do_object_glimpse(struct lot *l, uint32_t from, uint32_t n)
{
	char *p = map_again(l, from, n, NULL);

	MUST(p != MAP_FAILED);
	for (uint32_t i = 0; i < n; i++)
		page_write(l, from + i, p + i * PAGE, dice(l->owner, 2));
	MUST(munmap(p, n * PAGE) == 0);
}

static void do_object_protect(struct lot *l, uint32_t from, uint32_t n)
{
	int prot = l->view_prot == RW ? PROT_READ : RW;

	(void)from;
	(void)n;
	if (!l->view[1])
		return;
	MUST(mprotect(l->view[1], l->pages * PAGE, prot) == 0);
	l->view_prot = prot;
}

const struct deed object_deeds[] = {
	{ "touch", do_object_touch, 20, 24 },
	{ "fill", do_object_fill, 10, 24 },
	{ "write", do_object_write, 8, 24 },
	{ "shrink", do_object_shrink, 1, 1 },
	{ "punch", do_object_punch, 3, 24 },
	{ "give back", do_object_give_back, 4, 24 },
	{ "drop mapping", do_object_drop, 1, 8 },
	{ "map again", do_object_map, 3, 8 },
	{ "tear", do_object_tear, 2, 24 },
	{ "glimpse", do_object_glimpse, 3, 8 },
	{ "protect", do_object_protect, 2, 1 },
};
const size_t n_object_deeds = sizeof(object_deeds) / sizeof(object_deeds[0]);

void lot_object(struct lot *l, int fd, bool keep)
{
	int flags = MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0);
	size_t bytes = l->pages * PAGE;

	if (fd >= 0)
		MUST(ftruncate(fd, (off_t)bytes) == 0);
	l->view[0] = mmap(NULL, bytes, RW, flags, fd, 0);
	MUST(l->view[0] != MAP_FAILED);
	l->fd = fd;
	l->view[1] = l->second = map_again(l, 0, l->pages, NULL);
	MUST(l->view[1] != MAP_FAILED);
	l->view_prot = RW;
	l->n = l->pages;
	if (fd >= 0 && !keep) {
		close(fd);
		l->fd = -1;
	}
	for (uint32_t i = 0; i < l->pages; i++) {
		model_set(l, i, (struct page){ .what = SHARED, .prot = RW });
		if (i % 4)
			page_write(l, i, page_at(l, i), true);
	}
}

/* ---- memory that grows, shrinks and moves as a whole ---- */

static void fresh(struct lot *l, uint32_t from, uint32_t n)
{
	for (uint32_t i = from; i < from + n; i++)
		model_set(l, i, (struct page){ .what = ANON, .prot = RW });
}

static void gone(struct lot *l, uint32_t from, uint32_t n)
{
	for (uint32_t i = from; i < from + n; i++)
		model_set(l, i, (struct page){ .what = GONE });
}

static bool reserve(char *at, uint32_t n)
{
	return !n || mmap(at, n * PAGE, PROT_NONE, ANON_FLAGS | MAP_FIXED_NOREPLACE, -1, 0) == at;
}

static char *other_half(const struct lot *l)
{
	return l->view[0] == l->second ? l->second + l->pages * PAGE : l->second;
}

/* Nobody may grow into what somebody else has taken meanwhile. */
static bool have_tail(struct lot *l)
{
	if (!l->tail)
		l->tail = reserve(page_at(l, l->n), l->pages - l->n);
	return l->tail;
}

static bool have_room(struct lot *l)
{
	if (!l->room)
		l->room = reserve(other_half(l), l->pages);
	return l->room;
}

static void do_grow(struct lot *l, uint32_t from, uint32_t n)
{
	(void)from;
	if (n > l->pages - l->n || !have_tail(l))
		return;
	MUST(munmap(page_at(l, l->n), n * PAGE) == 0);
	if (mremap(l->view[0], l->n * PAGE, (l->n + n) * PAGE, 0) == MAP_FAILED) {
		MUST(errno == ENOMEM || errno == EFAULT); /* see move_all */
		l->tail = reserve(page_at(l, l->n), n);
		if (!l->tail && n < l->pages - l->n)
			MUST(munmap(page_at(l, l->n + n), (l->pages - l->n - n) * PAGE) == 0);
		return;
	}
	fresh(l, l->n, n);
	l->n += n;
	do_touch(l, l->n - n, n / 2);
}

static void do_shrink(struct lot *l, uint32_t from, uint32_t n)
{
	bool had = have_tail(l);

	(void)from;
	if (n >= l->n / 2)
		return;
	MUST(mremap(l->view[0], l->n * PAGE, (l->n - n) * PAGE, 0) == l->view[0]);
	l->n -= n;
	gone(l, l->n, n);
	if (had && !reserve(page_at(l, l->n), n)) {
		if (l->n + n < l->pages)
			MUST(munmap(page_at(l, l->n + n), (l->pages - l->n - n) * PAGE) == 0);
		l->tail = false;
	} else if (!had) {
		l->tail = false;
	}
}

/* Whoever watches may have split it for a moment, and then a part has moved (Linux 6.17): back. The
 * other half is gone, or not. */
static void move_back(struct lot *l, char *to)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (!is_mapped(page_at(l, i)))
			MUST(mremap(to + i * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
				     page_at(l, i)) == page_at(l, i));
	MUST(munmap(to, l->pages * PAGE) == 0);
	l->room = reserve(to, l->pages);
}

static void move_all(struct lot *l, uint32_t n, int flags)
{
	char *to = other_half(l), *from = l->view[0];
	uint32_t old = l->n;

	if (!have_room(l) || !have_tail(l))
		return;
	if (mremap(from, old * PAGE, n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | flags, to) != to) {
		MUST(errno == EFAULT);
		move_back(l, to);
		return;
	}
	if (n > old)
		fresh(l, old, n - old);
	l->n = n;
	l->view[0] = to;
	l->tail = true;
	if (old < l->pages)
		MUST(munmap(from + old * PAGE, (l->pages - old) * PAGE) == 0);
	/* what stayed there must have been left empty; looking at it makes it zero pages */
	if (flags & MREMAP_DONTUNMAP) {
		for (uint32_t i = 0; i < old; i += 16)
			MUST(*(volatile uint64_t *)(void *)(from + i * PAGE) == 0);
		MUST(munmap(from, old * PAGE) == 0);
	}
	l->room = reserve(from, l->pages);
}

static void do_move_all(struct lot *l, uint32_t from, uint32_t n)
{
	(void)from;
	if (n <= l->pages - l->n)
		move_all(l, dice(l->owner, 2) ? l->n + n : l->n, 0);
}

static void do_leave_behind(struct lot *l, uint32_t from, uint32_t n)
{
	(void)from;
	(void)n;
	move_all(l, l->n, MREMAP_DONTUNMAP);
}

const struct deed grown_deeds[] = {
	{ "touch", do_touch, 20, 24 },
	{ "fill", do_fill, 8, 24 },
	{ "give back", do_give_back, 3, 24 },
	{ "grow", do_grow, 8, 32 },
	{ "shrink", do_shrink, 8, 32 },
	{ "move", do_move_all, 3, 32 },
	{ "leave behind", do_leave_behind, 2, 1 },
};
const size_t n_grown_deeds = sizeof(grown_deeds) / sizeof(grown_deeds[0]);

void lot_grown(struct lot *l)
{
	l->second = mmap(NULL, 2 * l->pages * PAGE, PROT_NONE, ANON_FLAGS, -1, 0);
	MUST(l->second != MAP_FAILED);
	l->view[0] = l->second;
	l->n = l->pages / 2;
	/* mapped anew: a mapping that was protected does not join its neighbour */
	MUST(mmap(l->view[0], l->n * PAGE, RW, ANON_FLAGS | MAP_FIXED, -1, 0) == l->view[0]);
	l->tail = l->room = true;
	fresh(l, 0, l->n);
	gone(l, l->n, l->pages - l->n);
	do_fill(l, 0, l->n - l->n / 4);
}

/* ---- the heap ---- */

static char *brk_to(char *at)
{
	return (char *)syscall(SYS_brk, at);
}

/* The C library may have made it larger: then it is left alone. */
static bool heap_ends_here(struct lot *l)
{
	return brk_to(NULL) == page_at(l, l->n);
}

static void do_brk_up(struct lot *l, uint32_t from, uint32_t n)
{
	(void)from;
	if (n > l->pages - l->n || !heap_ends_here(l))
		return;
	if (brk_to(page_at(l, l->n + n)) != page_at(l, l->n + n))
		return;
	fresh(l, l->n, n);
	l->n += n;
	do_touch(l, l->n - n, n - n / 4);
}

static void do_brk_down(struct lot *l, uint32_t from, uint32_t n)
{
	(void)from;
	if (n >= l->n || !heap_ends_here(l))
		return;
	MUST(brk_to(page_at(l, l->n - n)) == page_at(l, l->n - n));
	l->n -= n;
	gone(l, l->n, n);
}

const struct deed heap_deeds[] = {
	{ "touch", do_touch, 20, 24 },
	{ "fill", do_fill, 8, 24 },
	{ "give back", do_give_back, 3, 24 },
	{ "brk up", do_brk_up, 8, 32 },
	{ "brk down", do_brk_down, 8, 32 },
};
const size_t n_heap_deeds = sizeof(heap_deeds) / sizeof(heap_deeds[0]);

void lot_heap(struct lot *l)
{
	char *end = brk_to(NULL);
	char *start = end + (PAGE - (uintptr_t)end % PAGE) % PAGE;

	l->view[0] = start;
	l->n = l->pages / 2;
	MUST(brk_to(page_at(l, l->n)) == page_at(l, l->n));
	fresh(l, 0, l->n);
	gone(l, l->n, l->pages - l->n);
	do_fill(l, 0, l->n - l->n / 4);
}
