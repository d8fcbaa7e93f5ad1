/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/PID/pagemap: the PAGEMAP_SCAN call (Linux 6.7) and the plain words. The definitions are
 * ours because headers of Linux 6.1 do not have them.
 *
 * "Own" below is a page with contents of the process's own: present or swapped, and neither the
 * file's page (a private mapping that was only read) nor the zero page.
 */
#pragma once

#include "base/err.h"
#include "base/ranges.h"

enum page_category {
	PAGE_CAT_WPALLOWED = 1 << 0,
	PAGE_CAT_WRITTEN = 1 << 1, /* not write-protected */
	PAGE_CAT_FILE = 1 << 2,
	PAGE_CAT_PRESENT = 1 << 3,
	PAGE_CAT_SWAPPED = 1 << 4, /* also where nothing is but a write-protect marker */
	PAGE_CAT_PFNZERO = 1 << 5,
	PAGE_CAT_HUGE = 1 << 6,
	PAGE_CAT_SOFT_DIRTY = 1 << 7,
	PAGE_CAT_GUARD = 1 << 8, /* Linux 6.15; older ones refuse it (EINVAL) */
};

enum { PAGEMAP_WP_MATCHING = 1 << 0, PAGEMAP_CHECK_WPASYNC = 1 << 1 };

/* Pages with (category ^ inverted) having all of `mask` and, if not 0, some of `anyof`. */
struct pagemap_query {
	uint64_t flags, inverted, mask, anyof;
	uint64_t ret; /* which categories are told */
};

typedef void (*pagemap_fn)(void *arg, uint64_t start, uint64_t end, uint64_t categories);

struct err *pagemap_open(pid_t pid, int *fd) must_check;
/* GONE when the address space is. */
struct err *pagemap_check(int fd) must_check;
/* Calls fn for each run of matching pages, ascending. Returns 0 or an errno: EPERM for memory that
 * is not registered (CHECK_WPASYNC), ENOTTY before 6.7. After an error an unknown part was done. An
 * address space that is gone is ESRCH or, on some kernels (6.18.44), one without pages. */
int pagemap_scan(int fd, const struct pagemap_query *q, struct range where, pagemap_fn fn,
	void *arg) must_check;

/* Bits of a plain word. */
#define PAGEMAP_PRESENT    (1ULL << 63)
#define PAGEMAP_SWAPPED    (1ULL << 62)
#define PAGEMAP_FILE       (1ULL << 61)
#define PAGEMAP_GUARD      (1ULL << 58)
#define PAGEMAP_SOFT_DIRTY (1ULL << 55)
#define PAGEMAP_PFN_MASK   ((1ULL << 55) - 1) /* 0 without CAP_SYS_ADMIN */
/* n words from the page at `start` on; GONE when the address space is gone. */
struct err *pagemap_words(int fd, uint64_t start, uint64_t *words, size_t n) must_check;
/* Calls fn for each run of own pages (categories 0), by PAGEMAP_SCAN or, where it is missing, by
 * plain words, which do not tell the zero page. */
struct err *pagemap_own(int fd, struct range where, pagemap_fn fn, void *arg) must_check;
