// SPDX-License-Identifier: Apache-2.0
/*
 * userfaultfd with asynchronous write-protection, read and re-armed by PAGEMAP_SCAN (Linux 6.7).
 *
 * The userfaultfd is made in the target (it belongs to an address space), taken over, and closed
 * there at once: we are the only holder, so our death disarms everything. Nobody reads it: in
 * asynchronous mode the kernel itself resolves the fault, and the target never waits for us.
 *
 * What was seen on 6.18 and shapes this file:
 * - Memory that appeared after registration (mmap, brk, a moved mremap, the same place mapped
 * again) is not registered. CHECK_WPASYNC makes the scan fail with EPERM there; without it, it says
 * "no page written". A scan that fails may have cleared pages already without telling: so the whole
 *   VMA is then looked at as if for the first time.
 * - "Written" means "not write-protected", so it holds for absent pages too, and arming them makes
 *   page tables with markers: 2 MiB per GiB. A reserved terabyte must not pay that. So absent pages
 *   are armed only in 2 MiB blocks that have had pages (`blocks`); elsewhere only what exists is.
 * - MADV_DONTNEED removes the protection of anonymous pages (reported: written and absent), but
 *   leaves the marker in a private file mapping: nothing is reported although the process sees the
 *   file's page again. For those mappings we remember which pages were its own (`own`) and look at
 *   exactly these again.
 * - A mapping that joins the one that is moved next to it by mremap loses its registration with it,
 *   but its pages stay marked, also when the process has written them, and others that are marked
 * are not armed again. So whatever is registered is unmarked first.
 * - A new guard page reads as written: whoever looks for those comes across it.
 * - MADV_GUARD_INSTALL in an armed file mapping never returns (6.18): emptying the pages leaves
 *   markers, and where one is, it begins again. It goes on when nothing is armed any more.
 * - A marker reads as "swapped". Where a look without "written" cannot tell it from a swapped page,
 *   the page counts as data: reading it gives the right bytes either way, and makes it present.
 */
#include "kernel/dirty_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/ranges.h"
#include "kernel/pagemap.h"
#include "kernel/remote.h"

/* Not in the headers of Linux 6.1. */
#define FEATURE_WP_UNPOPULATED (1ULL << 13)
#define FEATURE_WP_ASYNC       (1ULL << 15)
#define USER_MODE_ONLY         1

#define BLOCK_SHIFT 21
/* How often a VMA may change under our hands before it counts as untracked for this time. */
#define TRIES 3

struct dirty {
	int uffd, pagemap_fd;
	uint64_t guard;         /* PAGE_CAT_GUARD where the kernel knows it, else 0 */
	struct pagebits blocks; /* 2 MiB blocks that have had pages */
	struct pagebits own;    /* the process's own pages, as sent; of use in file mappings */
	struct ranges guards;   /* seen at any time */
};

/* ---- scans ---- */

#define EXISTS  (PAGE_CAT_PRESENT | PAGE_CAT_SWAPPED)
#define NOT_OWN (PAGE_CAT_FILE | PAGE_CAT_PFNZERO)
#define ARM     (PAGEMAP_WP_MATCHING | PAGEMAP_CHECK_WPASYNC)
#define TOLD    (EXISTS | NOT_OWN)

struct look {
	struct dirty *d;
	struct run_sink out;
	bool fresh; /* absent pages are not worth telling */
	bool block; /* what is found opens its block */
};

static enum page_class class_of(const struct dirty *d, uint64_t categories)
{
	if (categories & (NOT_OWN | d->guard) || !(categories & EXISTS))
		return PAGE_GONE;
	return PAGE_DATA;
}

static void note_guard(struct dirty *d, uint64_t start, uint64_t end, uint64_t categories)
{
	if (categories & d->guard)
		ranges_add(&d->guards, start, end);
}

static void look_add(void *arg, uint64_t start, uint64_t end, uint64_t categories)
{
	struct look *l = arg;
	enum page_class class = class_of(l->d, categories);

	note_guard(l->d, start, end, categories);
	if (class == PAGE_DATA && l->block)
		pagebits_set(&l->d->blocks, start, end);
	if (class == PAGE_DATA || !l->fresh)
		run_sink_add(&l->out, (struct range){ start, end }, class);
}

