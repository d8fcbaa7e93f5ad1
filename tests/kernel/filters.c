// SPDX-License-Identifier: Apache-2.0
/*
 * What seccomp_harms says of a filter and a call is what the kernel does: random programs, each put
 * into a process that makes one call, which ends it or not. All instructions that the kernel takes
 * are in them; programs that it does not take are left out.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/filters.h"
#include "tests/kernel/check.h"
#include "tests/kernel/ns.h"

#define PROGRAMS 600
#define BODY     24   /* instructions */
#define NR       1000 /* no such call */
#define REFUSED  99   /* exit status: the kernel does not take the program */

static unsigned seed = 7;

static uint32_t pick(uint32_t n)
{
	return (uint32_t)rand_r(&seed) % n;
}

/* Some that are near each other, and bits at both ends. */
static uint32_t number(void)
{
	static const uint32_t some[] = { 0, 1, 2, 3, 7, 31, 32, 33, 0x7fffffff, 0x80000000,
		0xfffffffe, 0xffffffff };

	return some[pick(ARRAY_LEN(some))];
}

static struct sock_filter end(void)
{
	static const uint32_t actions[] = { SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_PROCESS,
		SECCOMP_RET_TRAP, SECCOMP_RET_ALLOW, SECCOMP_RET_LOG, SECCOMP_RET_ERRNO | 5 };

	return (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, actions[pick(ARRAY_LEN(actions))]);
}

static struct sock_filter jump(unsigned left)
{
	static const uint16_t ops[] = { BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET };
	uint16_t code = BPF_JMP | ops[pick(ARRAY_LEN(ops))] | (pick(2) ? BPF_X : BPF_K);

	return (struct sock_filter)BPF_JUMP(
		code, number(), (uint8_t)pick(left), (uint8_t)pick(left));
}

static struct sock_filter compute(void)
{
	static const uint16_t ops[] = { BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR, BPF_AND,
		BPF_XOR, BPF_LSH, BPF_RSH, BPF_NEG };
	uint16_t op = ops[pick(ARRAY_LEN(ops))];

	return (struct sock_filter)BPF_STMT(
		BPF_ALU | op | (op != BPF_NEG && pick(2) ? BPF_X : BPF_K), number());
}

/* The instruction pointer (bytes 8 to 15) is another one here and there. */
static struct sock_filter load(void)
{
	static const uint32_t at[] = { 0, 4, 16, 20, 24, 28, 32, 36, 56, 60 };

	switch (pick(4)) {
	case 0:
		return (struct sock_filter)BPF_STMT(BPF_LD | BPF_IMM, number());
	case 1:
		return (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0);
	default:
		return (struct sock_filter)BPF_STMT(
			BPF_LD | BPF_W | BPF_ABS, at[pick(ARRAY_LEN(at))]);
	}
}

static struct sock_filter move(void)
{
	switch (pick(6)) {
	case 0:
		return (struct sock_filter)BPF_STMT(BPF_MISC | BPF_TAX, 0);
	case 1:
		return (struct sock_filter)BPF_STMT(BPF_MISC | BPF_TXA, 0);
	case 2:
		return (struct sock_filter)BPF_STMT(BPF_ST, pick(2));
	case 3:
		return (struct sock_filter)BPF_STMT(BPF_STX, pick(2));
	case 4:
		return (struct sock_filter)BPF_STMT(BPF_LD | BPF_MEM, pick(2));
	default:
		return (struct sock_filter)BPF_STMT(
			BPF_LDX | (pick(2) ? BPF_MEM : BPF_IMM), pick(2));
	}
}

/* Other calls pass, the process must be able to end; and both words of memory are written. */
static size_t make(struct sock_filter code[BODY])
{
	const struct sock_filter begin[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NR, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_ST, 0),
		BPF_STMT(BPF_ST, 1),
	};
	size_t n = ARRAY_LEN(begin);

	memcpy(code, begin, sizeof(begin));
	for (; n < BODY - 3; n++) {
		struct sock_filter (*const sorts[])(void) = { compute, load, load, move, move };

		code[n] = pick(4) ? sorts[pick(ARRAY_LEN(sorts))]()
				  : jump((unsigned)(BODY - 1 - n));
	}
	while (n < BODY)
		code[n++] = end();
	return n;
}

/* REFUSED, whether the call ended it, or 0. */
static int try_it(struct sock_filter *code, size_t n, const struct call *c)
{
	struct sock_fprog prog = { (unsigned short)n, code };
	const struct rlimit none = { 0, 0 };
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &none);
		signal(SIGSYS, SIG_DFL); /* cmocka's handler would print */
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
			prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
			_exit(REFUSED);
		syscall((long)c->nr, c->args[0], c->args[1], c->args[2], c->args[3], c->args[4],
			c->args[5]);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGSYS ? 1 : -1;
	return WEXITSTATUS(status);
}

static void test_verdicts(void **state)
{
	unsigned counts[2] = { 0 };

	(void)state;
	for (int i = 0; i < PROGRAMS; i++) {
		struct sock_filter code[BODY];
		size_t n = make(code);
		struct seccomp_filter f = { .code = (const uint8_t *)code, .insns = n };
		const struct seccomp_filters all = { &f, 1 };
		struct call c = { .nr = NR };
		int got;

		for (size_t k = 0; k < ARRAY_LEN(c.args); k++)
			c.args[k] = (uint64_t)number() << 32 | number();
		got = try_it(code, n, &c);
		if (got == REFUSED)
			continue;
		if (got != seccomp_harms(&all, &c, 0))
			fail_msg("program %d: the kernel says %d", i, got);
		counts[got]++;
	}
	print_message("%u calls went through, %u did not\n", counts[0], counts[1]);
	assert_true(counts[0] > 50 && counts[1] > 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_verdicts) };

	ns_enter();
	alarm(600);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
