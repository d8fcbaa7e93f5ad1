// SPDX-License-Identifier: Apache-2.0
/*
 * The trackers: one contract for all that work on this kernel, checked against a model of the
 * peer's memory, and what only one of them can show. The process under observation is a child that
 * makes system calls and touches memory when told.
 */
#include "kernel/dirty_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka.h wants these in front */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/pagemap.h"
#include "kernel/remote.h"
#include "puppet.h"
#include "tests/tmp.h"

/* The trackers are opened on a child that cooperates: remote calls are not needed here. */
__attribute__((weak)) struct err *remote_call(unused_arg struct task *t,
	unused_arg struct thread *th, unused_arg const struct call *c, unused_arg const char *what,
	unused_arg int64_t *ret)
{
	abort();
}

__attribute__((weak)) struct err *remote_fd_home(
	unused_arg struct task *t, unused_arg int number, unused_arg int *fd)
{
	abort();
}

/* ---- observing it ---- */

struct watch {
	const struct dirty_ops *ops;
	struct puppet s;
	struct dirty *d;
	struct page_runs runs;
	bool fresh;
};

static void watch_start(struct watch *w, const struct dirty_ops *ops)
{
	*w = (struct watch){ .ops = ops };
	puppet_start(&w->s);
	if (ops == &dirty_wp) {
		long there = CALL(&w->s, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1);

		assert_true(there >= 0);
		ok(dirty_wp_adopt(w->s.pid, take_from(&w->s, (int)there), &w->d));
		CALL(&w->s, SYS_close, there);
	} else if (ops == &dirty_soft) {
		ok(dirty_soft_open_pid(w->s.pid, &w->d));
	} else {
		ok(dirty_none_open_pid(w->s.pid, &w->d));
	}
}

static void watch_stop(struct watch *w)
{
	w->ops->close(w->d);
	page_runs_fini(&w->runs);
	puppet_stop(&w->s);
}

/* One collect of the VMA at `at`; others are looked at as well, for soft-dirty clears all. */
static struct err *collect(struct watch *w, uint64_t at)
{
	autoarena struct arena *a = arena_new();
	struct vma_dirty info;
	struct vma_list l;
	const struct vma *v;

	ok(proc_maps(a, w->s.pid, &l));
	v = vma_at(&l, at);
	assert_non_null(v);
	TRY(w->ops->begin(w->d, &l));
	w->runs.n = 0;
	TRY(w->ops->collect(w->d, v, &w->runs, &info));
	w->fresh = info.fresh;
	return NULL;
}

static void expect(struct watch *w, uint64_t at, const struct page_run *want, size_t n)
{
	ok(collect(w, at));
	if (w->ops == &dirty_none)
		return;
	assert_false(w->fresh);
	assert_int_equal(w->runs.n, n);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(w->runs.v[i].start, at + want[i].start * P);
		assert_int_equal(w->runs.v[i].pages, want[i].pages);
		assert_int_equal(w->runs.v[i].class, want[i].class);
	}
}
/* The first look at it. */
static void expect_new(const struct watch *w)
{
	assert_int_equal(w->fresh, w->ops != &dirty_soft);
}
#define NOTHING(w, at) expect((w), (at), NULL, 0)
#define EXPECT(w, at, ...) \
	expect((w), (at), (const struct page_run[]){ __VA_ARGS__ }, \
		ARRAY_LEN(((const struct page_run[]){ __VA_ARGS__ })))

/* ---- the contract ---- */