/* Reads and arms [where): in blocks that have had pages everything that is not armed, elsewhere
 * only own pages. */
static int arm_range(struct look *l, struct range where, bool had_pages)
{
	struct pagemap_query q = { .flags = ARM, .ret = TOLD | l->d->guard };

	l->block = !had_pages;
	if (!l->fresh)
		q.mask = PAGE_CAT_WRITTEN;
	if (!had_pages) {
		q.mask |= NOT_OWN;
		q.inverted = NOT_OWN;
		q.anyof = EXISTS;
	}
	return pagemap_scan(l->d->pagemap_fd, &q, where, look_add, l);
}

/* Nearer than this, written pages are read and armed together with what lies between them. */
#define NEAR_BYTES (64 * PAGE_BYTES)

static void add_near(void *arg, uint64_t start, uint64_t end, unused_arg uint64_t categories)
{
	struct ranges *r = arg;

	if (r->n && start - r->v[r->n - 1].end < NEAR_BYTES)
		r->v[r->n - 1].end = end;
	else
		ranges_add(r, start, end);
}

/*
 * Most pages were not written. The kernel has a fast way for a scan that asks for that and nothing
 * else: 0.5 ms per GiB against 5 ms with the categories that we need of those that were (6.18). So
 * it is asked first where they are. What is written between the two looks is found by the second,
 * or, elsewhere, the next time.
 */
static int arm_segment(struct look *l, struct range where, bool had_pages)
{
	const struct pagemap_query written = {
		.flags = PAGEMAP_CHECK_WPASYNC,
		.mask = PAGE_CAT_WRITTEN,
		.ret = PAGE_CAT_WRITTEN,
	};
	autoranges struct ranges near = { 0 };
	int no;

	if (l->fresh || !had_pages)
		return arm_range(l, where, had_pages);
	no = pagemap_scan(l->d->pagemap_fd, &written, where, add_near, &near);
	for (size_t i = 0; i < near.n && !no; i++)
		no = arm_range(l, near.v[i], had_pages);
	return no;
}

static int arm_vma(struct look *l, const struct vma *v)
{
	for (uint64_t at = v->start; at < v->end;) {
		bool had;
		uint64_t to = pagebits_run(&l->d->blocks, at, v->end, &had);
		int no = arm_segment(l, (struct range){ at, to }, had);

		if (no)
			return no;
		at = to;
	}
	return 0;
}

static void open_block(void *arg, uint64_t start, uint64_t end, unused_arg uint64_t categories)
{
	pagebits_set(arg, start, end);
}

/* The first look: which blocks have pages, so that they are armed as a whole right away. */
static struct err *find_blocks(struct dirty *d, const struct vma *v)
{
	return pagemap_own(
		d->pagemap_fd, (struct range){ v->start, v->end }, open_block, &d->blocks);
}

static void add_own(void *arg, uint64_t start, uint64_t end, unused_arg uint64_t categories)
{
	run_sink_add(arg, (struct range){ start, end }, PAGE_DATA);
}

static void add_guard(void *arg, uint64_t start, uint64_t end, uint64_t categories)
{
	note_guard(arg, start, end, categories);
}

/* Where nothing else would come across them. */
static struct err *find_guards(struct dirty *d, const struct vma *v)
{
	const struct pagemap_query q = { .mask = d->guard, .ret = d->guard };
	int no = 0;

	if (d->guard)
		no = pagemap_scan(
			d->pagemap_fd, &q, (struct range){ v->start, v->end }, add_guard, d);
	return no ? err_errno(no, "look for guard pages at %#jx", (uintmax_t)v->start) : NULL;
}

static struct err *untracked(struct look *l, const struct vma *v)
{
	l->fresh = true;
	TRY(find_guards(l->d, v));
	return pagemap_own(l->d->pagemap_fd, (struct range){ v->start, v->end }, add_own, &l->out);
}

/* ---- private file mappings ---- */

struct recheck {
	struct look *l;
	struct pagebits *own;
};

