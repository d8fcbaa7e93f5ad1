// SPDX-License-Identifier: Apache-2.0
/*
 * The canonical layout: regions with attributes, when two are the same, and how neighbours join.
 *
 * The kernel splits and joins mappings as it likes (a userfaultfd splits them, later changes join
 * them), so layouts are compared joined: two neighbours that differ in nothing are one region.
 */
#include "kinds/memory_priv.h"

#include <string.h>
#include <sys/mman.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#define MADV_KEEPONFORK 19
#endif

const struct attr_info attr_table[] = {
	{ VMF_GROWSDOWN, ATTR_GROWSDOWN, NO_ADVICE, NO_ADVICE, false, "growsdown" },
	{ VMF_LOCKED, ATTR_LOCKED, NO_ADVICE, NO_ADVICE, false, "locked" },
	{ VMF_LOCKONFAULT, ATTR_LOCKONFAULT, NO_ADVICE, NO_ADVICE, false, "lock on fault" },
	{ VMF_SEQ_READ, ATTR_SEQ_READ, MADV_SEQUENTIAL, MADV_NORMAL, true, "sequential" },
	{ VMF_RAND_READ, ATTR_RAND_READ, MADV_RANDOM, MADV_NORMAL, true, "random" },
	{ VMF_DONTFORK, ATTR_DONTFORK, MADV_DONTFORK, MADV_DOFORK, false, "dontfork" },
	{ VMF_NORESERVE, ATTR_NORESERVE, NO_ADVICE, NO_ADVICE, false, "noreserve" },
	{ VMF_ACCOUNT, ATTR_ACCOUNT, NO_ADVICE, NO_ADVICE, false, "accounted" },
	{ VMF_SYNC, ATTR_SYNC, NO_ADVICE, NO_ADVICE, false, "sync" },
	{ VMF_WIPEONFORK, ATTR_WIPEONFORK, MADV_WIPEONFORK, MADV_KEEPONFORK, false, "wipeonfork" },
	{ VMF_DONTDUMP, ATTR_DONTDUMP, MADV_DONTDUMP, MADV_DODUMP, false, "dontdump" },
	{ VMF_HUGEPAGE, ATTR_HUGEPAGE, MADV_HUGEPAGE, NO_ADVICE, true, "hugepage" },
	{ VMF_NOHUGEPAGE, ATTR_NOHUGEPAGE, MADV_NOHUGEPAGE, NO_ADVICE, true, "nohugepage" },
	{ VMF_MERGEABLE, ATTR_MERGEABLE, MADV_MERGEABLE, MADV_UNMERGEABLE, true, "mergeable" },
	{ VMF_SEALED, ATTR_SEALED, NO_ADVICE, NO_ADVICE, false, "sealed" },
	{ VMF_DROPPABLE, ATTR_DROPPABLE, NO_ADVICE, NO_ADVICE, false, "droppable" },
};
const size_t attr_table_n = ARRAY_LEN(attr_table);

uint32_t attrs_of_flags(uint64_t vmf)
{
	uint32_t attrs = 0;

	for (size_t i = 0; i < attr_table_n; i++)
		if (vmf & attr_table[i].vmf)
			attrs |= attr_table[i].attr;
	return attrs;
}

uint64_t flags_of_attrs(uint32_t attrs)
{
	uint64_t vmf = 0;

	for (size_t i = 0; i < attr_table_n; i++)
		if (attrs & attr_table[i].attr)
			vmf |= attr_table[i].vmf;
	return vmf;
}

static ProtobufCBinaryData bytes_dup(struct arena *a, ProtobufCBinaryData b)
{
	return (ProtobufCBinaryData){ b.len, b.len ? arena_dup(a, b.data, b.len) : NULL };
}

struct layout_file *layout_file_dup(struct arena *a, const struct layout_file *f)
{
	struct layout_file *to = arena_dup(a, f, sizeof(*f));

	to->path = arena_strdup(a, f->path);
	to->id = arena_dup(a, f->id, sizeof(*f->id));
	to->id->boot_id = bytes_dup(a, f->id->boot_id);
	to->id->build_id = bytes_dup(a, f->id->build_id);
	to->id->digest = bytes_dup(a, f->id->digest);
	return to;
}

bool file_equal(const struct layout_file *a, const struct layout_file *b)
{
	if (a == b)
		return true;
	return a->writable == b->writable && a->id->inode == b->id->inode &&
	       a->id->btime_ns == b->id->btime_ns && a->id->dev_major == b->id->dev_major &&
	       a->id->dev_minor == b->id->dev_minor && !strcmp(a->path, b->path);
}

