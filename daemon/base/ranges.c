// SPDX-License-Identifier: Apache-2.0
#include "base/ranges.h"

#include <stdlib.h>
#include <string.h>

void ranges_fini(struct ranges *r)
{
	free(r->v);
	*r = (struct ranges){ 0 };
}

void ranges_clear(struct ranges *r)
{
	r->n = 0;
}

size_t ranges_find(const struct ranges *r, uint64_t point)
{
	size_t lo = 0, hi = r->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (r->v[mid].end > point)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* Replaces `gone` ranges at index `at` by `n` new ones. */
static void splice_in(struct ranges *r, size_t at, size_t gone, const struct range *add, size_t n)
{
	if (r->n - gone + n > r->cap) {
		r->cap = MAX(r->cap * 2, r->n + n + 8);
		r->v = xrealloc_array(r->v, r->cap, sizeof(*r->v));
	}
	if (r->n > at + gone)
		memmove(r->v + at + n, r->v + at + gone, (r->n - at - gone) * sizeof(*r->v));
	if (n)
		memcpy(r->v + at, add, n * sizeof(*add));
	r->n = r->n - gone + n;
}

void ranges_add(struct ranges *r, uint64_t start, uint64_t end)
{
	struct range joined = { start, end };
	size_t first, last;

	if (end <= start)
		return;
	first = ranges_find(r, start ? start - 1 : 0);
	for (last = first; last < r->n && r->v[last].start <= end; last++) {
		joined.start = MIN(joined.start, r->v[last].start);
		joined.end = MAX(joined.end, r->v[last].end);
	}
	splice_in(r, first, last - first, &joined, 1);
}

void ranges_sub(struct ranges *r, uint64_t start, uint64_t end)
{
	struct range rest[2];
	size_t first, last, n = 0;

	if (end <= start)
		return;
	first = ranges_find(r, start);
	for (last = first; last < r->n && r->v[last].start < end; last++) {
		if (r->v[last].start < start)
			rest[n++] = (struct range){ r->v[last].start, start };
		if (r->v[last].end > end)
			rest[n++] = (struct range){ end, r->v[last].end };
	}
	if (last > first)
		splice_in(r, first, last - first, rest, n);
}

bool ranges_contain(const struct ranges *r, uint64_t point)
{
	size_t i = ranges_find(r, point);

	return i < r->n && r->v[i].start <= point;
}

uint64_t ranges_total(const struct ranges *r)
{
	uint64_t total = 0;

	for (size_t i = 0; i < r->n; i++)
		total += r->v[i].end - r->v[i].start;
	return total;
}
