// SPDX-License-Identifier: Apache-2.0
/*
 * The three timers of setitimer(2), alarm(2) among them. Only the process itself may ask for them
 * and set them. The real one runs on CLOCK_MONOTONIC, which goes on without a jump: the time at
 * which it expires travels. The other two count CPU time, which stands still meanwhile.
 */
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "base/clock.h"
#include "kinds/calls.h"
#include "kinds/kind.h"
#include "timers.pb-c.h"

#define ITIMERS  3
#define US_PER_S 1000000ULL

struct timeval64 {
	int64_t s, us;
};
struct itimer {
	struct timeval64 interval, value;
};
struct scratch {
	struct itimer timers[ITIMERS];
	int64_t now_s, now_ns;
};

static uint64_t to_us(struct timeval64 t)
{
	return (uint64_t)t.s * US_PER_S + (uint64_t)t.us;
}

static struct timeval64 from_us(uint64_t us)
{
	return (struct timeval64){ (int64_t)(us / US_PER_S), (int64_t)(us % US_PER_S) };
}

static uint64_t place(const struct task *t, unsigned which)
{
	return remote_scratch(t).v + offsetof(struct scratch, timers) +
	       which * sizeof(struct itimer);
}

static struct err *itimers_capture(struct capture *c)
{
	Migrate__Kind__IntervalTimers m = MIGRATE__KIND__INTERVAL_TIMERS__INIT;
	Migrate__Kind__IntervalTimers__Interval timers[ITIMERS], *list[ITIMERS];
	struct calls calls = { 0 };
	struct scratch s = { 0 };

	CALL(&calls, "read the monotonic clock", SYS_clock_gettime, CLOCK_MONOTONIC,
		remote_scratch(c->task).v + offsetof(struct scratch, now_s));
	for (unsigned i = 0; i < ITIMERS; i++)
		CALL(&calls, "ask for an interval timer", SYS_getitimer, i, place(c->task, i));
	TRY(calls_run(&calls, c->task, c->thread));
	TRY(remote_get(c->task, 0, &s, sizeof(s)));
	m.timers = list;
	m.n_timers = ITIMERS;
	for (unsigned i = 0; i < ITIMERS; i++) {
		list[i] = &timers[i];
		migrate__kind__interval_timers__interval__init(list[i]);
		list[i]->value_us = to_us(s.timers[i].value);
		list[i]->interval_us = to_us(s.timers[i].interval);
	}
	if (timers[ITIMER_REAL].value_us)
		timers[ITIMER_REAL].value_us +=
			(uint64_t)s.now_s * US_PER_S + (uint64_t)s.now_ns / 1000;
	capture_emit(c, 0, &m.base);
	return NULL;
}

static struct err *itimers_finish(
	struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__IntervalTimers *m = msg;
	uint64_t now_us = (uint64_t)(clock_ns() + r->clock_offset_ns) / 1000;
	struct calls calls = { 0 };
	struct scratch s = { 0 };

	if (m->n_timers != ITIMERS)
		return err_new(ERR_PEER, "%zu interval timers make no sense", m->n_timers);
	for (unsigned i = 0; i < ITIMERS; i++) {
		uint64_t value = m->timers[i]->value_us;

		/* 0 would switch it off: it is due now. */
		if (i == ITIMER_REAL && value)
			value = value > now_us ? value - now_us : 1;
		s.timers[i].value = from_us(value);
		s.timers[i].interval = from_us(m->timers[i]->interval_us);
		if (value)
			CALL(&calls, "set an interval timer", SYS_setitimer, i, place(r->task, i),
				0);
	}
	TRY(remote_put(r->task, 0, &s, sizeof(s)));
	return calls_run(&calls, r->task, r->thread);
}

const struct kind kind_itimers = {
	.id = 8,
	.name = "interval timers",
	.scope = KIND_PROCESS,
	.stage = STAGE_TIMER,
	.msg = &migrate__kind__interval_timers__descriptor,
	.capture = itimers_capture,
	.finish = itimers_finish,
};
