// SPDX-License-Identifier: Apache-2.0
/*
 * Reads a file past the page cache all the time, from two threads, into many buffers, and knows
 * what each must hold. Nobody writes a buffer again before it was compared: a read that was on its
 * way while the memory was looked at, and was missed, shows.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "subject_memory.h"

#define THREADS     2
#define BUFFERS     48
#define BUFFER      (1024 * 1024)
#define FILE_BLOCKS 24 /* of BUFFER */

struct reader {
	char *base;
	int block[BUFFERS]; /* what each holds; -1: nothing yet */
	unsigned seed;
	atomic_ulong reads;
};

static struct reader readers[THREADS];
static int file;
static atomic_bool over;

static uint64_t word_of(int block, size_t i)
{
	return ((uint64_t)(unsigned)block + 1) * 0x9E3779B97F4A7C15ULL + i;
}

static void check(const struct reader *r, int at)
{
	const uint64_t *w = (const uint64_t *)(const void *)(r->base + (size_t)at * BUFFER);

	for (size_t i = 0; r->block[at] >= 0 && i < BUFFER / 8; i += PAGE / 8)
		CHECK(w[i] == word_of(r->block[at], i));
}

static void *work(void *arg)
{
	struct reader *r = arg;

	while (!over) {
		int at = rand_r(&r->seed) % BUFFERS, block = rand_r(&r->seed) % FILE_BLOCKS;
		char *to = r->base + (size_t)at * BUFFER;

		check(r, at);
		r->block[at] = -1;
		CHECK(pread(file, to, BUFFER, (off_t)block * BUFFER) == BUFFER);
		r->block[at] = block;
		r->reads++;
	}
	for (int at = 0; at < BUFFERS; at++)
		check(r, at);
	return NULL;
}

static void make_file(void)
{
	int fd = open("data", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	static uint64_t block[BUFFER / 8];

	CHECK(fd >= 0);
	for (int b = 0; b < FILE_BLOCKS; b++) {
		for (size_t i = 0; i < BUFFER / 8; i++)
			block[i] = word_of(b, i);
		CHECK(write(fd, block, BUFFER) == BUFFER);
	}
	CHECK(fsync(fd) == 0);
	close(fd);
}

int main(void)
{
	pthread_t t[THREADS];

	make_file();
	file = open("data", O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (file < 0)
		SKIP("this file system has no O_DIRECT");
	for (int i = 0; i < THREADS; i++) {
		readers[i].base =
			map(BUFFERS * BUFFER / PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		readers[i].seed = (unsigned)i + 1;
		memset(readers[i].block, -1, sizeof(readers[i].block));
		CHECK(pthread_create(&t[i], NULL, work, &readers[i]) == 0);
	}
	/* before that a thread blocks signals, and has no robust list */
	for (int i = 0; i < THREADS; i++)
		while (!readers[i].reads)
			subject_sleep_ms(1);
	subject_restless();
	subject_wait_moved();
	over = true;
	for (int i = 0; i < THREADS; i++) {
		CHECK(pthread_join(t[i], NULL) == 0);
		dprintf(1, "%lu reads\n", (unsigned long)readers[i].reads);
	}
	return subject_ok();
}
