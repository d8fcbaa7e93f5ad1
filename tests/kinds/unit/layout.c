// SPDX-License-Identifier: Apache-2.0
/* Two layouts -> bytes -> plan -> layout, against a model of one byte per page. */
#include "kinds/memory_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka.h wants these in front */
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "no_engine.h"

#define BASE  0x7f0000000000ULL
#define PAGES 48
#define P     PAGE_BYTES

static unsigned dice(unsigned *seed, unsigned n)
{
	*seed = *seed * 1103515245u + 12345u;
	return (*seed >> 8) % n;
}

static struct layout_file *file(struct arena *a, struct layout *l, unsigned i)
{
	struct layout_file *f = arena_alloc(a, sizeof(*f));

	f->path = arena_printf(a, "/lib/%u.so", i);
	f->id = arena_alloc(a, sizeof(*f->id));
	migrate__kind__file_identity__init(f->id);
	f->id->type = S_IFREG;
	f->id->inode = 100 + i;
	f->number = (uint32_t)l->n_files;
	l->files = arena_grow(a, l->files, &l->cap_files, l->n_files + 1, sizeof(*l->files));
	l->files[l->n_files++] = f;
	return f;
}

static const uint32_t some_attrs[] = { 0, 0, 0, ATTR_DONTFORK, ATTR_HUGEPAGE, ATTR_NOHUGEPAGE,
	ATTR_SEQ_READ, ATTR_RAND_READ, ATTR_GROWSDOWN, ATTR_NORESERVE, ATTR_LOCKED };

static struct region random_region(struct arena *a, struct layout *l, unsigned *seed)
{
	static const uint8_t prots[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	struct region r = { .name = dice(seed, 6) ? "" : "x" };

	r.prot = prots[dice(seed, 3)];
	r.backing = (uint8_t)dice(seed, 3);
	r.attrs = some_attrs[dice(seed, ARRAY_LEN(some_attrs))];
	if (r.backing == BACKING_FILE)
		r.file = file(a, l, dice(seed, 2));
	if (r.backing == BACKING_SHM) {
		r.space = 500 + dice(seed, 2);
		r.space_path = "/memfd:x (deleted)";
	}
	r.shared = r.backing != BACKING_ANON && dice(seed, 2);
	return r;
}

/* Keeps much of `old`, so that differences are small ones, too. */
static struct layout *random_layout(struct arena *a, const struct layout *old, unsigned *seed)
{
	struct layout *l = arena_alloc(a, sizeof(*l));
	uint64_t at = 0;

