// SPDX-License-Identifier: Apache-2.0
/* mlock, mlock2(MLOCK_ONFAULT), mlockall(MCL_FUTURE). */
#include "vmas.h"

#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static struct vmas before, after;

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
	char *a, *b, *c;
	unsigned long had, small;

	vmas_early();
	a = map(8, RW, ANON, -1, 0);
	fill(a, 8 * PAGE, 1);
	if (mlock(a + 2 * PAGE, 4 * PAGE) < 0)
		SKIP("mlock: %s", strerror(errno));
	map(1, PROT_NONE, ANON, -1, 0);
	b = map(64, RW, ANON, -1, 0);
	CHECK(mlock2(b, 64 * PAGE, MLOCK_ONFAULT) == 0);
	fill(b + PAGE, PAGE, 2);
	CHECK(mlockall(MCL_FUTURE | MCL_ONFAULT) == 0);
	vmas_read(&before);
	had = locked_kib();
	subject_wait_moved();
	CHECK(locked_kib() == had);
	vmas_read(&after);
	vmas_equal(&before, &after);
	check_filled(a, 8 * PAGE, 1);
	check_filled(b + PAGE, PAGE, 2);
	small = locked_kib();
	c = map(16, RW, ANON, -1, 0);
	CHECK(locked_kib() == small + 64);
	/* Locked when touched, not before. */
	unsigned char in[16];
	CHECK(mincore(c, 16 * PAGE, in) == 0 && !(in[3] & 1));
	return subject_ok();
}
