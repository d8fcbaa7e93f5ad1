// SPDX-License-Identifier: Apache-2.0
/* Holding: who is refused, what happens meanwhile, and that no signal is lost by it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/proc.h"
#include "kernel/remote.h"
#include "tests/kernel/check.h"
#include "tests/kernel/ns.h"
#include "tests/kernel/target.h"

#define DEADLINE deadline_in(60000000)

static void end(pid_t pid)
{
	kill_one(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static pid_t sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid;
}

static void wait_state(pid_t pid, char want)
{
	autoarena struct arena *a = arena_new();
	struct proc_stat st;

	for (int i = 0; i < 1000; i++) {
		ok(proc_stat(a, pid, 0, &st));
		if (st.state == want)
			return;
		usleep(1000);
	}
	fail();
}

/* ---- refusals ---- */

static void test_gone(void **state)
{
	pid_t pid = sleeper();
	autotask struct task *t = NULL;

	(void)state;
	ok(task_open(pid, &t));
	end(pid);
	fails(task_check_alive(t), ERR_GONE);
	fails(task_hold(t, DEADLINE), ERR_GONE);
	task_free(take(&t));
	fails(task_open(pid, &t), ERR_GONE);
	fails(task_open(-1, &t), ERR_INVALID);
	assert_null(t);
}

static void test_stopped(void **state)
{
	pid_t pid = sleeper();
	autotask struct task *t = NULL;

	(void)state;
	kill_one(pid, SIGSTOP);
	wait_state(pid, 'T');
	ok(task_open(pid, &t));
	for (int i = 0; i < 3; i++) {
		ok(task_hold(t, DEADLINE));
		assert_int_equal(t->stop_signal, SIGSTOP);
		ok(task_let_go(t));
		wait_state(pid, 'T');
	}
	kill_one(pid, SIGCONT);
	wait_state(pid, 'S');
	ok(task_hold(t, DEADLINE));
	assert_int_equal(t->stop_signal, 0);
	ok(task_let_go(t));
	end(pid);
}

static void test_traced(void **state)
{
	pid_t pid = sleeper(), other;
	autotask struct task *t = NULL;
	int ready[2];
	char c;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	other = fork();
	if (other == 0) {
		if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	ok(task_open(pid, &t));
	fails(task_hold(t, DEADLINE), ERR_DENIED);
	end(other);
	ok(task_hold(t, DEADLINE));
	ok(task_let_go(t));
	end(pid);
	close(ready[0]);
	close(ready[1]);
}

static void *stay(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return NULL;
}

static void test_leader_ended(void **state)
{
	pid_t pid = fork();
	autotask struct task *t = NULL;

	(void)state;
	if (pid == 0) {
		pthread_t id;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pthread_create(&id, NULL, stay, NULL);
		pthread_exit(NULL);
	}
	wait_state(pid, 'Z');
	fails(task_open(pid, &t), ERR_UNSUPPORTED);
	assert_null(t);
	end(pid);
}

/* A parent in vfork() sleeps in the kernel until its child is done. */
static void test_does_not_stop(void **state)
{
	pid_t pid = fork();
	autotask struct task *t = NULL;

	(void)state;
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (vfork() == 0) {
			usleep(300000);
			_exit(0);
		}
		for (;;)
			pause();
	}
	wait_state(pid, 'D');
	ok(task_open(pid, &t));
	fails(task_hold(t, deadline_in(50000)), ERR_TIMEOUT);
	ok(task_hold(t, DEADLINE)); /* later it can be held */
	ok(task_let_go(t));
	wait_state(pid, 'S');
	end(pid);
}

static void test_killed_while_held(void **state)
{
	struct target_shared *s;
	pid_t pid = target_start(&s);
	autotask struct task *t = NULL;
	struct call c = { .nr = SYS_getpid };

	(void)state;
	ok(task_open(pid, &t));
	ok(task_hold(t, DEADLINE));
	ok(remote_run(t, t->threads[2], &c, 1));
	kill_one(pid, SIGKILL);
	fails(remote_run(t, task_leader(t), &c, 1), ERR_GONE);
	fails(task_let_go(t), ERR_GONE);
	assert_false(t->held);
	ok(task_wait_end(t, DEADLINE));
	target_end(pid, s);
}

/* ---- what goes on meanwhile ---- */

static void *short_life(void *arg)
{
	(void)arg;
	return NULL;
}

