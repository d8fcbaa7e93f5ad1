// SPDX-License-Identifier: Apache-2.0
/* Trees are found and held whole, also those that change all the time. */
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/tree.h"
#include "tests/kernel/check.h"
#include "tests/kernel/ns.h"

#define DEADLINE deadline_in(60000000)

__attribute__((noreturn)) static void sleep_for_ever(void)
{
	for (;;)
		pause();
}

/* In a process of its own, which ends with us. */
static pid_t start(void (*body)(void))
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		body();
		_exit(0);
	}
	return pid;
}

/* Children may be left: they are killed, too. */
static void end(struct tree *t)
{
	pid_t root = t->v[0]->pid;

	for (size_t i = 0; i < t->n; i++)
		err_free(task_kill(t->v[i]));
	tree_fini(t);
	waitpid(root, NULL, 0);
}

static void expect_state(const struct tree *t, char want)
{
	for (size_t i = 0; i < t->n; i++) {
		autoarena struct arena *a = arena_new();
		struct proc_stat st;

		ok(proc_stat(a, t->v[i]->pid, 0, &st));
		if ((st.state == 't') != (want == 't'))
			fail_msg("process %d is in state %c", t->v[i]->pid, st.state);
	}
}

static volatile pid_t *shared;

static void family(void)
{
	for (int i = 0; i < 3; i++) {
		if (fork())
			continue;
		if (i == 1 && fork() == 0)
			sleep_for_ever();
		sleep_for_ever();
	}
	if (fork() == 0)
		_exit(42);
	usleep(50000);
	*shared = getpid();
	sleep_for_ever();
}

static void test_family(void **state)
{
	struct tree t;
	pid_t pid;

	(void)state;
	*shared = 0;
	pid = start(family);
	while (!*shared)
		usleep(1000);
	ok(tree_open(pid, &t));
	for (int i = 0; i < 20; i++) {
		ok(tree_hold(&t, DEADLINE));
		assert_int_equal(t.n, 5);
		assert_int_equal(t.parents[0], 0);
		for (size_t k = 1; k < t.n; k++)
			assert_non_null(tree_task(&t, t.parents[k]));
		assert_int_equal(t.n_zombies, 1);
		assert_int_equal(WEXITSTATUS(t.zombies[0].stat.exit_code), 42);
		expect_state(&t, 't');
		ok(tree_hold(&t, DEADLINE)); /* again: nothing happens */
		ok(tree_let_go(&t));
		expect_state(&t, 'S');
	}
	assert_int_equal(t.n_gone, 0);
	end(&t);
}

/* Each child ends at once or makes another one first; what is held at any time is all there is. */
static void breeder(void)
{
	for (;;) {
		pid_t pid = fork();

		if (pid == 0) {
			if (fork() == 0)
				_exit(0);
			while (waitpid(-1, NULL, 0) > 0)
				;
			_exit(0);
		}
		waitpid(pid, NULL, 0);
	}
}

static void test_breeder(void **state)
{
	struct tree t;
	pid_t pid = start(breeder);
	size_t most = 0;

	(void)state;
	ok(tree_open(pid, &t));
	for (int i = 0; i < 100; i++) {
		autoarena struct arena *a = arena_new();
		size_t n = 0;
		pid_t *children;

		ok(tree_hold(&t, DEADLINE));
		most = MAX(most, t.n);
		expect_state(&t, 't');
		for (size_t k = 0; k < t.n; k++) {
			size_t of;

			ok(proc_children(a, t.v[k]->pid, &children, &of));
			n += of;
		}
		assert_int_equal(n, t.n - 1 + t.n_zombies);
		ok(tree_let_go(&t));
		usleep(300);
	}
	assert_true(most > 1);
	end(&t);
}

/* vfork's parent cannot be held before its child has gone on. */
static void vforker(void)
{
	for (;;) {
		pid_t pid = vfork();

		if (pid == 0) {
			usleep(120000);
			_exit(0);
		}
		*shared = *shared + 1;
		waitpid(pid, NULL, 0);
	}
}

static void test_vfork(void **state)
{
	struct tree t;
	pid_t pid, before;

	(void)state;
	*shared = 0;
	pid = start(vforker);
	ok(tree_open(pid, &t));
	for (int i = 0; i < 3; i++) {
		usleep(30000);
		ok(tree_hold(&t, DEADLINE));
		expect_state(&t, 't');
		ok(tree_let_go(&t));
	}
	before = *shared;
	for (int i = 0; i < 1000 && *shared < before + 2; i++)
		usleep(10000);
	assert_true(*shared >= before + 2);
	end(&t);
}

static void left_alone(void)
{
	if (fork() == 0) {
		shared[1] = fork();
		if (shared[1] == 0)
			sleep_for_ever();
		*shared = getpid();
		sleep_for_ever();
	}
	signal(SIGCHLD, SIG_IGN);
	sleep_for_ever();
}

/* Whose parent has ended is init's child; a subreaper above it keeps it. */
static void test_orphan(void **state)
{
	struct tree t;
	pid_t pid;

	(void)state;
	shared[0] = shared[1] = 0;
	pid = start(left_alone);
	while (!*shared)
		usleep(1000);
	ok(tree_open(pid, &t));
	ok(tree_hold(&t, DEADLINE));
	assert_int_equal(t.n, 3);
	ok(tree_let_go(&t));
	kill_one(*shared, SIGKILL);
	usleep(50000);
	ok(tree_hold(&t, DEADLINE));
	assert_int_equal(t.n, 1);
	assert_int_equal(t.n_gone, 2);
	ok(tree_let_go(&t));
	kill_one(shared[1], SIGKILL);
	end(&t);
}

static void test_ourselves(void **state)
{
	struct tree t;

	(void)state;
	ok(tree_open(getppid(), &t));
	fails(tree_look(&t), ERR_UNSUPPORTED);
	tree_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_family),
		cmocka_unit_test(test_breeder),
		cmocka_unit_test(test_vfork),
		cmocka_unit_test(test_orphan),
		cmocka_unit_test(test_ourselves),
	};

	ns_enter();
	alarm(600);
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
