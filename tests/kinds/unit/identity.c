// SPDX-License-Identifier: Apache-2.0
#include "kinds/identity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka.h wants these in front */
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "tests/tmp.h"

static char dir[TMP_BYTES];

static int make(const char *name, const char *text)
{
	char path[TMP_BYTES + 16];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	return fd;
}

static enum err_code check(int fd, const Migrate__Kind__FileIdentity *want)
{
	autoerr struct err *e = file_identity_check(fd, want);

	return e ? err_code(e) : 0;
}

static void same_file(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	autoclose int fd = make("a", "one");
	Migrate__Kind__FileIdentity *id;

	assert_null(file_identity(a, fd, false, &id));
	assert_true(file_identity_same(fd, id));
	assert_int_equal(check(fd, id), 0);
	/* Written to, it is still the same. */
	assert_int_equal(write(fd, "two", 3), 3);
	assert_int_equal(check(fd, id), 0);
}

static void same_contents(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	autoclose int fd = make("a", "one"), copy = make("b", "one"), other = make("c", "two"),
		      longer = make("d", "one and more");
	Migrate__Kind__FileIdentity *id;

	assert_null(file_identity(a, fd, true, &id));
	assert_int_equal(id->digest.len, 16);
	assert_int_equal(check(copy, id), 0);
	assert_false(file_identity_same(copy, id));
	assert_int_equal(check(other, id), ERR_MISMATCH);
	assert_int_equal(check(longer, id), ERR_MISMATCH);
	assert_null(file_identity(a, fd, false, &id));
	assert_int_equal(check(copy, id), ERR_MISMATCH);
}

/* Two machines made from one image: equal inodes and birth times mean nothing. */
static void clones_differ(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	autoclose int fd = make("a", "one");
	Migrate__Kind__FileIdentity *id;

	assert_null(file_identity(a, fd, true, &id));
	id->boot_id.data[0] ^= 1;
	assert_false(file_identity_same(fd, id));
	assert_int_equal(check(fd, id), 0);
	assert_int_equal(pwrite(fd, "two", 3, 0), 3);
	assert_int_equal(check(fd, id), ERR_MISMATCH);
}

static void build_ids(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	autoclose int self = open("/proc/self/exe", O_PATH | O_CLOEXEC), fd = make("a", "one");
	Migrate__Kind__FileIdentity *id;

	assert_null(file_identity(a, self, true, &id));
	if (!id->build_id.len)
		skip();
	assert_int_equal(id->digest.len, 0);
	id->boot_id.len = 0;
	assert_int_equal(check(self, id), 0);
	id->build_id.data[0] ^= 1;
	assert_int_equal(check(self, id), ERR_MISMATCH);
	assert_int_equal(check(fd, id), ERR_MISMATCH);
}

static void write_only(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	autoclose int fd = make("a", "one"), out = -1;
	Migrate__Kind__FileIdentity *id;
	char path[TMP_BYTES + 16];

	snprintf(path, sizeof(path), "%s/a", dir);
	assert_null(io_open(path, O_WRONLY, &out));
	assert_null(file_identity(a, out, true, &id));
	assert_int_equal(id->digest.len, 16);
	assert_int_equal(lseek(out, 0, SEEK_CUR), 0);
	id->boot_id.len = 0;
	assert_int_equal(check(fd, id), 0);
}

static void paths(unused_arg void **state)
{
	autoclose int fd = make("a", "one"), other = -1;
	char path[TMP_BYTES + 16];
	struct err *e;

	snprintf(path, sizeof(path), "%s/a", dir);
	assert_null(file_path_check(fd, path));
	other = make("a", "two");
	e = file_path_check(fd, path);
	assert_int_equal(err_code(e), ERR_UNSUPPORTED);
	err_free(e);
	unlink(path);
	e = file_path_check(fd, path);
	assert_int_equal(err_code(e), ERR_UNSUPPORTED);
	err_free(e);
}

static int begin(unused_arg void **state)
{
	return mkdtemp(tmp_template(dir, "identity")) ? 0 : -1;
}

static int end(unused_arg void **state)
{
	char path[TMP_BYTES + 16];

	for (const char *n = "abcd"; *n; n++) {
		snprintf(path, sizeof(path), "%s/%c", dir, *n);
		unlink(path);
	}
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_file),
		cmocka_unit_test(same_contents),
		cmocka_unit_test(clones_differ),
		cmocka_unit_test(build_ids),
		cmocka_unit_test(write_only),
		cmocka_unit_test(paths),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
