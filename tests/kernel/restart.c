// SPDX-License-Identifier: Apache-2.0
/* The table of interrupted system calls, row by row, and the number in front of the instruction. */
#include "kernel/restart.h"

#include <errno.h>
#include <linux/futex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <time.h>

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
		RESTART_EINTR },
	{ "nanosleep with remainder and a signal",
		{ .nr = SYS_nanosleep,
			.ret = -516,
			.args = { 1, SOMEWHERE },
			.signal_waits = true },
		RESTART_SLEEP },
	{ "clock_nanosleep with remainder",
		{ .nr = SYS_clock_nanosleep, .ret = -516, .args = { 1, 0, 1, SOMEWHERE } },
		RESTART_SLEEP },
	{ "clock_nanosleep without",
		{ .nr = SYS_clock_nanosleep, .ret = -516, .args = { 1, 0, SOMEWHERE } },
		RESTART_EINTR },
	{ "clock_nanosleep until a time",
		{ .nr = SYS_clock_nanosleep, .ret = -516, .args = { 1, TIMER_ABSTIME, 1 } },
		RESTART_AGAIN },
	{ "futex until a time",
		{ .nr = SYS_futex,
			.ret = -516,
			.args = { 1, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 0, SOMEWHERE } },
		RESTART_AGAIN },
	{ "futex until a time, with a signal",
		{ .nr = SYS_futex,
			.ret = -516,
			.args = { 1, FUTEX_WAIT_BITSET, 0, SOMEWHERE },
			.signal_waits = true },
		RESTART_EINTR },
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
		RESTART_EINTR },
	{ "epoll_wait for ever",
		{ .nr = SYS_epoll_wait, .ret = -EINTR, .args = { 3, 1, 1, 0xffffffff } },
		RESTART_AGAIN },
	{ "epoll_wait for ever, with a signal",
		{ .nr = SYS_epoll_wait,
			.ret = -EINTR,
			.args = { 3, 1, 1, 0xffffffff },
			.signal_waits = true },
		RESTART_KEEP },
	{ "epoll_wait for a while",
		{ .nr = SYS_epoll_wait, .ret = -EINTR, .args = { 3, 1, 1, 100 } }, RESTART_KEEP },
	{ "sigwaitinfo", { .nr = SYS_rt_sigtimedwait, .ret = -EINTR, .args = { 1, 1, 0, 8 } },
		RESTART_AGAIN },
	{ "sigtimedwait", { .nr = SYS_rt_sigtimedwait, .ret = -EINTR, .args = { 1, 1, 1, 8 } },
		RESTART_KEEP },
	{ "close that said EINTR", { .nr = SYS_close, .ret = -EINTR }, RESTART_KEEP },
	{ "a user's own -EINTR outside of a call", { .nr = -1, .ret = -EINTR }, RESTART_KEEP },
};

static void table(void **state unused_arg)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (restart_decide(&rows[i].i) != rows[i].want)
			fail_msg("%s: %d, not %d", rows[i].what, restart_decide(&rows[i].i),
				rows[i].want);
		if (rows[i].want != RESTART_KEEP)
			assert_true(restart_matters(&rows[i].i));
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table),
		cmocka_unit_test(number_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
