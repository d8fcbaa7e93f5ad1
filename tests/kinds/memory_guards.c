// SPDX-License-Identifier: Apache-2.0
/* Guard pages, by MADV_GUARD_INSTALL where the kernel has it and by PROT_NONE; a stack that grows.
 */
#include <setjmp.h>
#include <signal.h>

#include "vmas.h"

#define ANON          (MAP_PRIVATE | MAP_ANONYMOUS)
#define GUARD_INSTALL 102

static sigjmp_buf back;
static struct vmas before, after;

static void on_fault(int sig)
{
	siglongjmp(back, sig);
}

static int faults(volatile char *p)
{
	int sig = sigsetjmp(back, 1);

	if (sig)
		return sig;
	(void)*p;
	return 0;
}

/* Uses the stack below what has been touched so far. */
static __attribute__((noinline)) unsigned deep(unsigned n)
{
	volatile char room[4096];

	room[0] = (char)n;
	room[4095] = (char)n;
	return n ? deep(n - 1) + (unsigned char)room[0] : 0;
}

int main(void)
{
	struct sigaction sa = { .sa_handler = on_fault };
	char *p, *q;
	int guards;

	vmas_early();
	CHECK(sigaction(SIGSEGV, &sa, NULL) == 0);
	p = map(16, RW, ANON, -1, 0);
	fill(p, 16 * PAGE, 1);
	guards = madvise(p + 4 * PAGE, 2 * PAGE, GUARD_INSTALL) == 0;
	q = map(4, RW, ANON, -1, 0);
	CHECK(mprotect(q, PAGE, PROT_NONE) == 0);
	vmas_read(&before);
	subject_wait_moved();
	vmas_read(&after);
	vmas_equal(&before, &after);
	CHECK(faults(q) == SIGSEGV);
	CHECK(faults(q + PAGE) == 0);
	check_filled(p, 4 * PAGE, 1);
	if (guards) {
		CHECK(faults(p + 4 * PAGE) == SIGSEGV);
		CHECK(faults(p + 6 * PAGE - 1) == SIGSEGV);
		CHECK(faults(p + 6 * PAGE) == 0);
	} else {
		dprintf(1, "this kernel has no MADV_GUARD_INSTALL\n");
	}
	deep(200);
	return subject_ok();
}
