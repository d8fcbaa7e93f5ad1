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

/* Frozen: guards that were there, if their memory is, and memory that nobody has looked at yet. */
static struct err *scan_some(struct scanner *s, const struct layout *before, const struct layout *l)
{
	struct ranges look AUTO(ranges_fini) = { 0 };

	for (size_t i = 0; before && i < before->n_guards; i++)
		ranges_add(&look, before->guards[i].start, before->guards[i].end);
	for (size_t i = 0; i < l->regions.n; i++)
		if (l->regions.v[i].loose)
			ranges_add(&look, l->regions.v[i].start, l->regions.v[i].end);
	for (size_t i = 0; i < look.n; i++)
		TRY(scan(s, look.v[i].start, look.v[i].end));
	return NULL;
}

static struct err *scan_all(struct scanner *s, const struct layout *l)
{
	for (size_t i = 0; i < l->regions.n; i++)
		TRY(scan(s, l->regions.v[i].start, l->regions.v[i].end));
	return NULL;
}

struct err *guards_read(struct capture *c, bool all, const struct layout *before, struct layout *l)
{
	struct scanner s AUTO(scanner_fini) = { .fd = -1 };

	if (!guards_supported())
		return NULL;
	TRY(pagemap_open(c->task->pid, &s.fd));
	/* Whether this kernel knows the category: asked of a page that is not there. */
	s.by_scan = !by_scan(&s, (struct range){ PAGE_BYTES, 2 * PAGE_BYTES });
	TRY(all ? scan_all(&s, l) : scan_some(&s, before, l));
	l->n_guards = s.found.n;
	if (s.found.n)
		l->guards = arena_dup(c->arena, s.found.v, s.found.n * sizeof(*s.found.v));
	return NULL;
}