static void tells_exactly_what_was_written(struct watch *w)
{
	uint64_t at = map(&w->s, 0, 64 * P, -1);

	touch(&w->s, at + 4 * P, 4, 1);
	look_at(&w->s, at + 20 * P, 1);
	ok(collect(w, at));
	expect_new(w);
	assert_true(w->runs.n >= 1 && w->runs.v[0].class == PAGE_DATA);
	assert_int_equal(w->runs.v[0].start, at + 4 * P);
	assert_int_equal(w->runs.v[0].pages, 4);
	NOTHING(w, at);
	touch(&w->s, at, 1, 2);
	touch(&w->s, at + 5 * P, 1, 2);
	look_at(&w->s, at, 64);
	EXPECT(w, at, { 0, 1, PAGE_DATA }, { 5, 1, PAGE_DATA });
	NOTHING(w, at);
	CALL(&w->s, SYS_madvise, (long)(at + 4 * P), 2 * P, MADV_DONTNEED);
	EXPECT(w, at, { 4, 2, PAGE_GONE });
	look_at(&w->s, at + 4 * P, 1);
	NOTHING(w, at);
	touch(&w->s, at + 4 * P, 1, 3);
	EXPECT(w, at, { 4, 1, PAGE_DATA });
	/* Dropped and read back between two looks. */
	CALL(&w->s, SYS_madvise, (long)(at + 4 * P), P, MADV_DONTNEED);
	look_at(&w->s, at + 4 * P, 1);
	EXPECT(w, at, { 4, 1, PAGE_GONE });
}

static int file_of_ones(size_t pages)
{
	char name[TMP_BYTES];
	int fd = mkstemp(tmp_template(name, "dirty-test"));
	uint8_t page[PAGE_BYTES];

	assert_true(fd >= 0);
	unlink(name);
	memset(page, 1, sizeof(page));
	for (size_t i = 0; i < pages; i++)
		assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
	return fd;
}

static void sees_the_file_page_come_back(struct watch *w)
{
	int fd = file_of_ones(16); /* inherited by no child: the child is there already */
	struct puppet *s = &w->s;
	char path[64];
	uint64_t at, name;
	struct iovec here, there;
	long in_child;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), fd);
	name = map(s, 0, P, -1);
	here = (struct iovec){ path, sizeof(path) };
	there = (struct iovec){ (void *)name, sizeof(path) };
	assert_int_equal(process_vm_writev(s->pid, &here, 1, &there, 1, 0), sizeof(path));
	in_child = CALL(s, SYS_open, (long)name, O_RDONLY);
	assert_true(in_child >= 0);
	at = map(s, 0, 16 * P, (int)in_child);
	look_at(s, at, 8);
	touch(s, at + 2 * P, 2, 7);
	ok(collect(w, at));
	expect_new(w);
	assert_int_equal(w->runs.n, 1);
	assert_int_equal(w->runs.v[0].start, at + 2 * P);
	assert_int_equal(w->runs.v[0].pages, 2);
	NOTHING(w, at);
	look_at(s, at + 8 * P, 8);
	ok(collect(w, at)); /* reading may be told, but is never data */
	for (size_t i = 0; i < w->runs.n && w->ops != &dirty_none; i++)
		assert_int_equal(w->runs.v[i].class, PAGE_GONE);
	CALL(s, SYS_madvise, (long)(at + 2 * P), P, MADV_DONTNEED);
	look_at(s, at + 2 * P, 1);
	EXPECT(w, at, { 2, 1, PAGE_GONE });
	touch(s, at + 2 * P, 1, 9);
	EXPECT(w, at, { 2, 1, PAGE_DATA });
	close(fd);
}

static void finds_new_mappings(struct watch *w)
{
	uint64_t at = map(&w->s, 0, 32 * P, -1);

	touch(&w->s, at, 32, 1);
	ok(collect(w, at));
	expect_new(w);
	NOTHING(w, at);
	CALL(&w->s, SYS_munmap, (long)at, 32 * P);
	assert_int_equal(map(&w->s, at, 32 * P, -1), at);
	touch(&w->s, at + 3 * P, 1, 2);
	ok(collect(w, at));
	expect_new(w);
	if (w->ops == &dirty_soft) {
		assert_int_equal(w->runs.n, 3);
		assert_int_equal(w->runs.v[0].class, PAGE_GONE);
		assert_int_equal(w->runs.v[2].class, PAGE_GONE);
		w->runs.v[0] = w->runs.v[1];
	} else {
		assert_int_equal(w->runs.n, 1);
	}
	assert_int_equal(w->runs.v[0].start, at + 3 * P);
	assert_int_equal(w->runs.v[0].pages, 1);
	NOTHING(w, at);
}

