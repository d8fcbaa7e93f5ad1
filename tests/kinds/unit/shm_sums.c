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

#define BLOCK 65536UL

struct subject {
	int fd;
	struct shm_sums *sums;
	struct ranges changed;
};

static struct err *on_changed(void *arg, uint64_t offset, uint8_t *data, uint64_t bytes)
{
	struct subject *o = arg;
	static uint8_t now[BLOCK];

	ranges_add(&o->changed, offset, offset + bytes);
	if (!data) {
		assert_true(lseek(o->fd, (off_t)offset, SEEK_DATA) < 0 ||
			    lseek(o->fd, (off_t)offset, SEEK_DATA) >= (off_t)(offset + bytes));
		return NULL;
	}
	assert_int_equal(bytes, BLOCK);
	memset(now, 0, sizeof(now));
	assert_true(pread(o->fd, now, BLOCK, (off_t)offset) > 0);
	assert_memory_equal(data, now, BLOCK);
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
	ranges_fini(&o.changed);
	shm_sums_free(o.sums);
	close(o.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_differs_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
