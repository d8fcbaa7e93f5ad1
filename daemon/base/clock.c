// SPDX-License-Identifier: Apache-2.0
#include "base/clock.h"

#include <limits.h>
#include <time.h>

static int64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t clock_ns(void)
{
	return now_ns(CLOCK_MONOTONIC);
}

int64_t clock_us(void)
{
	return clock_ns() / 1000;
}

int64_t clock_real_ns(void)
{
	return now_ns(CLOCK_REALTIME);
}

struct deadline deadline_in(int64_t us)
{
	return (struct deadline){ clock_us() + us };
}

int deadline_poll_ms(struct deadline d)
{
	int64_t left;

	if (d.at_us == INT64_MAX)
		return -1;
	left = (d.at_us - clock_us() + 999) / 1000;
	if (left <= 0)
		return 0;
	return left > INT_MAX ? INT_MAX : (int)left;
}

bool deadline_passed(struct deadline d)
{
	return d.at_us != INT64_MAX && clock_us() >= d.at_us;
}

struct deadline deadline_min(struct deadline a, struct deadline b)
{
	return a.at_us < b.at_us ? a : b;
}