/* Huge page advice can be changed, but not be taken back. */
static bool huge_reachable(uint32_t from, uint32_t to)
{
	uint32_t mask = ATTR_HUGEPAGE | ATTR_NOHUGEPAGE;

	return !(from & mask) || (to & mask);
}

bool region_same_backing(const struct region *a, const struct region *b)
{
	if (a->backing != b->backing || a->shared != b->shared ||
		((a->attrs ^ b->attrs) & ATTR_BACKING))
		return false;
	if (a->backing == BACKING_ANON)
		return true;
	if (a->offset - a->start != b->offset - b->start)
		return false;
	return a->backing == BACKING_SHM ? a->space == b->space : file_equal(a->file, b->file);
}

/* Reserved memory that is used now. Pages may have come before the layout that says so, and then
 * the kernel would never join the mapping with its neighbour, as it has done at the source: mremap
 * of both would be refused (EFAULT). */
static bool taken_into_use(const struct region *have, const struct region *want)
{
	return have->backing == BACKING_ANON && !have->shared && have->prot == PROT_NONE &&
	       want->prot != PROT_NONE;
}

bool region_keeps(const struct region *have, const struct region *want)
{
	return region_same_backing(have, want) && huge_reachable(have->attrs, want->attrs) &&
	       !taken_into_use(have, want);
}

bool region_sysv(const struct region *r)
{
	return r->backing == BACKING_SHM && (r->space & VMA_SYSV);
}

bool region_same(const struct region *a, const struct region *b)
{
	return region_same_backing(a, b) && a->prot == b->prot && a->attrs == b->attrs &&
	       !strcmp(a->name, b->name);
}

struct region region_clip(const struct region *r, uint64_t start, uint64_t end)
{
	struct region c = *r;

	c.start = start;
	c.end = end;
	if (c.backing != BACKING_ANON)
		c.offset += start - r->start;
	return c;
}

void region_push(struct arena *a, struct region_list *l, const struct region *r)
{
	struct region *last = l->n ? &l->v[l->n - 1] : NULL;

	if (last && last->end == r->start && region_same(last, r)) {
		last->end = r->end;
		last->loose |= r->loose;
		last->settled &= r->settled;
		return;
	}
	l->v = arena_grow(a, l->v, &l->cap, l->n + 1, sizeof(*l->v));
	l->v[l->n++] = *r;
}

struct err *hole_find(const struct ranges *used, uint64_t top, uint64_t bytes, uint64_t *at)
{
	/* Low addresses are refused to most processes, and null pointers should stay unmapped. */
	uint64_t from = 1u << 20, best = 0, best_len = 0;

	for (size_t i = 0; i <= used->n; i++) {
		uint64_t to = i < used->n ? used->v[i].start : top;

		if (to > from && to - from > best_len) {
			best = from;
			best_len = to - from;
		}
		if (i < used->n && used->v[i].end > from)
			from = used->v[i].end;
	}
	/* A page stays free on either side. */
	if (best_len < bytes + 2 * PAGE_BYTES)
		return err_new(ERR_LIMIT, "no hole of %llu bytes in the address space",
			(unsigned long long)bytes);
	*at = PAGE_DOWN(best + (best_len - bytes) / 2);
	return NULL;
}

bool layout_has_space(const struct layout *l, uint64_t space)
{
	for (size_t i = 0; i < l->regions.n; i++)
		if (l->regions.v[i].backing == BACKING_SHM && l->regions.v[i].space == space)
			return true;
	return false;
}

const struct vma_list *layout_vmas(const struct layout *l)
{
	return &l->raw;
}

bool path_special(const char *path)
{
	return !strcmp(path, "[vdso]") || !strcmp(path, "[vvar]") ||
	       !strcmp(path, "[vvar_vclock]") || !strcmp(path, "[vsyscall]");
}

bool layout_vma_private(const struct vma *v)
{
	return !v->shared && !path_special(v->path);
}

struct err *free_numbers(const struct task *t, size_t n, int *first)
{
	autoarena struct arena *a = arena_new();
	int *fds, at = 0;
	size_t n_fds;

	TRY(proc_fds(a, t->pid, &fds, &n_fds));
	for (size_t i = 0; i < n_fds && (size_t)(fds[i] - at) < n; i++)
		at = fds[i] + 1;
	*first = at;
	return NULL;
}
