// SPDX-License-Identifier: Apache-2.0
#include "kernel/pagebits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka.h wants these in front */
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#define P PAGE_BYTES
#define N 100000 /* more than three chunks */

static unsigned dice(unsigned *seed, unsigned n)
{
	*seed = *seed * 1103515245u + 12345u;
	return (*seed >> 8) % n;
}

/* Against an array of bytes. */
static void like_an_array(unused_arg void **state)
{
	struct pagebits b = { .shift = 12 };
	autofree uint8_t *model = calloc(N, 1);
	uint64_t base = 0x7ffff0000000;
	unsigned seed = 7;

	for (int round = 0; round < 300; round++) {
		uint64_t from = dice(&seed, N), to = from + dice(&seed, 5000);
		bool on = dice(&seed, 2);

		to = MIN(to, (uint64_t)N);
		if (on)
			pagebits_set(&b, base + from * P, base + to * P);
		else
			pagebits_clear(&b, base + from * P, base + to * P);
		memset(model + from, on, to - from);
		if (round % 50 == 49)
			pagebits_trim(&b);
		for (uint64_t at = 0; at < N;) {
			bool set;
			uint64_t end = pagebits_run(&b, base + at * P, base + N * P, &set);

			end = (end - base) / P;
			assert_true(end > at && end <= N);
			for (uint64_t i = at; i < end; i++)
				assert_int_equal(model[i], set);
			assert_true(end == N || model[end] != set);
			at = end;
		}
	}
	pagebits_clear(&b, 0, UINT64_MAX);
	pagebits_trim(&b);
	assert_int_equal(b.n, 0);
	pagebits_fini(&b);
}

static void edges(unused_arg void **state)
{
	struct pagebits b = { .shift = 21 };
	bool set;

	pagebits_set(&b, 5, 5);
	assert_int_equal(b.n, 0);
	assert_int_equal(pagebits_run(&b, 0, 1ULL << 47, &set), 1ULL << 47);
	assert_false(set);
	pagebits_set(&b, (2 << 20) - 1, (2 << 20) + 1); /* touches two units */
	assert_true(pagebits_test(&b, 0));
	assert_true(pagebits_test(&b, (4 << 20) - 1));
	assert_false(pagebits_test(&b, 4 << 20));
	assert_int_equal(pagebits_run(&b, 4096, 1ULL << 47, &set), 4 << 20);
	assert_true(set);
	assert_int_equal(pagebits_run(&b, 4096, 8192, &set), 8192);
	pagebits_set(&b, UINT64_MAX - 10, UINT64_MAX);
	assert_true(pagebits_test(&b, UINT64_MAX));
	pagebits_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(like_an_array),
		cmocka_unit_test(edges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
