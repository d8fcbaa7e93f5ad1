// SPDX-License-Identifier: Apache-2.0
/* Two hosts that are the same but for one thing, one row per thing. */
#include "engine/facts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MS 1000000LL

struct world {
	struct arena *a;
	Migrate__Begin begin;
	Migrate__Facts src, dst;
	int64_t offset_ns;
};

static void dst_machine(struct world *w)
{
	w->dst.machine = arena_strdup(w->a, "riscv64");
}

/* All feature words but the first two gone; the layout behind them stays. */
static void dst_cpu(struct world *w)
{
	memset(w->dst.cpuid.data + 8, 0, 9 * 4);
}

static void src_cpu(struct world *w)
{
	memset(w->src.cpuid.data, 0, w->src.cpuid.len);
	w->src.xcr0 = 0;
}

static void dst_xcr0(struct world *w)
{
	w->src.xcr0 |= 1ULL << 61; /* no processor has it */
}

static void dst_layout(struct world *w)
{
	/* Where AVX lies: behind 11 feature words, the second word of component 2. */
	w->src.xcr0 |= 4;
	w->dst.xcr0 |= 4;
	w->dst.cpuid.data[4 * 12] ^= 64;
}

static void dst_vdso(struct world *w)
{
	w->dst.vdso_hash++;
}

static void dst_kernel(struct world *w)
{
	w->dst.kernel = arena_strdup(w->a, "0.01 #1");
}

static void dst_rseq(struct world *w)
{
	w->src.rseq_bytes = 28;
	w->dst.rseq_bytes = 20;
}

static void more_rseq(struct world *w)
{
	w->src.rseq_bytes = 20;
	w->dst.rseq_bytes = 28;
}

static void maps(struct world *w)
{
	w->begin.vmas = 70000;
	w->dst.max_map_count = 65530;
}

static void fewer_maps(struct world *w)
{
	w->src.max_map_count = 1000000;
	w->dst.max_map_count = 65530;
}

static void pids(struct world *w)
{
	static int32_t tids[] = { 4000, 40000 };

	w->begin.tids = tids;
	w->begin.n_tids = 2;
	w->dst.pid_max = 32768;
}

static void descriptors(struct world *w)
{
	w->begin.fd_max = 1048576;
	w->dst.nr_open = 1048576;
}

static void memory(struct world *w)
{
	w->begin.need_bytes = 2 << 20;
	w->dst.mem_free_bytes = 1 << 20;
}

static void overcommit(struct world *w)
{
	w->src.overcommit = 0;
	w->dst.overcommit = 2;
}

static void modules(struct world *w)
{
	w->dst.lsm = arena_strdup(w->a, "capability,apparmor");
}

static void label(struct world *w)
{
	w->begin.lsm_label = arena_strdup(w->a, "/usr/bin/x (enforce)");
}

static void label_there(struct world *w)
{
	w->begin.lsm_label = arena_strdup(w->a, "system_u:system_r:init_t");
	w->dst.lsm_label = w->begin.lsm_label;
}

static void ahead(struct world *w)
{
	w->offset_ns = 101 * MS;
}

static void behind(struct world *w)
{
	w->offset_ns = -3600000 * MS;
}

static void near(struct world *w)
{
	w->offset_ns = -100 * MS;
}

static void nothing(struct world *w)
{
	(void)w;
}

static const struct row {
	void (*change)(struct world *w);
	const char *blocker, *warning; /* NULL: none; else a part of the text */
} rows[] = {
	{ nothing, NULL, NULL },
	{ dst_machine, "riscv64", NULL },
	{ dst_cpu, "lacks", NULL },
	{ src_cpu, NULL, NULL }, /* more there is no harm */
	{ dst_xcr0, "XCR0", NULL },
	{ dst_layout, "xsave layout", NULL },
	{ dst_vdso, "vdso", NULL },
	{ dst_kernel, NULL, "0.01 #1" },
	{ dst_rseq, "rseq", NULL },
	{ more_rseq, NULL, NULL },
	{ maps, "70000", NULL },
	{ fewer_maps, NULL, "max_map_count" },
	{ pids, "40000", NULL },
	{ descriptors, "nr_open", NULL },
	{ memory, "needs 2 MiB", NULL },
	{ overcommit, NULL, "overcommit" },
	{ modules, NULL, "apparmor" },
	{ label, "enforce", NULL },
	{ label_there, NULL, NULL },
	{ ahead, "101 ms ahead", NULL },
	{ behind, "behind", NULL },
	{ near, NULL, NULL },
};

static void check_row(const struct row *row, size_t i)
{
	struct world w = { .a = arena_new(),
		.begin = MIGRATE__BEGIN__INIT,
		.src = MIGRATE__FACTS__INIT,
		.dst = MIGRATE__FACTS__INIT };
	struct notes notes = { 0 };

	facts_fill(w.a, &w.src);
	facts_fill(w.a, &w.dst);
	w.dst.mem_free_bytes = w.src.mem_free_bytes;
	w.begin.pid = 4000;
	w.begin.facts = &w.src;
	row->change(&w);
	facts_compare(&w.begin, &w.dst, w.offset_ns, &notes);
	if (notes.n_blockers != (row->blocker != NULL) ||
		notes.n_warnings != (row->warning != NULL))
		fail_msg("row %zu: %zu blockers (%s), %zu warnings (%s)", i, notes.n_blockers,
			notes.n_blockers ? err_text(notes.blockers[0], 0) : "", notes.n_warnings,
			notes.n_warnings ? notes.warnings[0] : "");
	if (row->blocker)
		assert_non_null(strstr(err_text(notes.blockers[0], 0), row->blocker));
	if (row->warning)
		assert_non_null(strstr(notes.warnings[0], row->warning));
	notes_fini(&notes);
	arena_free(w.a);
}

static void table(void **state unused_arg)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		check_row(&rows[i], i);
}

/* All differences are shown at once, and a peer that sends nothing is no crash. */
static void several(void **state unused_arg)
{
	struct world w = { .a = arena_new(),
		.begin = MIGRATE__BEGIN__INIT,
		.src = MIGRATE__FACTS__INIT,
		.dst = MIGRATE__FACTS__INIT };
	struct notes notes = { 0 };

	facts_fill(w.a, &w.src);
	w.begin.facts = &w.src;
	w.begin.need_bytes = 1;
	facts_compare(&w.begin, &w.dst, 1000000 * MS, &notes);
	assert_true(notes.n_blockers >= 5);
	facts_compare(&w.begin, NULL, 0, &notes);
	notes_fini(&notes);
	arena_free(w.a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table),
		cmocka_unit_test(several),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