static bool tells(const struct page_runs *runs, uint64_t at, enum page_class class)
{
	for (size_t i = 0; i < runs->n; i++)
		if (runs->v[i].class == class && runs->v[i].start <= at &&
			at < runs->v[i].start + runs->v[i].pages * P)
			return true;
	return false;
}

/* The list of mappings is from before a part of one was mapped anew. */
static void a_list_older_than_a_mapping(struct watch *w)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	uint64_t at = map(&w->s, 0, 64 * P, -1);
	struct vma v = { .start = at, .end = at + 64 * P, .path = "", .prot = 3 };
	struct vma_list l = { &v, 1 };
	struct vma_dirty info;

	touch(&w->s, at, 64, 1);
	ok(collect(w, at));
	NOTHING(w, at);
	assert_int_equal(CALL(&w->s, SYS_mmap, (long)at, 32 * P, PROT_READ, flags, -1, 0), at);
	ok(w->ops->begin(w->d, &l));
	w->runs.n = 0;
	ok(w->ops->collect(w->d, &v, &w->runs, &info));
	for (uint64_t i = 0; i < 64; i++) {
		assert_false(i < 32 && tells(&w->runs, at + i * P, PAGE_DATA));
		assert_true(i >= 32 || info.fresh || tells(&w->runs, at + i * P, PAGE_GONE));
		/* Who is told to drop all of it gets all of it. */
		assert_true(i < 32 || !info.fresh || tells(&w->runs, at + i * P, PAGE_DATA));
	}
}

/* Aligned as page tables are: the kernel moves those, and marks no page in them. */
static void whole_page_tables_that_move(struct watch *w)
{
	const int how = MREMAP_MAYMOVE | MREMAP_FIXED;
	const uint64_t pages = (4ULL << 20) / P;
	uint64_t one = map(&w->s, 0, (6ULL << 20), -1), two = map(&w->s, 0, (6ULL << 20), -1);

	one = (one + (2ULL << 20) - 1) & ~((2ULL << 20) - 1);
	two = (two + (2ULL << 20) - 1) & ~((2ULL << 20) - 1);
	CALL(&w->s, SYS_madvise, (long)one, 4L << 20, MADV_NOHUGEPAGE);
	CALL(&w->s, SYS_madvise, (long)two, 4L << 20, MADV_NOHUGEPAGE);
	touch(&w->s, one, pages, 1);
	touch(&w->s, two, pages, 2);
	ok(collect(w, one));
	ok(collect(w, two));
	ok(collect(w, two));
	assert_int_equal(
		CALL(&w->s, SYS_mremap, (long)two, 4L << 20, 4L << 20, how, (long)one), one);
	ok(collect(w, one));
	for (uint64_t i = 0; i < pages; i++)
		assert_true(tells(&w->runs, one + i * P, PAGE_DATA));
}

/* Somebody else has found it and sent it; at the next look it is not there. */
static void what_was_sent_is_told_when_it_is_gone(struct watch *w)
{
	const uint64_t far = 700; /* where no page has ever been */
	uint64_t at = map(&w->s, 0, 1024 * P, -1);
	struct page_run run = { at + far * P, 2, PAGE_DATA };
	const struct page_runs sent = { .v = &run, .n = 1 };
	const struct vma v = { .start = at, .end = at + 1024 * P, .path = "" };

	touch(&w->s, at, 2, 1);
	ok(collect(w, at));
	NOTHING(w, at);
	if (!w->ops->sends)
		return;
	touch(&w->s, at + far * P, 2, 1);
	w->ops->sends(w->d, &v, &sent);
	CALL(&w->s, SYS_madvise, (long)(at + far * P), 2 * P, MADV_DONTNEED);
	ok(collect(w, at));
	assert_false(w->fresh);
	for (size_t i = 0; i < w->runs.n; i++)
		if (w->runs.v[i].class == PAGE_GONE && w->runs.v[i].start <= run.start &&
			w->runs.v[i].start + w->runs.v[i].pages * P >= run.start + 2 * P)
			return;
	fail_msg("nobody tells that it is gone");
}

/* What moves away and comes back joins its old neighbours, and all of them are tracked no more; but
 * they bear the traces of it, and were written meanwhile. */
