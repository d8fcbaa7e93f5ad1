// SPDX-License-Identifier: Apache-2.0
/* The table of interrupted system calls, row by row, and the number in front of the instruction. */
#include "kernel/restart.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SOMEWHERE 0x7000

static const struct row {
	const char *what;
	struct interrupted i;
	enum restart want;
} rows[] = {
	{ "nothing interrupted", { .nr = -1, .ret = 0 }, RESTART_KEEP },
	{ "read, restarted by the kernel", { .nr = SYS_read, .ret = -512 }, RESTART_KEEP },
	{ "pause", { .nr = SYS_pause, .ret = -514 }, RESTART_KEEP },
	{ "-516 of nobody knows what", { .nr = -1, .ret = -516 }, RESTART_EINTR },
	{ "-516 of an unknown call", { .nr = 999, .ret = -516 }, RESTART_EINTR },
	{ "nanosleep with remainder",
		{ .nr = SYS_nanosleep, .ret = -516, .args = { SOMEWHERE, SOMEWHERE } },
		RESTART_SLEEP },
	{ "nanosleep without", { .nr = SYS_nanosleep, .ret = -516, .args = { SOMEWHERE } },
		RESTART_AGAIN },
	{ "clock_nanosleep with remainder",
		{ .nr = SYS_clock_nanosleep, .ret = -516, .args = { 1, 0, 1, SOMEWHERE } },
		RESTART_SLEEP },
	{ "clock_nanosleep without",
		{ .nr = SYS_clock_nanosleep, .ret = -516, .args = { 1, 0, SOMEWHERE } },
		RESTART_AGAIN },
	{ "clock_nanosleep until a time",
		{ .nr = SYS_clock_nanosleep, .ret = -516, .args = { 1, TIMER_ABSTIME, 1 } },
		RESTART_AGAIN },
	{ "futex until a time",
		{ .nr = SYS_futex,
			.ret = -516,
			.args = { 1, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 0, SOMEWHERE } },
		RESTART_AGAIN },
	{ "futex for a span",
		{ .nr = SYS_futex,
			.ret = -516,
			.args = { 1, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, SOMEWHERE } },
		RESTART_EINTR },
	{ "poll for ever", { .nr = SYS_poll, .ret = -516, .args = { 1, 1, (uint64_t)-1 } },
		RESTART_AGAIN },
	{ "poll for ever, upper half garbage",
		{ .nr = SYS_poll, .ret = -516, .args = { 1, 1, 0xffffffff } }, RESTART_AGAIN },
	{ "poll for a while", { .nr = SYS_poll, .ret = -516, .args = { 1, 1, 5000 } },
		RESTART_AGAIN },
	{ "close that said EINTR", { .nr = SYS_close, .ret = -EINTR }, RESTART_KEEP },
	{ "a user's own -EINTR outside of a call", { .nr = -1, .ret = -EINTR }, RESTART_KEEP },
};

static void table(void **state unused_arg)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (restart_decide(&rows[i].i) != rows[i].want)
			fail_msg("%s: %d, not %d", rows[i].what, restart_decide(&rows[i].i),
				rows[i].want);
	}
}

static void number_before(void **state unused_arg)
{
	static const int64_t numbers[] = { SYS_clock_nanosleep, SYS_futex };
	/* mov $0xe6,%eax; syscall */
	static const uint8_t direct[] = { 0xb8, 0xe6, 0, 0, 0, 0x0f, 0x05 };
	/* mov $0xca,%eax; xor $0x80,%sil; syscall */
	static const uint8_t apart[] = { 0x90, 0xb8, 0xca, 0, 0, 0, 0x40, 0x80, 0xf6, 0x80, 0x0f,
		0x05 };
	static const uint8_t other[] = { 0xb8, 0x01, 0, 0, 0, 0x0f, 0x05 };
	static const uint8_t none[] = { 0x48, 0x89, 0xf8, 0x0f, 0x05 };

	assert_int_equal(arch_syscall_number_before(direct, sizeof(direct), numbers, 2),
		SYS_clock_nanosleep);
	assert_int_equal(arch_syscall_number_before(apart, sizeof(apart), numbers, 2), SYS_futex);
	assert_int_equal(arch_syscall_number_before(other, sizeof(other), numbers, 2), -1);
	assert_int_equal(arch_syscall_number_before(none, sizeof(none), numbers, 2), -1);
	assert_int_equal(arch_syscall_number_before(direct, 5, numbers, 2), -1);
	assert_int_equal(arch_syscall_number_before(direct, 0, numbers, 2), -1);
}

static int open_mem(pid_t pid)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* Sleeps for an hour, with the remainder over the request, and says how it ended. */
static int sleeper(int out)
{
	struct timespec left = { 3600, 0 };
	char ok;

	ok = clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == 0 ? 'y' : 'n';
	return write(out, &ok, 1) == 1 ? 0 : 1;
}

static void stop(pid_t pid)
{
	int status;

	assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), 0);
	assert_int_equal(waitpid(pid, &status, __WALL), pid);
	assert_true(WIFSTOPPED(status));
}