	while (at < PAGES) {
		uint64_t most = 1 + dice(seed, 9), n = MIN(most, PAGES - at);
		unsigned what = dice(seed, old ? 8 : 3);
		struct region r = random_region(a, l, seed);

		for (size_t i = 0; what > 2 && i < old->regions.n; i++) {
			const struct region *o = &old->regions.v[i];
			uint64_t start = MAX(o->start, BASE + at * P);
			uint64_t end = MIN(o->end, BASE + (at + n) * P);
			struct region c;

			if (start >= end)
				continue;
			c = region_clip(o, start, end);
			if (c.file)
				c.file = file(a, l, (unsigned)c.file->id->inode - 100);
			if (what == 3)
				c.prot ^= PROT_WRITE;
			if (what == 4)
				c.attrs ^= ATTR_DONTDUMP;
			region_push(a, &l->regions, &c);
		}
		if (what == 1 || what == 2) {
			r.start = BASE + at * P;
			r.end = r.start + n * P;
			if (r.backing != BACKING_ANON)
				r.offset = at * P + 64 * P;
			region_push(a, &l->regions, &r);
		}
		at += n;
	}
	return l;
}

struct page {
	bool mapped;
	struct region r;
	int contents; /* 0: fresh */
};

static void op_on_page(struct page *p, const struct op *op)
{
	struct region r = op->r;

	switch (op->kind) {
	case OP_UNMAP:
		assert_true(p->mapped);
		*p = (struct page){ 0 };
		return;
	case OP_MAP:
		assert_false(p->mapped);
		r.attrs &= ATTR_BACKING;
		r.name = "";
		*p = (struct page){ true, r, 0 };
		return;
	case OP_PROTECT:
		assert_true(p->mapped);
		p->r.prot = r.prot;
		return;
	case OP_NAME:
		assert_true(p->mapped);
		p->r.name = r.name;
		return;
	case OP_ADVISE:
		assert_true(p->mapped);
		if (op->advice == MADV_HUGEPAGE || op->advice == MADV_NOHUGEPAGE)
			p->r.attrs &= ~(uint32_t)(ATTR_HUGEPAGE | ATTR_NOHUGEPAGE);
		if (op->advice == MADV_NORMAL)
			p->r.attrs &= ~(uint32_t)(ATTR_SEQ_READ | ATTR_RAND_READ);
		for (size_t i = 0; i < attr_table_n; i++) {
			if (attr_table[i].advise_set == op->advice)
				p->r.attrs |= attr_table[i].attr;
			if (attr_table[i].advise_clear == op->advice)
				p->r.attrs &= ~attr_table[i].attr;
		}
		return;
	case OP_KINDS:
		break;
	}
	fail();
}

static void run(struct page pages[PAGES], const struct plan *p)
{
	for (enum op_kind k = 0; k < OP_KINDS; k++)
		for (size_t i = 0; i < p->n; i++)
			for (uint64_t at = p->v[i].r.start; p->v[i].kind == k && at < p->v[i].r.end;
				at += P)
				op_on_page(&pages[(at - BASE) / P], &p->v[i]);
}

static const struct region *region_at(const struct region_list *l, uint64_t at)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].start <= at && at < l->v[i].end)
			return &l->v[i];
	return NULL;
}

static void check_list(const struct region_list *got, const struct region_list *want)
{
	assert_int_equal(got->n, want->n);
	for (size_t i = 0; i < got->n; i++) {
		assert_int_equal(got->v[i].start, want->v[i].start);
		assert_int_equal(got->v[i].end, want->v[i].end);
		assert_true(region_same(&got->v[i], &want->v[i]));
	}
}

static void check_pages(
	struct page pages[PAGES], const struct layout *old, const struct layout *now)
{
	struct ranges fresh AUTO(ranges_fini) = { 0 };

	layout_fresh(old, now, &fresh);
	for (uint64_t i = 0; i < PAGES; i++) {
		uint64_t at = BASE + i * P;
		const struct region *want = region_at(&now->regions, at);
		struct region clipped;

		assert_int_equal(pages[i].mapped, want != NULL);
		if (!want) {
			assert_false(ranges_contain(&fresh, at));
			continue;
		}
		clipped = region_clip(want, at, at + P);
		assert_true(region_same_backing(&pages[i].r, &clipped));
		assert_int_equal(pages[i].r.prot, want->prot);
		assert_string_equal(pages[i].r.name, want->name);
		assert_int_equal(pages[i].r.attrs & ~(uint32_t)ATTR_LATE,
			want->attrs & ~(uint32_t)ATTR_LATE);
		assert_int_equal(pages[i].contents == 0, ranges_contain(&fresh, at));
		pages[i].contents = 1; /* sent */
		pages[i].r = clipped;
	}
}

static void plans_lead_to_the_layout(unused_arg void **state)
{
	unsigned seed = 3;

	for (int run_no = 0; run_no < 400; run_no++) {
		autoarena struct arena *a = arena_new();
		struct page pages[PAGES] = { 0 };
		struct region_list have = { 0 };
		const struct layout *old = NULL;

		for (int step = 0; step < 8; step++) {
			struct layout *now = random_layout(a, old, &seed);
			const uint8_t *bytes;
			struct plan plan;
			struct delta d;
			size_t len;

			assert_null(layout_diff(a, old, now, &bytes, &len));
			if (len) {
				assert_null(delta_unpack(a, bytes, len, &d));
				assert_int_equal(d.first, old == NULL);
				plan_make(a, &have, &d, &plan);
				run(pages, &plan);
				have = plan.after;
			}
			check_list(&have, &now->regions);
			check_pages(pages, old, now);
			old = now;
		}
	}
}

