// SPDX-License-Identifier: Apache-2.0
/*
 * What has changed in a shared memory object that its owner has open. Such an object can be mapped,
 * written and unmapped between two looks: no page table tells, and no time stamp (a write through a
 * mapping sets none on tmpfs). So its contents are compared, block by block, with a sum of what
 * they were: 8 bytes per 64 KiB, about 4 GiB/s.
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

#define BLOCK_BYTES (64u << 10)
#define SUM_HOLE    0

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

struct walk {
	struct shm_sums *s;
	int fd;
	shm_changed_fn fn;
	void *arg;
	uint8_t *buf;            /* of one block */
	uint64_t hole, hole_end; /* blocks that are holes now and were not, not told yet */
};

static struct err *tell_holes(struct walk *w)
{
	uint64_t from = w->hole * BLOCK_BYTES, bytes = (w->hole_end - w->hole) * BLOCK_BYTES;

	w->hole = w->hole_end;
	return bytes ? w->fn(w->arg, from, NULL, bytes) : NULL;
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
static struct err *sum_block(int fd, uint64_t block, uint8_t *buf, uint64_t *ret)
{
	size_t have = 0;

	while (have < BLOCK_BYTES) {
		ssize_t n = pread(
			fd, buf + have, BLOCK_BYTES - have, (off_t)(block * BLOCK_BYTES + have));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(errno, "read shared memory");
		if (n == 0)
			break;
		have += (size_t)n;
	}
	memset(buf + have, 0, BLOCK_BYTES - have);
	*ret = XXH3_64bits(buf, BLOCK_BYTES);
	if (*ret == SUM_HOLE)
		*ret = 1;
	return NULL;
}

static struct err *look_at_data(struct walk *w, uint64_t block)
{
	uint64_t sum = 0;

	TRY(sum_block(w->fd, block, w->buf, &sum));
	if (w->s->v[block] == sum)
		return NULL;
	w->s->v[block] = sum;
	TRY(tell_holes(w));
	return w->fn(w->arg, block * BLOCK_BYTES, w->buf, BLOCK_BYTES);
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
		for (; block < MIN(to, blocks); block++)
			TRY(look_at_data(w, block));
	}
	return tell_holes(w);
}

struct err *shm_sums_update(
	struct shm_sums **sums, int fd, uint64_t bytes, shm_changed_fn fn, void *arg)
{
	uint64_t blocks = (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
	autofree uint8_t *buf = xcalloc(1, BLOCK_BYTES);

	if (!*sums)
		*sums = xcalloc(1, sizeof(**sums));
	grow(*sums, blocks);
	return walk(
		&(struct walk){ .s = *sums, .fd = fd, .fn = fn, .arg = arg, .buf = buf }, blocks);
}