static void expect_ok(struct err *e)
{
	if (e)
		fail_msg("%s", err_line(e));
}

/* An hour's sleep becomes one of 100 ms: as in a rebuilt thread, whose kernel has never heard of
 * the hour. Then it is stopped twice more, as the next move would. */
static void sleep_goes_on(void **state unused_arg)
{
	int64_t span[2] = { 0, 100000000 }, started, ret;
	struct task task = { .pidfd = -1 };
	struct arch_state s;
	struct interrupted i;
	int out[2], status;
	char ok;

	assert_int_equal(pipe(out), 0);
	task.pid = fork();
	if (task.pid == 0)
		_exit(sleeper(out[1]));
	assert_true(task.pid > 1);
	assert_int_equal(
		ptrace(PTRACE_SEIZE, task.pid, NULL, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD), 0);
	task.mem_fd = open_mem(task.pid);
	for (int tries = 0;; tries++) { /* until it sleeps */
		assert_true(tries < 500);
		usleep(10000);
		stop(task.pid);
		expect_ok(arch_get_state(task.pid, &s));
		expect_ok(restart_look(&task, &s, &i));
		if (restart_decide(&i) == RESTART_SLEEP)
			break;
		assert_int_equal(ptrace(PTRACE_CONT, task.pid, NULL, NULL), 0);
	}
	assert_int_equal(i.nr, SYS_clock_nanosleep);
	assert_int_equal(pwrite(task.mem_fd, span, sizeof(span), (off_t)i.args[3]), sizeof(span));
	/* By somebody: it means nothing, but a stop now, and one for the signal later. */
	assert_int_equal(kill(task.pid, SIGCONT), 0);
	expect_ok(restart_block_make(task.pid, &s,
		&(struct call){ .nr = (uint64_t)i.nr,
			.args = { CLOCK_MONOTONIC, 0, i.args[3], i.args[3] } },
		&ret));
	assert_int_equal(ret, RESTART_BLOCK);
	expect_ok(arch_set_state(task.pid, &s));
	started = clock_us();
	assert_int_equal(ptrace(PTRACE_CONT, task.pid, NULL, NULL), 0);
	assert_int_equal(waitpid(task.pid, &status, __WALL), task.pid);
	assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGCONT);
	assert_int_equal(ptrace(PTRACE_CONT, task.pid, NULL, NULL), 0);
	for (int again = 0; again < 2; again++) {
		usleep(20000);
		stop(task.pid);
		expect_ok(arch_get_state(task.pid, &s));
		expect_ok(restart_look(&task, &s, &i));
		/* The number comes from the code by now: the kernel says restart_syscall. */
		assert_int_equal(arch_syscall_nr(&s), SYS_restart_syscall);
		assert_int_equal(restart_decide(&i), RESTART_SLEEP);
		assert_int_equal(ptrace(PTRACE_CONT, task.pid, NULL, NULL), 0);
	}
	assert_int_equal(read(out[0], &ok, 1), 1);
	assert_int_equal(ok, 'y');
	assert_in_range(clock_us() - started, 90000, 2000000);
	assert_int_equal(waitpid(task.pid, &status, __WALL), task.pid);
	close(out[0]);
	close(out[1]);
	close(task.mem_fd);
}

/* Sleeps by the C library's general function, where no number stands in front of the instruction.
 */
static int hidden_sleeper(int out)
{
	struct timespec left = { 3600, 0 };

	return write(out, "r", 1) == 1 &&
	       syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &left, &left) == 0;
}

static void remembered(void **state unused_arg)
{
	struct interrupted i;
	struct task *t;
	int out[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(out), 0);
	pid = fork();
	if (pid == 0)
		_exit(hidden_sleeper(out[1]));
	assert_true(pid > 1);
	assert_int_equal(read(out[0], &c, 1), 1);
	usleep(50000);
	expect_ok(task_open(pid, &t));
	for (int hold = 0; hold < 3; hold++) {
		expect_ok(task_hold(t, deadline_in(60000000)));
		expect_ok(restart_look(t, &task_leader(t)->state, &i));
		assert_int_equal(i.nr, SYS_clock_nanosleep);
		assert_int_equal(restart_decide(&i), RESTART_SLEEP);
		expect_ok(task_let_go(t));
		usleep(20000);
	}
	/* A stranger to the call finds nothing, and says so. */
	task_free(t);
	expect_ok(task_open(pid, &t));
	expect_ok(task_hold(t, deadline_in(60000000)));
	expect_ok(restart_look(t, &task_leader(t)->state, &i));
	assert_int_equal(i.nr, -1);
	assert_int_equal(restart_decide(&i), RESTART_EINTR);
	expect_ok(task_kill(t));
	expect_ok(task_wait_end(t, deadline_in(60000000)));
	task_free(t);
	close(out[0]);
	close(out[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table),
		cmocka_unit_test(number_before),
		cmocka_unit_test(sleep_goes_on),
		cmocka_unit_test(remembered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
