// SPDX-License-Identifier: Apache-2.0
/*
 * Guard regions: pages that MADV_GUARD_INSTALL (Linux 6.13) made inaccessible without a mapping of
 * their own, as newer C libraries do below each thread's stack. They are page table entries, so
 * neither maps nor (but for a hint, "gu") smaps shows them. PAGEMAP_SCAN has a category for them,
 * plain pagemap words a bit since 6.15; on 6.13 and 6.14 nobody can see them, and they are lost.
 */
#include "kinds/memory_priv.h"

#include <errno.h>
#include <sys/mman.h>

#include "kernel/pagemap.h"

/* Word by word, every page that might be there is read: larger reservations are left out. */
#define BY_WORD_MAX (4ULL << 30)
#define WORDS       4096

struct scanner {
	int fd;
	bool by_scan; /* else word by word */
	struct ranges found;
};

static void scanner_fini(struct scanner *s)
{
	fd_closep(&s->fd);
	ranges_fini(&s->found);
}

bool guards_supported(void)
{
	void *page =
		mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool ok;

	if (page == MAP_FAILED)
		return false;
	ok = !madvise(page, PAGE_BYTES, MADVISE_GUARD_INSTALL);
	munmap(page, PAGE_BYTES);
	return ok;
}

static void add_found(void *arg, uint64_t start, uint64_t end, uint64_t categories unused_arg)
{
	struct scanner *s = arg;

	ranges_add(&s->found, start, end);
}

static int by_scan(struct scanner *s, struct range where)
{
	const struct pagemap_query q = { .mask = PAGE_CAT_GUARD, .ret = PAGE_CAT_GUARD };

	return pagemap_scan(s->fd, &q, where, add_found, s);
}

static struct err *by_word(struct scanner *s, struct range where)
{
	uint64_t words[WORDS];

	if (where.end - where.start > BY_WORD_MAX)
		return NULL;
	while (where.start < where.end) {
		size_t n = MIN(WORDS, (where.end - where.start) / PAGE_BYTES);

		TRY(pagemap_words(s->fd, where.start, words, n));
		for (size_t i = 0; i < n; i++, where.start += PAGE_BYTES)
			if (words[i] & PAGEMAP_GUARD)
				ranges_add(&s->found, where.start, where.start + PAGE_BYTES);
	}
	return NULL;
}

static struct err *scan(struct scanner *s, uint64_t start, uint64_t end)
{
	const struct range where = { start, end };
	int no = s->by_scan ? by_scan(s, where) : 0;

	if (no)
		return err_errno(no, "look for guard pages at %#llx", (unsigned long long)start);
	return s->by_scan ? NULL : by_word(s, where);
}

static struct err *scan_ranges(struct scanner *s, const struct ranges *r)
{
	for (size_t i = 0; i < r->n; i++)
		TRY(scan(s, r->v[i].start, r->v[i].end));
	return NULL;
}

/* Frozen: guards that were there, if their memory is, memory that nobody has looked at yet, and
 * memory whose pages do not travel. In the rest the tracker will come across them. */
static struct err *scan_some(struct scanner *s, const struct layout *before, const struct layout *l)
{
	struct ranges look AUTO(ranges_fini) = { 0 };

	for (size_t i = 0; before && i < before->n_guards; i++)
		ranges_add(&look, before->guards[i].start, before->guards[i].end);
	for (size_t i = 0; i < l->regions.n; i++)
		if (l->regions.v[i].loose ||
			(l->regions.v[i].shared && l->regions.v[i].backing == BACKING_FILE))
			ranges_add(&look, l->regions.v[i].start, l->regions.v[i].end);
	return scan_ranges(s, &look);
}

static struct err *scan_all(struct scanner *s, const struct layout *l)
{
	for (size_t i = 0; i < l->regions.n; i++)
		TRY(scan(s, l->regions.v[i].start, l->regions.v[i].end));
	return NULL;
}

static struct err *scanner_init(struct scanner *s, const struct task *t)
{
	TRY(pagemap_open(t->pid, &s->fd));
	/* Whether this kernel knows the category: asked of a page that is not there. */
	s->by_scan = !by_scan(s, (struct range){ PAGE_BYTES, 2 * PAGE_BYTES });
	return NULL;
}

static void set_guards(struct arena *a, struct layout *l, const struct ranges *r)
{
	l->n_guards = r->n;
	l->guards = r->n ? arena_dup(a, r->v, r->n * sizeof(*r->v)) : NULL;
}

struct err *guards_read(struct capture *c, bool all, const struct layout *before, struct layout *l)
{
	struct scanner s AUTO(scanner_fini) = { .fd = -1 };

	if (!guards_supported())
		return NULL;
	TRY(scanner_init(&s, c->task));
	TRY(all ? scan_all(&s, l) : scan_some(&s, before, l));
	set_guards(c->arena, l, &s.found);
	return NULL;
}

struct err *layout_guards(
	struct capture *c, const struct layout *l, const struct ranges *where, struct ranges *ret)
{
	struct scanner s AUTO(scanner_fini) = { .fd = -1 };

	if (!guards_supported())
		return NULL;
	TRY(scanner_init(&s, c->task));
	TRY(where ? scan_ranges(&s, where) : scan_all(&s, l));
	for (size_t i = 0; i < s.found.n; i++)
		ranges_add(ret, s.found.v[i].start, s.found.v[i].end);
	return NULL;
}

struct layout *layout_with_guards(
	struct arena *a, const struct layout *l, const struct ranges *seen)
{
	struct ranges all AUTO(ranges_fini) = { 0 };
	struct layout *now;
	uint64_t known;

	for (size_t i = 0; i < l->n_guards; i++)
		ranges_add(&all, l->guards[i].start, l->guards[i].end);
	known = ranges_total(&all);
	for (size_t i = 0; i < seen->n; i++)
		ranges_add(&all, seen->v[i].start, seen->v[i].end);
	if (ranges_total(&all) == known)
		return NULL;
	now = arena_dup(a, l, sizeof(*l));
	set_guards(a, now, &all);
	return now;
}
