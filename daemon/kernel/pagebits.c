// SPDX-License-Identifier: Apache-2.0
#include "kernel/pagebits.h"

#include <stdlib.h>
#include <string.h>

#define WORD_BITS  64
#define CHUNK_BITS (PAGEBITS_WORDS * WORD_BITS)

void pagebits_fini(struct pagebits *b)
{
	for (size_t i = 0; i < b->n; i++)
		free(b->v[i]);
	free(b->v);
	*b = (struct pagebits){ .shift = b->shift };
}

/* Index of the first chunk whose number is not below `number`. */
static size_t find(const struct pagebits *b, uint64_t number)
{
	size_t lo = 0, hi = b->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (b->v[mid]->number < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct pagebits_chunk *chunk_at(const struct pagebits *b, uint64_t number)
{
	size_t i = find(b, number);

	return i < b->n && b->v[i]->number == number ? b->v[i] : NULL;
}

static struct pagebits_chunk *chunk_make(struct pagebits *b, uint64_t number)
{
	size_t i = find(b, number);
	struct pagebits_chunk *c;

	if (i < b->n && b->v[i]->number == number)
		return b->v[i];
	if (b->n == b->cap) {
		b->cap = b->cap * 2 + 8;
		b->v = xrealloc_array(b->v, b->cap, sizeof(struct pagebits_chunk *));
	}
	c = xcalloc(1, sizeof(*c));
	c->number = number;
	memmove(b->v + i + 1, b->v + i, (b->n - i) * sizeof(struct pagebits_chunk *));
	b->v[i] = c;
	b->n++;
	return c;
}

/* Bits [from, to) of one chunk. */
static void change(struct pagebits_chunk *c, uint64_t from, uint64_t to, bool on)
{
	while (from < to) {
		uint64_t *word = &c->bits[from / WORD_BITS];
		uint64_t n = MIN(to - from, WORD_BITS - from % WORD_BITS);
		uint64_t mask = (n == WORD_BITS ? UINT64_MAX : (1ULL << n) - 1)
				<< (from % WORD_BITS);

		*word = on ? *word | mask : *word & ~mask;
		from += n;
	}
}

void pagebits_set(struct pagebits *b, uint64_t start, uint64_t end)
{
	uint64_t unit = start >> b->shift, last;

	if (end <= start)
		return;
	last = (end - 1) >> b->shift;
	while (unit <= last) {
		uint64_t number = unit / CHUNK_BITS, base = number * CHUNK_BITS;
		uint64_t to = MIN(last + 1, base + CHUNK_BITS);

		change(chunk_make(b, number), unit - base, to - base, true);
		unit = to;
	}
}

void pagebits_clear(struct pagebits *b, uint64_t start, uint64_t end)
{
	uint64_t unit = start >> b->shift, last;

	if (end <= start)
		return;
	last = (end - 1) >> b->shift;
	for (size_t i = find(b, unit / CHUNK_BITS); i < b->n; i++) {
		uint64_t base = b->v[i]->number * CHUNK_BITS;

		if (base > last)
			return;
		change(b->v[i], MAX(unit, base) - base, MIN(last + 1, base + CHUNK_BITS) - base,
			false);
	}
}

static bool bit(const struct pagebits_chunk *c, uint64_t i)
{
	return c->bits[i / WORD_BITS] >> (i % WORD_BITS) & 1;
}

bool pagebits_test(const struct pagebits *b, uint64_t addr)
{
	uint64_t unit = addr >> b->shift;
	const struct pagebits_chunk *c = chunk_at(b, unit / CHUNK_BITS);

	return c && bit(c, unit % CHUNK_BITS);
}

/* First bit from `i` on that is not `on`, at most CHUNK_BITS. */
static uint64_t skip(const struct pagebits_chunk *c, uint64_t i, bool on)
{
	while (i < CHUNK_BITS) {
		uint64_t word = c->bits[i / WORD_BITS];

		word = (on ? ~word : word) >> (i % WORD_BITS);
		if (word)
			return i + (uint64_t)__builtin_ctzll(word);
		i = (i / WORD_BITS + 1) * WORD_BITS;
	}
	return CHUNK_BITS;
}

uint64_t pagebits_run(const struct pagebits *b, uint64_t start, uint64_t end, bool *set)
{
	uint64_t unit = start >> b->shift, last = (end - 1) >> b->shift;
	size_t i = find(b, unit / CHUNK_BITS);
	bool on = pagebits_test(b, start);

	*set = on;
	while (unit <= last) {
		uint64_t base = unit / CHUNK_BITS * CHUNK_BITS, stop;

		while (i < b->n && b->v[i]->number < unit / CHUNK_BITS)
			i++;
		if (i < b->n && b->v[i]->number == unit / CHUNK_BITS) {
			stop = base + skip(b->v[i], unit - base, on);
			if (stop < base + CHUNK_BITS)
				return MIN(stop << b->shift, end);
			unit = stop;
		} else if (on) {
			return MIN(unit << b->shift, end);
		} else {
			unit = i < b->n ? b->v[i]->number * CHUNK_BITS : last + 1;
		}
	}
	return end;
}

void pagebits_trim(struct pagebits *b)
{
	size_t kept = 0;

	for (size_t i = 0; i < b->n; i++)
		if (skip(b->v[i], 0, false) == CHUNK_BITS)
			free(b->v[i]);
		else
			b->v[kept++] = b->v[i];
	b->n = kept;
}
