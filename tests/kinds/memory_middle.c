// SPDX-License-Identifier: Apache-2.0
/*
 * Maps memory in the middle of its largest hole while it is moved: where a mover would put things
 * of its own.
 */
#include "subject_memory.h"

static unsigned long middle(void)
{
	unsigned long start, end, from = 1UL << 20, best = 0, len = 0;
	FILE *f = fopen("/proc/self/maps", "r");
	char line[4096];

	CHECK(f);
	while (fgets(line, sizeof(line), f)) {
		CHECK(sscanf(line, "%lx-%lx", &start, &end) == 2);
		if (start > from && start < 1UL << 47 && start - from > len) {
			best = from;
			len = start - from;
		}
		from = end;
	}
	fclose(f);
	return (best + len / 2) & ~(PAGE - 1);
}

int main(void)
{
	uint64_t n = 0;
	char *p = NULL;

	subject_restless();
	dprintf(1, "ready\n");
	while (access("go", F_OK) < 0) {
		if (p)
			check_filled(p, 4 * PAGE, n);
		/* Three in the same place, then all are taken away. */
		if (n % 3 == 0 && p)
			for (uint64_t i = 0; i < 3; i++)
				CHECK(munmap(p - i * 8 * PAGE, 4 * PAGE) == 0);
		p = n % 3 ? p + 8 * PAGE : (char *)middle() - 8 * PAGE;
		p = mmap(p, 4 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		CHECK(p != MAP_FAILED);
		fill(p, 4 * PAGE, ++n);
		subject_sleep_ms(2);
	}
	return subject_ok();
}
