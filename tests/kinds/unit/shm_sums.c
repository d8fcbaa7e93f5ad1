// SPDX-License-Identifier: Apache-2.0
#include "kinds/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka.h wants these in front */
#include <cmocka.h>

#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "no_engine.h"

#define BLOCK 4096UL
/* A hand-out is not larger. */
#define STRETCH 65536UL

struct subject {
	int fd;
	struct shm_sums *sums;
	struct ranges changed, holes;
};

static struct err *on_changed(void *arg, uint64_t offset, uint8_t *data, uint64_t bytes)
{
	struct subject *o = arg;
	static uint8_t now[STRETCH];

	ranges_add(&o->changed, offset, offset + bytes);
	if (!data) {
		assert_true(lseek(o->fd, (off_t)offset, SEEK_DATA) < 0 ||
			    lseek(o->fd, (off_t)offset, SEEK_DATA) >= (off_t)(offset + bytes));
		return NULL;
	}
	assert_true(bytes % BLOCK == 0 && bytes <= STRETCH);
	memset(now, 0, sizeof(now));
	assert_true(pread(o->fd, now, bytes, (off_t)offset) > 0);
	assert_memory_equal(data, now, bytes);
	return NULL;
}

static void look(struct subject *o, uint64_t bytes)
{
	struct err *e;

	ranges_clear(&o->changed);
	e = shm_sums_update(&o->sums, o->fd, bytes, on_changed, o);
	assert_null(e);
}

static void one_change(const struct subject *o, uint64_t start, uint64_t end)
{
	assert_int_equal(o->changed.n, 1);
	assert_int_equal(o->changed.v[0].start, start);
	assert_int_equal(o->changed.v[0].end, end);
}

static void put(const struct subject *o, const char *text, off_t at)
{
	assert_int_equal(pwrite(o->fd, text, strlen(text), at), strlen(text));
}

static void what_differs_is_told(unused_arg void **state)
{
	struct subject o = { .fd = memfd_create("sums", MFD_CLOEXEC) };

	assert_int_equal(ftruncate(o.fd, 10 * BLOCK), 0);
	look(&o, 10 * BLOCK);
	assert_int_equal(o.changed.n, 0); /* all holes */
	put(&o, "x", 3 * BLOCK + 5);
	look(&o, 10 * BLOCK);
	one_change(&o, 3 * BLOCK, 4 * BLOCK);
	look(&o, 10 * BLOCK);
	assert_int_equal(o.changed.n, 0);
	put(&o, "y", 3 * BLOCK + 5);
	put(&o, "y", 4 * BLOCK);
	look(&o, 10 * BLOCK);
	one_change(&o, 3 * BLOCK, 5 * BLOCK);
	/* A hole again. */
	assert_int_equal(
		fallocate(o.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * BLOCK, BLOCK), 0);
	look(&o, 10 * BLOCK);
	one_change(&o, 3 * BLOCK, 4 * BLOCK);
	/* Smaller, and as large again before the next look but one. */
	assert_int_equal(ftruncate(o.fd, 2 * BLOCK), 0);
	look(&o, 2 * BLOCK);
	assert_int_equal(o.changed.n, 0);
	assert_int_equal(ftruncate(o.fd, 10 * BLOCK), 0);
	look(&o, 10 * BLOCK);
	one_change(&o, 4 * BLOCK, 5 * BLOCK);
	/* No whole blocks. */
	put(&o, "z", 10 * BLOCK);
	look(&o, 10 * BLOCK + 1);
	one_change(&o, 10 * BLOCK, 11 * BLOCK);
	/* What was told by others is not known any more, whatever it is. */
	shm_sums_forget(o.sums, 4 * BLOCK - 1, 4 * BLOCK + 1);
	look(&o, 10 * BLOCK);
	assert_int_equal(o.changed.n, 1);
	one_change(&o, 3 * BLOCK, 5 * BLOCK);
	/* More than one stretch. */
	assert_int_equal(ftruncate(o.fd, 100 * BLOCK), 0);
	for (unsigned i = 20; i < 90; i++)
		put(&o, "w", (off_t)(i * BLOCK));
	look(&o, 100 * BLOCK);
	assert_int_equal(o.changed.n, 1);
	one_change(&o, 20 * BLOCK, 90 * BLOCK);
	ranges_fini(&o.changed);
	shm_sums_free(o.sums);
	close(o.fd);
}

static struct err *on_outline(void *arg, uint64_t offset, uint64_t bytes, bool hole)
{
	struct subject *o = arg;

	ranges_add(hole ? &o->holes : &o->changed, offset, offset + bytes);
	return NULL;
}

static void outline(struct subject *o, uint64_t bytes)
{
	struct err *e;

	ranges_clear(&o->changed);
	ranges_clear(&o->holes);
	e = shm_sums_outline(&o->sums, o->fd, bytes, on_outline, o);
	assert_null(e);
}

static void an_outline_tells_holes(unused_arg void **state)
{
	struct subject o = { .fd = memfd_create("sums", MFD_CLOEXEC) };

	assert_int_equal(ftruncate(o.fd, 100 * BLOCK), 0);
	for (unsigned i = 10; i < 60; i++)
		put(&o, "x", (off_t)(i * BLOCK));
	outline(&o, 100 * BLOCK);
	one_change(&o, 10 * BLOCK, 60 * BLOCK);
	assert_int_equal(o.holes.n, 0);
	put(&o, "y", 20 * BLOCK); /* the tracker tells that */
	put(&o, "y", 70 * BLOCK);
	assert_int_equal(
		fallocate(o.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 30 * BLOCK, BLOCK), 0);
	outline(&o, 100 * BLOCK);
	one_change(&o, 70 * BLOCK, 71 * BLOCK);
	assert_int_equal(o.holes.n, 1);
	assert_int_equal(o.holes.v[0].start, 30 * BLOCK);
	assert_int_equal(o.holes.v[0].end, 31 * BLOCK);
	outline(&o, 100 * BLOCK);
	assert_int_equal(o.changed.n + o.holes.n, 0);
	/* No sum of any data is known. */
	look(&o, 100 * BLOCK);
	assert_int_equal(o.changed.n, 3);
	ranges_fini(&o.changed);
	ranges_fini(&o.holes);
	shm_sums_free(o.sums);
	close(o.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_differs_is_told),
		cmocka_unit_test(an_outline_tells_holes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
