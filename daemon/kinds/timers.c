// SPDX-License-Identifier: Apache-2.0
/*
 * Timers of timer_create(2), one object each. /proc/PID/timers names them with what they do; what
 * is left of them only timer_gettime(2) knows, so the leader asks.
 *
 * On CLOCK_MONOTONIC and CLOCK_BOOTTIME the time at which they expire travels: the time namespace
 * makes these clocks go on without a jump, so it is exact however long the move takes. The kernel
 * does not tell whether a timer on CLOCK_REALTIME was set to a point in time or to a span; the rest
 * of the span travels, less what the move took. CPU clocks stand still meanwhile.
 *
 * Timer ids are the kernel's own choice: since 6.15 a process may ask for one
 * (PR_TIMER_CREATE_RESTORE_IDS), before that they count up, so timers are made and deleted until
 * the count is there.
 */
#include <errno.h>
#include <linux/prctl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/clock.h"
#include "kinds/calls.h"
#include "kinds/kind.h"
#include "timers.pb-c.h"

#ifndef PR_TIMER_CREATE_RESTORE_IDS
#define PR_TIMER_CREATE_RESTORE_IDS 77 /* Linux 6.15 */
#endif
#define RESTORE_OFF 0
#define RESTORE_ON  1
#define RESTORE_GET 2

#define TIMERS_MAX 65536
/* Timers that are made and deleted to reach one id. */
#define ID_STEPS_MAX 65536
#define NS_PER_S     1000000000LL

struct timespec64 {
	int64_t s, ns;
};
struct timer_spec {
	struct timespec64 interval, value;
};
/* struct sigevent of a 64-bit kernel. */
struct event {
	uint64_t value;
	int32_t signal, notify, tid;
	uint8_t rest[44];
};
_Static_assert(sizeof(struct event) == 64, "struct sigevent");

/* ---- source ---- */

/* How many are asked for at once. */
#define ASK_AT_ONCE 64

struct ask {
	struct timespec64 monotonic, boottime;
	struct timer_spec specs[ASK_AT_ONCE];
};
_Static_assert(sizeof(struct ask) <= REMOTE_SCRATCH_BYTES, "scratch too small");

static int64_t to_ns(struct timespec64 t)
{
	if (t.s > INT64_MAX / NS_PER_S - 1)
		return INT64_MAX;
	return t.s * NS_PER_S + t.ns;
}

static struct timespec64 from_ns(int64_t ns)
{
	return (struct timespec64){ ns / NS_PER_S, ns % NS_PER_S };
}

