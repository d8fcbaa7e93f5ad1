// SPDX-License-Identifier: Apache-2.0
/*
 * What the benchmark moves: MIB of memory that does not compress, RATE MiB/s of it dirtied (one
 * word per page, round and round over SPAN MiB), and a clock that ticks every millisecond. A gap
 * between two ticks is time in which the process did not run, as it saw it itself. Each one above 2
 * ms goes to the file `gaps` as "KIND MICROSECONDS": `moved` if the host's name was another one at
 * its end, else `late`. RATE "hold": touches the memory and keeps
 * it, so that the host has it at hand when this is killed.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define PAGE    4096
#define MIB     (1ul << 20)
#define TICK_NS 1000000
#define GAP_NS  2000000

struct work {
	uint8_t *memory;
	size_t span, rate; /* bytes, bytes per second */
};

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void until(int64_t ns)
{
	struct timespec t = { ns / 1000000000, ns % 1000000000 };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0)
		;
}

/* Every millisecond a share; what a stop made it miss is not caught up. */
static void *writer(void *arg)
{
	const struct work *w = arg;
	size_t pages = w->rate / PAGE, at = 0;
	int64_t next = now_ns();
	uint64_t n = 0, owed = 0;

	for (;;) {
		for (owed += pages; owed >= 1000; owed -= 1000) {
			*(volatile uint64_t *)(void *)(w->memory + at) = ++n;
			at = (at + PAGE) % w->span;
		}
		next += TICK_NS;
		if (now_ns() > next + TICK_NS)
			next = now_ns();
		until(next);
	}
	return NULL;
}

/* Whether this is another host than the last time. */
static int moved(struct utsname *here)
{
	struct utsname now;

	if (uname(&now) < 0 || strcmp(now.nodename, here->nodename) == 0)
		return 0;
	*here = now;
	return 1;
}

static void tick(int fd)
{
	struct utsname here;
	int64_t last = now_ns();

	uname(&here);
	for (;;) {
		int64_t now;
		int other;

		until(last + TICK_NS);
		now = now_ns();
		other = moved(&here);
		if (other || now - last > GAP_NS)
			dprintf(fd, "%s %ld\n", other ? "moved" : "late",
				(long)(now - last) / 1000);
		last = now;
	}
}

static void fill(uint64_t *p, size_t words)
{
	uint64_t x = 0x9e3779b97f4a7c15ull;

	for (size_t i = 0; i < words; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = x;
	}
}

int main(int argc, char **argv)
{
	static struct work w;
	size_t bytes = (argc > 1 ? strtoul(argv[1], NULL, 10) : 64) * MIB;
	int fd;
	pthread_t t;

	w.rate = (argc > 2 ? strtoul(argv[2], NULL, 10) : 0) * MIB;
	w.span = (argc > 3 ? strtoul(argv[3], NULL, 10) : 256) * MIB;
	if (w.span > bytes)
		w.span = bytes;
	w.memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (w.memory == MAP_FAILED)
		return 1;
	fill((uint64_t *)(void *)w.memory, bytes / 8);
	if (argc > 2 && strcmp(argv[2], "hold") == 0) {
		dprintf(1, "ready\n");
		for (;;)
			pause();
	}
	fd = open("gaps", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		return 1;
	if (w.rate && pthread_create(&t, NULL, writer, &w) != 0)
		return 1;
	dprintf(1, "ready\n");
	tick(fd);
}
