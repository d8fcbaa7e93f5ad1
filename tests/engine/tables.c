// SPDX-License-Identifier: Apache-2.0
/* The state tables: no forgotten cell, rollback everywhere before COMMIT, never two owners. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "engine/machine.h"
#include "engine/source.h"

struct table {
	const struct state_row *rows;
	size_t n;
};

static void every_cell_is_filled(const struct table *t)
{
	for (size_t i = 1; i < t->n; i++) {
		if (!t->rows[i].name)
			continue;
		for (int e = 0; e < EV_COUNT; e++) {
			uint8_t next = t->rows[i].on[e];

			assert_int_not_equal(next, STATE_BUG);
			if (next != UNDO && next != END) {
				assert_true(next < t->n);
				assert_non_null(t->rows[next].name);
			}
		}
	}
}

static size_t index_of(const struct table *t, const char *name)
{
	size_t i = 0;

	while (i < t->n && (!t->rows[i].name || strcmp(t->rows[i].name, name) != 0))
		i++;
	return i;
}

/* Follows EV_OK from the first row to "commit"; returns its index, n if it is not met. */
static size_t until_commit(const struct table *t, void (*each)(const struct state_row *row))
{
	size_t i = 1;

	while (strcmp(t->rows[i].name, "commit") != 0 && t->rows[i].on[EV_OK] != END) {
		assert_false(t->rows[i].cut);
		each(&t->rows[i]);
		i = t->rows[i].on[EV_OK];
	}
	return strcmp(t->rows[i].name, "commit") == 0 ? i : t->n;
}

static void failure_undoes(const struct state_row *row)
{
	for (int e = EV_FAILED; e < EV_COUNT; e++)
		assert_int_equal(row->on[e], UNDO);
	assert_true(row->owner == OWNER_SOURCE || row->owner == OWNER_NOBODY);
}

static void test_cells(void **state)
{
	struct table t[3];

	(void)state;
	t[0].rows = source_move_rows(&t[0].n);
	t[1].rows = source_check_rows(&t[1].n);
	t[2].rows = destination_rows(&t[2].n);
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		every_cell_is_filled(&t[i]);
}

static void test_rollback_before_commit(void **state)
{
	struct table src, dst;

	(void)state;
	src.rows = source_move_rows(&src.n);
	dst.rows = destination_rows(&dst.n);
	assert_int_equal(until_commit(&src, failure_undoes), index_of(&src, "commit"));
	assert_int_equal(until_commit(&dst, failure_undoes), index_of(&dst, "commit"));
}

/* After COMMIT the source never resumes by itself: nothing leads from there to "resumed", but for
 * the peer's word that it has not taken it. What it has taken cannot be undone. */
static void test_commit_is_final(void **state)
{
	struct table src;
	size_t commit;

	(void)state;
	src.rows = source_move_rows(&src.n);
	commit = index_of(&src, "commit");
	assert_int_equal(src.rows[commit].owner, OWNER_UNKNOWN);
	assert_int_equal(src.rows[commit].on[EV_REFUSED], UNDO);
	assert_true(src.rows[src.rows[commit].on[EV_OK]].cut);
	for (int e = 0; e < EV_COUNT; e++) {
		uint8_t next = src.rows[commit].on[e];

		if (e == EV_REFUSED)
			continue;
		assert_int_not_equal(next, UNDO);
		assert_int_not_equal(src.rows[next].owner, OWNER_SOURCE);
	}
}

/* Whoever freezes, both tables agree that nobody runs it; only the destination owns it after its
 * commit, and the source's commit row claims nothing. */
static void test_one_owner(void **state)
{
	struct table src, dst;

	(void)state;
	src.rows = source_move_rows(&src.n);
	dst.rows = destination_rows(&dst.n);
	for (size_t i = index_of(&src, "freeze"); i < index_of(&src, "commit"); i++)
		assert_int_equal(src.rows[i].owner, OWNER_NOBODY);
	assert_int_equal(dst.rows[index_of(&dst, "ready")].owner, OWNER_NOBODY);
	assert_int_equal(dst.rows[index_of(&dst, "commit")].owner, OWNER_DESTINATION);
	assert_int_equal(src.rows[index_of(&src, "done")].owner, OWNER_DESTINATION);
	assert_int_equal(src.rows[index_of(&src, "in_doubt")].owner, OWNER_UNKNOWN);
}