/* Threads come and go all the time. */
static void test_churn(void **state)
{
	struct target_shared *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid = fork();
	autotask struct task *t = NULL;

	(void)state;
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			pthread_t id[4];

			for (int i = 0; i < 4; i++)
				if (pthread_create(&id[i], NULL, short_life, NULL) != 0)
					s->bad++;
			for (int i = 0; i < 4; i++)
				pthread_join(id[i], NULL);
			s->beats[0]++;
		}
	}
	ok(task_open(pid, &t));
	for (int i = 0; i < 300; i++) {
		uint64_t beats;

		ok(task_hold(t, DEADLINE));
		beats = s->beats[0];
		for (size_t k = 0; k < t->n_threads; k++) {
			int64_t tid;

			ok(REMOTE(t, t->threads[k], &tid, "gettid", SYS_gettid, 0));
			assert_int_equal(tid, t->threads[k]->tid);
		}
		assert_int_equal(beats, s->beats[0]);
		ok(task_let_go(t));
		if (i % 50 == 0) {
			for (int ms = 0; s->beats[0] == beats && ms < 10000; ms++)
				usleep(1000);
			assert_true(s->beats[0] > beats);
		}
	}
	assert_int_equal(s->bad, 0);
	target_end(pid, s);
}

/* ---- signals ---- */

struct counts {
	uint32_t ready, usr1, rt, rt_order_bad, next, usr2, ppoll_eintr, urg, urg_value;
};

static struct counts *counts_self;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	struct counts *n = counts_self;

	(void)context;
	if (sig == SIGUSR1)
		n->usr1++;
	if (sig == SIGUSR2)
		n->usr2++;
	if (sig == SIGURG || sig == SIGWINCH) {
		n->urg++;
		n->urg_value = (uint32_t)info->si_value.sival_int;
	}
	if (sig == SIGRTMIN) {
		if ((uint32_t)info->si_value.sival_int != n->next++)
			n->rt_order_bad++;
		n->rt++;
	}
}

static void *ppoll_loop(void *arg)
{
	struct counts *n = arg;
	sigset_t none;

	sigfillset(&none);
	sigdelset(&none, SIGUSR2);
	for (;;)
		if (ppoll(NULL, 0, NULL, &none) < 0 && errno == EINTR)
			n->ppoll_eintr++;
	return NULL;
}

