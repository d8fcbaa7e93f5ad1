// SPDX-License-Identifier: Apache-2.0
/* Policy, nice, reset on fork, CPUs and I/O priority, per thread. */
#include "subject.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>

struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
};

struct state {
	struct attr attr;
	cpu_set_t cpus;
	long ioprio;
	int nice;
};

#define IOPRIO(class, level) ((class) << 13 | (level))

static atomic_int ready, go;

static void look(struct state *s)
{
	memset(s, 0, sizeof(*s));
	CHECK(syscall(SYS_sched_getattr, 0, &s->attr, sizeof(s->attr), 0) == 0);
	CHECK(sched_getaffinity(0, sizeof(s->cpus), &s->cpus) == 0);
	s->ioprio = syscall(SYS_ioprio_get, 1, 0);
	errno = 0;
	s->nice = getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid));
	CHECK(errno == 0);
}

static void wait_and_check(void)
{
	struct state before, after;

	look(&before);
	atomic_fetch_add(&ready, 1);
	while (!atomic_load(&go))
		subject_sleep_ms(1);
	look(&after);
	CHECK(memcmp(&before.attr, &after.attr, sizeof(before.attr)) == 0);
	CHECK(CPU_EQUAL(&before.cpus, &after.cpus));
	CHECK(before.ioprio == after.ioprio);
	CHECK(before.nice == after.nice);
}

static void *nice_thread(void *arg)
{
	(void)arg;
	CHECK(setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 7) == 0);
	CHECK(syscall(SYS_ioprio_set, 1, 0, IOPRIO(2, 6)) == 0);
	wait_and_check();
	return NULL;
}

static void *pinned_thread(void *arg)
{
	cpu_set_t now, one;

	(void)arg;
	CHECK(sched_getaffinity(0, sizeof(now), &now) == 0);
	CPU_ZERO(&one);
	for (int i = CPU_SETSIZE - 1; i >= 0; i--)
		if (CPU_ISSET(i, &now) && CPU_COUNT(&one) == 0)
			CPU_SET(i, &one);
	CHECK(sched_setaffinity(0, sizeof(one), &one) == 0);
	wait_and_check();
	return NULL;
}

/* Real time may be forbidden here (RLIMIT_RTPRIO, RT group scheduling): then it checks batch. */
static void *real_time_thread(void *arg)
{
	struct sched_param p = { .sched_priority = 3 };

	(void)arg;
	if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &p) < 0) {
		p.sched_priority = 0;
		CHECK(sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK, &p) == 0);
	}
	wait_and_check();
	return NULL;
}

static void *idle_thread(void *arg)
{
	struct sched_param p = { 0 };

	(void)arg;
	CHECK(sched_setscheduler(0, SCHED_IDLE, &p) == 0);
	wait_and_check();
	return NULL;
}

int main(void)
{
	void *(*const bodies[])(
		void *) = { nice_thread, pinned_thread, real_time_thread, idle_thread };
	pthread_t t[4];
	struct state before, after;

	for (int i = 0; i < 4; i++)
		CHECK(pthread_create(&t[i], NULL, bodies[i], NULL) == 0);
	while (atomic_load(&ready) < 4)
		subject_sleep_ms(1);
	look(&before);
	subject_wait_moved();
	look(&after);
	CHECK(memcmp(&before, &after, sizeof(before)) == 0);
	atomic_store(&go, 1);
	for (int i = 0; i < 4; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	return subject_ok();
}
