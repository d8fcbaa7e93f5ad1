// SPDX-License-Identifier: Apache-2.0
/* A frozen group holds a process through our death and through SIGCONT. */
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "kernel/freezer.h"
#include "kernel/remote.h"
#include "tests/kernel/check.h"
#include "tests/kernel/ns.h"

static char *group_name(void)
{
	static char name[64];

	snprintf(name, sizeof(name), "migrated-test-%llx", (unsigned long long)clock_real_ns());
	return name;
}

static pid_t counter(volatile uint64_t *n)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			++*n;
	}
	return pid;
}

static bool stands(volatile uint64_t *n)
{
	uint64_t before = *n;

	usleep(20000);
	return *n == before;
}

static void test_hold_by_group(void **state)
{
	volatile uint64_t *n =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid = counter(n), tracer;
	char *parent, *now;
	struct freezer f;
	struct err *e;

	(void)state;
	e = freezer_current(pid, &parent);
	if (e && err_code(e) == ERR_UNSUPPORTED) {
		err_free(e);
		skip();
	}
	ok(e);
	ok(freezer_make(parent, group_name(), &f));
	ok(freezer_find(strrchr(f.dir, '/') + 1, &now));
	assert_string_equal(now, f.dir);
	free(now);
	tracer = fork();
	if (tracer == 0) { /* held by ptrace when it is frozen; then we die */
		struct task *t;

		if (task_open(pid, &t) || task_hold(t, deadline_in(60000000)) ||
			freezer_join(&f, pid) || freezer_set(&f, true, true))
			_exit(1);
		_exit(0);
	}
	assert_int_equal(waitpid(tracer, NULL, 0), tracer);
	assert_true(stands(n));
	kill_one(pid, SIGCONT);
	assert_true(stands(n));
	ok(freezer_set(&f, false, true));
	assert_false(stands(n));
	/* the child that joined knew where home is, we have to say it */
	f.home = strdup(parent);
	ok(freezer_undo(&f, pid));
	ok(freezer_current(pid, &now));
	assert_string_equal(now, parent);
	assert_int_equal(access(f.dir, F_OK), -1);
	free(now);
	ok(freezer_find(strrchr(f.dir, '/') + 1, &now));
	assert_null(now);
	free(parent);
	freezer_fini(&f);
	kill_one(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Whoever the group was made for has ended: the others go home, and we stay where we are. */
static void test_undo_without_it(void **state)
{
	volatile uint64_t *n =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid = counter(n);
	char *parent, *ours, *now;
	struct freezer f, home;
	struct err *e;

	(void)state;
	e = freezer_current(pid, &parent);
	if (e && err_code(e) == ERR_UNSUPPORTED) {
		err_free(e);
		skip();
	}
	ok(e);
	ok(freezer_current(getpid(), &ours));
	ok(freezer_make(parent, "freezer-test-home", &home));
	ok(freezer_join(&home, pid));
	ok(freezer_make(home.dir, group_name(), &f));
	ok(freezer_join(&f, pid));
	ok(freezer_undo(&f, 0));
	ok(freezer_current(pid, &now));
	assert_string_equal(now, home.dir);
	free(now);
	ok(freezer_current(getpid(), &now));
	assert_string_equal(now, ours);
	free(now);
	kill_one(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ok(freezer_remove(&home));
	freezer_fini(&f);
	freezer_fini(&home);
	free(ours);
	free(parent);
}

static void make_below(const char *dir, const char *name, char path[512])
{
	assert_true(snprintf(path, 512, "%s/%s", dir, name) < 512);
	assert_int_equal(mkdir(path, 0755), 0);
}

/* Somebody makes groups below ours, and moves the process into one of them: it goes home all the
 * same, and they go with ours. */
static void test_groups_below(void **state)
{
	volatile uint64_t *n =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid = counter(n);
	char *parent, *now, below[512], deep[512];
	struct freezer f, foreign;
	struct err *e;

	(void)state;
	e = freezer_current(pid, &parent);
	if (e && err_code(e) == ERR_UNSUPPORTED) {
		err_free(e);
		skip();
	}
	ok(e);
	ok(freezer_make(parent, group_name(), &f));
	ok(freezer_join(&f, pid));
	ok(freezer_set(&f, true, true));
	make_below(f.dir, "empty", below);
	make_below(f.dir, "used", below);
	make_below(below, "deep", deep);
	foreign = (struct freezer){ .dir = deep };
	ok(freezer_join(&foreign, pid));
	free(foreign.home);
	assert_true(stands(n));
	ok(freezer_undo(&f, 0));
	ok(freezer_current(pid, &now));
	assert_string_equal(now, parent);
	free(now);
	assert_false(stands(n));
	assert_int_equal(access(f.dir, F_OK), -1);
	free(parent);
	freezer_fini(&f);
	kill_one(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* A group that holds nobody, or more than its process, is noticed; all of them go home. */
static void test_who_is_in_it(void **state)
{
	volatile uint64_t *n =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid = counter(n), other = counter(n);
	char *parent, *now;
	struct freezer f;
	struct err *e;

	(void)state;
	e = freezer_current(pid, &parent);
	if (e && err_code(e) == ERR_UNSUPPORTED) {
		err_free(e);
		skip();
	}
	ok(e);
	ok(freezer_make(parent, group_name(), &f));
	e = freezer_check(&f, &(struct pids){ .v = (pid_t[]){ pid }, .n = 1 });
	assert_non_null(e);
	err_free(e);
	ok(freezer_join(&f, pid));
	ok(freezer_check(&f, &(struct pids){ .v = (pid_t[]){ pid }, .n = 1 }));
	ok(freezer_join(&f, other));
	e = freezer_check(&f, &(struct pids){ .v = (pid_t[]){ pid }, .n = 1 });
	assert_non_null(e);
	err_free(e);
	ok(freezer_set(&f, true, true));
	ok(freezer_undo(&f, pid));
	ok(freezer_current(other, &now));
	assert_string_equal(now, parent);
	free(now);
	freezer_fini(&f);
	/* A home that takes nobody is no reason to stand. */
	ok(freezer_make(parent, group_name(), &f));
	ok(freezer_join(&f, pid));
	ok(freezer_set(&f, true, true));
	kill_one(other, SIGKILL);
	waitpid(other, NULL, 0);
	free(f.home);
	f.home = strdup("/nowhere");
	e = freezer_undo(&f, pid);
	assert_non_null(e);
	err_free(e);
	assert_false(stands(n));
	free(f.home);
	f.home = parent;
	ok(freezer_undo(&f, pid));
	freezer_fini(&f);
	kill_one(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void test_seedling_born_in_group(void **state)
{
	struct freezer f;
	struct seedling_spec spec = { .pid = 5000 };
	char *root, *now;
	struct task *t;
	struct err *e = freezer_root(&root);

	(void)state;
	if (e && err_code(e) == ERR_UNSUPPORTED) {
		err_free(e);
		skip();
	}
	ok(e);
	ok(freezer_make(root, group_name(), &f));
	spec.cgroup_dir = f.dir;
	ok(seedling_make(&spec, &t));
	ok(freezer_current(5000, &now));
	assert_string_equal(now, f.dir);
	ok(REMOTE(t, task_leader(t), NULL, "getpid", 39, 0));
	ok(freezer_set(&f, true, false));
	ok(seedling_release(t));
	ok(task_let_go(t));
	ok(freezer_set(&f, true, true));
	ok(task_kill(t));
	ok(task_wait_end(t, deadline_in(60000000)));
	task_free(t);
	ok(freezer_undo(&f, 5000));
	freezer_fini(&f);
	free(root);
	free(now);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hold_by_group),
		cmocka_unit_test(test_undo_without_it),
		cmocka_unit_test(test_groups_below),
		cmocka_unit_test(test_who_is_in_it),
		cmocka_unit_test(test_seedling_born_in_group),
	};

	ns_enter();
	alarm(600);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
