// SPDX-License-Identifier: Apache-2.0
/* A heap whose end moves all the time. */
#include "subject_memory.h"

int main(void)
{
	char *start = sbrk(0);
	uint64_t pages = 0, n = 0;

	subject_restless();
	dprintf(1, "ready\n");
	start = sbrk(0);
	start += -(uintptr_t)start % PAGE;
	CHECK(brk(start) == 0);
	while (access("go", F_OK) < 0) {
		uint64_t want = n++ * 7919 % 300;

		CHECK(brk(start + want * PAGE) == 0);
		for (uint64_t i = pages; i < want; i++) {
			for (size_t k = 0; k < PAGE; k++)
				CHECK(start[i * PAGE + k] == 0);
			fill(start + i * PAGE, PAGE, i);
		}
		pages = want;
		for (uint64_t i = 0; i < pages; i++)
			check_filled(start + i * PAGE, PAGE, i);
		CHECK(sbrk(0) == start + pages * PAGE);
	}
	return subject_ok();
}