static void memory_that_comes_back(struct watch *w)
{
	const int how = MREMAP_MAYMOVE | MREMAP_FIXED;
	uint64_t at = map(&w->s, 0, 64 * P, -1), far = map(&w->s, 0, 4 * P, -1);

	touch(&w->s, at, 64, 1);
	ok(collect(w, at));
	NOTHING(w, at);
	CALL(&w->s, SYS_mremap, (long)(at + 30 * P), 4 * P, 4 * P, how, (long)far);
	ok(collect(w, far));
	CALL(&w->s, SYS_mremap, (long)far, 4 * P, 4 * P, how, (long)(at + 30 * P));
	touch(&w->s, at + 3 * P, 1, 2);
	touch(&w->s, at + 60 * P, 1, 2);
	for (uint64_t page = 0; page < 64; page += 10)
		ok(collect(w, at + page * P)); /* it may be one mapping, or several */
	for (uint64_t page = 3; page < 64; page += 57) {
		bool told = false;

		touch(&w->s, at + page * P, 1, 3);
		ok(collect(w, at + page * P));
		for (size_t i = 0; i < w->runs.n; i++)
			told |= w->runs.v[i].start <= at + page * P &&
				at + page * P < w->runs.v[i].start + w->runs.v[i].pages * P;
		assert_true(told);
	}
}

static void a_dead_process_is_gone(struct watch *w)
{
	uint64_t at = map(&w->s, 0, 32 * P, -1);
	struct vma v = { .start = at, .end = at + 32 * P, .path = "" };
	struct vma_list l = { &v, 1 };
	struct vma_dirty info;
	struct err *e;

	touch(&w->s, at, 32, 1);
	ok(collect(w, at));
	assert_true(w->s.pid > 1);
	kill(w->s.pid, SIGKILL);
	waitid(P_PID, (id_t)w->s.pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT);
	w->runs.n = 0;
	e = w->ops->begin(w->d, &l);
	if (!e)
		e = w->ops->collect(w->d, &v, &w->runs, &info);
	assert_non_null(e);
	assert_string_equal(err_code_name(err_code(e)), "GONE");
	err_free(e);
}

static void the_kernels_blocks_are_left_out(struct watch *w)
{
	autoarena struct arena *a = arena_new();
	struct vma_dirty info;
	struct vma_list l;

	ok(proc_maps(a, w->s.pid, &l));
	ok(w->ops->begin(w->d, &l));
	for (size_t i = 0; i < l.n; i++) {
		if (strncmp(l.v[i].path, "[v", 2) != 0)
			continue;
		w->runs.n = 0;
		ok(w->ops->collect(w->d, &l.v[i], &w->runs, &info));
		assert_int_equal(w->runs.n, 0);
		assert_false(info.fresh);
	}
}

static long shared_file(struct puppet *s, uint64_t pages)
{
	static const char name[] = "x";
	uint64_t at = map(s, 0, P, -1);
	struct iovec here = { (void *)(uintptr_t)name, sizeof(name) };
	struct iovec there = { (void *)at, sizeof(name) };
	long fd;

	assert_int_equal(process_vm_writev(s->pid, &here, 1, &there, 1, 0), sizeof(name));
	fd = CALL(s, SYS_memfd_create, (long)at, 0);
	assert_true(fd >= 0);
	assert_int_equal(CALL(s, SYS_ftruncate, fd, (long)(pages * P)), 0);
	return fd;
}

static bool told(const struct watch *w, uint64_t at)
{
	for (size_t i = 0; i < w->runs.n; i++)
		if (w->runs.v[i].start <= at && at < w->runs.v[i].start + w->runs.v[i].pages * P)
			return w->runs.v[i].class == PAGE_DATA;
	return false;
}

