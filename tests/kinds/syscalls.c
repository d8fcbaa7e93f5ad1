// SPDX-License-Identifier: Apache-2.0
/*
 * System calls that the move interrupts. A thread in each of them; none may see an error, end early
 * or sleep longer than it should. Two begin anew, a sleep without a remainder and a poll with a
 * timeout, whose rest only the old kernel knew.
 */
#include "subject.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

/* Longer than a move takes; the launcher waits longer still. */
#define LONG_MS 1500

static atomic_int go;
static int hold[2]; /* nobody writes before the end */
static uint32_t word;

static long long now_ms(void)
{
	struct timespec t;

	CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static struct timespec in_ms(long ms)
{
	long long at = now_ms() + ms;

	return (struct timespec){ at / 1000, at % 1000 * 1000000 };
}

static void check_slept(long long since)
{
	long long slept = now_ms() - since;

	/* 10 ms: both ends of the move round to their own clock ticks. */
	if (slept < LONG_MS - 10 || slept > LONG_MS + 1000)
		dprintf(1, "slept %lld ms\n", slept);
	CHECK(slept >= LONG_MS - 10 && slept <= LONG_MS + 1000);
}

static void *nanosleep_rem(void *arg)
{
	while (!atomic_load(&go)) {
		struct timespec left = { LONG_MS / 1000, LONG_MS % 1000 * 1000000 };
		long long since = now_ms();

		CHECK(nanosleep(&left, &left) == 0);
		check_slept(since);
	}
	return arg;
}

static void *clock_nanosleep_rem(void *arg)
{
	while (!atomic_load(&go)) {
		struct timespec span = { LONG_MS / 1000, LONG_MS % 1000 * 1000000 }, left = { 0 };
		long long since = now_ms();

		CHECK(clock_nanosleep(CLOCK_BOOTTIME, 0, &span, &left) == 0);
		check_slept(since);
	}
	return arg;
}

static void *clock_nanosleep_abs(void *arg)
{
	while (!atomic_load(&go)) {
		struct timespec at = in_ms(LONG_MS);
		long long since = now_ms();

		CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == 0);
		check_slept(since);
	}
	return arg;
}

static void *nanosleep_plain(void *arg)
{
	struct timespec span = { LONG_MS / 1000, LONG_MS % 1000 * 1000000 };

	while (!atomic_load(&go))
		CHECK(nanosleep(&span, NULL) == 0);
	return arg;
}

static void *futex_wait(void *arg)
{
	while (!atomic_load(&go))
		CHECK(syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0) == 0);
	return arg;
}

static void *futex_until(void *arg)
{
	while (!atomic_load(&go)) {
		struct timespec at = in_ms(LONG_MS);
		long long since = now_ms();

		CHECK(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 0, &at,
			      NULL, 1) == -1);
		CHECK(errno == ETIMEDOUT);
		check_slept(since);
	}
	return arg;
}

static void *condition(void *arg)
{
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t c = PTHREAD_COND_INITIALIZER;

	while (!atomic_load(&go)) {
		struct timespec at = in_ms(LONG_MS);
		long long since = now_ms();

		CHECK(pthread_mutex_lock(&m) == 0);
		CHECK(pthread_cond_clockwait(&c, &m, CLOCK_MONOTONIC, &at) == ETIMEDOUT);
		CHECK(pthread_mutex_unlock(&m) == 0);
		check_slept(since);
	}
	return arg;
}

static void *poll_ever(void *arg)
{
	struct pollfd p = { hold[0], POLLIN, 0 };

	CHECK(poll(&p, 1, -1) == 1 && p.revents == POLLIN);
	CHECK(atomic_load(&go));
	return arg;
}

static void *poll_while(void *arg)
{
	struct pollfd p = { hold[0], POLLIN, 0 };

	while (!atomic_load(&go)) {
		CHECK(poll(&p, 1, 60000) == 1);
	}
	return arg;
}

static void *ppoll_mask(void *arg)
{
	struct pollfd p = { hold[0], POLLIN, 0 };
	struct timespec long_time = { 600, 0 };
	sigset_t mask, now;

	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	CHECK(ppoll(&p, 1, &long_time, &mask) == 1);
	CHECK(pthread_sigmask(SIG_SETMASK, NULL, &now) == 0 && !sigismember(&now, SIGUSR1));
	return arg;
}

static void *read_pipe(void *arg)
{
	char c;

	CHECK(read(hold[0], &c, 1) == 1 && c == 'x');
	CHECK(atomic_load(&go));
	return arg;
}

static void *epoll_ever(void *arg)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(0);

	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, hold[0], &ev) == 0);
	CHECK(epoll_wait(ep, &ev, 1, -1) == 1);
	CHECK(atomic_load(&go));
	close(ep);
	return arg;
}

static void nothing(int sig)
{
	(void)sig;
}

static void *suspend(void *arg)
{
	sigset_t none, block;

	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR2);
	CHECK(signal(SIGUSR2, nothing) != SIG_ERR);
	CHECK(pthread_sigmask(SIG_BLOCK, &block, NULL) == 0);
	CHECK(sigsuspend(&none) == -1 && errno == EINTR);
	CHECK(atomic_load(&go)); /* the signal, not the move */
	CHECK(pthread_sigmask(SIG_SETMASK, NULL, &none) == 0 && sigismember(&none, SIGUSR2));
	return arg;
}

static void *wait_signal(void *arg)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 4);
	CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
	CHECK(sigwaitinfo(&set, NULL) == SIGRTMIN + 4);
	return arg;
}

static void *(*const bodies[])(void *) = { nanosleep_rem, clock_nanosleep_rem, clock_nanosleep_abs,
	nanosleep_plain, futex_wait, futex_until, condition, poll_ever, poll_while, ppoll_mask,
	read_pipe, epoll_ever, suspend, wait_signal };

static atomic_int started;

/* Begins when the C library is done with the thread. */
static void *start(void *body)
{
	atomic_fetch_add(&started, 1);
	return bodies[(uintptr_t)body](NULL);
}

int main(void)
{
	enum { N = sizeof(bodies) / sizeof(bodies[0]) };
	pthread_t t[N];

	CHECK(pipe(hold) == 0);
	for (int i = 0; i < N; i++)
		CHECK(pthread_create(&t[i], NULL, start, (void *)(uintptr_t)i) == 0);
	while (atomic_load(&started) < N)
		subject_sleep_ms(1);
	subject_sleep_ms(200); /* until each is where it should be */
	subject_wait_moved();
	atomic_store(&go, 1);
	/* A byte each for those that wait for one: the readers of the state leave it there. */
	CHECK(write(hold[1], "x", 1) == 1);
	for (int i = 0; i < 200; i++) {
		syscall(SYS_futex, &word, FUTEX_WAKE, 100, NULL, NULL, 0);
		subject_sleep_ms(1);
	}
	for (int i = 0; i < N; i++) {
		if (bodies[i] == suspend)
			CHECK(pthread_kill(t[i], SIGUSR2) == 0);
		if (bodies[i] == wait_signal)
			CHECK(pthread_kill(t[i], SIGRTMIN + 4) == 0);
		if (bodies[i] == read_pipe || bodies[i] == poll_ever || bodies[i] == ppoll_mask ||
			bodies[i] == poll_while || bodies[i] == epoll_ever)
			CHECK(write(hold[1], "x", 1) == 1);
		CHECK(pthread_join(t[i], NULL) == 0);
	}
	return subject_ok();
}