/* ---- the machine itself ---- */

enum { T_BUG, T_ONE, T_TWO, T_CUT, T_END, T_UNDONE };
struct trace {
	char text[128];
	int fail_at;
};

static void note(struct trace *t, const char *what)
{
	strncat(t->text, what, sizeof(t->text) - strlen(t->text) - 1);
}

static struct err *enter_one(void *ctx)
{
	note(ctx, "1");
	return NULL;
}

static struct err *enter_two(void *ctx)
{
	struct trace *t = ctx;

	note(t, "2");
	return t->fail_at == 2 ? err_new(ERR_PEER, "lost") : NULL;
}

static struct err *enter_cut(void *ctx)
{
	struct trace *t = ctx;

	note(t, "3");
	return t->fail_at == 3 ? err_new(ERR_TIMEOUT, "late") : NULL;
}

static void undo_one(void *ctx)
{
	note(ctx, "a");
}

static void undo_two(void *ctx)
{
	note(ctx, "b");
}

static void on_state(void *ctx, const struct state_row *row)
{
	(void)ctx;
	(void)row;
}

static void on_error(void *ctx, const struct state_row *row, struct err *e)
{
	note(ctx, "!");
	(void)row;
	err_free(e);
}

#define FAIL(next) \
	[EV_FAILED] = (next), [EV_LOST] = (next), [EV_CANCELLED] = (next), [EV_TIMEOUT] = (next), \
	[EV_REFUSED] = (next)
static const struct state_row rows[] = {
	[T_BUG] = { "bug", OWNER_UNKNOWN },
	[T_ONE] = { "one", OWNER_SOURCE, enter_one, undo_one, .on = { T_TWO, FAIL(UNDO) } },
	[T_TWO] = { "two", OWNER_SOURCE, enter_two, undo_two, .on = { T_CUT, FAIL(UNDO) } },
	[T_CUT] = { "cut", OWNER_UNKNOWN, enter_cut, .cut = true, .on = { T_END, FAIL(UNDO) } },
	[T_END] = { "end", OWNER_DESTINATION, .on = { END, FAIL(END) } },
	[T_UNDONE] = { "undone", OWNER_SOURCE, .on = { END, FAIL(END) } },
};
static const struct machine machine = { rows, ARRAY_LEN(rows), T_ONE, T_UNDONE, on_state,
	on_error };

static void test_machine_runs_through(void **state)
{
	struct trace t = { .fail_at = 0 };

	(void)state;
	assert_int_equal(machine_run(&machine, &t), T_END);
	assert_string_equal(t.text, "123");
}

static void test_machine_undoes_last_first(void **state)
{
	struct trace t = { .fail_at = 2 };

	(void)state;
	assert_int_equal(machine_run(&machine, &t), T_UNDONE);
	assert_string_equal(t.text, "12!ba");
}

static void test_machine_cut_undoes_nothing(void **state)
{
	struct trace t = { .fail_at = 3 };

	(void)state;
	assert_int_equal(machine_run(&machine, &t), T_UNDONE);
	assert_string_equal(t.text, "123!");
}

static enum event refused(void *ctx, const struct err *e)
{
	(void)ctx;
	return e ? EV_REFUSED : EV_OK;
}

static void test_row_knows_its_event(void **state)
{
	struct state_row own[ARRAY_LEN(rows)];
	struct machine m = machine;
	struct trace t = { .fail_at = 3 };

	(void)state;
	memcpy(own, rows, sizeof(own));
	own[T_CUT].cut = false;
	own[T_CUT].event = refused;
	own[T_CUT].on[EV_TIMEOUT] = T_END;
	m.rows = own;
	assert_int_equal(machine_run(&m, &t), T_UNDONE);
	assert_string_equal(t.text, "123!ba");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cells),
		cmocka_unit_test(test_rollback_before_commit),
		cmocka_unit_test(test_commit_is_final),
		cmocka_unit_test(test_one_owner),
		cmocka_unit_test(test_machine_runs_through),
		cmocka_unit_test(test_machine_undoes_last_first),
		cmocka_unit_test(test_machine_cut_undoes_nothing),
		cmocka_unit_test(test_row_knows_its_event),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