static void recheck_add(void *arg, uint64_t start, uint64_t end, uint64_t categories)
{
	struct recheck *r = arg;
	struct range pages = { start, end };

	note_guard(r->l->d, start, end, categories);
	if (class_of(r->l->d, categories) == PAGE_GONE) {
		run_sink_add(&r->l->out, pages, PAGE_GONE);
		pagebits_clear(r->own, start, end);
	} else if (!(categories & PAGE_CAT_PRESENT)) {
		run_sink_add(&r->l->out, pages, PAGE_DATA);
	}
}

/* Pages that were the process's own and are the file's again. Before the scan for written ones, so
 * that a page that comes back meanwhile is told behind it. */
static int recheck_own(struct look *l, const struct vma *v)
{
	const struct pagemap_query all = { .ret = TOLD | l->d->guard };
	struct recheck r = { l, &l->d->own };

	for (uint64_t at = v->start; at < v->end;) {
		bool own;
		uint64_t to = pagebits_run(&l->d->own, at, v->end, &own);
		int no = 0;

		if (own)
			no = pagemap_scan(
				l->d->pagemap_fd, &all, (struct range){ at, to }, recheck_add, &r);
		if (no)
			return no;
		at = to;
	}
	return 0;
}

static void remember_own(struct dirty *d, const struct run_sink *out)
{
	for (size_t i = out->first; i < out->runs->n; i++) {
		const struct page_run *r = &out->runs->v[i];
		uint64_t end = r->start + r->pages * PAGE_BYTES;

		if (r->class == PAGE_DATA)
			pagebits_set(&d->own, r->start, end);
		else
			pagebits_clear(&d->own, r->start, end);
	}
}

