/* SPDX-License-Identifier: Apache-2.0 */
/* Monotonic time and deadlines. All intervals of ours are in microseconds. */
#pragma once

#include "base/base.h"

/* CLOCK_MONOTONIC in microseconds or nanoseconds, as this process sees it (time namespace). */
int64_t clock_us(void);
int64_t clock_ns(void);
/* CLOCK_REALTIME in nanoseconds. */
int64_t clock_real_ns(void);

/* A point in time after which waiting is pointless; DEADLINE_NEVER waits for ever. */
struct deadline {
	int64_t at_us;
};
#define DEADLINE_NEVER ((struct deadline){ INT64_MAX })

struct deadline deadline_in(int64_t us);
/* What is left, as poll(2) takes it: -1 for never, 0 when it has passed, rounded up else. */
int deadline_poll_ms(struct deadline d);
bool deadline_passed(struct deadline d);
/* The earlier of the two. */
struct deadline deadline_min(struct deadline a, struct deadline b);
