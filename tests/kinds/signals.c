// SPDX-License-Identifier: Apache-2.0
/*
 * Signal actions with their flags and masks, masks of threads, and pending signals with what came
 * with them, of the process and of a thread.
 * Kinds: signals, pending.
 */
#include "subject.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

static atomic_int ready, go;
static volatile int seen_value, seen_nested;

static void on_rt(int sig, siginfo_t *info, void *context)
{
	sigset_t now;

	(void)sig;
	(void)context;
	seen_value = info->si_value.sival_int;
	sigprocmask(SIG_SETMASK, NULL, &now);
	seen_nested = sigismember(&now, SIGUSR2) && !sigismember(&now, SIGRTMIN + 1);
}

static void queue(int sig, int value)
{
	CHECK(sigqueue(getpid(), sig, (union sigval){ .sival_int = value }) == 0);
}

/* What waits, in order, with its value and origin. */
static void expect(int sig, int value, int code)
{
	siginfo_t info;
	sigset_t set;
	struct timespec none = { 0, 0 };

	sigemptyset(&set);
	sigaddset(&set, sig);
	CHECK(sigtimedwait(&set, &info, &none) == sig);
	CHECK(info.si_code == code);
	CHECK(info.si_pid == getpid());
	if (code == SI_QUEUE)
		CHECK(info.si_value.sival_int == value);
}

static void *thread(void *arg)
{
	sigset_t set;

	(void)arg;
	/* Signals of the process go to the other thread. */
	sigfillset(&set);
	sigdelset(&set, SIGTERM);
	CHECK(pthread_sigmask(SIG_SETMASK, &set, NULL) == 0);
	CHECK(pthread_sigqueue(pthread_self(), SIGRTMIN + 5, (union sigval){ .sival_int = 55 }) ==
		0);
	CHECK(pthread_kill(pthread_self(), SIGUSR1) == 0);
	atomic_store(&ready, 1);
	while (!atomic_load(&go))
		subject_sleep_ms(1);
	CHECK(pthread_sigmask(SIG_SETMASK, NULL, &set) == 0);
	CHECK(sigismember(&set, SIGRTMIN + 5) && sigismember(&set, SIGUSR1));
	CHECK(!sigismember(&set, SIGTERM));
	expect(SIGRTMIN + 5, 55, SI_QUEUE);
	expect(SIGUSR1, 0, SI_USER); /* glibc's name for SI_TKILL */
	return NULL;
}

int main(void)
{
	struct sigaction act = { .sa_sigaction = on_rt, .sa_flags = SA_SIGINFO | SA_RESTART }, now;
	sigset_t block, pending;
	pthread_t t;

	CHECK(pthread_create(&t, NULL, thread, NULL) == 0);
	while (!atomic_load(&ready))
		subject_sleep_ms(1);
	sigemptyset(&act.sa_mask);
	sigaddset(&act.sa_mask, SIGUSR2);
	CHECK(sigaction(SIGRTMIN + 3, &act, NULL) == 0);
	CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
	CHECK(signal(SIGURG, SIG_IGN) != SIG_ERR);
	sigemptyset(&block);
	sigaddset(&block, SIGRTMIN + 2);
	sigaddset(&block, SIGHUP);
	sigaddset(&block, SIGURG);
	sigaddset(&block, SIGWINCH);
	CHECK(sigprocmask(SIG_BLOCK, &block, NULL) == 0);
	queue(SIGRTMIN + 2, 7);
	queue(SIGRTMIN + 2, 8);
	queue(SIGRTMIN + 2, 9);
	queue(SIGHUP, 10);
	CHECK(kill(getpid(), SIGWINCH) == 0);
	subject_wait_moved();
	CHECK(sigprocmask(SIG_SETMASK, NULL, &now.sa_mask) == 0);
	for (int sig = 1; sig <= 64; sig++) /* glibc keeps two for itself */
		if (sig != 32 && sig != 33)
			CHECK(sigismember(&now.sa_mask, sig) == sigismember(&block, sig));
	CHECK(sigpending(&pending) == 0);
	CHECK(sigismember(&pending, SIGHUP) && !sigismember(&pending, SIGTERM));
	CHECK(!sigismember(&pending, SIGURG));
	expect(SIGRTMIN + 2, 7, SI_QUEUE);
	expect(SIGRTMIN + 2, 8, SI_QUEUE);
	expect(SIGRTMIN + 2, 9, SI_QUEUE);
	expect(SIGHUP, 10, SI_QUEUE);
	expect(SIGWINCH, 0, SI_USER);
	CHECK(sigpending(&pending) == 0 && sigisemptyset(&pending));
	CHECK(sigaction(SIGRTMIN + 3, NULL, &now) == 0);
	CHECK(now.sa_sigaction == on_rt &&
		(now.sa_flags & (SA_SIGINFO | SA_RESTART)) == (SA_SIGINFO | SA_RESTART));
	CHECK(sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_IGN);
	CHECK(sigaction(SIGTERM, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
	queue(SIGRTMIN + 3, 42);
	CHECK(seen_value == 42 && seen_nested == 1);
	atomic_store(&go, 1);
	CHECK(pthread_join(t, NULL) == 0);
	return subject_ok();
}
