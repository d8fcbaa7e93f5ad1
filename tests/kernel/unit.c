// SPDX-License-Identifier: Apache-2.0
/* Unit names in control group paths. */
#include "kernel/unit.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct row {
	const char *text, *want;
} rows[] = {
	{ "", "" },
	{ "0::/\n", "" },
	{ "0::/system.slice/redis-server.service\n", "redis-server.service" },
	{ "0::/system.slice/redis-server.service", "redis-server.service" },
	{ "0::/system.slice/system-getty.slice/getty@tty1.service\n", "getty@tty1.service" },
	{ "0::/system.slice/a.service/workers\n", "a.service" },
	{ "0::/user.slice/user-0.slice/user@0.service/app.slice/b.service\n", "b.service" },
	{ "0::/user.slice/user-0.slice/session-3.scope\n", "" },
	{ "0::/user.slice/user-0.slice/user@0.service/init.scope\n", "" },
	{ "0::/system.slice/_cpu.x.service\n", "cpu.x.service" },
	{ "0::/.service\n", "" },
	{ "4:memory:/system.slice/c.service\n1:name=systemd:/system.slice/d.service\n0::/\n",
		"d.service" },
	{ "4:memory:/system.slice/c.service\n", "" },
};

static void table(void **state unused_arg)
{
	autoarena struct arena *a = arena_new();

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_string_equal(unit_in_cgroups(a, rows[i].text), rows[i].want);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(table) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
