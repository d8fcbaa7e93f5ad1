// SPDX-License-Identifier: Apache-2.0
/*
 * Source: what has changed between two layouts, as the bytes of a LAYOUT frame. Two sorted lists
 * are walked once; a region that differs in anything is sent whole, and the destination finds out
 * what of it can stay.
 */
#include "kinds/memory_priv.h"

#include <inttypes.h>
#include <string.h>

#include "proto/frame.h"

struct differ {
	struct arena *a;
	const struct layout *old, *now;
	Migrate__Kind__LayoutDelta *d;
	struct ranges *unmap;
	uint32_t *index; /* per file of now: number in the delta + 1 */
	size_t cap_map, cap_files, cap_spaces;
};

static Migrate__Kind__LayoutRange **pack_ranges(struct arena *a, const struct range *v, size_t n)
{
	Migrate__Kind__LayoutRange **list = arena_array(a, n, sizeof(*list));
	Migrate__Kind__LayoutRange *m = arena_array(a, n, sizeof(*m));

	for (size_t i = 0; i < n; i++) {
		migrate__kind__layout_range__init(&m[i]);
		m[i].start = v[i].start;
		m[i].bytes = v[i].end - v[i].start;
		list[i] = &m[i];
	}
	return list;
}

static void pack_special(struct differ *df)
{
	const struct layout *l = df->now;

	df->d->special = arena_array(df->a, l->n_special, sizeof(*df->d->special));
	for (size_t i = 0; i < l->n_special; i++) {
		Migrate__Kind__LayoutSpecial *m = arena_alloc(df->a, sizeof(*m));

		migrate__kind__layout_special__init(m);
		m->name = arena_strdup(df->a, l->special[i].name);
		m->start = l->special[i].start;
		m->bytes = l->special[i].end - l->special[i].start;
		df->d->special[df->d->n_special++] = m;
	}
}

static uint32_t pack_file(struct differ *df, const struct layout_file *f)
{
	Migrate__Kind__LayoutDelta *d = df->d;
	Migrate__Kind__LayoutFile *m;

	if (df->index[f->number])
		return df->index[f->number] - 1;
	m = arena_alloc(df->a, sizeof(*m));
	migrate__kind__layout_file__init(m);
	m->path = arena_strdup(df->a, f->path);
	m->identity = f->id;
	m->writable = f->writable;
	d->files = arena_grow(df->a, d->files, &df->cap_files, d->n_files + 1, sizeof(*d->files));
	d->files[d->n_files++] = m;
	df->index[f->number] = (uint32_t)d->n_files;
	return (uint32_t)d->n_files - 1;
}

/* Neighbours mostly use the same one; sent twice it does no harm. */
static uint64_t pack_space(struct differ *df, const struct region *r)
{
	Migrate__Kind__LayoutDelta *d = df->d;
	Migrate__Kind__LayoutSpace *m;

	if (d->n_spaces && d->spaces[d->n_spaces - 1]->id == r->space)
		return r->space;
	m = arena_alloc(df->a, sizeof(*m));
	migrate__kind__layout_space__init(m);
	m->id = r->space;
	m->path = arena_strdup(df->a, r->space_path);
	m->bytes = r->space_bytes;
	d->spaces =
		arena_grow(df->a, d->spaces, &df->cap_spaces, d->n_spaces + 1, sizeof(*d->spaces));
	d->spaces[d->n_spaces++] = m;
	return r->space;
}

static void pack_region(struct differ *df, const struct region *r)
{
	Migrate__Kind__LayoutDelta *d = df->d;
	Migrate__Kind__LayoutVma *m = arena_alloc(df->a, sizeof(*m));

	migrate__kind__layout_vma__init(m);
	m->start = r->start;
	m->bytes = r->end - r->start;
	m->prot = r->prot;
	m->backing = r->backing;
	m->shared = r->shared;
	m->attrs = r->attrs;
	m->offset = r->offset;
	m->file = r->backing == BACKING_FILE ? pack_file(df, r->file) : 0;
	m->space = r->backing == BACKING_SHM ? pack_space(df, r) : 0;
	m->name = *r->name ? arena_strdup(df->a, r->name) : m->name;
	d->map = arena_grow(df->a, d->map, &df->cap_map, d->n_map + 1, sizeof(*d->map));
	d->map[d->n_map++] = m;
}

static bool same_region(const struct region *a, const struct region *b)
{
	return a->start == b->start && a->end == b->end && region_same(a, b);
}

/* What old had and now does not: old's addresses minus now's. */
static void diff_unmap(struct differ *df)
{
	const struct region_list *now = &df->now->regions;
	size_t j = 0;

	for (size_t i = 0; i < df->old->regions.n; i++) {
		const struct region *o = &df->old->regions.v[i];
		uint64_t from = o->start;

		while (j < now->n && now->v[j].end <= o->start)
			j++;
		for (size_t k = j; k < now->n && now->v[k].start < o->end; k++) {
			ranges_add(df->unmap, from, MIN(now->v[k].start, o->end));
			from = MAX(from, now->v[k].end);
		}
		ranges_add(df->unmap, from, o->end);
	}
}