/* EAGAIN: a part of it is not registered any more. */
static int uffd_register(int uffd, const struct vma *v)
{
	struct uffdio_register r = {
		.range = { v->start, v->end - v->start },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect clean = { .range = r.range };

	if (ioctl(uffd, UFFDIO_REGISTER, &r) < 0)
		return errno;
	if (ioctl(uffd, UFFDIO_WRITEPROTECT, &clean) == 0)
		return 0;
	return errno == ENOENT ? EAGAIN : errno;
}

static struct err *scan_err(int no, const struct vma *v)
{
	return err_errno(no, "scan written pages at %#jx", (uintmax_t)v->start);
}

/* The VMA is not registered (any more). */
static struct err *first_look(struct look *l, const struct vma *v)
{
	pagebits_clear(&l->d->own, v->start, v->end);
	l->fresh = true;
	for (int i = 0; i < TRIES; i++) {
		int no = uffd_register(l->d->uffd, v);

		l->out.runs->n = l->out.first;
		/* EBUSY: a userfaultfd of the target's own. EINVAL, EPERM, EAGAIN: memory that
		 * cannot be protected, or that vanished meanwhile. ENOMEM: so does an address space
		 * that is gone, which the scan then says. Dirty for ever, then. */
		if (no)
			return untracked(l, v);
		TRY(find_blocks(l->d, v));
		no = arm_vma(l, v);
		if (no != EPERM)
			return no ? scan_err(no, v) : NULL;
	}
	l->out.runs->n = l->out.first;
	return untracked(l, v);
}

/* ---- shared memory ---- */

static void no_pages(unused_arg void *arg, unused_arg uint64_t start, unused_arg uint64_t end,
	unused_arg uint64_t categories)
{
}

static void shared_add(void *arg, uint64_t start, uint64_t end, uint64_t categories)
{
	struct look *l = arg;

	note_guard(l->d, start, end, categories);
	add_own(&l->out, start, end, categories);
}

/* Pages of a shared mapping come and go in the page table without the process's doing (reclaim),
 * and only a marker tells that an absent one was not written. So all of it is armed, holes too: up
 * to a size at which the page tables for that would hurt. */
#define SHARED_MAX (64ULL << 30)

static struct err *collect_shared(struct look *l, const struct vma *v)
{
	const struct pagemap_query q = {
		.flags = ARM,
		.mask = PAGE_CAT_WRITTEN,
		.ret = PAGE_CAT_WRITTEN | l->d->guard,
	};
	const struct range all = { v->start, v->end };
	bool small = v->end - v->start <= SHARED_MAX;
	int no = EPERM;

	if (small)
		no = pagemap_scan(l->d->pagemap_fd, &q, all, shared_add, l);
	if (!no)
		return NULL;
	if (no != EPERM)
		return scan_err(no, v);
	l->fresh = true;
	l->out.runs->n = l->out.first;
	TRY(find_guards(l->d, v));
	if (small)
		no = uffd_register(l->d->uffd, v);
	/* Mapped from a descriptor that is not open for writing: nothing can be written here. */
	if (small && no == EPERM)
		return NULL;
	if (!no)
		no = pagemap_scan(l->d->pagemap_fd, &q, all, no_pages, NULL);
	if (no == ESRCH || no == ENOMEM)
		return scan_err(ESRCH, v);
	dirty_whole(v, &l->out);
	return NULL;
}

/* ---- the interface ---- */

static struct err *wp_collect(
	struct dirty *d, const struct vma *v, struct page_runs *runs, struct vma_dirty *info)
{
	struct look l = { .d = d, .out = { runs, runs->n, v->inode != 0 } };
	int no = 0;

	info->fresh = false;
	if (!dirty_vma_tracked(v))
		return NULL;
	if (v->shared) {
		TRY(collect_shared(&l, v));
		info->fresh = l.fresh;
		return NULL;
	}
	if (v->inode)
		no = recheck_own(&l, v);
	if (!no)
		no = arm_vma(&l, v);
	if (no == EPERM) {
		runs->n = l.out.first;
		TRY(first_look(&l, v));
	} else if (no) {
		return scan_err(no, v);
	}
	/* Also where the list of mappings has no file: it may be older than the mapping. */
	remember_own(d, &l.out);
	info->fresh = l.fresh;
	return NULL;
}

static struct err *wp_begin(struct dirty *d, unused_arg const struct vma_list *maps)
{
	return pagemap_check(d->pagemap_fd);
}

/* In a block that has had pages, absent ones are looked at; a page that has been written since is
 * not armed, and so told. */
static void wp_sends(struct dirty *d, const struct vma *v, const struct page_runs *runs)
{
	for (size_t i = 0; i < runs->n; i++) {
		uint64_t start = runs->v[i].start, end = start + runs->v[i].pages * PAGE_BYTES;

		if (runs->v[i].class != PAGE_DATA)
			continue;
		pagebits_set(&d->blocks, start, end);
		if (v->inode)
			pagebits_set(&d->own, start, end);
	}
}

static void wp_guards(const struct dirty *d, struct ranges *ret)
{
	for (size_t i = 0; i < d->guards.n; i++)
		ranges_add(ret, d->guards.v[i].start, d->guards.v[i].end);
}

static void wp_close(struct dirty *d)
{
	fd_closep(&d->uffd);
	fd_closep(&d->pagemap_fd);
	pagebits_fini(&d->blocks);
	pagebits_fini(&d->own);
	ranges_fini(&d->guards);
	free(d);
}

struct err *dirty_wp_adopt(pid_t pid, int uffd, struct dirty **ret)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = FEATURE_WP_UNPOPULATED | FEATURE_WP_ASYNC,
	};
	const struct pagemap_query guard = { .mask = PAGE_CAT_GUARD, .ret = PAGE_CAT_GUARD };
	autoclose int fd = uffd, pagemap_fd = -1;
	struct dirty *d;

	if (ioctl(fd, UFFDIO_API, &api) < 0)
		return err_errno(errno, "ask the userfaultfd for asynchronous write-protection");
	TRY(pagemap_open(pid, &pagemap_fd));
	d = xcalloc(1, sizeof(*d));
	d->uffd = take_fd(&fd);
	d->pagemap_fd = take_fd(&pagemap_fd);
	d->blocks.shift = BLOCK_SHIFT;
	d->own.shift = __builtin_ctzll(PAGE_BYTES);
	if (pagemap_scan(d->pagemap_fd, &guard, (struct range){ 0, PAGE_BYTES }, no_pages, NULL) ==
		0)
		d->guard = PAGE_CAT_GUARD;
	*ret = d;
	return NULL;
}

