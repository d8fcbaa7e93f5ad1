// SPDX-License-Identifier: Apache-2.0
/*
 * Destination: from what is mapped and what has changed to a list of operations. Pure; one walk
 * over two sorted lists.
 */
#include "kinds/memory_plan.h"

#include <string.h>
#include <sys/mman.h>

struct planner {
	struct arena *a;
	struct plan *p;
	struct region_list base; /* what is left of `have` behind the unmaps */
};

static struct op *op_add(struct planner *pl, enum op_kind kind, const struct region *r)
{
	struct plan *p = pl->p;

	p->v = arena_grow(pl->a, p->v, &p->cap, p->n + 1, sizeof(*p->v));
	p->v[p->n] = (struct op){ .kind = kind, .r = *r };
	return &p->v[p->n++];
}

/* Neighbours go in one call. */
static void add_unmap(struct planner *pl, const struct region *r)
{
	struct op *last = pl->p->n ? &pl->p->v[pl->p->n - 1] : NULL;

	if (last && last->kind == OP_UNMAP && last->r.end == r->start)
		last->r.end = r->end;
	else
		op_add(pl, OP_UNMAP, r);
}

static void add_advice(
	struct planner *pl, const struct region *r, const struct attr_info *info, int advice)
{
	struct op *op = op_add(pl, OP_ADVISE, r);

	op->advice = advice;
	op->hint = info->hint;
}

/* From the attributes that are there to those that r wants. Clearing comes first: MADV_NORMAL
 * clears both kinds of read-ahead advice. */
static void add_advices(struct planner *pl, const struct region *r, uint32_t have)
{
	for (size_t i = 0; i < attr_table_n; i++) {
		const struct attr_info *t = &attr_table[i];

		if ((have & ~r->attrs & t->attr) && t->advise_clear != NO_ADVICE)
			add_advice(pl, r, t, t->advise_clear);
	}
	for (size_t i = 0; i < attr_table_n; i++) {
		const struct attr_info *t = &attr_table[i];

		if ((r->attrs & ~have & t->attr) && t->advise_set != NO_ADVICE)
			add_advice(pl, r, t, t->advise_set);
	}
}

/* MAP_DROPPABLE sets these by itself. */
static uint32_t attrs_of_new(const struct region *r)
{
	return r->attrs & ATTR_DROPPABLE ? ATTR_WIPEONFORK | ATTR_DONTDUMP | ATTR_NORESERVE : 0;
}

int attach_prot(const struct region *r)
{
	return r->attrs & ATTR_NOWRITE ? PROT_READ : PROT_READ | PROT_WRITE;
}

static void make_new(struct planner *pl, const struct region *want, uint64_t start, uint64_t end)
{
	struct region r = region_clip(want, start, end);

	if (start >= end)
		return;
	op_add(pl, OP_MAP, &r);
	if (region_sysv(&r) && r.prot != attach_prot(&r))
		op_add(pl, OP_PROTECT, &r);
	add_advices(pl, &r, attrs_of_new(&r));
	if (*r.name)
		op_add(pl, OP_NAME, &r);
}

static void keep(struct planner *pl, const struct region *have, const struct region *want,
	uint64_t start, uint64_t end)
{
	struct region r = region_clip(want, start, end);

	if (have->prot != want->prot)
		op_add(pl, OP_PROTECT, &r);
	add_advices(pl, &r, have->attrs);
	if (strcmp(have->name, want->name))
		op_add(pl, OP_NAME, &r);
}

/* One wanted region against the pieces of what is there from index i on. */
static void plan_region(struct planner *pl, size_t i, const struct region *want)
{
	uint64_t new_from = want->start;

	for (; i < pl->base.n && pl->base.v[i].start < want->end; i++) {
		const struct region *h = &pl->base.v[i];
		uint64_t start = MAX(h->start, want->start), end = MIN(h->end, want->end);

		if (region_keeps(h, want)) {
			make_new(pl, want, new_from, start);
			keep(pl, h, want, start, end);
			new_from = end;
		} else {
			struct region gone = region_clip(h, start, end);

			op_add(pl, OP_UNMAP, &gone);
		}
	}
	make_new(pl, want, new_from, want->end);
}

/* have minus the ranges of the delta, into base; the ranges become operations. */
static void plan_unmaps(struct planner *pl, const struct region_list *have, const struct delta *d)
{
	size_t j = 0;

	for (size_t i = 0; i < have->n; i++) {
		const struct region *h = &have->v[i];
		uint64_t from = h->start;

		while (j < d->n_unmap && d->unmap[j].end <= h->start)
			j++;
		for (size_t k = j; k < d->n_unmap && d->unmap[k].start < h->end; k++) {
			uint64_t start = MAX(d->unmap[k].start, h->start);
			uint64_t end = MIN(d->unmap[k].end, h->end);
			struct region piece = region_clip(h, from, start);
			struct region gone = region_clip(h, start, end);

			if (from < start)
				region_push(pl->a, &pl->base, &piece);
			add_unmap(pl, &gone);
			from = end;
		}
		if (from < h->end) {
			struct region piece = region_clip(h, from, h->end);

			region_push(pl->a, &pl->base, &piece);
		}
	}
}

/* The layout afterwards: the delta, and base where the delta says nothing. */
static void merge(struct planner *pl, const struct delta *d)
{
	struct region_list *out = &pl->p->after;
	size_t j = 0;

	for (size_t i = 0; i < pl->base.n; i++) {
		const struct region *h = &pl->base.v[i];
		uint64_t from = h->start;

		for (;;) {
			bool more = j < d->map.n && d->map.v[j].start < h->end;
			struct region piece;

			if (j && d->map.v[j - 1].end > from)
				from = MIN(d->map.v[j - 1].end, h->end);
			piece = region_clip(h, from, more ? d->map.v[j].start : h->end);
			if (piece.start < piece.end)
				region_push(pl->a, out, &piece);
			if (!more)
				break;
			region_push(pl->a, out, &d->map.v[j++]);
		}
	}
	for (; j < d->map.n; j++)
		region_push(pl->a, out, &d->map.v[j]);
}

void plan_make(
	struct arena *a, const struct region_list *have, const struct delta *d, struct plan *ret)
{
	struct plan p = { 0 };
	struct planner pl = { .a = a, .p = &p };
	size_t i = 0;

	plan_unmaps(&pl, have, d);
	for (size_t k = 0; k < d->map.n; k++) {
		while (i < pl.base.n && pl.base.v[i].end <= d->map.v[k].start)
			i++;
		plan_region(&pl, i, &d->map.v[k]);
	}
	merge(&pl, d);
	*ret = p;
}