/* Everything is blocked but in ppoll (SIGUSR2) and, when `open`, in the main thread. */
static pid_t receiver(struct counts **ret, bool open)
{
	struct counts *n =
		mmap(NULL, sizeof(*n), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid = fork();

	if (pid == 0) {
		const int sigs[] = { SIGUSR1, SIGUSR2, SIGURG, SIGWINCH, SIGRTMIN };
		struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
		sigset_t all;
		pthread_t id;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		counts_self = n;
		for (size_t i = 0; i < ARRAY_LEN(sigs); i++)
			sigaction(sigs[i], &sa, NULL);
		sigfillset(&all);
		sigprocmask(SIG_SETMASK, &all, NULL);
		pthread_create(&id, NULL, ppoll_loop, n);
		if (open) {
			sigdelset(&all, SIGUSR1);
			sigdelset(&all, SIGURG);
			sigdelset(&all, SIGWINCH);
			sigdelset(&all, SIGRTMIN);
			sigprocmask(SIG_SETMASK, &all, NULL);
		}
		n->ready = 1;
		for (;;)
			open ? usleep(100000) : (int)pause();
	}
	while (!__atomic_load_n(&n->ready, __ATOMIC_SEQ_CST))
		usleep(500);
	usleep(5000);
	*ret = n;
	return pid;
}

static void send_value(pid_t pid, int sig, int value)
{
	while (sigqueue(pid, sig, (union sigval){ .sival_int = value }) < 0)
		usleep(100);
}

static void hold_and_call(struct task *t)
{
	ok(task_hold(t, DEADLINE));
	for (size_t k = 0; k < t->n_threads; k++) {
		int64_t pid;

		ok(REMOTE(t, t->threads[k], &pid, "getpid", SYS_getpid, 0));
		assert_int_equal(pid, t->pid);
	}
}

/* A storm from another process while we hold and call: all real-time signals come, in order. */
static void test_signal_storm(void **state)
{
	struct counts *n;
	pid_t pid = receiver(&n, true), sender;
	autotask struct task *t = NULL;
	const int many = 5000;

	(void)state;
	ok(task_open(pid, &t));
	sender = fork();
	if (sender == 0) {
		for (int i = 0; i < many; i++) {
			send_value(pid, SIGRTMIN, i);
			kill_one(pid, i % 2 ? SIGURG : SIGWINCH);
			if (i % 16 == 0)
				usleep(200);
		}
		_exit(0);
	}
	while (waitpid(sender, NULL, WNOHANG) == 0) {
		hold_and_call(t);
		ok(task_let_go(t));
		usleep(100);
	}
	for (int i = 0; i < 500 && n->rt < (uint32_t)many; i++)
		usleep(2000);
	assert_int_equal(n->rt, many);
	assert_int_equal(n->rt_order_bad, 0);
	assert_true(n->urg > 0);
	end(pid);
}

/* The signal that ends batches is pending, blocked, before and during the hold. */
static void test_pending_stays(void **state)
{
	struct counts *n;
	pid_t pid = receiver(&n, false);
	const uint64_t both = 1ULL << (SIGURG - 1) | 1ULL << (SIGWINCH - 1);
	autotask struct task *t = NULL;
	autoarena struct arena *a = arena_new();
	struct proc_status st;

	(void)state;
	ok(task_open(pid, &t));
	send_value(pid, SIGURG, 42);
	hold_and_call(t);
	send_value(pid, SIGWINCH, 43);
	for (size_t k = 0; k < 2 * t->n_threads; k++)
		ok(REMOTE(t, t->threads[k / 2], NULL, "getpid", SYS_getpid, 0));
	ok(task_let_go(t));
	hold_and_call(t);
	ok(task_let_go(t));
	ok(proc_status(a, pid, 0, &st));
	assert_int_equal(st.sig_shared_pending & both, both);
	assert_int_equal(st.sig_pending & both, 0);
	assert_int_equal(n->urg, 0);
	end(pid);
}

/* A thread in ppoll with a mask of its own: the mask outside is what we see, and its signal wakes
 * it once. */
static void test_temporary_mask(void **state)
{
	struct counts *n;
	pid_t pid = receiver(&n, false);
	autotask struct task *t = NULL;

	(void)state;
	ok(task_open(pid, &t));
	for (uint32_t i = 0; i < 50; i++) {
		hold_and_call(t);
		for (size_t k = 0; k < t->n_threads; k++)
			assert_true(t->threads[k]->state.sigmask >> (SIGUSR2 - 1) & 1);
		if (i % 2)
			kill_one(pid, SIGUSR2);
		ok(task_let_go(t));
		if (i % 2 == 0)
			kill_one(pid, SIGUSR2);
		for (int k = 0; k < 1000 && n->ppoll_eintr <= i; k++)
			usleep(200);
		assert_int_equal(n->ppoll_eintr, i + 1);
		assert_int_equal(n->usr2, i + 1);
	}
	end(pid);
}

/* No room in the signal queue: only numbers come through, and ours is still known. */
static void test_full_queue(void **state)
{
	const struct rlimit none = { 0, 0 };
	struct counts *n;
	pid_t pid = receiver(&n, true);
	autotask struct task *t = NULL;

	(void)state;
	assert_int_equal(prlimit(pid, RLIMIT_SIGPENDING, &none, NULL), 0);
	ok(task_open(pid, &t));
	for (int i = 0; i < 20; i++) {
		hold_and_call(t);
		ok(task_let_go(t));
	}
	usleep(5000);
	assert_int_equal(n->urg, 0);
	end(pid);
}

/* SIGSTOP from outside while a batch runs: the process stops when we have let go, not before. */
static void test_stop_meanwhile(void **state)
{
	pid_t pid = sleeper();
	autotask struct task *t = NULL;

	(void)state;
	ok(task_open(pid, &t));
	hold_and_call(t);
	kill_one(pid, SIGSTOP);
	for (int i = 0; i < 3; i++)
		ok(REMOTE(t, task_leader(t), NULL, "getpid", SYS_getpid, 0));
	ok(task_let_go(t));
	wait_state(pid, 'T');
	kill_one(pid, SIGCONT);
	wait_state(pid, 'S');
	end(pid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_stopped),
		cmocka_unit_test(test_traced),
		cmocka_unit_test(test_leader_ended),
		cmocka_unit_test(test_does_not_stop),
		cmocka_unit_test(test_killed_while_held),
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_signal_storm),
		cmocka_unit_test(test_pending_stays),
		cmocka_unit_test(test_temporary_mask),
		cmocka_unit_test(test_full_queue),
		cmocka_unit_test(test_stop_meanwhile),
	};

	ns_enter();
	alarm(600);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
