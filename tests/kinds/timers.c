// SPDX-License-Identifier: Apache-2.0
/*
 * Timers of timer_create and setitimer: those that are far away have what was left of them, those
 * that were due meanwhile have fired, ids and targets are the same, monotonic time went on without
 * a jump.
 * Kinds: timer, itimers, timer_times.
 */
#include "subject.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/time.h>

#define FAR_S     1000
#define TIMER_IDS 5
/* More than any move and any load takes. */
#define SLACK_S 120

static atomic_int fired[65], value_of_thread_timer, ready, go, thread_tid, fired_in;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)context;
	atomic_fetch_add(&fired[sig], 1);
	if (sig == SIGRTMIN + 6) {
		atomic_store(&value_of_thread_timer, info->si_value.sival_int);
		atomic_store(&fired_in, (int)syscall(SYS_gettid));
	}
}

static void catch (int sig)
{
	struct sigaction act = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };

	CHECK(sigaction(sig, &act, NULL) == 0);
}

static long long now_ns(clockid_t clock)
{
	struct timespec t;

	CHECK(clock_gettime(clock, &t) == 0);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int make(clockid_t clock, int notify, int sig, int value, int tid)
{
	struct sigevent ev = { .sigev_notify = notify, .sigev_signo = sig };
	int id;

	ev.sigev_value.sival_int = value;
	ev._sigev_un._tid = tid;
	/* By hand: glibc hides the id. */
	CHECK(syscall(SYS_timer_create, clock, &ev, &id) == 0);
	return id;
}

static void arm(int id, long first_ms, long every_ms)
{
	struct itimerspec spec = { .it_value = { first_ms / 1000, first_ms % 1000 * 1000000 },
		.it_interval = { every_ms / 1000, every_ms % 1000 * 1000000 } };

	CHECK(syscall(SYS_timer_settime, id, 0, &spec, NULL) == 0);
}

static void *thread(void *arg)
{
	(void)arg;
	atomic_store(&thread_tid, (int)syscall(SYS_gettid));
	atomic_store(&ready, 1);
	while (!atomic_load(&go))
		subject_sleep_ms(1);
	return NULL;
}

static void check_far(int id, long interval_s)
{
	struct itimerspec left;

	CHECK(syscall(SYS_timer_gettime, id, &left) == 0);
	CHECK(left.it_value.tv_sec < FAR_S && left.it_value.tv_sec > FAR_S - SLACK_S);
	CHECK(left.it_interval.tv_sec == interval_s);
}

static void wait_for(atomic_int *what, int at_least)
{
	for (int i = 0; i < 5000 && atomic_load(what) < at_least; i++)
		subject_sleep_ms(2);
	CHECK(atomic_load(what) >= at_least);
}

int main(void)
{
	struct itimerval real = { .it_value = { FAR_S, 0 }, .it_interval = { 7, 0 } }, left;
	struct itimerval prof = { .it_value = { FAR_S, 0 } };
	long long mono, boot, real_time;
	int ids[TIMER_IDS], gap;
	pthread_t t;

	CHECK(pthread_create(&t, NULL, thread, NULL) == 0);
	wait_for(&ready, 1);
	catch (SIGRTMIN + 6);
	catch (SIGRTMIN + 7);
	catch (SIGALRM);
	ids[0] = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 7, 1, 0);
	gap = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0);
	ids[1] = make(CLOCK_REALTIME, SIGEV_NONE, 0, 2, 0);
	ids[2] = make(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 6, 3, atomic_load(&thread_tid));
	ids[3] = make(CLOCK_PROCESS_CPUTIME_ID, SIGEV_NONE, 0, 4, 0);
	ids[4] = make(CLOCK_BOOTTIME, SIGEV_NONE, 0, 5, 0);
	CHECK(syscall(SYS_timer_delete, gap) == 0);
	arm(ids[0], 100, 100); /* seldom enough not to be pending when somebody looks */
	arm(ids[1], FAR_S * 1000L, 3000);
	arm(ids[3], FAR_S * 1000L, 0);
	arm(ids[4], FAR_S * 1000L, 0);
	CHECK(setitimer(ITIMER_REAL, &real, NULL) == 0);
	CHECK(setitimer(ITIMER_PROF, &prof, NULL) == 0);
	mono = now_ns(CLOCK_MONOTONIC);
	boot = now_ns(CLOCK_BOOTTIME);
	real_time = now_ns(CLOCK_REALTIME);
	subject_wait_moved();
	/* Both went on by as much as the wall clock did, within what hosts may be apart. */
	real_time = now_ns(CLOCK_REALTIME) - real_time;
	CHECK(llabs(now_ns(CLOCK_MONOTONIC) - mono - real_time) < 500000000LL);
	CHECK(llabs(now_ns(CLOCK_BOOTTIME) - boot - real_time) < 500000000LL);
	CHECK(atomic_load(&fired[SIGALRM]) == 0);
	check_far(ids[1], 3);
	check_far(ids[3], 0);
	check_far(ids[4], 0);
	CHECK(getitimer(ITIMER_REAL, &left) == 0);
	CHECK(left.it_value.tv_sec < FAR_S && left.it_value.tv_sec > FAR_S - SLACK_S);
	CHECK(left.it_interval.tv_sec == 7);
	CHECK(getitimer(ITIMER_PROF, &left) == 0 && left.it_value.tv_sec > FAR_S - SLACK_S);
	CHECK(getitimer(ITIMER_VIRTUAL, &left) == 0 && left.it_value.tv_sec == 0);
	wait_for(&fired[SIGRTMIN + 7], atomic_load(&fired[SIGRTMIN + 7]) + 3);
	arm(ids[0], 0, 0);
	/* Fires in its thread, although that was made anew. */
	arm(ids[2], 5, 0);
	wait_for(&value_of_thread_timer, 3);
	CHECK(atomic_load(&fired_in) == atomic_load(&thread_tid));
	/* Ids that are not there are not there. */
	CHECK(syscall(SYS_timer_delete, gap) == -1 && errno == EINVAL);
	for (int i = 0; i < TIMER_IDS; i++)
		CHECK(syscall(SYS_timer_delete, ids[i]) == 0);
	real.it_value.tv_sec = 0;
	real.it_value.tv_usec = 5000;
	CHECK(setitimer(ITIMER_REAL, &real, NULL) == 0);
	wait_for(&fired[SIGALRM], 1);
	atomic_store(&go, 1);
	CHECK(pthread_join(t, NULL) == 0);
	return subject_ok();
}
