/* SPDX-License-Identifier: Apache-2.0 */
/* A sorted set of half-open ranges [start, end) that neither touch nor overlap. */
#pragma once

#include "base/base.h"

struct range {
	uint64_t start, end;
};

struct ranges {
	struct range *v;
	size_t n, cap;
};

void ranges_fini(struct ranges *r);
#define autoranges AUTO(ranges_fini)
void ranges_clear(struct ranges *r);
/* Empty ranges (end <= start) are ignored. Appending in ascending order is O(1). */
void ranges_add(struct ranges *r, uint64_t start, uint64_t end);
void ranges_sub(struct ranges *r, uint64_t start, uint64_t end);
bool ranges_contain(const struct ranges *r, uint64_t point);
/* Index of the first range whose end is behind `point`; r->n if there is none. */
size_t ranges_find(const struct ranges *r, uint64_t point);
/* The sum of all lengths. */
uint64_t ranges_total(const struct ranges *r);
