// SPDX-License-Identifier: Apache-2.0
/* As many mappings as a process may have by default, but for some: every second page is protected.
 */
#include "subject_memory.h"

#define MAPS 30000UL

int main(void)
{
	char *p = map(2 * MAPS, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (size_t i = 0; i < 2 * MAPS; i += 2)
		if (mprotect(p + i * PAGE, PAGE, PROT_READ) < 0)
			SKIP("mprotect: %s", strerror(errno));
	for (size_t i = 1; i < 2 * MAPS; i += 64)
		p[i * PAGE] = (char)(i / 64);
	subject_wait_moved();
	for (size_t i = 1; i < 2 * MAPS; i += 64)
		CHECK(p[i * PAGE] == (char)(i / 64));
	for (size_t i = 0; i < 2 * MAPS; i += 2)
		CHECK(p[i * PAGE] == 0);
	return subject_ok();
}
