// SPDX-License-Identifier: Apache-2.0
/*
 * mlockall(MCL_FUTURE) when nothing has been locked by it yet: no text of the kernel shows it.
 * Kinds: mm.
 */
#include <sys/mman.h>

#include "subject_memory.h"

static unsigned long locked_kib(void)
{
	char buf[4096], *p;
	int fd = open("/proc/self/status", O_RDONLY);
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	CHECK(n > 0);
	buf[n] = '\0';
	close(fd);
	p = strstr(buf, "VmLck:");
	CHECK(p);
	return strtoul(p + 6, NULL, 10);
}

int main(void)
{
	dprintf(1, "the heap that this takes must not come later\n");
	if (mlockall(MCL_FUTURE) < 0)
		SKIP("mlockall: %s", strerror(errno));
	CHECK(locked_kib() == 0);
	subject_wait_moved();
	CHECK(locked_kib() == 0);
	map(16, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(locked_kib() == 64);
	return subject_ok();
}
