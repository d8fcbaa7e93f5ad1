// SPDX-License-Identifier: Apache-2.0
/* Journals: what is read back after any end of their writer. */
#include "roles/journal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka.h wants these in front */
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/tmp.h"

static char dir[TMP_BYTES];

static int make_dir(unused_arg void **state)
{
	return mkdtemp(tmp_template(dir, "journal")) ? 0 : -1;
}

static int remove_dir(unused_arg void **state)
{
	char command[TMP_BYTES + 16];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static struct journal_record record(const char *id)
{
	struct journal_record r = { .mark = MARK_INTENT, .pid = 4242, .start_time = 77 };

	snprintf(r.id, sizeof(r.id), "%s", id);
	snprintf(r.boot_id, sizeof(r.boot_id), "boot");
	return r;
}

static void path_of(const char *id, char *path, size_t room)
{
	snprintf(path, room, "%s/journal/%s.source", dir, id);
}

static void ok(struct err *e)
{
	autofree char *line = e ? err_line(e) : NULL;

	if (e)
		fail_msg("%s", line);
}

static void fails(struct err *err, enum err_code code)
{
	autoerr struct err *e = err;

	assert_non_null(e);
	assert_int_equal(err_code(e), code);
}

static void the_last_record_counts(unused_arg void **state)
{
	AUTO(journal_close) struct journal w = JOURNAL_NONE, r = JOURNAL_NONE;
	struct journal_record first = record("one");

	ok(journal_create(dir, &first, &w));
	fails(journal_open(dir, "one", false, &r), ERR_LIMIT); /* its writer lives */
	assert_true(journal_peek(dir, "one", false, &first));
	assert_int_equal(first.mark, MARK_INTENT);
	assert_false(journal_peek(dir, "one", true, &first));
	ok(journal_add(&w, MARK_COMMIT));
	ok(journal_sync(&w));
	journal_close(&w);
	ok(journal_open(dir, "one", false, &r));
	assert_int_equal(r.last.mark, MARK_COMMIT);
	assert_int_equal(r.last.seq, 2);
	assert_int_equal(r.last.pid, 4242);
	assert_string_equal(r.last.id, "one");
	ok(journal_add(&r, MARK_MOVED));
	journal_remove(&r);
	ok(journal_open(dir, "one", false, &r));
	assert_int_equal(r.fd, -1);
}

static void an_id_is_used_once(unused_arg void **state)
{
	AUTO(journal_close) struct journal one = JOURNAL_NONE, two = JOURNAL_NONE;
	struct journal_record first = record("twice");

	ok(journal_create(dir, &first, &one));
	fails(journal_create(dir, &first, &two), ERR_INVALID);
	first.destination = 1; /* a host that sends to itself */
	ok(journal_create(dir, &first, &two));
}

/* Cut or damaged anywhere in the second record, the first one counts; in the first one, none. */
static void records_that_are_not_whole(unused_arg void **state)
{
	AUTO(journal_close) struct journal w = JOURNAL_NONE;
	struct journal_record first = record("torn"), last;
	uint8_t bytes[2 * JOURNAL_RECORD_BYTES], bad[sizeof(bytes)];

	ok(journal_create(dir, &first, &w));
	ok(journal_add(&w, MARK_COMMIT));
	assert_int_equal(pread(w.fd, bytes, sizeof(bytes), 0), sizeof(bytes));
	for (size_t len = 0; len <= sizeof(bytes); len++) {
		bool any = journal_last(bytes, len, &last);

		assert_int_equal(any, len >= JOURNAL_RECORD_BYTES);
		assert_true(!any || last.seq == len / JOURNAL_RECORD_BYTES);
	}
	for (size_t at = 0; at < sizeof(bytes); at++) {
		memcpy(bad, bytes, sizeof(bytes));
		bad[at] ^= 0x40;
		assert_int_equal(journal_last(bad, sizeof(bad), &last), at >= JOURNAL_RECORD_BYTES);
		assert_true(at < JOURNAL_RECORD_BYTES || last.mark == MARK_INTENT);
	}
	/* One that lies behind a gap is not believed. */
	memcpy(bad, bytes, sizeof(bytes));
	memset(bad, 0, JOURNAL_RECORD_BYTES);
	assert_false(journal_last(bad, sizeof(bad), &last));
}

/* It had its first record on the disk before it had its name. */
static void damage_is_no_end_of_it(unused_arg void **state)
{
	AUTO(journal_close) struct journal j = JOURNAL_NONE;
	char path[TMP_BYTES + 64];
	autoclose int fd = -1;

	path_of("empty", path, sizeof(path));
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && ftruncate(fd, 4096) == 0);
	fails(journal_open(dir, "empty", false, &j), ERR_INVALID);
	assert_int_equal(j.fd, -1);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(unlink(path), 0);
	/* One that was never given its name goes. */
	strcat(path, ".new");
	assert_int_equal(close(creat(path, 0600)), 0);
	ok(journal_open(dir, "empty", false, &j));
	assert_int_equal(j.fd, -1);
	assert_int_equal(access(path, F_OK), -1);
}

