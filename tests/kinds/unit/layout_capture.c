// SPDX-License-Identifier: Apache-2.0
/* layout_capture of a child of ours that runs, with the engine's side played by the test. */
#include "kinds/memory_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka.h wants these in front */
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "no_engine.h"
#include "tests/tmp.h"

#define AT 0x200000000000ULL /* not where a sanitizer has its shadow */
#define P  PAGE_BYTES

/* ---- a target ---- */

struct target {
	struct arena *arena;
	struct task task;
	struct capture_priv priv;
	struct capture c;
	int go[2], done[2];
};

/* The child does step 0, 1, 2 ... one after the other. */
static void target_start(struct target *t, void (*step)(int n))
{
	char c = 'x';

	*t = (struct target){ .arena = arena_new() };
	assert_int_equal(pipe(t->go), 0);
	assert_int_equal(pipe(t->done), 0);
	t->task.pid = fork();
	if (t->task.pid == 0) {
		close(t->go[1]);
		for (int n = 0;; n++) {
			step(n);
			if (write(t->done[1], &c, 1) != 1 || read(t->go[0], &c, 1) != 1)
				_exit(0);
		}
	}
	close(t->go[0]);
	close(t->done[1]);
	t->c = (struct capture){ .task = &t->task, .arena = t->arena, .priv = &t->priv };
	assert_int_equal(read(t->done[0], &c, 1), 1);
}

static void target_step(struct target *t)
{
	char c = 'x';

	assert_int_equal(write(t->go[1], &c, 1), 1);
	assert_int_equal(read(t->done[0], &c, 1), 1);
}

static void target_end(struct target *t)
{
	close(t->go[1]);
	assert_true(t->task.pid > 1);
	waitpid(t->task.pid, NULL, 0);
	close(t->done[0]);
	arena_free(t->arena);
}

static struct layout *capture(struct target *t, bool with_flags, const struct layout *before)
{
	struct layout *l;
	/* 0: no process is small enough to have its flags read even so. */
	struct err *e = layout_capture_within(&t->c, with_flags, before, 0, &l);

	if (e)
		fail_msg("%s", err_line(e));
	return l;
}

/* An empty region where there is none. */
static const struct region *at(const struct layout *l, uint64_t addr)
{
	static const struct region none;

	for (size_t i = 0; i < l->regions.n; i++)
		if (l->regions.v[i].start <= addr && addr < l->regions.v[i].end)
			return &l->regions.v[i];
	return &none;
}

static void map_at(uint64_t where, size_t n, int prot, int flags, int fd)
{
	void *want = (void *)(uintptr_t)where; // NOLINT: an address is what we want

	if (mmap(want, n * P, prot, flags | MAP_FIXED_NOREPLACE, fd, 0) != want)
		_exit(9);
}

static void advise(uint64_t where, size_t n, int advice)
{
	if (madvise((void *)(uintptr_t)where, n * P, advice) < 0) // NOLINT
		_exit(9);
}

#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW   (PROT_READ | PROT_WRITE)

/* ---- tests ---- */

static void step_kinds(int n)
{
	int fd;

	if (n)
		return;
	map_at(AT, 4, RW, ANON, -1);
	advise(AT + P, 1, MADV_DONTFORK);
	map_at(AT + 0x100000, 2, RW, MAP_SHARED | MAP_ANONYMOUS, -1);
	fd = memfd_create("hello", 0);
	if (ftruncate(fd, 3 * P) < 0)
		_exit(9);
	map_at(AT + 0x200000, 3, PROT_READ, MAP_SHARED, fd);
	map_at(AT + 0x300000, 3, RW, MAP_PRIVATE, fd);
	fd = open("/proc/self/exe", O_RDONLY);
	map_at(AT + 0x400000, 1, PROT_READ, MAP_PRIVATE, fd);
	map_at(AT + 0x500000, 1, PROT_READ, MAP_SHARED, fd);
	map_at(AT + 0x600000, 2, RW, ANON | MAP_NORESERVE | MAP_GROWSDOWN, -1);
	fd = open("/dev/zero", O_RDWR);
	map_at(AT + 0x700000, 2, RW, MAP_PRIVATE, fd);
}

static void kinds_of_mappings(unused_arg void **state)
{
	struct target t;
	const struct region *r, *s;
	struct layout *l;

	target_start(&t, step_kinds);
	l = capture(&t, true, NULL);
	for (size_t i = 0; i < t.priv.n_refused; i++)
		print_message("%s\n", t.priv.refused[i]);
	assert_int_equal(t.priv.n_refused, 0);
	assert_int_equal(at(l, AT)->end, AT + P);
	assert_int_equal(at(l, AT + P)->attrs, ATTR_DONTFORK);
	assert_int_equal(at(l, AT + 2 * P)->end, AT + 4 * P);
	r = at(l, AT + 0x100000);
	assert_int_equal(r->backing, BACKING_SHM);
	assert_true(r->shared && r->space);
	r = at(l, AT + 0x200000);
	s = at(l, AT + 0x300000);
	assert_int_equal(r->backing, BACKING_SHM);
	assert_int_equal(s->backing, BACKING_SHM);
	assert_int_equal(r->space, s->space);
	assert_string_equal(r->space_path, "/memfd:hello (deleted)");
	assert_true(r->shared && !s->shared);
	r = at(l, AT + 0x400000);
	s = at(l, AT + 0x500000);
	assert_int_equal(r->backing, BACKING_FILE);
	assert_true(file_equal(r->file, s->file));
	assert_true(r->file->id->content);
	assert_int_equal(at(l, AT + 0x600000)->attrs, ATTR_NORESERVE | ATTR_GROWSDOWN);
	assert_string_equal(at(l, AT + 0x700000)->file->path, "/dev/zero");
	assert_true(l->n_special >= 2);
	target_end(&t);
}

