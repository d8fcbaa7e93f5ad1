// SPDX-License-Identifier: Apache-2.0
/*
 * A program that can be counted from outside: beat LOG MIB. Each of its threads numbers its beats,
 * and appends every one to LOG with the name of the host that it runs on. The file is the same on
 * all hosts, so if ever two copies run, or one runs on that should not, a number is there twice; if
 * a copy was rebuilt from an older state, too; and if the process has lost something, one is
 * missing.
 *
 * Between beats it looks at what it has: pages that hold the beat of their last writing, and
 * numbers in a pipe between two threads.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define THREADS    3
#define PAGE_WORDS (4096 / sizeof(uint64_t))
#define TICK_NS    5000000
#define NAP_NS     3000000

/* What follows in the file is read by beats.py. */
struct beat {
	uint64_t number;
	uint64_t when_ns; /* CLOCK_REALTIME, one for all hosts of a lab */
	uint32_t pid;
	uint16_t thread;
	uint8_t host;  /* the first letter of its name */
	uint8_t wrong; /* what was found wrong */
	uint32_t unused[2];
};

enum wrong { WRONG_PAGE = 1, WRONG_PIPE = 2, WRONG_CALL = 4 };

struct worker {
	unsigned number;
	uint64_t beats;
	volatile uint64_t *pages;
	size_t n_pages;
};

static int log_fd, pipe_fds[2], timer_fd;

/* The page whose turn it is was written one turn ago; all of its words that are looked at say so.
 */
static uint8_t look_at_page(struct worker *w)
{
	volatile uint64_t *page = w->pages + (w->beats % w->n_pages) * PAGE_WORDS;
	uint64_t expected = w->beats > w->n_pages ? w->beats - w->n_pages : 0;
	const size_t words[] = { 0, 1, PAGE_WORDS / 2, PAGE_WORDS - 1 };
	uint8_t wrong = 0;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (page[words[i]] != expected)
			wrong = WRONG_PAGE;
		page[words[i]] = w->beats;
	}
	return wrong;
}

static void beat(struct worker *w, uint8_t wrong)
{
	struct utsname name;
	struct timespec now;
	struct beat b = { .number = ++w->beats, .thread = (uint16_t)w->number };

	wrong |= look_at_page(w);
	if (uname(&name) < 0 || clock_gettime(CLOCK_REALTIME, &now) < 0)
		wrong |= WRONG_CALL;
	b.when_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	b.pid = (uint32_t)getpid();
	b.host = (uint8_t)name.nodename[0];
	b.wrong = wrong;
	if (write(log_fd, &b, sizeof(b)) != sizeof(b))
		abort();
}

static uint8_t tick(struct worker *w)
{
	uint64_t n;

	(void)w;
	return read(timer_fd, &n, sizeof(n)) == sizeof(n) ? 0 : WRONG_CALL;
}

static uint8_t give(struct worker *w)
{
	const struct timespec t = { 0, NAP_NS };
	uint64_t next = w->beats + 1;

	return nanosleep(&t, NULL) == 0 && write(pipe_fds[1], &next, sizeof(next)) == sizeof(next)
		       ? 0
		       : WRONG_CALL;
}

static uint8_t get(struct worker *w)
{
	uint64_t next = 0;

	if (read(pipe_fds[0], &next, sizeof(next)) != sizeof(next))
		return WRONG_CALL;
	return next == w->beats + 1 ? 0 : WRONG_PIPE;
}

static uint8_t (*const works[THREADS])(struct worker *) = { tick, give, get };

static void *run(void *arg)
{
	struct worker *w = arg;

	for (;;)
		beat(w, works[w->number](w));
	return NULL;
}

int main(int argc, char **argv)
{
	const struct itimerspec every = { { 0, TICK_NS }, { 0, TICK_NS } };
	static struct worker workers[THREADS];
	size_t bytes = argc > 2 ? (size_t)atoi(argv[2]) << 20 : 0;
	pthread_t t;

	log_fd = argc > 1 ? open(argv[1], O_WRONLY | O_APPEND | O_CREAT, 0644) : -1;
	timer_fd = timerfd_create(CLOCK_MONOTONIC, 0);
	if (log_fd < 0 || !bytes || timer_fd < 0 || pipe(pipe_fds) < 0 ||
		timerfd_settime(timer_fd, 0, &every, NULL) < 0)
		return 2;
	for (unsigned i = 0; i < THREADS; i++) {
		void *pages = mmap(
			NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (pages == MAP_FAILED)
			return 2;
		workers[i] = (struct worker){ i, 0, pages, bytes / 4096 };
	}
	puts("ready");
	fflush(stdout);
	for (unsigned i = 1; i < THREADS; i++)
		if (pthread_create(&t, NULL, run, &workers[i]) != 0)
			return 2;
	run(&workers[0]);
	return 0;
}