static void shared_memory_tells_all_that_was_written(struct watch *w)
{
	struct puppet *s = &w->s;
	long fd = shared_file(s, 64), at;

	at = CALL(s, SYS_mmap, 0, 64 * P, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(at > 0);
	touch(s, (uint64_t)at, 3, 1);
	ok(collect(w, (uint64_t)at));
	assert_true(w->fresh);
	assert_int_equal(w->runs.n, 1);
	assert_int_equal(w->runs.v[0].pages, 64);
	touch(s, (uint64_t)at + 2 * P, 1, 1);
	touch(s, (uint64_t)at + 9 * P, 2, 1);
	/* Gone from the page table, not from the object. */
	CALL(s, SYS_madvise, at, 64 * P, MADV_DONTNEED);
	touch(s, (uint64_t)at + 20 * P, 1, 1);
	CALL(s, SYS_madvise, at + 20 * P, P, MADV_DONTNEED);
	ok(collect(w, (uint64_t)at));
	assert_true(told(w, (uint64_t)at + 2 * P));
	assert_true(told(w, (uint64_t)at + 9 * P) && told(w, (uint64_t)at + 10 * P));
	assert_true(told(w, (uint64_t)at + 20 * P));
	if (w->ops != &dirty_wp)
		return;
	assert_int_equal(w->runs.n, 3);
	NOTHING(w, (uint64_t)at);
	look_at(s, (uint64_t)at, 64);
	NOTHING(w, (uint64_t)at);
	touch(s, (uint64_t)at + 63 * P, 1, 1);
	EXPECT(w, (uint64_t)at, { 63, 1, PAGE_DATA });
}

/* ---- random life against a model of the peer ---- */

#define LIFE_PAGES  64
#define LIFE_STEPS  3000
#define LIFE_ROUNDS 10 /* steps between two looks */

struct life {
	struct watch *w;
	uint64_t at;
	uint8_t bottom;            /* what a page without contents of its own reads as */
	uint8_t model[LIFE_PAGES]; /* one byte for a page: the peer's memory */
	unsigned seed;
	int file; /* in the child; -1 for anonymous memory */
};

static unsigned dice(struct life *l, unsigned n)
{
	l->seed = l->seed * 1103515245u + 12345u;
	return (l->seed >> 16) % n;
}

static uint8_t byte_at(struct life *l, uint64_t page)
{
	uint8_t b;
	struct iovec here = { &b, 1 }, there = { (void *)(l->at + page * P), 1 };

	assert_int_equal(process_vm_readv(l->w->s.pid, &here, 1, &there, 1, 0), 1);
	return b;
}

static void receive(struct life *l)
{
	ok(collect(l->w, l->at));
	if (l->w->fresh)
		memset(l->model, l->bottom, sizeof(l->model));
	for (size_t i = 0; i < l->w->runs.n; i++) {
		const struct page_run *r = &l->w->runs.v[i];

		assert_true(r->start >= l->at);
		assert_true(r->start + r->pages * P <= l->at + LIFE_PAGES * P);
		for (uint64_t k = 0; k < r->pages; k++) {
			uint64_t page = (r->start - l->at) / P + k;

			l->model[page] = r->class == PAGE_DATA ? byte_at(l, page) : l->bottom;
		}
	}
}

static void live(struct life *l)
{
	struct puppet *s = &l->w->s;
	uint64_t page = dice(l, LIFE_PAGES), n = 1 + dice(l, 6);
	uint64_t at = l->at + page * P;

	n = MIN(n, LIFE_PAGES - page);
	switch (dice(l, 10)) {
	case 0:
	case 1:
		CALL(s, SYS_madvise, (long)at, (long)(n * P), MADV_DONTNEED);
		break;
	case 2:
	case 3:
		look_at(s, at, n);
		break;
	case 4:
		if (dice(l, 20) == 0)
			assert_int_equal(map(s, l->at, LIFE_PAGES * P, l->file), l->at);
		break;
	default:
		touch(s, at, n, (uint8_t)(1 + dice(l, 255)));
	}
}

static void random_life(struct watch *w, int file, uint8_t bottom)
{
	struct life l = { .w = w, .seed = 1, .file = file, .bottom = bottom };

	memset(l.model, bottom, sizeof(l.model));

	/* A hole in front and behind, so that it is a VMA of its own. */
	l.at = map(&w->s, 0, (LIFE_PAGES + 2) * P, -1) + P;
	CALL(&w->s, SYS_munmap, (long)(l.at - P), P);
	CALL(&w->s, SYS_munmap, (long)(l.at + LIFE_PAGES * P), P);
	assert_int_equal(map(&w->s, l.at, LIFE_PAGES * P, file), l.at);
	for (int i = 1; i <= LIFE_STEPS; i++) {
		live(&l);
		if (i % LIFE_ROUNDS)
			continue;
		receive(&l);
		for (uint64_t k = 0; k < LIFE_PAGES; k++)
			if (l.model[k] != byte_at(&l, k))
				fail_msg("%s: step %d, page %ju: peer has %u, process has %u",
					w->ops->name, i, (uintmax_t)k, l.model[k], byte_at(&l, k));
	}
}

static void anonymous_life(struct watch *w)
{
	random_life(w, -1, 0);
}

static int child_file(struct puppet *s)
{
	long fd = shared_file(s, LIFE_PAGES);
	uint64_t at = map(s, 0, P, -1);

	touch(s, at, 1, 5);
	for (int i = 0; i < LIFE_PAGES; i++)
		CALL(s, SYS_pwrite64, fd, (long)at, 1, i * (long)P);
	return (int)fd;
}

static void file_life(struct watch *w)
{
	random_life(w, child_file(&w->s), 5);
}

typedef void (*contract)(struct watch *w);

static void over_all(contract body)
{
	static const struct dirty_ops *const all[] = { &dirty_wp, &dirty_soft, &dirty_none };

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		struct watch w;

		if (!all[i]->probe()) {
			print_message(
				"[  SKIPPED ] %s does not work on this kernel\n", all[i]->name);
			continue;
		}
		watch_start(&w, all[i]);
		body(&w);
		watch_stop(&w);
	}
}