static void equal_layouts_make_no_bytes(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	unsigned seed = 11;
	struct layout *l = random_layout(a, NULL, &seed);
	const uint8_t *bytes;
	size_t len;

	assert_null(layout_diff(a, l, l, &bytes, &len));
	assert_int_equal(len, 0);
}

static void neighbours_join(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	struct region_list l = { 0 };
	struct region r = { .start = P, .end = 2 * P, .name = "", .prot = PROT_READ };

	region_push(a, &l, &r);
	r = (struct region){ .start = 2 * P, .end = 5 * P, .name = "", .prot = PROT_READ };
	region_push(a, &l, &r);
	assert_int_equal(l.n, 1);
	assert_int_equal(l.v[0].end, 5 * P);
	r = (struct region){ .start = 5 * P, .end = 6 * P, .name = "", .prot = PROT_WRITE };
	region_push(a, &l, &r);
	r = (struct region){ .start = 7 * P, .end = 8 * P, .name = "", .prot = PROT_WRITE };
	region_push(a, &l, &r);
	assert_int_equal(l.n, 3);
	/* The offset must go on, too. */
	r = (struct region){ .start = 8 * P,
		.end = 9 * P,
		.name = "",
		.backing = BACKING_SHM,
		.space = 9,
		.space_path = "",
		.offset = 0 };
	region_push(a, &l, &r);
	r.start = 9 * P;
	r.end = 10 * P;
	region_push(a, &l, &r);
	assert_int_equal(l.n, 5);
	r.start = 10 * P;
	r.end = 11 * P;
	r.offset = P;
	region_push(a, &l, &r);
	assert_int_equal(l.n, 5);
}

static void holes(unused_arg void **state)
{
	struct ranges used AUTO(ranges_fini) = { 0 };
	uint64_t at;

	ranges_add(&used, 1 << 21, 1 << 22);
	ranges_add(&used, 1 << 23, 1 << 24);
	assert_null(hole_find(&used, 1 << 24, 1 << 20, &at));
	assert_true(at >= 1 << 22 && at + (1 << 20) <= 1 << 23 && at % P == 0);
	struct err *e = hole_find(&used, 1 << 24, 1 << 22, &at);

	assert_non_null(e);
	assert_int_equal(err_code(e), ERR_LIMIT);
	err_free(e);
}

/* A message with one mapping, changed by the test. */
static enum err_code unpack_code(void (*spoil)(Migrate__Kind__LayoutDelta *d))
{
	autoarena struct arena *a = arena_new();
	Migrate__Kind__LayoutDelta m = MIGRATE__KIND__LAYOUT_DELTA__INIT;
	Migrate__Kind__LayoutVma v[2] = { MIGRATE__KIND__LAYOUT_VMA__INIT,
		MIGRATE__KIND__LAYOUT_VMA__INIT };
	Migrate__Kind__LayoutVma *list[] = { &v[0], &v[1] };
	autoerr struct err *e = NULL;
	struct delta d;
	uint8_t buf[512];
	size_t len;

	v[0].start = BASE;
	v[0].bytes = P;
	v[1].start = BASE + P;
	v[1].bytes = P;
	m.map = list;
	m.n_map = 2;
	spoil(&m);
	len = migrate__kind__layout_delta__pack(&m, buf);
	e = delta_unpack(a, buf, len, &d);
	return e ? err_code(e) : 0;
}

