// SPDX-License-Identifier: Apache-2.0
/*
 * Puts up guard pages (MADV_GUARD_INSTALL) and takes them down all the time while it is moved, in
 * memory that has had contents for long, and knows what each page must be. No list of mappings
 * shows any of that.
 */
#include <setjmp.h>
#include <signal.h>

#include "subject_memory.h"

#define PAGES         1024
#define GUARD_INSTALL 102
#define GUARD_REMOVE  103
#define ANON          (MAP_PRIVATE | MAP_ANONYMOUS)

static char *base;
static uint64_t stamps[PAGES]; /* 0: zeroes */
static char guard[PAGES];
static sigjmp_buf back;
static unsigned seed = 1;

static unsigned dice(unsigned n)
{
	seed = seed * 1103515245u + 12345u;
	return (seed >> 8) % n;
}

static void on_fault(int sig)
{
	siglongjmp(back, sig);
}

static int faults(volatile char *p)
{
	int sig = sigsetjmp(back, 0); /* the handler changes no mask */

	if (!sig)
		(void)*p;
	return sig;
}

static uint64_t *first(unsigned page)
{
	return (uint64_t *)(void *)(base + page * PAGE);
}

static void check(unsigned page)
{
	CHECK(faults(base + page * PAGE) == (guard[page] ? SIGSEGV : 0));
	CHECK(guard[page] || *first(page) == stamps[page]);
}

static void step(unsigned page, uint64_t stamp)
{
	check(page);
	if (guard[page]) {
		CHECK(madvise(first(page), PAGE, GUARD_REMOVE) == 0);
		guard[page] = 0;
		stamps[page] = 0;
	} else if (dice(3) == 0) {
		CHECK(madvise(first(page), PAGE, GUARD_INSTALL) == 0);
		guard[page] = 1;
	} else {
		stamps[page] = *first(page) = stamp;
	}
}

int main(void)
{
	/* Nothing blocked in the handler: the mask is compared, and we may be moved in it. */
	struct sigaction sa = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };
	struct timespec now;
	uint64_t steps = 1;

	clock_gettime(CLOCK_REALTIME, &now);
	seed = (unsigned)now.tv_nsec;
	dprintf(1, "seed %u\n", seed);
	CHECK(sigaction(SIGSEGV, &sa, NULL) == 0);
	base = map(PAGES, RW, ANON, -1, 0);
	for (unsigned page = 0; page < PAGES; page++)
		stamps[page] = *first(page) = page + 1;
	if (madvise(base, PAGE, GUARD_INSTALL) < 0)
		SKIP("this kernel has no MADV_GUARD_INSTALL");
	guard[0] = 1;
	subject_restless();
	dprintf(1, "ready\n");
	while (access("go", F_OK) < 0)
		for (int i = 0; i < 100; i++, steps++)
			step(dice(PAGES), steps << 16);
	for (unsigned page = 0; page < PAGES; page++)
		check(page);
	dprintf(1, "%lu steps\n", (unsigned long)steps);
	return subject_ok();
}
