// SPDX-License-Identifier: Apache-2.0
/*
 * Destination: the body of a LAYOUT frame as regions. Everything that a peer could get wrong is
 * checked here, before any of it is used.
 */
#include "kinds/memory_plan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "kernel/arch.h"
#include "kernel/unlinked_file.h"
#include "proto/frame.h"

static struct err *nonsense(const char *what, uint64_t at)
{
	return err_new(ERR_PEER, "layout: %s at %#" PRIx64, what, at);
}

/* One range behind `behind`. */
static struct err *check_range(uint64_t start, uint64_t bytes, uint64_t behind)
{
	if (!bytes || (start | bytes) % PAGE_BYTES)
		return nonsense("range that is no whole pages", start);
	if (start < behind || start >= arch_user_end() || bytes > arch_user_end() - start)
		return nonsense("range out of order or out of bounds", start);
	return NULL;
}

static struct err *unpack_ranges(
	struct arena *a, Migrate__Kind__LayoutRange *const *m, size_t n, struct range **ret)
{
	struct range *v = arena_array(a, n, sizeof(*v));
	uint64_t behind = 0;

	for (size_t i = 0; i < n; i++) {
		TRY(check_range(m[i]->start, m[i]->bytes, behind));
		v[i] = (struct range){ m[i]->start, m[i]->start + m[i]->bytes };
		behind = v[i].end;
	}
	*ret = v;
	return NULL;
}

static struct err *unpack_file(const Migrate__Kind__LayoutFile *m, struct layout_file *f)
{
	if (m->path[0] != '/' || strlen(m->path) >= 4096)
		return err_new(ERR_PEER, "layout: a mapped file without an absolute path");
	if (!m->identity || (m->identity->type != S_IFREG && m->identity->type != S_IFCHR))
		return err_new(ERR_PEER, "layout: no identity of %s", m->path);
	*f = (struct layout_file){ .path = m->path, .id = m->identity, .writable = m->writable };
	return NULL;
}

static bool name_ok(const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < n; i++)
		if (name[i] < 0x20 || name[i] > 0x7e || strchr("\\`$[]", name[i]))
			return false;
	return n < NAME_MAX_VMA;
}

static int space_order(const void *pa, const void *pb)
{
	const Migrate__Kind__LayoutSpace *const *a = pa, *const *b = pb;

	return (*a)->id < (*b)->id ? -1 : (*a)->id > (*b)->id;
}

/* The list is sorted by now. */
static const Migrate__Kind__LayoutSpace *space_of(const Migrate__Kind__LayoutDelta *m, uint64_t id)
{
	Migrate__Kind__LayoutSpace key = { .id = id }, *pkey = &key, **found;

	found = m->n_spaces
			? bsearch(&pkey, m->spaces, m->n_spaces, sizeof(*m->spaces), space_order)
			: NULL;
	return found ? *found : NULL;
}

static struct err *unpack_space(
	const Migrate__Kind__LayoutDelta *all, const Migrate__Kind__LayoutVma *m, struct region *r)
{
	const Migrate__Kind__LayoutSpace *s = space_of(all, m->space);
	bool segment = m->space & VMA_SYSV;
	uint32_t key;

	if (!m->space || !s || !shm_path(s->path))
		return nonsense("mapping of an unknown shared memory object", m->start);
	/* An attachment begins within its segment, and is shared. */
	if (segment != sysv_shm_path(s->path, &key) ||
		!(m->space & VMA_UNLINKED) == proc_unlinked_path(s->path) ||
		(segment && (!m->shared || m->offset >= s->bytes || s->bytes > SEGMENT_BYTES_MAX)))
		return nonsense("impossible attachment", m->start);
	r->space_path = s->path;
	r->space_bytes = s->bytes;
	return NULL;
}