static void nothing(Migrate__Kind__LayoutDelta *d unused_arg)
{
}
static void overlap(Migrate__Kind__LayoutDelta *d)
{
	d->map[0]->bytes = 2 * P;
}
static void unaligned(Migrate__Kind__LayoutDelta *d)
{
	d->map[0]->start++;
}
static void wraps(Migrate__Kind__LayoutDelta *d)
{
	d->map[1]->bytes = -P;
}
static void beyond(Migrate__Kind__LayoutDelta *d)
{
	d->map[1]->start = 0xffffffffff600000;
}
static void empty(Migrate__Kind__LayoutDelta *d)
{
	d->map[1]->bytes = 0;
}
static void no_file(Migrate__Kind__LayoutDelta *d)
{
	d->map[0]->backing = BACKING_FILE;
}
static void no_space(Migrate__Kind__LayoutDelta *d)
{
	d->map[0]->backing = BACKING_SHM;
	d->map[0]->space = 7;
}
static void backing(Migrate__Kind__LayoutDelta *d)
{
	d->map[0]->backing = 9;
}
static void shared_anon(Migrate__Kind__LayoutDelta *d)
{
	d->map[0]->shared = true;
}
static void attrs(Migrate__Kind__LayoutDelta *d)
{
	d->map[0]->attrs = 1u << 31;
}
static void prot(Migrate__Kind__LayoutDelta *d)
{
	d->map[0]->prot = 8;
}
static void offset(Migrate__Kind__LayoutDelta *d)
{
	d->map[0]->offset = INT64_MAX & ~(P - 1);
}
static void name(Migrate__Kind__LayoutDelta *d)
{
	static char bad[] = "a[b";

	d->map[0]->name = bad;
}

static void peers_cannot_lie(unused_arg void **state)
{
	void (*const bad[])(Migrate__Kind__LayoutDelta *) = { overlap, unaligned, wraps, beyond,
		empty, no_file, no_space, backing, shared_anon, attrs, prot, offset, name };

	assert_int_equal(unpack_code(nothing), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(unpack_code(bad[i]), ERR_PEER);
}

static void cut_bytes_are_refused_or_parsed(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	unsigned seed = 5;
	struct layout *l = random_layout(a, NULL, &seed);
	const uint8_t *bytes;
	struct delta d;
	size_t len;

	assert_null(layout_diff(a, NULL, l, &bytes, &len));
	for (size_t i = 0; i < len; i++)
		err_free(delta_unpack(a, bytes, i, &d));
}

/* 60,000 mappings twice over: linear, so a blink. */
static void many(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	struct layout *old = arena_alloc(a, sizeof(*old)), *now = arena_alloc(a, sizeof(*now));
	const uint8_t *bytes;
	struct region_list have = { 0 };
	struct plan plan;
	struct delta d;
	size_t len;

	for (unsigned i = 0; i < 60000; i++) {
		struct region r = { .start = BASE + i * 2 * P,
			.end = BASE + (i * 2 + 1) * P,
			.name = "",
			.prot = PROT_READ };

		region_push(a, &old->regions, &r);
		r.prot = i % 2 ? PROT_READ : PROT_READ | PROT_WRITE;
		region_push(a, &now->regions, &r);
	}
	assert_null(layout_diff(a, NULL, old, &bytes, &len));
	assert_null(delta_unpack(a, bytes, len, &d));
	plan_make(a, &have, &d, &plan);
	assert_int_equal(plan.n, 60000);
	have = plan.after;
	assert_null(layout_diff(a, old, now, &bytes, &len));
	assert_null(delta_unpack(a, bytes, len, &d));
	plan_make(a, &have, &d, &plan);
	assert_int_equal(plan.n, 30000);
	check_list(&plan.after, &now->regions);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plans_lead_to_the_layout),
		cmocka_unit_test(equal_layouts_make_no_bytes),
		cmocka_unit_test(neighbours_join),
		cmocka_unit_test(holes),
		cmocka_unit_test(peers_cannot_lie),
		cmocka_unit_test(cut_bytes_are_refused_or_parsed),
		cmocka_unit_test(many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
