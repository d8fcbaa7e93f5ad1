// SPDX-License-Identifier: Apache-2.0
/*
 * What has changed in a shared memory object that its owner has open. Such an object can be mapped,
 * written and unmapped between two looks: no page table tells, and no time stamp (a write through a
 * mapping sets none on tmpfs). So its contents are compared, block by block, with a sum of what
 * they were: 8 bytes per 64 KiB, about 4 GiB/s.
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

static void settle(struct shm_sums *s, uint64_t block, uint64_t sum, struct ranges *changed)
{
	if (s->v[block] == sum)
		return;
	s->v[block] = sum;
	ranges_add(changed, block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
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

/* Blocks [from, to) of holes, then one stretch of data. */
static struct err *walk(struct shm_sums *s, int fd, uint64_t blocks, struct ranges *changed)
{
	autofree uint8_t *buf = xcalloc(1, BLOCK_BYTES);
	uint64_t block = 0;

	while (block < blocks) {
		off_t data = lseek(fd, (off_t)(block * BLOCK_BYTES), SEEK_DATA), hole;
		uint64_t from = data < 0 ? blocks : (uint64_t)data / BLOCK_BYTES, to, sum = 0;

		if (data < 0 && errno != ENXIO)
			return err_errno(errno, "find data of shared memory");
		for (; block < MIN(from, blocks); block++)
			settle(s, block, SUM_HOLE, changed);
		if (data < 0)
			break;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0 && errno != ENXIO)
			return err_errno(errno, "find holes of shared memory");
		to = hole < 0 ? blocks : ((uint64_t)hole + BLOCK_BYTES - 1) / BLOCK_BYTES;
		for (; block < MIN(to, blocks); block++) {
			TRY(sum_block(fd, block, buf, &sum));
			settle(s, block, sum, changed);
		}
	}
	return NULL;
}

struct err *shm_sums_update(struct shm_sums **sums, int fd, uint64_t bytes, struct ranges *changed)
{
	uint64_t blocks = (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;

	if (!*sums)
		*sums = xcalloc(1, sizeof(**sums));
	grow(*sums, blocks);
	return walk(*sums, fd, blocks, changed);
}
