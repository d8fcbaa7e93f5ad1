// SPDX-License-Identifier: Apache-2.0
/* What the trackers decide and tell, without a kernel: page runs, and soft-dirty's words. */
#include "kernel/dirty_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka.h wants these in front */
#include <cmocka.h>

#include "kernel/pagemap.h"

#define P PAGE_BYTES

/* ---- soft-dirty's decision, on recorded words ---- */

#define HERE  PAGEMAP_PRESENT
#define SWAP  PAGEMAP_SWAPPED
#define FILE_ PAGEMAP_FILE
#define SD    PAGEMAP_SOFT_DIRTY
/* As Linux 6.1 writes them: exclusively mapped (bit 56), page frame in the low bits. */
#define EXCL (1ULL << 56)

static const struct zero_frames zeros = { .small = 0x1f00, .huge = 0x2200 };

static void decode(const uint64_t *words, size_t n, struct soft_state *s, struct page_runs *runs)
{
	struct run_sink out = { runs, 0, true };
	struct soft_look look = { words, n, 0x10000 };

	runs->n = 0;
	anchors_turn(s->anchors);
	dirty_soft_decode(&look, s, &out);
}

static void is_run(const struct page_run *r, uint64_t page, uint64_t pages, enum page_class class)
{
	assert_int_equal(r->start, 0x10000 + page * P);
	assert_int_equal(r->pages, pages);
	assert_int_equal(r->class, class);
}

static void soft_dirty_decisions(unused_arg void **state)
{
	const uint64_t first[] = { HERE | EXCL | SD | 0x777, HERE | EXCL | SD | 0x778, SD,
		SWAP | SD | 0x99, HERE | FILE_ | SD | 0x123, HERE | SD | 0x1f00, HERE | SD | 0x2200,
		HERE | SD | 0x23ff, HERE | SD | 0x2400 };
	const uint64_t second[] = { HERE | EXCL | 0x777, 0, 0, HERE | EXCL | 0x99,
		HERE | EXCL | SD | 0x124, HERE | EXCL | SD | 0x200, HERE | 0x2200, HERE | 0x23ff,
		HERE | 0x1f00 };
	const uint64_t third[] = { HERE | EXCL | SD | 0x777, 0, 0, SWAP, HERE | FILE_ | 0x123,
		HERE | EXCL | 0x200, PAGEMAP_GUARD, 0, 0 };
	const uint64_t moved[] = { HERE | EXCL | 0x779, 0, 0, SWAP, HERE | FILE_ | 0x123,
		HERE | EXCL | 0x201, PAGEMAP_GUARD, 0, 0 };
	struct pagebits had = { .shift = 12 };
	struct anchors anchors = { .next = 0 };
	struct soft_state s = { &zeros, &had, &anchors };
	AUTO(page_runs_fini) struct page_runs runs = { 0 };

	decode(first, ARRAY_LEN(first), &s, &runs);
	assert_int_equal(runs.n, 3);
	is_run(&runs.v[0], 0, 2, PAGE_DATA);
	is_run(&runs.v[1], 3, 1, PAGE_DATA);
	is_run(&runs.v[2], 8, 1, PAGE_DATA);
	/* Page 1 dropped, 4 and 5 written, 8 dropped and read back as the zero page. */
	decode(second, ARRAY_LEN(second), &s, &runs);
	assert_int_equal(runs.n, 3);
	is_run(&runs.v[0], 1, 1, PAGE_GONE);
	is_run(&runs.v[1], 4, 2, PAGE_DATA);
	is_run(&runs.v[2], 8, 1, PAGE_GONE);
	/* 0 written; 4 is the file's again; 3 only swapped out. */
	decode(third, ARRAY_LEN(third), &s, &runs);
	assert_int_equal(runs.n, 2);
	is_run(&runs.v[0], 0, 1, PAGE_DATA);
	is_run(&runs.v[1], 4, 1, PAGE_GONE);
	/* Other pages are where the first and the last one were. */
	decode(moved, ARRAY_LEN(moved), &s, &runs);
	assert_int_equal(runs.n, 3);
	is_run(&runs.v[0], 0, 1, PAGE_DATA);
	is_run(&runs.v[1], 3, 1, PAGE_DATA);
	is_run(&runs.v[2], 5, 1, PAGE_DATA);
	anchors_fini(&anchors);
	pagebits_fini(&had);
}

static void runs_join(unused_arg void **state)
{
	AUTO(page_runs_fini) struct page_runs r = { 0 };
	struct run_sink s;

	page_runs_add(&r, 0x1000, 1, PAGE_DATA);
	page_runs_add(&r, 0x2000, 2, PAGE_DATA);
	page_runs_add(&r, 0x4000, 1, PAGE_GONE);
	page_runs_add(&r, 0x6000, 0, PAGE_DATA);
	assert_int_equal(r.n, 2);
	assert_int_equal(r.v[0].pages, 3);
	s = (struct run_sink){ &r, r.n, false };
	run_sink_add(&s, (struct range){ 0x5000, 0x6000 }, PAGE_GONE);
	run_sink_add(&s, (struct range){ 0x6000, 0x7000 }, PAGE_GONE);
	assert_int_equal(r.n, 3); /* never across a VMA's border */
	assert_int_equal(r.v[2].pages, 2);
}

static void very_many_runs_join_over_gaps(unused_arg void **state)
{
	AUTO(page_runs_fini) struct page_runs r = { 0 };
	struct run_sink s = { &r, 0, false };
	uint64_t pages = 0, at = 0;

	for (int i = 0; i < 10 * RUNS_DENSE; i++, at += 2 * P)
		run_sink_add(&s, (struct range){ at, at + P }, PAGE_DATA);
	assert_int_equal(r.n, RUNS_DENSE);
	run_sink_add(&s, (struct range){ at, at + P }, PAGE_GONE);
	run_sink_add(&s, (struct range){ at + 2 * P, at + 3 * P }, PAGE_DATA);
	run_sink_add(&s, (struct range){ at + 5 * P, at + 6 * P }, PAGE_DATA);
	assert_int_equal(r.n, RUNS_DENSE + 3);
	for (size_t i = 0; i < RUNS_DENSE; i++)
		pages += r.v[i].pages;
	assert_int_equal(pages, RUNS_DENSE - 1 + 9 * RUNS_DENSE * 2 + 1);
	r.n = 0;
	s.exact = true;
	for (int i = 0; i < 2 * RUNS_DENSE; i++)
		run_sink_add(&s, (struct range){ (uint64_t)i * 2 * P, ((uint64_t)i * 2 + 1) * P },
			PAGE_DATA);
	assert_int_equal(r.n, 2 * RUNS_DENSE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_join),
		cmocka_unit_test(very_many_runs_join_over_gaps),
		cmocka_unit_test(soft_dirty_decisions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
