// SPDX-License-Identifier: Apache-2.0
/* Errors, arenas, ranges, numbers out of text, files. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/ranges.h"
#include "base/text.h"

static void test_err_chain(void **state)
{
	struct err *e = err_hint(err_in(err_errno(ESRCH, "read %d", 7), "look"), "first");
	autofree char *line = NULL;

	(void)state;
	e = err_hint(e, "second");
	line = err_line(e);
	assert_string_equal(line, "look: read 7: No such process");
	assert_int_equal(err_code(e), ERR_GONE);
	assert_int_equal(err_sysno(e), ESRCH);
	assert_string_equal(err_hint_text(e), "first");
	assert_null(err_text(e, 3));
	assert_string_equal(err_code_name(ERR_MISMATCH), "MISMATCH");
	err_free(e);
	err_free(NULL);
}

static void test_err_keeps_the_inner_end(void **state)
{
	struct err *e = err_new(ERR_BUG, "inner");

	(void)state;
	for (int i = 0; i < 100; i++)
		e = err_in(e, "outer %d", i);
	for (size_t i = 0; err_text(e, i); i++)
		if (!err_text(e, i + 1))
			assert_string_equal(err_text(e, i), "inner");
	err_free(e);
}

static void test_arena(void **state)
{
	autoarena struct arena *a = arena_new();
	size_t cap = 0;
	int *v = NULL;
	char *big;

	(void)state;
	for (int i = 0; i < 10000; i++) {
		v = arena_grow(a, v, &cap, (size_t)i + 1, sizeof(*v));
		v[i] = i;
	}
	for (int i = 0; i < 10000; i++)
		assert_int_equal(v[i], i);
	big = arena_alloc(a, 100000);
	for (int i = 0; i < 100000; i++)
		assert_int_equal(big[i], 0);
	assert_string_equal(arena_printf(a, "%d-%s", 5, "x"), "5-x");
	assert_int_equal((uintptr_t)arena_alloc(a, 1) % 16, 0);
}

/* Against the simplest model there is: one bit per point. */
static void test_ranges_like_bits(void **state)
{
	autoranges struct ranges r = { 0 };
	bool bits[128] = { 0 };

	(void)state;
	srand(1);
	for (int i = 0; i < 20000; i++) {
		uint64_t a = (uint64_t)rand() % 128, b = (uint64_t)rand() % 129, total = 0;
		bool add = rand() % 2;

		if (add)
			ranges_add(&r, a, b);
		else
			ranges_sub(&r, a, b);
		for (uint64_t p = a; p < b; p++)
			bits[p] = add;
		for (uint64_t p = 0; p < 128; p++) {
			assert_int_equal(ranges_contain(&r, p), bits[p]);
			total += bits[p];
		}
		assert_int_equal(ranges_total(&r), total);
		for (size_t k = 1; k < r.n; k++)
			assert_true(r.v[k - 1].end < r.v[k].start);
	}
}

static void test_numbers(void **state)
{
	uint64_t v;

	(void)state;
	assert_null(text_u64("18446744073709551615", 10, "n", &v));
	assert_int_equal(v, UINT64_MAX);
	assert_null(text_u64("ff", 16, "n", &v));
	assert_int_equal(v, 255);
	const char *bad[] = { "", " 1", "1 ", "-1", "+1", "18446744073709551616", "0x1", "9a" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err *e = text_u64(bad[i], 10, "n", &v);

		assert_non_null(e);
		assert_int_equal(err_code(e), ERR_INVALID);
		err_free(e);
	}
	assert_null(text_size("3k", "n", &v));
	assert_int_equal(v, 3072);
	assert_null(text_size("2G", "n", &v));
	assert_int_equal(v, 2ULL << 30);
	const char *sizes[] = { "k", "1kk", "1X", "99999999999T" };
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct err *e = text_size(sizes[i], "n", &v);

		assert_non_null(e);
		err_free(e);
	}
}

static void test_read_limit(void **state)
{
	autoarena struct arena *a = arena_new();
	struct err *e;
	char *text;
	size_t len;

	(void)state;
	assert_null(io_read_file(a, "/proc/self/stat", 65536, &text, &len));
	assert_int_equal(strlen(text), len);
	e = io_read_file(a, "/proc/self/maps", 10, &text, &len);
	assert_non_null(e);
	assert_int_equal(err_code(e), ERR_LIMIT);
	err_free(e);
	e = io_read_file(a, "/nonexistent", 10, &text, &len);
	assert_int_equal(err_sysno(e), ENOENT);
	err_free(e);
}

static void test_short_read(void **state)
{
	int p[2];
	char buf[8];
	struct err *e;

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_null(io_write_full(p[1], "abc", 3, "pipe"));
	close(p[1]);
	e = io_read_full(p[0], buf, 8, "pipe");
	assert_int_equal(err_code(e), ERR_GONE);
	err_free(e);
	close(p[0]);
}

static void plain_is(const char *given, const char *want)
{
	autofree char *s = xstrdup(given);

	text_plain(s);
	assert_string_equal(s, want);
}

static void value_is(const char *given, const char *want)
{
	autotext struct text t = { 0 };

	text_value(&t, given);
	assert_string_equal(text_str(&t), want);
}

static void test_plain(void **state)
{
	(void)state;
	plain_is("", "");
	plain_is("/tmp/a b.c", "/tmp/a b.c");
	plain_is("a\n\033[2Jb\177\r\t", "a??[2Jb???");
	plain_is("Gr\303\274n \342\202\254 \360\237\220\247",
		"Gr\303\274n \342\202\254 \360\237\220\247");
	plain_is("\302\2335n", "?5n");     /* CSI in one character */
	plain_is("\2335n", "?5n");         /* and in one byte */
	plain_is("x\342\200\256y", "x?y"); /* shown from right to left */
	plain_is("\300\212", "??");        /* a newline, longer than it may be */
	plain_is("\340\202\233", "???");   /* CSI, the same */
	plain_is("\355\240\200", "?");     /* a surrogate */
	plain_is("\364\220\200\200\377", "?????");
	plain_is("cut\342\202", "cut??");
	value_is("", "\"\"");
	value_is("SHA256:a+b/c", "SHA256:a+b/c");
	value_is("x decision=allowed", "\"x decision=allowed\"");
	value_is("x\" y=\"\\z\n", "\"x\\\" y=\\\"\\\\z?\"");
	value_is("a=b", "\"a=b\"");
}

static void test_deadlines(void **state)
{
	struct deadline past = deadline_in(-1), soon = deadline_in(1500);

	(void)state;
	assert_true(deadline_passed(past));
	assert_int_equal(deadline_poll_ms(past), 0);
	assert_int_equal(deadline_poll_ms(DEADLINE_NEVER), -1);
	assert_true(deadline_poll_ms(soon) <= 2);
	assert_int_equal(deadline_min(past, soon).at_us, past.at_us);
}

static void ids(unused_arg void **state)
{
	static const char *const bad[] = { "", ".", "..", "a/b", "-a", "a.b", "a b", "\n",
		"12345678" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(text_is_id(bad[i], 7));
	assert_true(text_is_id("1234567", 7));
	assert_true(text_is_id("a-b_C", 7));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids),
		cmocka_unit_test(test_err_chain),
		cmocka_unit_test(test_err_keeps_the_inner_end),
		cmocka_unit_test(test_arena),
		cmocka_unit_test(test_ranges_like_bits),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_read_limit),
		cmocka_unit_test(test_short_read),
		cmocka_unit_test(test_deadlines),
		cmocka_unit_test(test_plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
