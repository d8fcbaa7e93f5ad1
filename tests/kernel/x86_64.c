// SPDX-License-Identifier: Apache-2.0
/* The x86_64 parts that need no process, and restartable sequences. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <unistd.h>

#include "kernel/arch.h"
#include "kernel/remote.h"
#include "tests/kernel/check.h"
#include "tests/kernel/ns.h"
#include "tests/kernel/target.h"

static struct user_regs_struct *regs(struct arch_state *s)
{
	s->regs_len = sizeof(struct user_regs_struct);
	return (struct user_regs_struct *)(void *)s->regs;
}

static void test_registers(void **state)
{
	struct arch_state s = { 0 };
	struct user_regs_struct *r = regs(&s);

	(void)state;
	r->orig_rax = (unsigned long long)-1;
	assert_int_equal(arch_syscall_nr(&s), -1);
	r->cs = 0x23;
	s.xstate_len = 2432;
	fails(arch_check_state(&s), ERR_UNSUPPORTED);
	r->cs = 0x33;
	ok(arch_check_state(&s));
	*r = (struct user_regs_struct){
		.orig_rax = SYS_epoll_wait, .rax = (uint64_t)-EINTR, .rip = 0x1000, .rdi = 7
	};
	assert_true(arch_syscall_hide_stop(&s));
	assert_int_equal(arch_syscall_ret(&s), -514);
	assert_int_equal(arch_syscall_nr(&s), SYS_epoll_wait);
	assert_int_equal(arch_syscall_arg(&s, 0), 7);
	assert_int_equal(arch_pc(&s), 0x1000);
	r->orig_rax = SYS_nanosleep;
	r->rax = (uint64_t)-EINTR;
	assert_false(arch_syscall_hide_stop(&s));
	arch_syscall_finish(&s, 5);
	assert_int_equal(arch_syscall_ret(&s), 5);
	assert_int_equal(arch_syscall_nr(&s), -1);
}

static void test_code(void **state)
{
	const uint8_t text[] = { 0x0f, 0x0f, 0x05, 0x90 };
	uint8_t image[4096];
	Elf64_Ehdr head;
	size_t n;
	const void *code = arch_agent_code(&n);

	(void)state;
	assert_int_equal(arch_find_syscall(text, sizeof(text)), 1);
	assert_int_equal(arch_find_syscall(text, 2), -1);
	assert_in_range(n, 16, 128);
	assert_true(arch_find_syscall(code, n) > 0);
	assert_int_equal(arch_seedling_image(image, 100), 0);
	n = arch_seedling_image(image, sizeof(image));
	assert_in_range(n, sizeof(head), 512);
	memcpy(&head, image, sizeof(head));
	assert_memory_equal(head.e_ident, ELFMAG, SELFMAG);
}

/* The state of a real thread, then bent. */
static int64_t leave_in(const uint8_t *text, size_t len)
{
	uint8_t padded[128];

	memset(padded, 0xcc, sizeof(padded));
	memcpy(padded + 32, text, len);
	return arch_find_leave(padded, sizeof(padded)) - 32;
}
#define LEAVE_IN(...) \
	leave_in((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static void test_leave(void **state)
{
	const uint8_t backwards[] = { 0x0f, 0x05, 0xeb, 0x80, 0, 0, 0, 0, 0, 0 };
	uint8_t all[4096];
	size_t len;
	const void *own;

	(void)state;
	/* glibc: a loop around exit, the number in edx; musl's, and __unmapself */
	assert_int_equal(LEAVE_IN(0x31, 0xff, 0x89, 0xd0, 0x0f, 0x05, 0xeb, 0xf8), 4);
	assert_int_equal(LEAVE_IN(0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf5), 7);
	assert_int_equal(LEAVE_IN(0x0f, 0x05, 0x48, 0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05), 0);
	/* exit_group; a number that is lost; a jump to itself; something else in between */
	assert_true(LEAVE_IN(0x31, 0xff, 0xb8, 231, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf5) < 0);
	assert_true(LEAVE_IN(0x31, 0xff, 0x0f, 0x05, 0xeb, 0xfa) < 0);
	assert_true(LEAVE_IN(0x0f, 0x05, 0xeb, 0xfe) < 0);
	assert_true(LEAVE_IN(0x58, 0x89, 0xd0, 0x0f, 0x05, 0xeb, 0xf9) < 0);
	assert_true(LEAVE_IN(0x0f, 0x05, 0xc3) < 0);
	/* out of the text on either side, and at its end */
	assert_true(arch_find_leave(backwards, sizeof(backwards)) < 0);
	for (size_t n = 0; n < sizeof(all); n++)
		all[n] = n % 2 ? 0x05 : 0x0f;
	assert_true(arch_find_leave(all, sizeof(all)) < 0);
	assert_true(arch_find_leave(all, 0) < 0);
	own = arch_leave_code(&len);
	assert_int_equal(((const uint8_t *)own)[0], 0x0f);
	assert_int_equal(arch_pump_image(0, 1, all, 16), 0);
	assert_true(arch_pump_image(0, 1, all, sizeof(all)) > 100);
}

static void test_xstate(void **state)
{
	struct target_shared *s;
	pid_t pid = target_start(&s);
	autotask struct task *t = NULL;
	struct arch_state *a;
	uint64_t odd = 1ULL << 60, in_use;

	(void)state;
	ok(task_open(pid, &t));
	ok(task_hold(t, deadline_in(60000000)));
	a = &task_leader(t)->state;
	ok(arch_check_xstate(a->xstate, a->xstate_len));
	fails(arch_check_xstate(a->xstate, 100), ERR_INVALID);
	fails(arch_check_xstate(a->xstate, a->xstate_len - 64), ERR_MISMATCH);
	memcpy(&in_use, a->xstate + 512, 8);
	in_use |= odd;
	memcpy(a->xstate + 512, &in_use, 8);
	fails(arch_check_xstate(a->xstate, a->xstate_len), ERR_MISMATCH);
	ok(task_let_go(t));
	target_end(pid, s);
}

/* ---- restartable sequences ---- */

struct sections {
	uint64_t epoch, commits, aborts, torn;
};

/* A long section that looks at the epoch when it begins and before it commits: 0 committed, 1 torn
 * (the epoch changed and no abort came), 2 aborted. */
static int section(volatile uint64_t *epoch)
{
	char *area = (char *)__builtin_thread_pointer() + __rseq_offset;
	int ret;

	__asm__ volatile(".pushsection .data\n"
			 ".balign 32\n"
			 "9: .long 0, 0\n"
			 ".quad 1f, 2f - 1f, 4f\n"
			 ".popsection\n"
			 "lea 9b(%%rip), %%rax\n"
			 "mov %%rax, 8(%[area])\n"
			 "1: mov (%[epoch]), %%r8\n"
			 "mov $50000, %%ecx\n"
			 "3: dec %%ecx\n"
			 "jnz 3b\n"
			 "mov (%[epoch]), %%r9\n"
			 "mov $0, %%eax\n"
			 "cmp %%r8, %%r9\n"
			 "je 2f\n"
			 "mov $1, %%eax\n"
			 "2: jmp 5f\n"
			 ".long 0x53053053\n"
			 "4: mov $2, %%eax\n"
			 "5: movq $0, 8(%[area])\n"
			 : "=&a"(ret)
			 : [area] "r"(area), [epoch] "r"(epoch)
			 : "rcx", "r8", "r9", "cc", "memory");
	return ret;
}

static void test_rseq(void **state)
{
	struct sections *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	autotask struct task *t = NULL;
	uint64_t commits = 0;
	pid_t pid;

	(void)state;
	if (__rseq_size == 0)
		skip();
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			int what = section(&s->epoch);

			s->commits += what == 0;
			s->torn += what == 1;
			s->aborts += what == 2;
		}
	}
	usleep(10000);
	ok(task_open(pid, &t));
	for (int i = 0; i < 500; i++) {
		ok(task_hold(t, deadline_in(60000000)));
		s->epoch++;
		if (i % 3)
			ok(REMOTE(t, task_leader(t), NULL, "getpid", SYS_getpid, 0));
		ok(task_let_go(t));
		usleep(i % 5 * 50);
	}
	commits = s->commits;
	usleep(50000);
	assert_true(s->commits > commits);
	assert_int_equal(s->torn, 0);
	assert_true(s->aborts > 100);
	kill_one(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_code),
		cmocka_unit_test(test_leave),
		cmocka_unit_test(test_xstate),
		cmocka_unit_test(test_rseq),
	};

	ns_enter();
	alarm(600);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
