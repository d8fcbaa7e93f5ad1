// SPDX-License-Identifier: Apache-2.0
/* TREE: what goes out comes in again, and what is no tree is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/process_list.h"

#define ROOT 100

struct tree {
	struct process v[8];
	pid_t tids[8];
	size_t n;
};

static struct process *add(struct tree *t, pid_t pid, pid_t parent, pid_t group, pid_t session)
{
	struct process *p = &t->v[t->n];

	t->tids[t->n] = pid;
	*p = (struct process){
		.pid = pid,
		.parent = parent,
		.group = group,
		.session = session,
		.comm = "one",
		.tids = &t->tids[t->n],
		.n_tids = 1,
	};
	t->n++;
	return p;
}

/* A root, a child of it, a job with two members, a daemon whose session leader has ended. */
static void fill(struct tree *t)
{
	t->n = 0;
	add(t, ROOT, 0, ROOT, ROOT);
	add(t, 101, ROOT, ROOT, ROOT);
	add(t, 102, ROOT, 102, ROOT);
	add(t, 103, 102, 102, ROOT);
	*add(t, 90, ROOT, 90, 90) = (struct process){
		.pid = 90, .parent = ROOT, .group = 90, .session = 90, .life = MIGRATE__LIFE__GONE
	};
	add(t, 104, ROOT, 90, 90);
}

static struct err *through(struct arena *a, const struct tree *t, struct process_list *ret)
{
	const struct process_list l = { (struct process *)t->v, t->n, ROOT };
	const uint8_t *bytes;
	size_t len;

	processes_pack(a, &l, &bytes, &len);
	return processes_parse(a, ROOT, bytes, len, ret);
}

static void test_through(void **state)
{
	autoarena struct arena *a = arena_new();
	struct process_list l;
	struct tree t;

	(void)state;
	fill(&t);
	assert_null(through(a, &t, &l));
	assert_int_equal(l.n, 6);
	assert_int_equal(l.v[3].parent, 102);
	assert_string_equal(l.v[3].comm, "one");
	assert_int_equal(l.v[3].tids[0], 103);
	/* It is made by whoever led the session, as a child of the same parent. */
	assert_int_equal(process_maker(&l, process_find(&l, 104))->pid, 90);
	assert_int_equal(process_maker(&l, process_find(&l, 103))->pid, 102);
	assert_null(process_find(&l, 4711));
}

typedef void (*spoil_fn)(struct tree *t);

static void twice(struct tree *t)
{
	t->v[3].pid = 101;
}
static void another_root(struct tree *t)
{
	t->v[0].pid = 99;
}
static void child_first(struct tree *t)
{
	t->v[1].parent = 103;
}
static void no_group(struct tree *t)
{
	t->v[2].group = 77;
}
static void group_elsewhere(struct tree *t)
{
	t->v[1].group = 90;
}
static void no_session(struct tree *t)
{
	t->v[5].session = 91;
}
static void unmade(struct tree *t)
{
	t->v[5].parent = 103; /* in a session that its parent is not in, and nobody above it led */
}
static void no_threads(struct tree *t)
{
	t->v[1].n_tids = 0;
}
static void zombie_with_threads(struct tree *t)
{
	t->v[1].life = MIGRATE__LIFE__ZOMBIE;
}
static void of_a_zombie(struct tree *t)
{
	t->v[2].life = MIGRATE__LIFE__ZOMBIE;
	t->v[2].n_tids = 0;
}
static void ended_strangely(struct tree *t)
{
	t->v[1].life = MIGRATE__LIFE__ZOMBIE;
	t->v[1].n_tids = 0;
	t->v[1].status = 0x137f; /* stopped */
}
static void kernel_pid(struct tree *t)
{
	t->v[1].pid = t->tids[1] = 1;
}
static void many_descriptors(struct tree *t)
{
	t->v[1].fd_max = -1;
}
static void root_in_session(struct tree *t)
{
	t->v[0].session = 90;
}

static void test_refused(void **state)
{
	static const struct {
		spoil_fn spoil;
		const char *word;
	} cases[] = {
		{ twice, "twice" },
		{ another_root, "not of 100" },
		{ child_first, "no parent" },
		{ no_group, "group 77" },
		{ group_elsewhere, "group 90" },
		{ no_session, "session 91" },
		{ unmade, "nobody can make" },
		{ no_threads, "lives" },
		{ zombie_with_threads, "lives" },
		{ of_a_zombie, "has ended" },
		{ ended_strangely, "ended as processes do" },
		{ kernel_pid, "impossible" },
		{ many_descriptors, "descriptors" },
		{ root_in_session, "session" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		autoarena struct arena *a = arena_new();
		autofree char *line = NULL;
		autoerr struct err *e = NULL;
		struct process_list l;
		struct tree t;

		fill(&t);
		cases[i].spoil(&t);
		e = through(a, &t, &l);
		assert_non_null(e);
		assert_int_equal(err_code(e), ERR_PEER);
		line = err_line(e);
		if (!strstr(line, cases[i].word))
			fail_msg("case %zu: %s", i, line);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_through),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
