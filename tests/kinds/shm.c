// SPDX-License-Identifier: Apache-2.0
/* Memfds and anonymous shared memory, mapped more than once, partly, privately, or not at all. */
#include <linux/memfd.h>
#include <sys/stat.h>

#include "vmas.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

static struct vmas before, after;

static int make(const char *name, size_t pages)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	CHECK(fd >= 0 && ftruncate(fd, (off_t)(pages * PAGE)) == 0);
	return fd;
}

int main(void)
{
	int two = make("two mappings", 8), file_only = make("no mapping", 4);
	int gone = make("no descriptor", 4), sealed = make("sealed", 2), sparse = make("sparse", 0);
	char *a = map(8, RW, MAP_SHARED, two, 0), *b = map(4, PROT_READ, MAP_SHARED, two, 2 * PAGE);
	char *priv = map(8, RW, MAP_PRIVATE, two, 0);
	char *g = map(4, RW, MAP_SHARED, gone, 0), *s = map(2, RW, MAP_SHARED, sealed, 0);
	char *anon = map(16, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0), *again;
	char buf[PAGE] __attribute__((aligned(8)));
	struct stat st;

	vmas_early();
	fill(a, 8 * PAGE, 1);
	fill(priv + PAGE, PAGE, 2);
	fill(g, 4 * PAGE, 3);
	close(gone);
	fill(buf, sizeof(buf), 4);
	CHECK(pwrite(file_only, buf, sizeof(buf), 2 * PAGE) == sizeof(buf));
	fill(s, 2 * PAGE, 5);
	CHECK(munmap(s, 2 * PAGE) == 0);
	CHECK(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK) == 0);
	s = map(2, PROT_READ, MAP_SHARED, sealed, 0);
	CHECK(pwrite(sparse, "x", 1, 1 << 30) == 1);
	fill(anon, 16 * PAGE, 6);
	/* The first part is unmapped, the last is mapped twice (old size 0: a second mapping). */
	CHECK(munmap(anon, 4 * PAGE) == 0);
	again = mremap(anon + 8 * PAGE, 0, 4 * PAGE, MREMAP_MAYMOVE);
	CHECK(again != MAP_FAILED);
	vmas_read(&before);
	subject_wait_moved();
	vmas_read(&after);
	vmas_equal(&before, &after);
	check_filled(a, 8 * PAGE, 1);
	CHECK(!memcmp(b, a + 2 * PAGE, 4 * PAGE));
	check_filled(priv + PAGE, PAGE, 2);
	CHECK(!memcmp(priv, a, PAGE));
	check_filled(g, 4 * PAGE, 3);
	CHECK(pread(file_only, buf, sizeof(buf), 2 * PAGE) == sizeof(buf));
	check_filled(buf, sizeof(buf), 4);
	CHECK(fstat(file_only, &st) == 0 && st.st_size == 4 * PAGE);
	check_filled(s, 2 * PAGE, 5);
	CHECK(fcntl(sealed, F_GET_SEALS) == (F_SEAL_WRITE | F_SEAL_SHRINK));
	CHECK(pwrite(sealed, "x", 1, 0) < 0 && errno == EPERM);
	CHECK(fstat(sparse, &st) == 0 && st.st_size == (1 << 30) + 1 && st.st_blocks < 64);
	CHECK(pread(sparse, buf, 1, 1 << 30) == 1 && buf[0] == 'x');
	for (int i = 0; i < 12; i++)
		for (size_t k = 0; k < PAGE / 8; k++)
			CHECK(((uint64_t *)(void *)(anon + 4 * PAGE))[(size_t)i * PAGE / 8 + k] ==
				6 * 0x9E3779B97F4A7C15ULL + (4 + (size_t)i) * PAGE / 8 + k);
	/* What is one object stays one. */
	a[2 * PAGE] ^= 1;
	CHECK(b[0] == a[2 * PAGE]);
	CHECK(pwrite(two, "y", 1, 3 * PAGE) == 1 && a[3 * PAGE] == 'y' && b[PAGE] == 'y');
	anon[8 * PAGE] ^= 1;
	CHECK(again[0] == anon[8 * PAGE]);
	return subject_ok();
}
