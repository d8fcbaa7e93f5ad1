// SPDX-License-Identifier: Apache-2.0
/* Holding and remote calls in a running process, and that it notices nothing. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "kernel/proc.h"
#include "kernel/remote.h"
#include "kernel/trace.h"
#include "tests/kernel/check.h"
#include "tests/kernel/filter.h"
#include "tests/kernel/ns.h"
#include "tests/kernel/target.h"

#define DEADLINE deadline_in(60000000)

static void unharmed(pid_t pid, struct target_shared *s)
{
	assert_true(target_alive(pid, s));
	if (s->bad)
		print_message("target: %s\n", s->why);
	assert_int_equal(s->bad, 0);
}

static void unnoticed(pid_t pid, struct target_shared *s)
{
	unharmed(pid, s);
	assert_int_equal(s->eintr, 0);
}

static char *maps_of(struct arena *a, pid_t pid)
{
	char path[64], *text;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	ok(io_read_file(a, path, 1 << 20, &text, NULL));
	return text;
}

static size_t count_fds(struct arena *a, pid_t pid)
{
	int *fds;
	size_t n;

	ok(proc_fds(a, pid, &fds, &n));
	return n;
}

static void test_hold(void **state)
{
	struct target_shared *s;
	pid_t pid = target_start(&s);
	autotask struct task *t = NULL;

	(void)state;
	ok(task_open(pid, &t));
	for (int i = 0; i < 300; i++) {
		uint64_t beats;

		ok(task_hold(t, DEADLINE));
		assert_int_equal(t->n_threads, 6);
		assert_int_equal(task_leader(t)->tid, pid);
		if (i % 10 == 0) {
			beats = s->beats[BEAT_SPIN];
			usleep(1000);
			assert_int_equal(beats, s->beats[BEAT_SPIN]);
		}
		ok(task_let_go(t));
		usleep(i % 7 * 100);
	}
	unnoticed(pid, s);
	target_end(pid, s);
}

static void test_calls(void **state)
{
	struct target_shared *s;
	pid_t pid = target_start(&s);
	autotask struct task *t = NULL;
	autoarena struct arena *a = arena_new();
	char *before = maps_of(a, pid);
	size_t fds_before = count_fds(a, pid);
	stack_t ss;
	int64_t ret;

	(void)state;
	ok(task_open(pid, &t));
	for (int round = 0; round < 60; round++) {
		ok(task_hold(t, DEADLINE));
		for (size_t i = 0; i < t->n_threads; i++) {
			struct thread *th = t->threads[i];
			struct call calls[100];

			for (size_t k = 0; k < 100; k++)
				calls[k] = (struct call){ .nr = k % 2 ? SYS_gettid : SYS_getpid };
			ok(remote_run(t, th, calls, 100));
			for (size_t k = 0; k < 100; k++)
				assert_int_equal(calls[k].ret, k % 2 ? th->tid : pid);
		}
		ok(REMOTE(t, task_leader(t), &ret, "sigaltstack", SYS_sigaltstack, 0,
			remote_scratch(t).v));
		ok(remote_get(t, 0, &ss, sizeof(ss)));
		assert_int_equal(ss.ss_size, 65536);
		ok(task_let_go(t));
		usleep(round % 5 * 300);
	}
	assert_string_equal(before, maps_of(a, pid));
	assert_int_equal(fds_before, count_fds(a, pid));
	unnoticed(pid, s);
	target_end(pid, s);
}

/* Deeper than it has ever been, to the last page of the stack. */
static __attribute__((noinline)) void deep(int depth, int fd)
{
	volatile char frame[4096];

	for (size_t i = 0; i < sizeof(frame); i++)
		frame[i] = (char)depth;
	if (depth > 0)
		deep(depth - 1, fd);
	else
		syscall(SYS_read, fd, &depth, 1);
	for (size_t i = 0; i < sizeof(frame); i++)
		if (frame[i] != (char)depth)
			_exit(1);
}

