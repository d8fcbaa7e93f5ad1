// SPDX-License-Identifier: Apache-2.0
/* One mapping of every kind, with contents; smaps must be the same after the move. */
#include <sys/prctl.h>

#include "vmas.h"

#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static struct vmas before, after;

static const int advices[] = { MADV_DONTFORK, MADV_DONTDUMP, MADV_WIPEONFORK, MADV_HUGEPAGE,
	MADV_NOHUGEPAGE, MADV_SEQUENTIAL, MADV_RANDOM };
static char *advised[sizeof(advices) / sizeof(*advices)];
static char *none, *ro, *down, *noreserve, *hole, *late_ro;
static char *file_ro, *file_private, *file_shared, *zero, *deep;

static void advise_all(void)
{
	for (size_t i = 0; i < sizeof(advices) / sizeof(*advices); i++) {
		advised[i] = map(600, RW, ANON, -1, 0);
		/* A hint that this kernel does not know stays away. */
		if (madvise(advised[i], 600 * PAGE, advices[i]) < 0)
			CHECK(errno == EINVAL);
		fill(advised[i] + PAGE, 2 * PAGE, 10 + i);
		/* A guard between them: neighbours would join. */
		map(1, PROT_NONE, ANON, -1, 0);
	}
}

static void make_files(void)
{
	int fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0644);
	char buf[8 * PAGE] __attribute__((aligned(8)));

	CHECK(fd >= 0);
	fill(buf, sizeof(buf), 77);
	CHECK(write(fd, buf, sizeof(buf)) == sizeof(buf));
	file_private = map(8, RW, MAP_PRIVATE, fd, 0);
	fill(file_private + 3 * PAGE, PAGE, 78);
	file_shared = map(4, RW, MAP_SHARED, fd, 4 * PAGE);
	close(fd);
	fd = open("data", O_RDONLY);
	file_ro = map(2, PROT_READ, MAP_SHARED, fd, 2 * PAGE);
	close(fd);
	fd = open("/dev/zero", O_RDWR);
	zero = map(4, RW, MAP_PRIVATE, fd, 0);
	fill(zero + PAGE, PAGE, 79);
	close(fd);
}

static void make_anon(void)
{
	/* Address 0 is an address, where vm.mmap_min_addr lets us have it. */
	CHECK(mmap(NULL, PAGE, RW, ANON | MAP_FIXED, -1, 0) == NULL || errno == EPERM);
	none = map(4, RW, ANON, -1, 0);
	fill(none, 4 * PAGE, 1);
	CHECK(mprotect(none, 4 * PAGE, PROT_NONE) == 0);
	ro = map(4, RW, ANON, -1, 0);
	fill(ro, 4 * PAGE, 2);
	CHECK(mprotect(ro + PAGE, 2 * PAGE, PROT_READ) == 0);
	down = map(16, RW, ANON | MAP_GROWSDOWN, -1, 0);
	fill(down + 8 * PAGE, 8 * PAGE, 3);
	noreserve = map(1UL << 18, RW, ANON | MAP_NORESERVE, -1, 0);
	fill(noreserve + (1UL << 29), PAGE, 4);
	hole = map(64, RW, ANON, -1, 0);
	fill(hole, 64 * PAGE, 5);
	CHECK(munmap(hole + 10 * PAGE, 5 * PAGE) == 0);
	/* Contents that are only zero pages, and pages that were given back. */
	memset(hole + 20 * PAGE, 0, 4 * PAGE);
	CHECK(madvise(hole + 30 * PAGE, 2 * PAGE, MADV_DONTNEED) == 0);
	deep = map(2048, RW, ANON, -1, 0);
	CHECK(madvise(deep, 2048 * PAGE, MADV_HUGEPAGE) == 0 || errno == EINVAL);
	fill(deep, 2048 * PAGE, 6);
	/* Has a name where the kernel knows names. */
	late_ro = map(3, RW, ANON, -1, 0);
	prctl(0x53564d41, 0, late_ro, 3 * PAGE, "a name");
	fill(late_ro, 3 * PAGE, 7);
	CHECK(mprotect(late_ro, 3 * PAGE, PROT_READ | PROT_EXEC) == 0);
}

static void check_all(void)
{
	CHECK(mprotect(none, 4 * PAGE, PROT_READ) == 0);
	check_filled(none, 4 * PAGE, 1);
	check_filled(ro, 4 * PAGE, 2);
	check_filled(down + 8 * PAGE, 8 * PAGE, 3);
	check_filled(noreserve + (1UL << 29), PAGE, 4);
	check_filled(hole, 10 * PAGE, 5);
	for (size_t i = 0; i < 4 * PAGE; i++)
		CHECK(hole[20 * PAGE + i] == 0);
	for (size_t i = 0; i < 2 * PAGE; i++)
		CHECK(hole[30 * PAGE + i] == 0);
	check_filled(deep, 2048 * PAGE, 6);
	check_filled(late_ro, 3 * PAGE, 7);
	for (size_t i = 0; i < sizeof(advices) / sizeof(*advices); i++)
		check_filled(advised[i] + PAGE, 2 * PAGE, 10 + i);
	check_filled(file_private, 3 * PAGE, 77);
	check_filled(file_private + 3 * PAGE, PAGE, 78);
	check_filled(zero + PAGE, PAGE, 79);
	CHECK(memcmp(file_ro, file_private + 2 * PAGE, PAGE) == 0);
	/* Shared mappings lead to the file, private ones do not. */
	file_shared[0] ^= 1;
	CHECK(file_private[4 * PAGE] == file_shared[0]);
	file_private[5 * PAGE] ^= 1;
	CHECK(file_private[5 * PAGE] != file_shared[PAGE]);
}

int main(void)
{
	vmas_early();
	advise_all();
	make_files();
	make_anon();
	vmas_read(&before);
	subject_wait_moved();
	vmas_read(&after);
	vmas_equal(&before, &after);
	check_all();
	return subject_ok();
}