static void diff_map(struct differ *df)
{
	const struct region_list *old = df->old ? &df->old->regions : NULL;
	size_t j = 0;

	for (size_t i = 0; i < df->now->regions.n; i++) {
		const struct region *r = &df->now->regions.v[i];

		while (old && j < old->n && old->v[j].end <= r->start)
			j++;
		if (!old || j == old->n || !same_region(&old->v[j], r))
			pack_region(df, r);
	}
}

static struct err *check_special(const struct layout *old, const struct layout *now)
{
	bool same = old->n_special == now->n_special;

	for (size_t i = 0; same && i < now->n_special; i++)
		same = old->special[i].start == now->special[i].start &&
		       old->special[i].end == now->special[i].end &&
		       !strcmp(old->special[i].name, now->special[i].name);
	if (same)
		return NULL;
	return err_new(ERR_UNSUPPORTED, "the process has moved its vdso during the migration");
}

static bool guards_differ(const struct layout *old, const struct layout *now)
{
	size_t n_old = old ? old->n_guards : 0;

	return n_old != now->n_guards ||
	       (n_old && memcmp(old->guards, now->guards, n_old * sizeof(*now->guards)));
}

static struct err *pack(struct differ *df, const uint8_t **bytes, size_t *len)
{
	size_t n = migrate__kind__layout_delta__get_packed_size(df->d);
	uint8_t *buf;

	if (n > FRAME_BODY_MAX)
		return err_new(ERR_LIMIT,
			"the description of %zu mappings takes %zu bytes, more than %u",
			df->now->regions.n, n, FRAME_BODY_MAX);
	buf = arena_alloc(df->a, n);
	migrate__kind__layout_delta__pack(df->d, buf);
	*bytes = buf;
	*len = n;
	return NULL;
}

struct err *layout_diff(struct arena *a, const struct layout *old, const struct layout *now,
	const uint8_t **bytes, size_t *len)
{
	Migrate__Kind__LayoutDelta d = MIGRATE__KIND__LAYOUT_DELTA__INIT;
	struct ranges unmap AUTO(ranges_fini) = { 0 };
	struct differ df = { .a = a, .old = old, .now = now, .d = &d, .unmap = &unmap };

	if (old)
		TRY(check_special(old, now));
	df.index = arena_array(a, now->n_files, sizeof(*df.index));
	d.first = !old;
	if (old)
		diff_unmap(&df);
	else
		pack_special(&df);
	diff_map(&df);
	d.guards_changed = guards_differ(old, now);
	if (d.guards_changed) {
		d.n_guards = now->n_guards;
		d.guards = pack_ranges(a, now->guards, now->n_guards);
	}
	d.n_unmap = unmap.n;
	d.unmap = pack_ranges(a, unmap.v, unmap.n);
	if (old && !d.n_unmap && !d.n_map && !d.guards_changed) {
		*bytes = NULL;
		*len = 0;
		return NULL;
	}
	return pack(&df, bytes, len);
}

void layout_fresh(const struct layout *old, const struct layout *now, struct ranges *ret)
{
	size_t j = 0;

	for (size_t i = 0; i < now->regions.n; i++) {
		const struct region *r = &now->regions.v[i];
		uint64_t from = r->start;

		while (old && j < old->regions.n && old->regions.v[j].end <= r->start)
			j++;
		for (size_t k = j; old && k < old->regions.n && old->regions.v[k].start < r->end;
			k++) {
			const struct region *o = &old->regions.v[k];

			if (!region_keeps(o, r))
				continue;
			ranges_add(ret, from, o->start);
			from = MAX(from, o->end);
		}
		ranges_add(ret, from, r->end);
	}
}

void layout_lost_spaces(const struct layout *old, const struct layout *now, struct ranges *ret)
{
	size_t j = 0;

	for (size_t i = 0; i < old->regions.n; i++) {
		const struct region *o = &old->regions.v[i];
		uint64_t kept = 0;

		while (j < now->regions.n && now->regions.v[j].end <= o->start)
			j++;
		if (o->backing != BACKING_SHM || !o->shared)
			continue;
		for (size_t k = j; k < now->regions.n && now->regions.v[k].start < o->end; k++) {
			const struct region *r = &now->regions.v[k];

			if (region_same_backing(o, r))
				kept += MIN(o->end, r->end) - MAX(o->start, r->start);
		}
		if (kept != o->end - o->start)
			ranges_add(ret, o->space, o->space + 1);
	}
}

void layout_flags_differ(const struct layout *old, const struct layout *now,
	void (*fn)(void *arg, struct range where, const char *flag), void *arg)
{
	size_t j = 0;

	for (size_t i = 0; i < now->regions.n; i++) {
		const struct region *r = &now->regions.v[i];

		while (j < old->regions.n && old->regions.v[j].end <= r->start)
			j++;
		for (size_t k = j; k < old->regions.n && old->regions.v[k].start < r->end; k++) {
			const struct region *o = &old->regions.v[k];
			const struct range both = { MAX(o->start, r->start), MIN(o->end, r->end) };

			for (size_t t = 0; t < attr_table_n; t++)
				if ((o->attrs ^ r->attrs) & attr_table[t].attr & ~ATTR_ACCOUNT)
					fn(arg, both, attr_table[t].name);
		}
	}
}
