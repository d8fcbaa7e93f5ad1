// SPDX-License-Identifier: Apache-2.0
/*
 * Timers on all clocks: one that runs while it is moved and must neither lose nor gain
 * expirations, one that is far away, one that expired before, one that is not armed.
 */
#include "subject.h"

#include <stdint.h>
#include <sys/timerfd.h>

#define NS 1000000000LL

static int64_t now(clockid_t clock)
{
	struct timespec ts;

	CHECK(clock_gettime(clock, &ts) == 0);
	return ts.tv_sec * NS + ts.tv_nsec;
}

static int64_t left(int fd)
{
	struct itimerspec s;

	CHECK(timerfd_gettime(fd, &s) == 0);
	return s.it_value.tv_sec * NS + s.it_value.tv_nsec;
}

static int make(clockid_t clock, int flags, int64_t value, int64_t interval)
{
	struct itimerspec s = { { interval / NS, interval % NS }, { value / NS, value % NS } };
	int fd = timerfd_create(clock, TFD_NONBLOCK);

	CHECK(fd >= 0 && timerfd_settime(fd, flags, &s, NULL) == 0);
	return fd;
}

/* Expirations of a timer that started at t0 agree with the clock within two periods. */
static void check_count(int fd, int64_t t0, int64_t period)
{
	int64_t late = now(CLOCK_MONOTONIC) - t0;
	uint64_t n;

	CHECK(read(fd, &n, sizeof(n)) == sizeof(n));
	if ((int64_t)n < late / period - 2 || (int64_t)n > late / period + 2)
		dprintf(1, "%lld expirations in %lld ns\n", (long long)n, (long long)late);
	CHECK((int64_t)n >= late / period - 2 && (int64_t)n <= late / period + 2);
}

int main(void)
{
	int64_t t0 = now(CLOCK_MONOTONIC), period = 5000000, real, soon;
	int running = make(CLOCK_MONOTONIC, 0, period, period);
	int grid = make(CLOCK_MONOTONIC, TFD_TIMER_ABSTIME, t0 + period, period);
	int boot = make(CLOCK_BOOTTIME, 0, 1000 * NS, 0);
	int once = make(CLOCK_MONOTONIC, 0, 1000000, 0), idle = make(CLOCK_REALTIME, 0, 0, 0);
	int wall, rel;
	uint64_t n;

	real = now(CLOCK_REALTIME);
	wall = make(CLOCK_REALTIME, TFD_TIMER_ABSTIME, real + 500 * NS, 0);
	rel = make(CLOCK_REALTIME, 0, 500 * NS, 0);
	soon = now(CLOCK_MONOTONIC);
	subject_sleep_ms(20);
	subject_odd_flags(idle);
	subject_wait_moved();
	check_count(running, t0, period);
	check_count(grid, t0, period);
	CHECK(left(boot) > 900 * NS && left(boot) < 1000 * NS);
	CHECK(read(once, &n, sizeof(n)) == sizeof(n) && n == 1 && left(once) == 0);
	CHECK(read(idle, &n, sizeof(n)) < 0 && errno == EAGAIN && left(idle) == 0);
	real = real + 500 * NS - now(CLOCK_REALTIME) - left(wall);
	CHECK(real > -50000000 && real < 50000000);
	soon = soon + 500 * NS - now(CLOCK_MONOTONIC) - left(rel);
	CHECK(soon > -50000000 && soon < 50000000);
	return subject_ok();
}