/* Whatever is done to the clock of the day, meanwhile or before. */
static void an_age_is_that_of_the_boot(unused_arg void **state)
{
	enum { DAY = 86400 };
	AUTO(journal_close) struct journal j = JOURNAL_NONE;
	struct journal_record first = record("aged"), r;

	ok(journal_create(dir, &first, &j));
	r = j.last;
	assert_in_range(journal_age_most_s(&r, "boot"), 0, 60);
	/* Written before the clock was set: it is young, for who would forget it. */
	r.written_s = 100;
	assert_in_range(journal_age_least_s(&r, "boot"), 0, 60);
	assert_true(journal_age_most_s(&r, "boot") > 365 * DAY);
	assert_int_equal(journal_age_least_s(&r, "another"), 0);
	/* The clock was set back: it is as old as it is, for who would believe it. */
	r = j.last;
	r.written_s += 400 * DAY;
	r.written_up_s -= 40 * DAY;
	assert_in_range(journal_age_most_s(&r, "boot"), 40 * DAY, 41 * DAY);
	/* In another boot there is nothing else to go by. */
	r = j.last;
	r.written_s -= 40 * DAY;
	assert_in_range(journal_age_least_s(&r, "another"), 40 * DAY, 41 * DAY);
}

static bool names_has(const char *id)
{
	autoarena struct arena *a = arena_new();
	struct journal_name *names;
	size_t n;

	ok(journal_names(a, dir, &names, &n));
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i].id, id) == 0 && !names[i].destination)
			return true;
	return false;
}

/* Its writer dies at once; the lock dies with it, what it wrote does not. */
static void survives_its_writer(unused_arg void **state)
{
	AUTO(journal_close) struct journal j = JOURNAL_NONE;
	struct journal_record first = record("killed");
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (journal_create(dir, &first, &j) || journal_add(&j, MARK_COMMIT))
			_exit(1);
		abort();
	}
	assert_true(pid > 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	assert_true(names_has("killed"));
	ok(journal_open(dir, "killed", false, &j));
	assert_int_equal(j.last.mark, MARK_COMMIT);
}

static void a_full_journal_takes_no_more(unused_arg void **state)
{
	AUTO(journal_close) struct journal j = JOURNAL_NONE;
	struct journal_record first = record("full");

	ok(journal_create(dir, &first, &j));
	for (int i = 1; i < JOURNAL_RECORDS_MAX; i++)
		ok(journal_add(&j, MARK_COMMIT));
	fails(journal_add(&j, MARK_MOVED), ERR_BUG);
}

static void what_is_to_be_undone(unused_arg void **state)
{
	AUTO(journal_close) struct journal j = JOURNAL_NONE;
	autoarena struct arena *a = arena_new();
	struct journal_record first = record("undo");
	const struct journal_name name = { "undo", false };
	struct journal_list list;

	ok(journal_create(dir, &first, &j));
	assert_false(journal_has_aside(&j, ASIDE_UNDO));
	ok(journal_get_aside(a, dir, &name, ASIDE_UNDO, &list));
	assert_null(list.v);
	ok(journal_put_aside(&j, ASIDE_UNDO, (const uint8_t *)"a\0b", 3));
	assert_true(journal_has_aside(&j, ASIDE_UNDO));
	ok(journal_get_aside(a, dir, &name, ASIDE_UNDO, &list));
	assert_int_equal(list.len, 3);
	assert_memory_equal(list.v, "a\0b", 3);
	journal_drop_aside(dir, "undo", false, ASIDE_UNDO);
	assert_false(journal_has_aside(&j, ASIDE_UNDO));
	ok(journal_put_aside(&j, ASIDE_UNDO, (const uint8_t *)"a", 1));
	journal_remove(&j);
	ok(journal_get_aside(a, dir, &name, ASIDE_UNDO, &list));
	assert_null(list.v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_record_counts),
		cmocka_unit_test(an_id_is_used_once),
		cmocka_unit_test(records_that_are_not_whole),
		cmocka_unit_test(damage_is_no_end_of_it),
		cmocka_unit_test(an_age_is_that_of_the_boot),
		cmocka_unit_test(survives_its_writer),
		cmocka_unit_test(a_full_journal_takes_no_more),
		cmocka_unit_test(what_is_to_be_undone),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
