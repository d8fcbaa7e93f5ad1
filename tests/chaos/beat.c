// SPDX-License-Identifier: Apache-2.0
/*
 * A program that can be counted from outside: beat LOG MIB (see beating.h). Between beats its
 * threads look at what they have: pages, and numbers in a pipe between two of them.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "beating.h"

#define THREADS 3
#define TICK_NS 5000000
#define NAP_NS  3000000

static int log_fd, pipe_fds[2], timer_fd;

static uint8_t tick(struct beater *b)
{
	uint64_t n;

	(void)b;
	return read(timer_fd, &n, sizeof(n)) == sizeof(n) ? 0 : WRONG_CALL;
}

static uint8_t give(struct beater *b)
{
	const struct timespec t = { 0, NAP_NS };
	uint64_t next = b->beats + 1;

	return nanosleep(&t, NULL) == 0 && write(pipe_fds[1], &next, sizeof(next)) == sizeof(next)
		       ? 0
		       : WRONG_CALL;
}

static uint8_t get(struct beater *b)
{
	uint64_t next = 0;

	if (read(pipe_fds[0], &next, sizeof(next)) != sizeof(next))
		return WRONG_CALL;
	return next == b->beats + 1 ? 0 : WRONG_LINK;
}

static uint8_t (*const works[THREADS])(struct beater *) = { tick, give, get };

static void *run(void *arg)
{
	struct beater *b = arg;

	for (;;)
		beating_beat(b, log_fd, works[b->number](b));
	return NULL;
}

int main(int argc, char **argv)
{
	const struct itimerspec every = { { 0, TICK_NS }, { 0, TICK_NS } };
	static struct beater beaters[THREADS];
	size_t bytes = argc > 2 ? (size_t)atoi(argv[2]) << 20 : 0;
	pthread_t t;

	log_fd = argc > 1 ? beating_open(argv[1]) : -1;
	timer_fd = timerfd_create(CLOCK_MONOTONIC, 0);
	if (log_fd < 0 || !bytes || timer_fd < 0 || pipe(pipe_fds) < 0 ||
		timerfd_settime(timer_fd, 0, &every, NULL) < 0)
		return 2;
	for (unsigned i = 0; i < THREADS; i++) {
		beaters[i].number = i;
		if (!beating_pages(&beaters[i], bytes))
			return 2;
	}
	puts("ready");
	fflush(stdout);
	for (unsigned i = 1; i < THREADS; i++)
		if (pthread_create(&t, NULL, run, &beaters[i]) != 0)
			return 2;
	run(&beaters[0]);
	return 0;
}