/* A sum that stays at the end of time. */
static int64_t add_ns(int64_t a, int64_t b)
{
	int64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static struct err *ask(
	struct capture *c, const struct proc_timer *timers, size_t n, struct ask *ret)
{
	uint64_t scratch = remote_scratch(c->task).v;
	struct calls calls = { 0 };

	CALL(&calls, "read the monotonic clock", SYS_clock_gettime, CLOCK_MONOTONIC,
		scratch + offsetof(struct ask, monotonic));
	CALL(&calls, "read the boottime clock", SYS_clock_gettime, CLOCK_BOOTTIME,
		scratch + offsetof(struct ask, boottime));
	for (size_t i = 0; i < n; i++)
		CALL(&calls, "ask what is left of a timer", SYS_timer_gettime,
			(uint64_t)timers[i].id,
			scratch + offsetof(struct ask, specs) + i * sizeof(struct timer_spec));
	TRY(calls_run(&calls, c->task, c->thread));
	return remote_get(c->task, 0, ret, sizeof(*ret));
}

static bool is_cpu_clock(int clock)
{
	return clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID;
}

static void emit(struct capture *c, const struct proc_timer *t)
{
	Migrate__Kind__Timer m = MIGRATE__KIND__TIMER__INIT;

	m.timer = t->id;
	m.clock = t->clock;
	m.notify = t->notify;
	m.signal = t->signal;
	m.value = t->sigval;
	if (t->notify & SIGEV_THREAD_ID)
		m.tid = t->target;
	/* Its thread has ended: it goes on without anybody to tell. */
	if (m.tid && !task_thread(c->task, m.tid)) {
		m.notify = SIGEV_NONE;
		m.tid = 0;
	}
	capture_emit(c, (uint64_t)(uint32_t)t->id, &m.base);
}

static int by_id(const void *a, const void *b)
{
	const struct proc_timer *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

static struct err *read_timers(struct capture *c, struct proc_timer **timers, size_t *n)
{
	TRY(proc_timers(c->arena, c->task->pid, timers, n));
	if (*n > TIMERS_MAX)
		return err_new(ERR_LIMIT, "it has %zu timers, more than %d", *n, TIMERS_MAX);
	/* Ascending: without a choice of ids the destination can only count up. */
	if (*n)
		qsort(*timers, *n, sizeof(**timers), by_id);
	return NULL;
}

static struct err *timer_capture(struct capture *c)
{
	struct proc_timer *timers = NULL;
	size_t n = 0;

	TRY(read_timers(c, &timers, &n));
	for (size_t i = 0; i < n; i++)
		emit(c, &timers[i]);
	return NULL;
}

/* NULL when it is not armed. */
static Migrate__Kind__TimerTimes__Time *time_of(struct capture *c, const struct proc_timer *t,
	const struct timer_spec *spec, const struct ask *now)
{
	Migrate__Kind__TimerTimes__Time *m;
	int64_t left = to_ns(spec->value);

	if (left == 0)
		return NULL;
	m = arena_alloc(c->arena, sizeof(*m));
	migrate__kind__timer_times__time__init(m);
	m->timer = t->id;
	m->interval_ns = to_ns(spec->interval);
	m->stands_still = is_cpu_clock(t->clock);
	m->absolute = t->clock == CLOCK_MONOTONIC || t->clock == CLOCK_BOOTTIME;
	m->expires_ns = left;
	if (m->absolute)
		m->expires_ns = add_ns(
			left, to_ns(t->clock == CLOCK_MONOTONIC ? now->monotonic : now->boottime));
	return m;
}

static struct err *times_capture(struct capture *c)
{
	Migrate__Kind__TimerTimes m = MIGRATE__KIND__TIMER_TIMES__INIT;
	struct proc_timer *timers = NULL;
	size_t n = 0;

	TRY(read_timers(c, &timers, &n));
	m.times = arena_array(c->arena, n, sizeof(*m.times));
	for (size_t at = 0; at < n; at += ASK_AT_ONCE) {
		size_t some = MIN(n - at, (size_t)ASK_AT_ONCE);
		struct ask now;

		TRY(ask(c, timers + at, some, &now));
		for (size_t i = 0; i < some; i++) {
			m.times[m.n_times] = time_of(c, &timers[at + i], &now.specs[i], &now);
			m.n_times += m.times[m.n_times] != NULL;
		}
	}
	capture_emit(c, 0, &m.base);
	return NULL;
}

/* ---- destination ---- */

/* What lies in the scratch memory while a timer is made. */
struct make {
	struct event event;
	int32_t id, pad;
};

static bool same_timer(const Migrate__Kind__Timer *m, const struct proc_timer *t)
{
	return t->clock == m->clock && t->notify == m->notify && t->signal == m->signal &&
	       t->sigval == m->value && (m->tid == 0 || t->target == m->tid);
}

/* Is it there by an earlier rebuild? One of that id with other attributes is deleted. */
static struct err *find_made(struct rebuild *r, const Migrate__Kind__Timer *m, bool *made)
{
	struct proc_timer *timers = NULL;
	size_t n = 0;

	*made = false;
	TRY(proc_timers(r->arena, r->task->pid, &timers, &n));
	for (size_t i = 0; i < n; i++) {
		if (timers[i].id != m->timer)
			continue;
		*made = same_timer(m, &timers[i]);
		if (!*made)
			TRY(REMOTE(r->task, r->thread, NULL, "delete a timer", SYS_timer_delete,
				(uint64_t)m->timer));
	}
	return NULL;
}

static struct err *put_event(struct rebuild *r, const Migrate__Kind__Timer *m)
{
	struct make make = { .event = { .value = m->value,
				     .signal = m->signal,
				     .notify = m->notify,
				     .tid = m->tid },
		.id = m->timer };

	return remote_put(r->task, 0, &make, sizeof(make));
}

static struct err *create(struct rebuild *r, const Migrate__Kind__Timer *m, int32_t *id)
{
	uint64_t scratch = remote_scratch(r->task).v;

	TRY(REMOTE(r->task, r->thread, NULL, "make a timer", SYS_timer_create,
		(uint64_t)(int64_t)m->clock, scratch + offsetof(struct make, event),
		scratch + offsetof(struct make, id)));
	return remote_get(r->task, offsetof(struct make, id), id, sizeof(*id));
}

static struct err *create_by_choice(struct rebuild *r, const Migrate__Kind__Timer *m)
{
	int32_t id = -1;
	struct err *e;

	TRY(REMOTE(r->task, r->thread, NULL, "choose the ids of timers", SYS_prctl,
		PR_TIMER_CREATE_RESTORE_IDS, RESTORE_ON));
	e = create(r, m, &id);
	if (!e)
		e = REMOTE(r->task, r->thread, NULL, "no longer choose the ids of timers",
			SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS, RESTORE_OFF);
	if (!e && id != m->timer)
		e = err_new(ERR_BUG, "asked for timer %d and got %d", m->timer, id);
	return e;
}

/* Makes and deletes until the id comes. */
static struct err *create_by_counting(struct rebuild *r, const Migrate__Kind__Timer *m)
{
	for (int step = 0; step < ID_STEPS_MAX; step++) {
		int32_t id = -1;

		TRY(create(r, m, &id));
		if (id == m->timer)
			return NULL;
		TRY(REMOTE(r->task, r->thread, NULL, "delete a timer", SYS_timer_delete,
			(uint64_t)id));
		if (id > m->timer)
			break;
	}
	return err_hint(
		err_new(ERR_LIMIT, "the kernel there does not give out the timer id %d", m->timer),
		"Linux 6.15 and later can be asked for an id");
}

static struct err *timer_rebuild(
	struct rebuild *r, const struct object *o, const void *msg, int *fd unused_arg)
{
	const Migrate__Kind__Timer *m = msg;
	struct call probe[] = {
		{ .nr = SYS_timer_gettime,
			.args = { (uint64_t)m->timer, remote_scratch(r->task).v } },
		{ .nr = SYS_prctl, .args = { PR_TIMER_CREATE_RESTORE_IDS, RESTORE_GET } },
	};
	bool made = false;

	if (m->timer < 0 || (uint64_t)m->timer != o->id)
		return err_new(ERR_PEER, "timer %d makes no sense", m->timer);
	TRY(remote_run(r->task, r->thread, probe, ARRAY_LEN(probe)));
	if (probe[0].ret == 0)
		TRY(find_made(r, m, &made));
	if (made)
		return NULL;
	TRY(put_event(r, m));
	return probe[1].ret >= 0 ? create_by_choice(r, m) : create_by_counting(r, m);
}

static struct err *timer_remove(
	struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Timer *m = msg;

	return REMOTE(
		r->task, r->thread, NULL, "delete a timer", SYS_timer_delete, (uint64_t)m->timer);
}

/* How many are armed at once. */
#define ARM_AT_ONCE 64

static struct timer_spec spec_of(const struct rebuild *r, const Migrate__Kind__TimerTimes__Time *m)
{
	int64_t at = m->expires_ns;

	if (!m->absolute && !m->stands_still)
		at -= r->elapsed_ns;
	/* 0 would disarm it: it is due now. */
	return (struct timer_spec){ .value = from_ns(MAX(at, 1)),
		.interval = from_ns(m->interval_ns) };
}

static struct err *times_finish(
	struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__TimerTimes *m = msg;
	struct timer_spec specs[ARM_AT_ONCE];

	_Static_assert(sizeof(specs) <= REMOTE_SCRATCH_BYTES, "scratch too small");
	for (size_t at = 0; at < m->n_times; at += ARM_AT_ONCE) {
		size_t some = MIN(m->n_times - at, (size_t)ARM_AT_ONCE);
		struct calls calls = { 0 };

		for (size_t i = 0; i < some; i++) {
			const Migrate__Kind__TimerTimes__Time *t = m->times[at + i];

			if (t->interval_ns < 0 || t->expires_ns < 0)
				return err_new(ERR_PEER, "timer %d makes no sense", t->timer);
			specs[i] = spec_of(r, t);
			CALL(&calls, "arm a timer", SYS_timer_settime, (uint64_t)t->timer,
				t->absolute ? TIMER_ABSTIME : 0,
				remote_scratch(r->task).v + i * sizeof(specs[0]), 0);
		}
		TRY(remote_put(r->task, 0, specs, some * sizeof(specs[0])));
		TRY(calls_run(&calls, r->task, r->thread));
	}
	return NULL;
}

const struct kind kind_timer = {
	.id = 7,
	.name = "timer",
	.scope = KIND_PROCESS,
	.stage = STAGE_TIMER,
	.msg = &migrate__kind__timer__descriptor,
	.capture = timer_capture,
	.rebuild = timer_rebuild,
	.remove = timer_remove,
};

const struct kind kind_timer_times = {
	.id = 13,
	.name = "times of timers",
	.scope = KIND_PROCESS,
	.stage = STAGE_TIMER,
	.msg = &migrate__kind__timer_times__descriptor,
	.capture = times_capture,
	.finish = times_finish,
};