/* What maps does not tell comes from the layout before. */
static void step_carry(int n)
{
	if (n == 0) {
		map_at(AT, 8, RW, ANON, -1);
		advise(AT, 8, MADV_DONTDUMP);
		map_at(AT + 0x100000, 4, RW, ANON | MAP_GROWSDOWN, -1);
		advise(AT + 0x100000, 2, MADV_DONTFORK);
	} else if (n == 1) {
		mprotect((void *)(uintptr_t)(AT + 2 * P), P, PROT_READ); // NOLINT
		map_at(AT + 0x200000, 2, RW, ANON, -1);
		advise(AT + 0x200000, 2, MADV_DONTFORK);
		munmap((void *)(uintptr_t)(AT + 6 * P), 2 * P); // NOLINT
	}
}

static void flags_are_carried(unused_arg void **state)
{
	struct target t;
	struct layout *l, *m;

	target_start(&t, step_carry);
	l = capture(&t, true, NULL);
	m = capture(&t, false, l);
	assert_int_equal(m->regions.n, l->regions.n);
	for (size_t i = 0; i < l->regions.n; i++)
		assert_true(region_same(&l->regions.v[i], &m->regions.v[i]));
	target_step(&t);
	m = capture(&t, false, l);
	assert_int_equal(at(m, AT)->attrs, ATTR_DONTDUMP);
	assert_int_equal(at(m, AT)->end, AT + 2 * P);
	assert_int_equal(at(m, AT + 2 * P)->prot, PROT_READ);
	assert_int_equal(at(m, AT + 2 * P)->attrs & ~(uint32_t)ATTR_ACCOUNT, ATTR_DONTDUMP);
	assert_int_equal(at(m, AT + 3 * P)->end, AT + 6 * P);
	assert_int_equal(at(m, AT + 6 * P)->end, 0);
	assert_int_equal(at(m, AT + 0x100000)->attrs, ATTR_GROWSDOWN | ATTR_DONTFORK);
	assert_int_equal(at(m, AT + 0x102000)->attrs, ATTR_GROWSDOWN);
	assert_true(at(m, AT + 0x200000)->loose);
	assert_false(at(m, AT)->loose);
	assert_null(layout_capture(&t.c, false, l, &m));
	assert_false(at(m, AT + 0x200000)->loose);
	assert_int_equal(at(m, AT + 0x200000)->attrs, ATTR_DONTFORK);
	target_end(&t);
}

/* A file that is unlinked, but has another name still. */
static char other_name[TMP_BYTES + 8];

static void step_refused(int n)
{
	char path[TMP_BYTES];
	int fd;

	if (n)
		return;
	fd = mkstemp(tmp_template(path, "layout"));
	if (ftruncate(fd, P) < 0)
		_exit(9);
	map_at(AT, 1, PROT_READ, MAP_PRIVATE, fd);
	if (link(path, other_name) < 0)
		_exit(9);
	unlink(path);
}

static void refusals_name_the_place(unused_arg void **state)
{
	char path[TMP_BYTES];
	struct target t;

	snprintf(other_name, sizeof(other_name), "%s.%d", tmp_template(path, "layout"),
		(int)getpid());
	target_start(&t, step_refused);
	capture(&t, true, NULL);
	assert_int_equal(unlink(other_name), 0);
	assert_int_equal(t.priv.n_refused, 1);
	assert_non_null(strstr(t.priv.refused[0], "memory at 0x200000000000-0x200000001000"));
	assert_non_null(strstr(t.priv.refused[0], "has another name"));
	target_end(&t);
}

static void step_guard(int n)
{
	if (n == 0) {
		map_at(AT, 16, RW, ANON, -1);
		if (guards_supported())
			advise(AT + 3 * P, 2, MADVISE_GUARD_INSTALL);
	} else if (n == 1) {
		map_at(AT + 0x100000, 16, RW, ANON, -1);
		advise(AT + 0x100000, 1, MADVISE_GUARD_INSTALL);
	}
}

static void guards_are_found(unused_arg void **state)
{
	struct target t;
	struct layout *l;

	if (!guards_supported())
		skip();
	target_start(&t, step_guard);
	l = capture(&t, true, NULL);
	assert_int_equal(l->n_guards, 1);
	assert_int_equal(l->guards[0].start, AT + 3 * P);
	assert_int_equal(l->guards[0].end, AT + 5 * P);
	target_step(&t);
	l = capture(&t, false, l);
	assert_int_equal(l->n_guards, 2);
	assert_int_equal(l->guards[1].end, AT + 0x100000 + P);
	target_end(&t);
}

/* The child must not be able to see the difference: our test program has the object as well. */
static void step_shared(int n unused_arg)
{
}

static void outside_is_refused(unused_arg void **state)
{
	void *p = mmap(NULL, P, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct target t, other;

	assert_true(p != MAP_FAILED);
	target_start(&other, step_shared);
	target_start(&t, step_shared);
	munmap(p, P);
	capture(&t, true, NULL);
	assert_int_equal(t.priv.n_refused, 1);
	assert_non_null(strstr(t.priv.refused[0], "also mapped by process"));
	target_end(&t);
	target_end(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kinds_of_mappings),
		cmocka_unit_test(flags_are_carried),
		cmocka_unit_test(refusals_name_the_place),
		cmocka_unit_test(guards_are_found),
		cmocka_unit_test(outside_is_refused),
	};

	if (geteuid() != 0) {
		print_message("skipped: needs root for /proc/PID/map_files\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
