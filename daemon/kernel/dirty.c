// SPDX-License-Identifier: Apache-2.0
/* Page runs, and which tracker is used. */
#include "kernel/dirty_priv.h"

#include <stdlib.h>
#include <string.h>

static void push(struct page_runs *r, struct page_run run)
{
	if (r->n == r->cap) {
		r->cap = r->cap * 2 + 64;
		r->v = xrealloc_array(r->v, r->cap, sizeof(*r->v));
	}
	r->v[r->n++] = run;
}

void page_runs_add(struct page_runs *r, uint64_t start, uint64_t pages, enum page_class class)
{
	struct page_run *last = r->n ? &r->v[r->n - 1] : NULL;

	if (!pages)
		return;
	if (last && last->class == class && last->start + last->pages * PAGE_BYTES == start)
		last->pages += pages;
	else
		push(r, (struct page_run){ start, pages, class });
}

void page_runs_add_first(struct page_runs *r, uint64_t start, uint64_t pages, enum page_class class)
{
	if (pages)
		push(r, (struct page_run){ start, pages, class });
}

void page_runs_fini(struct page_runs *r)
{
	free(r->v);
	*r = (struct page_runs){ 0 };
}

/* Lengthens the last run up to `start` if the gap is small for the number of runs. */
static void bridge(struct run_sink *s, uint64_t start)
{
	size_t n = s->runs->n - s->first;
	struct page_run *last = s->runs->n ? &s->runs->v[s->runs->n - 1] : NULL;
	uint64_t end;

	if (n < RUNS_DENSE || s->exact || last->class != PAGE_DATA)
		return;
	end = last->start + last->pages * PAGE_BYTES;
	if (start > end && (start - end) / PAGE_BYTES <= n / RUNS_DENSE)
		last->pages += (start - end) / PAGE_BYTES;
}

void run_sink_add(struct run_sink *s, struct range r, enum page_class class)
{
	uint64_t pages = (r.end - r.start) / PAGE_BYTES;

	if (class == PAGE_DATA)
		bridge(s, r.start);
	if (s->runs->n > s->first)
		page_runs_add(s->runs, r.start, pages, class);
	else if (pages)
		push(s->runs, (struct page_run){ r.start, pages, class });
}

bool dirty_vma_tracked(const struct vma *v)
{
	static const char *const kernels[] = { "[vdso]", "[vvar", "[vsyscall]", "[vectors]" };

	for (size_t i = 0; i < ARRAY_LEN(kernels); i++)
		if (strncmp(v->path, kernels[i], strlen(kernels[i])) == 0)
			return false;
	return true;
}

void dirty_whole(const struct vma *v, struct run_sink *s)
{
	run_sink_add(s, (struct range){ v->start, v->end }, PAGE_DATA);
}

static const struct dirty_ops *const all[] = { &dirty_wp, &dirty_soft, &dirty_none };

const struct dirty_ops *dirty_choose(void)
{
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (all[i]->probe())
			return all[i];
	return &dirty_none;
}

const struct dirty_ops *dirty_by_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (strcmp(all[i]->name, name) == 0)
			return all[i];
	return NULL;
}
