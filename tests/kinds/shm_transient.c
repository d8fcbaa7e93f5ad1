// SPDX-License-Identifier: Apache-2.0
/*
 * Writes to shared memory in all the ways that leave no trace: through a mapping that is gone at
 * once, through one that is taken away in parts, by write(2), by punching holes, by shrinking and
 * growing again. And a lock that is taken at times.
 */
#include <linux/falloc.h>

#include "subject_memory.h"

#define PAGES      256U
#define LOCK_PAGES 1024U /* it takes its time to look at them */

static uint64_t model[PAGES];
static uint64_t stamps;
static unsigned seed, size = PAGES;
static int fd;

static unsigned dice(unsigned n)
{
	seed = seed * 1103515245u + 12345u;
	return (seed >> 8) % n;
}

static void by_mapping(unsigned page)
{
	uint64_t *p = map(1, RW, MAP_SHARED, fd, (off_t)(page * PAGE));

	model[page] = ++stamps;
	p[1] = stamps;
	CHECK(munmap(p, PAGE) == 0);
}

static void by_write(unsigned page)
{
	model[page] = ++stamps;
	CHECK(pwrite(fd, &stamps, sizeof(stamps), (off_t)(page * PAGE + 8)) == sizeof(stamps));
}

static void by_hole(unsigned page)
{
	CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(page * PAGE),
		      (off_t)PAGE) == 0);
	model[page] = 0;
}

static void by_size(unsigned page)
{
	if (page < PAGES / 2)
		return;
	CHECK(ftruncate(fd, (off_t)(page * PAGE)) == 0);
	subject_sleep_ms(dice(4)); /* somebody may look just now */
	CHECK(ftruncate(fd, (off_t)(PAGES * PAGE)) == 0);
	memset(model + page, 0, (PAGES - page) * sizeof(*model));
}

static void (*const deeds[])(
	unsigned page) = { by_mapping, by_mapping, by_mapping, by_write, by_hole, by_size };

/* An object without a descriptor, whose mappings go away one by one. */
static char *lose(char *p, unsigned *left)
{
	if (*left < 3)
		return p;
	fill(p, PAGE, 100 + *left);
	fill(p + PAGE, PAGE, 200 + *left);
	CHECK(munmap(p, PAGE) == 0);
	--*left;
	return p + PAGE;
}

/* An object without a descriptor, whose one mapping stays and is only read. */
static uint64_t *quiet, quiet_model[PAGES];

static void glimpse(unsigned page)
{
	uint64_t *p = mremap(quiet + page * PAGE / 8, 0, PAGE, MREMAP_MAYMOVE);

	CHECK(p != MAP_FAILED);
	*p = quiet_model[page] = ++stamps;
	CHECK(munmap(p, PAGE) == 0);
}

static void take_and_give(volatile uint64_t *lock)
{
	CHECK(*lock == 0);
	*lock = 1;
	for (volatile int i = 0; i < 20000; i++)
		;
	*lock = 0;
}

static void check_quiet(void)
{
	for (unsigned i = 0; i < PAGES; i++)
		CHECK(quiet[i * PAGE / 8] == quiet_model[i]);
}

int main(void)
{
	volatile uint64_t *lock;
	unsigned left = PAGES;
	int lock_fd;
	struct timespec now;
	char *anon, *again, *all;

	clock_gettime(CLOCK_REALTIME, &now);
	seed = (unsigned)now.tv_nsec;
	fd = memfd_create("transient", MFD_CLOEXEC);
	CHECK(fd >= 0 && ftruncate(fd, (off_t)(size * PAGE)) == 0);
	anon = map(PAGES, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	/* A second mapping of the same: shows what was written through the first. */
	again = mremap(anon, 0, PAGES * PAGE, MREMAP_MAYMOVE);
	CHECK(again != MAP_FAILED);
	quiet = (uint64_t *)(void *)map(PAGES, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	lock_fd = memfd_create("lock", MFD_CLOEXEC);
	CHECK(lock_fd >= 0 && ftruncate(lock_fd, (off_t)(LOCK_PAGES * PAGE)) == 0);
	lock = (uint64_t *)(void *)map(LOCK_PAGES, RW, MAP_SHARED, lock_fd, 0);
	memset((char *)(uintptr_t)lock + PAGE, 1, (LOCK_PAGES - 1) * PAGE);
	for (unsigned i = 0; i < PAGES; i++)
		quiet[i * PAGE / 8] = quiet_model[i] = ++stamps;
	subject_sleep_ms(100); /* no time stamp is young */
	subject_restless();
	dprintf(1, "ready\n");
	while (access("go", F_OK) < 0) {
		for (int i = 0; i < 20; i++)
			deeds[dice(sizeof(deeds) / sizeof(*deeds))](dice(PAGES));
		anon = lose(anon, &left);
		glimpse(dice(PAGES));
		for (int i = 0; i < 20; i++)
			take_and_give(lock);
		subject_sleep_ms(1);
	}
	check_quiet();
	CHECK(*lock == 0);
	all = map(PAGES, PROT_READ, MAP_SHARED, fd, 0);
	for (unsigned i = 0; i < PAGES; i++)
		CHECK(((uint64_t *)(void *)(all + i * PAGE))[1] == model[i]);
	/* Page k was filled when PAGES - k were left, and as the second one by its forerunner. */
	for (unsigned k = 0; k < PAGES - left; k++)
		check_filled(again + k * PAGE, PAGE, 100 + PAGES - k);
	check_filled(again + (PAGES - left) * PAGE, PAGE, 200 + left + 1);
	return subject_ok();
}