static void test_full_stack(void **state)
{
	autotask struct task *t = NULL;
	int p[2], status;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		close(p[1]);
		deep(200, p[0]);
		_exit(0);
	}
	usleep(100000);
	ok(task_open(pid, &t));
	for (int i = 0; i < 3; i++) {
		int64_t ret;

		ok(task_hold(t, DEADLINE));
		ok(REMOTE(t, task_leader(t), &ret, "getpid", SYS_getpid, 0));
		assert_int_equal(ret, pid);
		ok(task_let_go(t));
	}
	close(p[0]);
	close(p[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_error(void **state)
{
	struct target_shared *s;
	pid_t pid = target_start(&s);
	autotask struct task *t = NULL;
	struct err *e;

	(void)state;
	ok(task_open(pid, &t));
	ok(task_hold(t, DEADLINE));
	e = REMOTE(t, task_leader(t), NULL, "close nothing", SYS_close, 9999);
	assert_non_null(e);
	assert_int_equal(err_sysno(e), EBADF);
	err_free(e);
	ok(task_let_go(t));
	unnoticed(pid, s);
	target_end(pid, s);
}

/* The tracer is a child that is killed at a random moment while it makes calls. */
static void kill_tracers(pid_t pid, struct target_shared *s)
{
	unsigned seed = 1;

	for (int i = 0; i < 100; i++) {
		int ready[2];
		pid_t tracer;
		char c;

		assert_int_equal(pipe(ready), 0);
		tracer = fork();
		if (tracer == 0) {
			struct task *t;
			struct call calls[32];

			if (task_open(pid, &t) || task_hold(t, DEADLINE) ||
				write(ready[1], "x", 1) < 0)
				_exit(1);
			for (size_t k = 0;; k++) {
				for (int j = 0; j < 32; j++)
					calls[j] = (struct call){ .nr = SYS_getpid };
				if (remote_run(t, t->threads[k % t->n_threads], calls, 32))
					_exit(2);
			}
		}
		close(ready[1]);
		assert_int_equal(read(ready[0], &c, 1), 1);
		close(ready[0]);
		usleep((useconds_t)(rand_r(&seed) % 1500));
		kill_one(tracer, SIGKILL);
		waitpid(tracer, NULL, 0);
		if (i % 10 == 0)
			unharmed(pid, s);
	}
	unharmed(pid, s);
	/* all that it may notice: a call that the kernel had to end with EINTR */
	print_message("100 tracers killed, %u system calls ended with EINTR\n", s->eintr);
}

static void test_tracer_killed(void **state)
{
	struct target_shared *s;
	pid_t pid = target_start(&s);

	(void)state;
	kill_tracers(pid, s);
	target_end(pid, s);
}

static void let_fail(void)
{
	if (!filter_call(SYS_getpid, SECCOMP_RET_ERRNO | EACCES))
		_exit(1);
}

static void let_end(void)
{
	if (!filter_call(SYS_getpid, SECCOMP_RET_KILL_PROCESS))
		_exit(1);
}

/* Its filters do not judge our calls as long as we live; and when we die they let them fail. */
static void test_filtered(void **state)
{
	struct target_shared *s;
	pid_t pid = target_start_as(let_fail, &s);
	autotask struct task *t = NULL;
	int64_t got;

	(void)state;
	ok(task_open(pid, &t));
	for (int i = 0; i < 3; i++) {
		ok(task_hold(t, DEADLINE));
		for (size_t k = 0; k < t->n_threads; k++) {
			ok(REMOTE(t, t->threads[k], &got, "ask", SYS_getpid));
			assert_int_equal(got, pid);
		}
		ok(task_let_go(t));
	}
	unnoticed(pid, s);
	kill_tracers(pid, s);
	target_end(pid, s);
}

/* No call is made that could be its end. */
static void test_dangerous_filter(void **state)
{
	struct target_shared *s;
	pid_t pid = target_start_as(let_end, &s);
	autotask struct task *t = NULL;
	autofree char *text = NULL;
	struct err *e;

	(void)state;
	ok(task_open(pid, &t));
	ok(task_hold(t, DEADLINE));
	ok(REMOTE(t, task_leader(t), NULL, "ask something else", SYS_getppid));
	e = REMOTE(t, task_leader(t), NULL, "ask", SYS_getpid);
	assert_non_null(e);
	assert_int_equal(err_code(e), ERR_UNSUPPORTED);
	text = err_line(e);
	assert_non_null(strstr(text, "getpid"));
	err_free(e);
	ok(task_let_go(t));
	unnoticed(pid, s);
	target_end(pid, s);
}

/* A tracer that has one itself is not told of others': who has none is served all the same. */
static void test_filtered_tracer(void **state)
{
	struct target_shared *s;
	pid_t pid = target_start(&s), tracer;
	int status;

	(void)state;
	tracer = fork();
	if (tracer == 0) {
		struct task *t;

		_exit(!filter_call(1000, SECCOMP_RET_ERRNO) || task_open(pid, &t) ||
			task_hold(t, DEADLINE) ||
			REMOTE(t, task_leader(t), NULL, "ask", SYS_getpid) || task_let_go(t));
	}
	assert_int_equal(waitpid(tracer, &status, 0), tracer);
	assert_int_equal(status, 0);
	unnoticed(pid, s);
	target_end(pid, s);
}

static int next_fd(pid_t pid)
{
	autoarena struct arena *a = arena_new();
	size_t n;
	int *fds, next = 0;

	ok(proc_fds(a, pid, &fds, &n));
	while ((size_t)next < n && fds[next] == next)
		next++;
	return next;
}

struct around {
	pid_t killed; /* behind the first call; 0: nobody */
	int there;    /* what it was */
};

static struct err *have_a_descriptor(void *arg, struct call *calls)
{
	struct around *k = arg;

	if (k->killed)
		kill_one(k->killed, SIGKILL);
	k->there = (int)calls[0].ret;
	return err_new(ERR_LIMIT, "what it says is passed on");
}

static struct err *make_and_close(struct task *t, struct thread *th, struct around *k)
{
	const struct remote_between between = { have_a_descriptor, k };
	struct call calls[] = { { .nr = SYS_epoll_create1 },
		{ .nr = SYS_close, .args = { (uint64_t)next_fd(t->pid) } }, { .nr = SYS_getpid } };
	struct err *e = remote_run_around(t, th, calls, ARRAY_LEN(calls), &between);

	assert_int_equal(calls[1].ret, 0);
	assert_int_equal(calls[2].ret, t->pid);
	return e;
}

static void test_around(void **state)
{
	struct target_shared *s;
	pid_t pid = target_start(&s);
	int next = next_fd(pid);
	struct around k = { 0, -1 };
	autotask struct task *t = NULL;
	struct err *e;

	(void)state;
	ok(task_open(pid, &t));
	ok(task_hold(t, DEADLINE));
	e = make_and_close(t, task_leader(t), &k);
	assert_int_equal(err_code(e), ERR_LIMIT);
	err_free(e);
	assert_int_equal(k.there, next);
	assert_int_equal(next_fd(pid), next);
	ok(task_let_go(t));
	target_end(pid, s);
}

/* The thread goes on with its batch when it gets a processor, others may be first. */
static void expect_next_fd(pid_t pid, int want)
{
	for (int i = 0; i < 5000 && next_fd(pid) != want; i++)
		usleep(1000);
	assert_int_equal(next_fd(pid), want);
}

/* In the middle of a batch, in each of the threads. What the first call has made is gone, and each
 * has its registers back, vectors included. */
static void test_tracer_killed_around(void **state)
{
	struct target_shared *s;
	pid_t pid = target_start(&s), tracer;
	int next = next_fd(pid);

	(void)state;
	for (size_t i = 0; i < 4 * BEATS; i++) {
		tracer = fork();
		if (tracer == 0) {
			struct around k = { getpid(), -1 };
			struct task *t;

			ok(task_open(pid, &t));
			ok(task_hold(t, DEADLINE));
			err_free(make_and_close(t, t->threads[i % t->n_threads], &k));
			_exit(0);
		}
		waitpid(tracer, NULL, 0);
		unharmed(pid, s);
		expect_next_fd(pid, next);
	}
	target_end(pid, s);
}

static void test_bench(void **state)
{
	struct target_shared *s;
	pid_t pid = target_start(&s);
	autotask struct task *t = NULL;
	int64_t hold = clock_ns(), first, one, many, go;
	struct call calls[32];

	(void)state;
	ok(task_open(pid, &t));
	ok(task_hold(t, DEADLINE));
	hold = clock_ns() - hold;
	first = clock_ns();
	ok(REMOTE(t, task_leader(t), NULL, "getpid", SYS_getpid, 0));
	first = clock_ns() - first;
	one = clock_ns();
	for (int i = 0; i < 1000; i++)
		ok(REMOTE(t, task_leader(t), NULL, "getpid", SYS_getpid, 0));
	one = clock_ns() - one;
	many = clock_ns();
	for (int i = 0; i < 1000; i++) {
		for (int k = 0; k < 32; k++)
			calls[k] = (struct call){ .nr = SYS_getpid };
		ok(remote_run(t, task_leader(t), calls, 32));
	}
	many = clock_ns() - many;
	go = clock_ns();
	ok(task_let_go(t));
	go = clock_ns() - go;
	print_message("open and hold 6 threads %lld us, first call %lld us, batch of 1: %.1f us, "
		      "of 32: %.1f us, let go %lld us\n",
		(long long)hold / 1000, (long long)first / 1000, (double)one / 1e6,
		(double)many / 1e6, (long long)go / 1000);
	unnoticed(pid, s);
	target_end(pid, s);
}

/* Who has given up its descriptors already has ended, whatever its pidfd says. */
static void test_descriptors_of_the_dead(void **state)
{
	siginfo_t ended;
	autotask struct task *t = NULL;
	autoerr struct err *e = NULL;
	pid_t pid = fork();
	int fd = -1;

	(void)state;
	if (pid == 0)
		for (;;)
			pause();
	ok(task_open(pid, &t));
	assert_int_equal(pidfd_send_signal(t->pidfd, SIGKILL, NULL, 0), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOWAIT), 0);
	e = remote_fd_home(t, 0, &fd);
	assert_non_null(e);
	assert_int_equal(err_code(e), ERR_GONE);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hold),
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_full_stack),
		cmocka_unit_test(test_error),
		cmocka_unit_test(test_tracer_killed),
		cmocka_unit_test(test_filtered),
		cmocka_unit_test(test_dangerous_filter),
		cmocka_unit_test(test_filtered_tracer),
		cmocka_unit_test(test_around),
		cmocka_unit_test(test_tracer_killed_around),
		cmocka_unit_test(test_descriptors_of_the_dead),
		cmocka_unit_test(test_bench),
	};

	ns_enter();
	alarm(600);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