#define CONTRACT(name) \
	static void all_##name(unused_arg void **state) \
	{ \
		over_all(name); \
	}
CONTRACT(tells_exactly_what_was_written)
CONTRACT(sees_the_file_page_come_back)
CONTRACT(finds_new_mappings)
CONTRACT(a_list_older_than_a_mapping)
CONTRACT(whole_page_tables_that_move)
CONTRACT(memory_that_comes_back)
CONTRACT(what_was_sent_is_told_when_it_is_gone)
CONTRACT(a_dead_process_is_gone)
CONTRACT(the_kernels_blocks_are_left_out)
CONTRACT(shared_memory_tells_all_that_was_written)
CONTRACT(anonymous_life)
CONTRACT(file_life)

/* ---- only write-protection ---- */

static void skip_without_wp(void)
{
	if (!dirty_wp.probe()) {
		print_message("userfaultfd has no asynchronous write-protection here\n");
		skip();
	}
}

static uint64_t page_table_bytes(pid_t pid)
{
	char path[64], line[128];
	unsigned long kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "VmPTE: %lu", &kib) == 1)
			break;
	fclose(f);
	return kib * 1024;
}

static void a_reserved_terabyte_costs_nothing(unused_arg void **state)
{
	uint64_t bytes = 1ULL << 40, before, at;
	struct watch w;

	skip_without_wp();
	watch_start(&w, &dirty_wp);
	at = map(&w.s, 0, bytes, -1);
	CALL(&w.s, SYS_madvise, (long)at, (long)bytes, MADV_NOHUGEPAGE);
	touch(&w.s, at + bytes / 2, 1, 1);
	before = page_table_bytes(w.s.pid);
	ok(collect(&w, at));
	assert_int_equal(w.runs.n, 1);
	NOTHING(&w, at);
	touch(&w.s, at, 1, 1);
	touch(&w.s, at + bytes - P, 1, 1);
	EXPECT(&w, at, { 0, 1, PAGE_DATA }, { bytes / P - 1, 1, PAGE_DATA });
	ok(collect(&w, at));
	NOTHING(&w, at);
	assert_true(page_table_bytes(w.s.pid) - before < (1 << 20));
	watch_stop(&w);
}