/* What the next descriptor of the process will be, unless somebody shares its table. */
static struct err *next_fd(const struct task *t, int *ret)
{
	autoarena struct arena *a = arena_new();
	size_t n;
	int *fds;

	TRY(proc_fds(a, t->pid, &fds, &n));
	for (*ret = 0; (size_t)*ret < n && fds[*ret] == *ret;)
		(*ret)++;
	return NULL;
}

struct taking {
	struct task *t;
	int fd;
};

static struct err *take_home(void *arg, struct call *calls)
{
	struct taking *k = arg;
	int64_t there = calls[0].ret;
	struct err *e;

	if (there >= 0) {
		calls[1].args[0] = (uint64_t)there;
		return remote_fd_home(k->t, (int)there, &k->fd);
	}
	e = err_errno((int)-there, "userfaultfd in process %d", (int)k->t->pid);
	return there != -EMFILE ? e
				: err_hint(e,
					  "one descriptor must be free for a moment: prlimit "
					  "--nofile --pid %d",
					  (int)k->t->pid);
}

/* In one batch with its end: if we die it does not stay there. */
static struct err *wp_open(struct task *t, struct dirty **ret)
{
	struct taking k = { t, -1 };
	const struct remote_between taking = { take_home, &k };
	struct err *e;
	int next;

	TRY(next_fd(t, &next));
	/* Without USER_MODE_ONLY an unprivileged target may not (vm.unprivileged_userfaultfd); in
	 * asynchronous mode the kernel's own writes are seen all the same. */
	struct call calls[] = {
		{ .nr = SYS_userfaultfd, .args = { O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY } },
		{ .nr = SYS_close, .args = { (uint64_t)next } },
	};

	e = remote_run_around(t, task_leader(t), calls, ARRAY_LEN(calls), &taking);
	if (!e && calls[1].ret < 0)
		e = err_errno(
			(int)-calls[1].ret, "close the userfaultfd in process %d", (int)t->pid);
	if (!e)
		return dirty_wp_adopt(t->pid, k.fd, ret);
	fd_closep(&k.fd);
	return e;
}

/* ---- probe ---- */

#define PROBE_PAGES 4

static uint64_t pages_of(const struct page_runs *r)
{
	uint64_t n = 0;

	for (size_t i = 0; i < r->n; i++)
		n += r->v[i].class == PAGE_DATA ? r->v[i].pages : 0;
	return n;
}

/* Writes `n` pages and tells whether exactly these are found. */
static bool write_and_look(struct dirty *d, char *p, size_t n)
{
	struct vma v = {
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + PROBE_PAGES * PAGE_BYTES,
		.path = "",
	};
	AUTO(page_runs_fini) struct page_runs runs = { 0 };
	struct vma_dirty info;
	autoerr struct err *e = NULL;

	for (size_t i = 0; i < n; i++)
		((volatile char *)p)[i * PAGE_BYTES]++;
	e = wp_collect(d, &v, &runs, &info);
	return !e && pages_of(&runs) == n;
}

static bool wp_probe(void)
{
	size_t bytes = PROBE_PAGES * PAGE_BYTES;
	autoerr struct err *e = NULL;
	struct dirty *d;
	bool works;
	char *p;
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY);

	if (fd < 0)
		return false;
	e = dirty_wp_adopt(getpid(), fd, &d);
	if (e)
		return false;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	works = p != MAP_FAILED && write_and_look(d, p, 3) && write_and_look(d, p, 0) &&
		write_and_look(d, p, 1) && write_and_look(d, p, 0);
	if (p != MAP_FAILED)
		munmap(p, bytes);
	wp_close(d);
	return works;
}

const struct dirty_ops dirty_wp = {
	.name = "wp",
	.probe = wp_probe,
	.open = wp_open,
	.begin = wp_begin,
	.collect = wp_collect,
	.sends = wp_sends,
	.guards = wp_guards,
	.close = wp_close,
};
