// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engine/precopy.h"

#define MIB (1ULL << 20)

static const struct precopy_limits limits = {
	.downtime_us = 50000, .max_rounds = 10, .tracked = true
};

static void test_full_copy_is_never_enough(void **state)
{
	struct precopy_trend trend = { 0 };
	struct precopy_forecast f;
	struct precopy_round r = { .number = 0,
		.length_us = 1000000,
		.dirty_bytes = 512 * MIB,
		.bandwidth_bytes_s = 512 * MIB };

	(void)state;
	assert_int_equal(precopy_decide(&r, &limits, &trend, &f), PRECOPY_AGAIN);
	assert_null(f.stop_rule);
}

static void test_idle_freezes(void **state)
{
	struct precopy_trend trend = { 0 };
	struct precopy_forecast f;
	struct precopy_round r = { .number = 1,
		.length_us = 1000,
		.dirty_bytes = 40960,
		.since_us = 1000000,
		.bandwidth_bytes_s = 512 * MIB };

	(void)state;
	assert_int_equal(precopy_decide(&r, &limits, &trend, &f), PRECOPY_FREEZE);
	assert_string_equal(f.stop_rule, PRECOPY_RULE_DOWNTIME);
	assert_true(f.downtime_us >= PRECOPY_FIXED_US && f.downtime_us < 5000);
}

/* 250 MiB/s over 500 MiB/s: a round of 160 ms leaves 40 MiB, 80 ms; the next one 20 MiB, 40 ms. */
static void test_converges(void **state)
{
	struct precopy_trend trend = { 0 };
	struct precopy_forecast f;
	struct precopy_round r = { .number = 1,
		.length_us = 160000,
		.dirty_bytes = 80 * MIB,
		.since_us = 320000,
		.bandwidth_bytes_s = 500 * MIB };

	(void)state;
	assert_int_equal(precopy_decide(&r, &limits, &trend, &f), PRECOPY_AGAIN);
	assert_int_equal(f.dirty_rate_bytes_s, 250 * MIB);
	assert_int_equal(f.dirty_bytes, 40 * MIB);
	r = (struct precopy_round){ .number = 2,
		.length_us = 80000,
		.dirty_bytes = 40 * MIB,
		.since_us = 160000,
		.bandwidth_bytes_s = 500 * MIB };
	assert_int_equal(precopy_decide(&r, &limits, &trend, &f), PRECOPY_FREEZE);
}

static void test_gives_up_or_is_forced(void **state)
{
	struct precopy_limits l = limits;
	struct precopy_trend trend = { 0 };
	struct precopy_forecast f;
	struct precopy_round r = { .number = 9,
		.length_us = 1000000,
		.dirty_bytes = 500 * MIB,
		.since_us = 1000000,
		.bandwidth_bytes_s = 500 * MIB };

	(void)state;
	assert_int_equal(precopy_decide(&r, &l, &trend, &f), PRECOPY_GIVE_UP);
	assert_string_equal(f.stop_rule, PRECOPY_RULE_MAX_ROUNDS);
	l.force_switch = true;
	assert_int_equal(precopy_decide(&r, &l, &trend, &f), PRECOPY_FREEZE);
	r.number = 8;
	assert_int_equal(precopy_decide(&r, &l, &trend, &f), PRECOPY_AGAIN);
	assert_null(f.stop_rule);
}

/* In eight seconds it wrote its 256 MiB many times over, which looks like 32 MiB/s. */
static void test_a_long_round_hides_the_rate(void **state)
{
	struct precopy_trend trend = { 0 };
	struct precopy_forecast f;
	struct precopy_round r = { .number = 1,
		.length_us = 500000,
		.dirty_bytes = 256 * MIB,
		.since_us = 8000000,
		.bandwidth_bytes_s = 512 * MIB };

	(void)state;
	assert_int_equal(precopy_decide(&r, &limits, &trend, &f), PRECOPY_AGAIN);
	assert_true(f.downtime_us < limits.downtime_us);
	r = (struct precopy_round){ .number = 2,
		.length_us = 30000,
		.dirty_bytes = 15 * MIB,
		.since_us = 500000,
		.bandwidth_bytes_s = 512 * MIB };
	assert_int_equal(precopy_decide(&r, &limits, &trend, &f), PRECOPY_FREEZE);
}

/* The same again and again: whoever forces it does not wait for max_rounds, whoever does not may
 * hope. */
static void test_rounds_in_vain(void **state)
{
	struct precopy_limits l = limits;
	struct precopy_trend trend = { 0 };
	struct precopy_forecast f;
	struct precopy_round r = { .number = 1,
		.length_us = 1000000,
		.dirty_bytes = 500 * MIB,
		.since_us = 1000000,
		.bandwidth_bytes_s = 500 * MIB };

	(void)state;
	l.force_switch = true;
	for (; trend.vain < PRECOPY_VAIN_MAX - 1; r.number++)
		assert_int_equal(precopy_decide(&r, &l, &trend, &f), PRECOPY_AGAIN);
	assert_true(r.number + 1 < l.max_rounds);
	l.force_switch = false;
	assert_int_equal(precopy_decide(&r, &l, &trend, &f), PRECOPY_AGAIN);
	l.force_switch = true;
	assert_int_equal(precopy_decide(&r, &l, &trend, &f), PRECOPY_FREEZE);
	assert_string_equal(f.stop_rule, PRECOPY_RULE_VAIN);
	trend = (struct precopy_trend){ .best_us = 2 * f.worst_us, .vain = PRECOPY_VAIN_MAX - 1 };
	assert_int_equal(precopy_decide(&r, &l, &trend, &f), PRECOPY_AGAIN);
}

static void test_untracked_has_one_round(void **state)
{
	struct precopy_limits l = limits;
	struct precopy_trend trend = { 0 };
	struct precopy_forecast f;
	struct precopy_round r = { .number = 0,
		.length_us = 1000000,
		.dirty_bytes = 500 * MIB,
		.bandwidth_bytes_s = 500 * MIB };

	(void)state;
	l.tracked = false;
	assert_int_equal(precopy_decide(&r, &l, &trend, &f), PRECOPY_GIVE_UP);
	assert_string_equal(f.stop_rule, PRECOPY_RULE_UNTRACKED);
	assert_true(f.downtime_us >= 1000000);
	r.dirty_bytes = MIB;
	assert_int_equal(precopy_decide(&r, &l, &trend, &f), PRECOPY_FREEZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full_copy_is_never_enough),
		cmocka_unit_test(test_idle_freezes),
		cmocka_unit_test(test_converges),
		cmocka_unit_test(test_gives_up_or_is_forced),
		cmocka_unit_test(test_a_long_round_hides_the_rate),
		cmocka_unit_test(test_rounds_in_vain),
		cmocka_unit_test(test_untracked_has_one_round),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