static struct err *unpack_region(const Migrate__Kind__LayoutDelta *all, const struct delta *d,
	const Migrate__Kind__LayoutVma *m, struct region *r)
{
	*r = (struct region){ .start = m->start,
		.end = m->start + m->bytes,
		.offset = m->offset,
		.space = m->space,
		.name = m->name,
		.attrs = m->attrs,
		.prot = (uint8_t)m->prot,
		.backing = (uint8_t)m->backing,
		.shared = m->shared };
	if (m->prot & ~(uint32_t)(PROT_READ | PROT_WRITE | PROT_EXEC) || m->attrs & ~ATTR_ALL)
		return nonsense("unknown attributes", m->start);
	if (m->offset % PAGE_BYTES || m->offset > INT64_MAX - m->bytes || !name_ok(m->name))
		return nonsense("impossible offset or name", m->start);
	if (m->backing == BACKING_FILE) {
		if (m->file >= d->n_files)
			return nonsense("mapping of a file that is not in the list", m->start);
		r->file = &d->files[m->file];
	} else if (m->backing == BACKING_SHM) {
		TRY(unpack_space(all, m, r));
	} else if (m->backing != BACKING_ANON || m->shared) {
		return nonsense("mapping of an unknown sort", m->start);
	}
	return NULL;
}

static struct err *unpack_map(struct arena *a, const Migrate__Kind__LayoutDelta *m, struct delta *d)
{
	uint64_t behind = 0;

	if (m->n_map > PROC_VMAS_MAX)
		return err_new(ERR_LIMIT, "layout of more than %d mappings", PROC_VMAS_MAX);
	if (m->n_spaces)
		qsort(m->spaces, m->n_spaces, sizeof(*m->spaces), space_order);
	d->map.v = arena_array(a, m->n_map, sizeof(*d->map.v));
	for (size_t i = 0; i < m->n_map; i++) {
		TRY(check_range(m->map[i]->start, m->map[i]->bytes, behind));
		TRY(unpack_region(m, d, m->map[i], &d->map.v[i]));
		behind = d->map.v[i].end;
		d->map.n++;
	}
	d->map.cap = d->map.n;
	return NULL;
}

static struct err *unpack_special(const Migrate__Kind__LayoutDelta *m, struct delta *d)
{
	uint64_t behind = 0;

	if (m->n_special > SPECIALS_MAX)
		return err_new(ERR_PEER, "layout: too many special mappings");
	for (size_t i = 0; i < m->n_special; i++) {
		const Migrate__Kind__LayoutSpecial *s = m->special[i];

		if (!path_special(s->name))
			return nonsense("unknown special mapping", s->start);
		TRY(check_range(s->start, s->bytes, behind));
		behind = s->start + s->bytes;
		d->special[d->n_special++] = (struct special){ s->name, s->start, behind };
	}
	return NULL;
}

struct err *delta_unpack(struct arena *a, const uint8_t *bytes, size_t len, struct delta *ret)
{
	Migrate__Kind__LayoutDelta *m;
	struct delta d = { 0 };

	if (len > FRAME_BODY_MAX)
		return err_new(ERR_PEER, "layout of %zu bytes", len);
	m = (Migrate__Kind__LayoutDelta *)message_unpack(
		a, &migrate__kind__layout_delta__descriptor, bytes, len);
	if (!m)
		return err_new(ERR_PEER, "layout that cannot be parsed");
	d.first = m->first;
	d.guards_changed = m->guards_changed;
	d.n_unmap = m->n_unmap;
	d.n_guards = m->n_guards;
	d.n_files = m->n_files;
	d.files = arena_array(a, m->n_files, sizeof(*d.files));
	for (size_t i = 0; i < m->n_files; i++)
		TRY(unpack_file(m->files[i], &d.files[i]));
	TRY(unpack_ranges(a, m->unmap, m->n_unmap, &d.unmap));
	TRY(unpack_ranges(a, m->guards, m->n_guards, &d.guards));
	TRY(unpack_map(a, m, &d));
	TRY(unpack_special(m, &d));
	*ret = d;
	return NULL;
}

struct err *layout_vdso(const uint8_t *bytes, size_t len, struct seedling_vdso *ret)
{
	autoarena struct arena *a = arena_new();
	struct seedling_vdso v = { 0 };
	struct {
		const char *name;
		uint64_t *start, *len;
	} where[] = {
		{ "[vdso]", &v.vdso, &v.vdso_len },
		{ "[vvar]", &v.vvar, &v.vvar_len },
		{ "[vvar_vclock]", &v.vvar_vclock, &v.vvar_vclock_len },
	};
	struct delta d;

	TRY(delta_unpack(a, bytes, len, &d));
	for (size_t i = 0; i < d.n_special; i++)
		for (size_t j = 0; j < ARRAY_LEN(where); j++)
			if (!strcmp(d.special[i].name, where[j].name)) {
				*where[j].start = d.special[i].start;
				*where[j].len = d.special[i].end - d.special[i].start;
			}
	*ret = v;
	return NULL;
}
