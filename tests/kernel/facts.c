// SPDX-License-Identifier: Apache-2.0
/* Facts of this host: what must be known everywhere is known, and a host fits itself. */
#include "kernel/facts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cmocka.h>

static void this_host(void **state unused_arg)
{
	autoarena struct arena *a = arena_new();
	struct utsname u;
	struct facts f, again;

	assert_int_equal(uname(&u), 0);
	facts_read(a, &f);
	facts_read(a, &again);
	assert_string_equal(f.machine, u.machine);
	assert_int_equal(memcmp(f.kernel, u.release, strlen(u.release)), 0);
	assert_true(f.vdso_bytes >= PAGE_BYTES);
	assert_true(f.vdso_hash == again.vdso_hash && f.vdso_hash != 0);
	assert_true(f.max_map_count && f.pid_max && f.nr_open && f.mem_free_bytes);
	assert_int_equal(f.page_bytes, sysconf(_SC_PAGESIZE));
	assert_true(f.cpus >= 1);
	assert_true(again.monotonic_ns >= f.monotonic_ns);
}

static void must_not(void *arg unused_arg, const char *feature)
{
	fail_msg("a host lacks its own %s", feature);
}

static void count(void *arg, const char *feature)
{
	assert_true(feature && *feature);
	++*(int *)arg;
}

static void processor(void **state unused_arg)
{
	uint32_t words[CPU_WORDS_MAX], none[1] = { 0 };
	size_t n = cpu_words(words);
	int missing = 0;

	assert_true(n <= CPU_WORDS_MAX);
	const struct cpu_list all = { words, n }, nothing = { none, 1 };

	cpu_compare(all, all, must_not, NULL);
	cpu_compare(nothing, all, must_not, NULL);
	cpu_compare(all, nothing, count, &missing);
	assert_true(missing > 10);
	assert_int_equal(cpu_state_moved(cpu_state_components(), words, n, words, n), -1);
	if (cpu_state_components() & 4) /* AVX */
		assert_int_equal(cpu_state_moved(cpu_state_components(), words, n, none, 1), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(this_host),
		cmocka_unit_test(processor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
