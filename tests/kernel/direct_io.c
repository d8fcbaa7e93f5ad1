// SPDX-License-Identifier: Apache-2.0
#include "kernel/direct_io.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static bool any(void)
{
	bool ret = false;

	assert_null(direct_io_any(getpid(), &ret));
	return ret;
}

/* Also one that became so after it was opened. */
static void test_seen(void **state)
{
	char name[] = "/tmp/migrated-direct-XXXXXX";
	int made = mkstemp(name), fd;

	(void)state;
	assert_true(made >= 0);
	assert_false(any());
	fd = open(name, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0) {
		unlink(name);
		print_message("no O_DIRECT in /tmp\n");
		skip();
	}
	assert_true(any());
	close(fd);
	assert_false(any());
	assert_int_equal(fcntl(made, F_SETFL, O_DIRECT), 0);
	assert_true(any());
	close(made);
	unlink(name);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_seen) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