static void memory_with_a_userfaultfd_is_always_dirty(unused_arg void **state)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register r = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct watch w;
	uint64_t at;
	long there;
	int fd;

	skip_without_wp();
	watch_start(&w, &dirty_wp);
	at = map(&w.s, 0, 8 * P, -1);
	touch(&w.s, at, 3, 1);
	there = CALL(&w.s, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1);
	assert_true(there >= 0);
	fd = take_from(&w.s, (int)there);
	assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
	r.range.start = at;
	r.range.len = 8 * P;
	assert_int_equal(ioctl(fd, UFFDIO_REGISTER, &r), 0);
	for (int i = 0; i < 3; i++) {
		ok(collect(&w, at));
		assert_true(w.fresh);
		assert_int_equal(w.runs.n, 1);
		assert_int_equal(w.runs.v[0].pages, 3);
		assert_int_equal(w.runs.v[0].class, PAGE_DATA);
	}
	close(fd);
	watch_stop(&w);
}

static void huge_pages_are_told_by_page(unused_arg void **state)
{
	const uint64_t huge = 2 << 20;
	struct watch w;
	uint64_t at;

	skip_without_wp();
	watch_start(&w, &dirty_wp);
	at = map(&w.s, 0, 4 * huge, -1);
	at = (at + huge - 1) & ~(huge - 1);
	CALL(&w.s, SYS_madvise, (long)at, (long)(2 * huge), MADV_HUGEPAGE);
	touch(&w.s, at, 1, 1);
	touch(&w.s, at + huge, 1, 1);
	ok(collect(&w, at));
	NOTHING(&w, at);
	touch(&w.s, at + 7 * P, 1, 1);
	EXPECT(&w, at, { 7, 1, PAGE_DATA });
	CALL(&w.s, SYS_madvise, (long)(at + huge), (long)huge, MADV_DONTNEED);
	ok(collect(&w, at));
	assert_int_equal(w.runs.n, 1);
	assert_int_equal(w.runs.v[0].start, at + huge);
	assert_int_equal(w.runs.v[0].class, PAGE_GONE);
	watch_stop(&w);
}

static void nothing_is_left_behind(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	struct vma_list l;
	struct watch w;
	uint64_t at;

	skip_without_wp();
	watch_start(&w, &dirty_wp);
	at = map(&w.s, 0, 64 * P, -1);
	touch(&w.s, at, 64, 1);
	ok(collect(&w, at));
	ok(proc_smaps(a, w.s.pid, &l));
	assert_true(vma_at(&l, at)->flags & VMF_UFFD_WP);
	dirty_wp.close(w.d);
	ok(proc_smaps(a, w.s.pid, &l));
	for (size_t i = 0; i < l.n; i++)
		assert_false(l.v[i].flags & VMF_UFFD_WP);
	page_runs_fini(&w.runs);
	puppet_stop(&w.s);
}

/* ---- which one ---- */

static void choice(unused_arg void **state)
{
	assert_non_null(dirty_choose());
	assert_ptr_equal(dirty_by_name("soft"), &dirty_soft);
	assert_null(dirty_by_name(""));
	assert_null(dirty_by_name("wpx"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(choice),
		cmocka_unit_test(all_tells_exactly_what_was_written),
		cmocka_unit_test(all_sees_the_file_page_come_back),
		cmocka_unit_test(all_finds_new_mappings),
		cmocka_unit_test(all_a_list_older_than_a_mapping),
		cmocka_unit_test(all_whole_page_tables_that_move),
		cmocka_unit_test(all_memory_that_comes_back),
		cmocka_unit_test(all_what_was_sent_is_told_when_it_is_gone),
		cmocka_unit_test(all_a_dead_process_is_gone),
		cmocka_unit_test(all_the_kernels_blocks_are_left_out),
		cmocka_unit_test(all_shared_memory_tells_all_that_was_written),
		cmocka_unit_test(all_anonymous_life),
		cmocka_unit_test(all_file_life),
		cmocka_unit_test(a_reserved_terabyte_costs_nothing),
		cmocka_unit_test(memory_with_a_userfaultfd_is_always_dirty),
		cmocka_unit_test(huge_pages_are_told_by_page),
		cmocka_unit_test(nothing_is_left_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
