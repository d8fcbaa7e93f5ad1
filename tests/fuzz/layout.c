// SPDX-License-Identifier: Apache-2.0
/*
 * LAYOUT bodies, one after the other (each behind its length, 16 bits): taken apart, planned
 * against what the ones before have left, and what a plan does must be within bounds and lead to a
 * list in order.
 */
#include "fuzz.h"
#include "kernel/arch.h"
#include "kinds/memory_plan.h"

const char *(*const fuzz_prepare)(void) = fuzz_nothing;

static void in_bounds(const struct region *r, uint64_t behind)
{
	MUST(r->start >= behind && r->end > r->start && r->end <= arch_user_end());
	MUST((r->start | r->end | r->offset) % PAGE_BYTES == 0);
	MUST(r->backing <= BACKING_SHM && (r->backing == BACKING_FILE) == (r->file != NULL));
}

static void in_order(const struct region_list *l)
{
	uint64_t behind = 0;

	for (size_t i = 0; i < l->n; i++) {
		in_bounds(&l->v[i], behind);
		behind = l->v[i].end;
	}
}

static void holds(const struct plan *p)
{
	in_order(&p->after);
	for (size_t i = 0; i < p->n; i++) {
		MUST(p->v[i].kind < OP_KINDS);
		in_bounds(&p->v[i].r, 0);
	}
}

static void specials(const uint8_t *bytes, size_t n)
{
	struct seedling_vdso vdso;
	uint64_t at = 0;
	struct err *e = layout_vdso(bytes, n, &vdso);

	MUST(!e);
	e = layout_area(bytes, n, SEEDLING_AREA_BYTES, &at);
	MUST(e || (at % PAGE_BYTES == 0 && at + SEEDLING_AREA_BYTES <= arch_user_end()));
	err_free(e);
}

int fuzz_one(const uint8_t *data, size_t n)
{
	autoarena struct arena *a = arena_new();
	struct region_list now = { 0 };
	struct feed f = { data, n }, body;

	while (feed_piece(&f, &body)) {
		struct delta d;
		struct plan p;
		struct err *e = delta_unpack(a, body.p, body.n, &d);

		err_free(e);
		if (e)
			break;
		specials(body.p, body.n);
		in_order(&d.map);
		plan_make(a, &now, &d, &p);
		holds(&p);
		now = p.after;
	}
	return 0;
}
