// SPDX-License-Identifier: Apache-2.0
/*
 * What has changed in a shared memory object that its owner has open. Such an object can be mapped,
 * written and unmapped between two looks: no page table tells, and no time stamp (a write through a
 * mapping sets none on tmpfs). So its contents are compared, block by block, with a sum of what
 * they were: 8 bytes per page, about 4 GiB/s.
 *
 * Where a tracker tells what is written, only the outline is looked at: what is a hole and what is
 * data, of which nothing more is known then.
 *
 * The sum is of the very bytes that are handed out. Were they read again to be sent, a word that is
 * something else just then, a lock that is taken, and has its old value at the next look, would
 * stay wrong at the peer for ever.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "kinds/memory_priv.h"

#define BLOCK_BYTES   PAGE_BYTES
#define STRETCH_BYTES (64u << 10) /* read at once */
/* No sum of contents (sum_block). */
#define SUM_HOLE    0
#define SUM_UNKNOWN 1
#define SUM_FIRST   2

struct shm_sums {
	uint64_t *v; /* by block; never fewer after the object has shrunk: it may grow again */
	uint64_t n;
};

void shm_sums_free(struct shm_sums *s)
{
	if (!s)
		return;
	free(s->v);
	free(s);
}

static void grow(struct shm_sums *s, uint64_t n)
{
	if (n <= s->n)
		return;
	s->v = xrealloc_array(s->v, n, sizeof(*s->v));
	memset(s->v + s->n, 0, (n - s->n) * sizeof(*s->v));
	s->n = n;
}

void shm_sums_forget(struct shm_sums *s, uint64_t start, uint64_t end)
{
	uint64_t last = MIN((end + BLOCK_BYTES - 1) / BLOCK_BYTES, s->n);

	for (uint64_t i = start / BLOCK_BYTES; i < last; i++)
		s->v[i] = SUM_UNKNOWN;
}

struct walk {
	struct shm_sums *s;
	int fd;
	shm_changed_fn fn;
	shm_outline_fn outline; /* instead of fn */
	void *arg;
	uint8_t *buf;            /* of one stretch */
	uint64_t hole, hole_end; /* blocks that are holes now and were not, not told yet */
};

static struct err *tell_holes(struct walk *w)
{
	uint64_t from = w->hole * BLOCK_BYTES, bytes = (w->hole_end - w->hole) * BLOCK_BYTES;

	w->hole = w->hole_end;
	if (!bytes)
		return NULL;
	return w->outline ? w->outline(w->arg, from, bytes, true)
			  : w->fn(w->arg, from, NULL, bytes);
}

static struct err *look_at_hole(struct walk *w, uint64_t block)
{
	if (w->s->v[block] == SUM_HOLE)
		return NULL;
	w->s->v[block] = SUM_HOLE;
	if (w->hole_end != block) {
		TRY(tell_holes(w));
		w->hole = block;
	}
	w->hole_end = block + 1;
	return NULL;
}

/* What is behind the end reads as zeroes. */
static struct err *read_stretch(const struct walk *w, uint64_t at, size_t bytes)
{
	size_t have = 0;

	while (have < bytes) {
		ssize_t n = pread(w->fd, w->buf + have, bytes - have, (off_t)(at + have));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(errno, "read shared memory");
		if (n == 0)
			break;
		have += (size_t)n;
	}
	memset(w->buf + have, 0, bytes - have);
	return NULL;
}

static uint64_t sum_of(const uint8_t *block)
{
	uint64_t sum = XXH3_64bits(block, BLOCK_BYTES);

	return MAX(sum, SUM_FIRST);
}

/* Remembers it; whether it is another one. */
static bool block_changed(struct walk *w, uint64_t block, const uint8_t *bytes)
{
	uint64_t sum = sum_of(bytes);
	bool changed = w->s->v[block] != sum;

	w->s->v[block] = sum;
	return changed;
}

static struct err *look_at_data(struct walk *w, uint64_t block, uint64_t n)
{
	TRY(read_stretch(w, block * BLOCK_BYTES, n * BLOCK_BYTES));
	for (uint64_t i = 0, from; i < n; i++) {
		for (from = i; i < n && block_changed(w, block + i, w->buf + i * BLOCK_BYTES); i++)
			;
		if (i == from)
			continue;
		TRY(tell_holes(w));
		TRY(w->fn(w->arg, (block + from) * BLOCK_BYTES, w->buf + from * BLOCK_BYTES,
			(i - from) * BLOCK_BYTES));
	}
	return NULL;
}

static struct err *outline_data(struct walk *w, uint64_t block, uint64_t n)
{
	for (uint64_t i = 0, from; i < n; i++) {
		for (from = i; i < n && w->s->v[block + i] == SUM_HOLE; i++)
			w->s->v[block + i] = SUM_UNKNOWN;
		if (i == from)
			continue;
		TRY(tell_holes(w));
		TRY(w->outline(
			w->arg, (block + from) * BLOCK_BYTES, (i - from) * BLOCK_BYTES, false));
	}
	return NULL;
}

/* Blocks that are holes, then one stretch of data, and so on. */
static struct err *walk(struct walk *w, uint64_t blocks)
{
	uint64_t block = 0;

	while (block < blocks) {
		off_t data = lseek(w->fd, (off_t)(block * BLOCK_BYTES), SEEK_DATA), hole;
		uint64_t from = data < 0 ? blocks : (uint64_t)data / BLOCK_BYTES, to;

		if (data < 0 && errno != ENXIO)
			return err_errno(errno, "find data of shared memory");
		for (; block < MIN(from, blocks); block++)
			TRY(look_at_hole(w, block));
		if (data < 0)
			break;
		hole = lseek(w->fd, data, SEEK_HOLE);
		if (hole < 0 && errno != ENXIO)
			return err_errno(errno, "find holes of shared memory");
		to = hole < 0 ? blocks : ((uint64_t)hole + BLOCK_BYTES - 1) / BLOCK_BYTES;
		for (uint64_t n; block < MIN(to, blocks); block += n) {
			n = MIN(MIN(to, blocks) - block, STRETCH_BYTES / BLOCK_BYTES);
			TRY(w->outline ? outline_data(w, block, n) : look_at_data(w, block, n));
		}
	}
	return tell_holes(w);
}

static struct err *walk_all(struct shm_sums **sums, uint64_t bytes, struct walk *w)
{
	uint64_t blocks = (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;

	if (!*sums)
		*sums = xcalloc(1, sizeof(**sums));
	grow(*sums, blocks);
	w->s = *sums;
	return walk(w, blocks);
}

struct err *shm_sums_update(
	struct shm_sums **sums, int fd, uint64_t bytes, shm_changed_fn fn, void *arg)
{
	autofree uint8_t *buf = xcalloc(1, STRETCH_BYTES);

	return walk_all(sums, bytes, &(struct walk){ .fd = fd, .fn = fn, .arg = arg, .buf = buf });
}

struct err *shm_sums_outline(
	struct shm_sums **sums, int fd, uint64_t bytes, shm_outline_fn fn, void *arg)
{
	return walk_all(sums, bytes, &(struct walk){ .fd = fd, .outline = fn, .arg = arg });
}
