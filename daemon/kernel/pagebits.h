/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of pages, one bit each, in chunks that exist only where a bit was ever set. A unit is a
 * page or any other power of two (2 MiB blocks).
 */
#pragma once

#include "base/ranges.h"

#define PAGEBITS_WORDS 512 /* per chunk: 32768 units, 4 KiB */

struct pagebits_chunk {
	uint64_t number; /* first unit / 32768 */
	uint64_t bits[PAGEBITS_WORDS];
};

struct pagebits {
	unsigned shift;            /* a unit is 1 << shift bytes */
	struct pagebits_chunk **v; /* by number */
	size_t n, cap;
};

void pagebits_fini(struct pagebits *b);
/* Every unit that [start, end) touches. */
void pagebits_set(struct pagebits *b, uint64_t start, uint64_t end);
void pagebits_clear(struct pagebits *b, uint64_t start, uint64_t end);
bool pagebits_test(const struct pagebits *b, uint64_t addr);
/* The next stretch of equal bits from `start` on, cut off at `end` (start < end): *set tells which.
 * Returns where it ends. */
uint64_t pagebits_run(const struct pagebits *b, uint64_t start, uint64_t end, bool *set);
/* Drops chunks without a bit. */
void pagebits_trim(struct pagebits *b);
