// SPDX-License-Identifier: Apache-2.0
/*
 * What is slowed down by being copied: a thread that works all the time, and every 10 ms says into
 * the file `work` how much it has done: "MICROSECONDS STEPS", of the monotonic clock, which goes on
 * through a move. HOW is `walk` (writes one word of each page of MIB, round and round), `read`
 * (reads them) or `calls` (system calls that write into its memory).
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE     4096
#define MIB      (1ul << 20)
#define EVERY_NS 10000000

static volatile uint8_t *memory;
static size_t bytes;
static _Atomic uint64_t steps;

static void walk(void)
{
	for (size_t at = 0; at < bytes; at += PAGE)
		memory[at]++;
	steps += bytes / PAGE;
}

static void read_all(void)
{
	for (size_t at = 0; at < bytes; at += PAGE)
		(void)memory[at];
	steps += bytes / PAGE;
}

static void calls(void)
{
	struct timespec t;

	for (int i = 0; i < 1000; i++) {
		char here[64];

		/* Both into memory that may be armed: the kernel's own writes. */
		if (!getcwd(here, sizeof(here)))
			here[0] = 0;
		clock_getres(CLOCK_MONOTONIC, &t);
	}
	steps += 1000;
}

static const struct {
	const char *name;
	void (*fn)(void);
} ways[] = { { "walk", walk }, { "read", read_all }, { "calls", calls } };

static void *work(void *how)
{
	void (*const *fn)(void) = how;

	for (;;)
		(*fn)();
	return NULL;
}

int main(int argc, char **argv)
{
	void (*how)(void) = NULL;
	pthread_t t;
	int fd;

	for (size_t i = 0; argc == 3 && i < sizeof(ways) / sizeof(*ways); i++)
		if (strcmp(argv[1], ways[i].name) == 0)
			how = ways[i].fn;
	if (!how)
		return 2;
	bytes = strtoul(argv[2], NULL, 10) * MIB;
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fd = open("work", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
	if (memory == MAP_FAILED || fd < 0)
		return 1;
	for (size_t at = 0; at < bytes; at += 8) /* no zero pages: they need not be sent */
		*(volatile uint64_t *)(uintptr_t)(memory + at) = at + 1;
	if (pthread_create(&t, NULL, work, &how) != 0)
		return 1;
	dprintf(1, "ready\n");
	for (;;) {
		const struct timespec every = { 0, EVERY_NS };
		struct timespec now;

		nanosleep(&every, NULL);
		clock_gettime(CLOCK_MONOTONIC, &now);
		dprintf(fd, "%ld %lu\n", now.tv_sec * 1000000 + now.tv_nsec / 1000,
			(unsigned long)steps);
	}
}
