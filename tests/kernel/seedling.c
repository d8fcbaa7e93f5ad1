// SPDX-License-Identifier: Apache-2.0
/* Making a process from nothing: what it inherits, its address space, descriptors, threads. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <time.h>

#include "base/io.h"
#include "base/text.h"
#include "kernel/proc.h"
#include "kernel/remote.h"
#include "tests/kernel/check.h"
#include "tests/kernel/ns.h"

#define PID  5000
#define HOUR 3600000000000LL
#define FDS  300

static struct task *make(pid_t pid)
{
	const struct seedling_spec spec = {
		.pid = pid, .monotonic_offset_ns = 5 * HOUR + 7, .boottime_offset_ns = -1
	};
	struct task *t;

	ok(seedling_make(&spec, &t));
	return t;
}

static struct seedling_vdso vdso_of(pid_t pid)
{
	autoarena struct arena *a = arena_new();
	struct seedling_vdso v = { 0 };
	struct vma_list maps;

	ok(proc_maps(a, pid, &maps));
	for (size_t i = 0; i < maps.n; i++) {
		const struct vma *m = &maps.v[i];

		if (strcmp(m->path, "[vdso]") == 0)
			v.vdso = m->start, v.vdso_len = m->end - m->start;
		if (strcmp(m->path, "[vvar]") == 0)
			v.vvar = m->start, v.vvar_len = m->end - m->start;
		if (strcmp(m->path, "[vvar_vclock]") == 0)
			v.vvar_vclock = m->start, v.vvar_vclock_len = m->end - m->start;
	}
	return v;
}

static size_t count_maps(pid_t pid)
{
	autoarena struct arena *a = arena_new();
	struct vma_list maps;
	size_t n = 0;

	ok(proc_maps(a, pid, &maps));
	for (size_t i = 0; i < maps.n; i++)
		n += strcmp(maps.v[i].path, "[vsyscall]") != 0;
	return n;
}

static int64_t clock_there(struct task *t, int clock)
{
	struct timespec ts;

	ok(REMOTE(t, task_leader(t), NULL, "clock_gettime", SYS_clock_gettime, (uint64_t)clock,
		remote_scratch(t).v));
	ok(remote_get(t, 0, &ts, sizeof(ts)));
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void near(int64_t a, int64_t b)
{
	if (a - b > 200000000 || b - a > 200000000)
		fail_msg("%lld is not near %lld", (long long)a, (long long)b);
}

static int64_t clock_here(int clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void test_inherits_nothing(void **state)
{
	autoarena struct arena *a = arena_new();
	int before = open("/dev/null", O_RDONLY);
	struct proc_status st;
	struct proc_stat stat;
	int *fds;
	size_t n;
	autotask struct task *t = NULL;

	(void)state;
	signal(SIGUSR1, SIG_IGN);
	t = make(PID);
	signal(SIGUSR1, SIG_DFL);
	ok(proc_status(a, PID, 0, &st));
	ok(proc_stat(a, PID, 0, &stat));
	assert_int_equal(stat.ppid, 1);
	assert_int_equal(stat.sid, PID);
	assert_int_equal(stat.pgrp, PID);
	assert_int_equal(st.sig_ignored, 0);
	assert_int_equal(st.sig_caught, 0);
	assert_int_equal(t->start_time, stat.start_time);
	ok(proc_fds(a, PID, &fds, &n));
	assert_int_equal(n, 1);
	near(clock_there(t, CLOCK_MONOTONIC), clock_here(CLOCK_MONOTONIC) + 5 * HOUR);
	near(clock_there(t, CLOCK_BOOTTIME), clock_here(CLOCK_BOOTTIME));
	close(before);
}

static void try_clear(const char *what, int64_t vdso_moves, uint64_t vdso_at)
{
	struct seedling_vdso want;
	struct seedling_vdso got;
	struct task *t = make(PID);
	int64_t pid;

	want = vdso_of(PID);
	if (vdso_at)
		vdso_moves = (int64_t)(vdso_at - want.vdso);
	want.vdso += (uint64_t)vdso_moves;
	want.vvar += (uint64_t)vdso_moves;
	if (want.vvar_vclock_len)
		want.vvar_vclock += (uint64_t)vdso_moves;
	print_message("  %s\n", what);
	ok(seedling_clear(t, &want));
	got = vdso_of(PID);
	assert_memory_equal(&got, &want, sizeof(got));
	assert_int_equal(count_maps(PID), 2 + 2 + (want.vvar_vclock_len != 0));
	ok(REMOTE(t, task_leader(t), &pid, "getpid", SYS_getpid, 0));
	assert_int_equal(pid, PID);
	ok(seedling_move_area(t, 0x20000000));
	ok(REMOTE(t, task_leader(t), &pid, "getpid", SYS_getpid, 0));
	ok(seedling_seal(t));
	assert_int_equal(count_maps(PID), 2 + (want.vvar_vclock_len != 0));
	ok(REMOTE(t, task_leader(t), &pid, "getpid", SYS_getpid, 0));
	assert_int_equal(pid, PID);
	task_free(t);
	assert_int_equal(access("/proc/5000", F_OK), -1);
}

static void test_clear(void **state)
{
	(void)state;
	try_clear("in place", 0, 0);
	try_clear("one page up", 4096, 0);
	try_clear("one page down", -4096, 0);
	try_clear("far away", 0, 0x7f0000000000);
	try_clear("where the area is", 0, 0x100000004000);
}

static void test_clear_mismatch(void **state)
{
	autotask struct task *t = make(PID);
	struct seedling_vdso want = vdso_of(PID);
	struct err *e;

	(void)state;
	want.vdso_len += 4096;
	e = seedling_clear(t, &want);
	assert_int_equal(err_code(e), ERR_MISMATCH);
	err_free(e);
}

static void check_fd(struct task *t, int number, unsigned count, bool cloexec)
{
	autoarena struct arena *a = arena_new();
	uint64_t flags, value;
	char *text;

	ok(proc_fdinfo(a, t->pid, number, &text));
	ok(fdinfo_u64(text, "flags", 8, &flags));
	ok(fdinfo_u64(text, "eventfd-count", 16, &value));
	assert_int_equal(value, count);
	assert_int_equal((flags & O_CLOEXEC) != 0, cloexec);
}

static void install(struct task *t, unsigned seed, unsigned first)
{
	int fds[FDS], numbers[FDS], at = 0;
	bool cloexec[FDS];

	for (int i = 0; i < FDS; i++) {
		at += rand_r(&seed) % 4 == 0 ? rand_r(&seed) % 5 : 0;
		fds[i] = eventfd(first + (unsigned)i, EFD_CLOEXEC);
		assert_true(fds[i] >= 0);
		numbers[i] = at++;
		cloexec[i] = rand_r(&seed) % 2;
	}
	ok(seedling_install(t, fds, numbers, cloexec, FDS));
	for (int i = 0; i < FDS; i++) {
		check_fd(t, numbers[i], first + (unsigned)i, cloexec[i]);
		close(fds[i]);
	}
}

static void test_install(void **state)
{
	autotask struct task *t = make(PID);
	autoarena struct arena *a = arena_new();
	int *fds;
	size_t n;

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		install(t, i, i * 1000);
	ok(seedling_reserve(t, 900));
	install(t, 9, 9000);
	ok(seedling_seal(t));
	ok(proc_fds(a, PID, &fds, &n));
	assert_in_range(n, FDS, 2 * FDS);
	assert_true(fds[n - 1] < 900);
}

static void install_one(struct task *t, int number, unsigned count)
{
	const bool cloexec = false;
	int fd = eventfd(count, EFD_CLOEXEC);

	ok(seedling_install(t, &fd, &number, &cloexec, 1));
	close(fd);
	check_fd(t, number, count, false);
}

/* The process opens more between two looks: its numbers may be where our socket is. */
static void test_own_socket(void **state)
{
	autotask struct task *t = make(PID);
	int all[64];

	(void)state;
	for (int i = 0; i < 64; i++)
		all[i] = i;
	ok(seedling_reserve(t, 9)); /* it is at 10 */
	install_one(t, 12, 112);
	install_one(t, 10, 110);
	install_one(t, 11, 111); /* it must leave 11, but not to 12 */
	check_fd(t, 10, 110, false);
	check_fd(t, 12, 112, false);
	ok(seedling_close(t, all, 64)); /* those of the process */
	install_one(t, 13, 113);
	ok(seedling_seal(t));
}

static void check_lent(struct task *t, unsigned long first)
{
	for (unsigned i = 0; i < SEEDLING_LENT_MAX; i++)
		check_fd(t, seedling_lent(t, i), first + i, true);
}

/* What is lent stays what it is, wherever it must go, and is no descriptor of the process's. */
static void test_lend(void **state)
{
	autotask struct task *t = make(PID);
	autoarena struct arena *a = arena_new();
	int *fds, ours[SEEDLING_LENT_MAX], all[2000];
	size_t n;

	(void)state;
	install(t, 1, 1000);
	for (unsigned i = 0; i < SEEDLING_LENT_MAX; i++) {
		ours[i] = eventfd(77 + i, EFD_CLOEXEC);
		ok(seedling_lend(t, i, ours[i]));
	}
	fails(seedling_lend(t, 0, ours[0]), ERR_BUG);
	fails(seedling_lend(t, SEEDLING_LENT_MAX, ours[0]), ERR_BUG);
	check_lent(t, 77);
	for (unsigned i = 2; i < 6; i++) {
		install(t, i, i * 1000);
		check_lent(t, 77);
	}
	ok(seedling_reserve(t, 900));
	assert_true(seedling_lent(t, 0) > 900 && seedling_lent(t, 1) > 900);
	check_lent(t, 77);
	for (int i = 0; i < 2000; i++)
		all[i] = i;
	ok(seedling_close(t, all, 2000)); /* those of the process */
	check_lent(t, 77);
	install(t, 7, 7000);
	ok(seedling_take_back(t));
	ok(seedling_take_back(t));
	assert_int_equal(seedling_lent(t, 0), -1);
	ok(seedling_lend(t, 0, ours[1]));
	ok(seedling_seal(t));
	ok(proc_fds(a, PID, &fds, &n));
	assert_true(fds[n - 1] < 900);
	for (unsigned i = 0; i < SEEDLING_LENT_MAX; i++)
		close(ours[i]);
}

/* Calls that are not waited for: one batch at a time, and their results are theirs. */
static void test_start(void **state)
{
	autotask struct task *t = make(PID);
	struct call calls[] = { { .nr = SYS_getpid }, { .nr = SYS_close, .args = { 12345 } } };

	(void)state;
	for (int i = 0; i < 50; i++) {
		calls[0].ret = calls[1].ret = 0;
		ok(remote_start(t, task_leader(t), calls, ARRAY_LEN(calls)));
		if (i % 2)
			fails(remote_run(t, task_leader(t), calls, 1), ERR_BUG);
		ok(remote_collect(t, calls, ARRAY_LEN(calls)));
		assert_int_equal(calls[0].ret, PID);
		assert_int_equal(calls[1].ret, -EBADF);
		ok(remote_run(t, task_leader(t), calls, 1));
	}
	fails(remote_collect(t, calls, 1), ERR_BUG);
	/* it ends meanwhile */
	calls[0] = (struct call){ .nr = SYS_exit_group };
	ok(remote_start(t, task_leader(t), calls, 1));
	fails(remote_collect(t, calls, 1), ERR_GONE);
}

static void test_threads(void **state)
{
	autotask struct task *t = make(PID);
	struct thread *th;
	struct err *e;

	(void)state;
	for (pid_t tid = PID + 1; tid <= PID + 40; tid++) {
		ok(seedling_thread(t, tid, &th));
		assert_int_equal(th->tid, tid);
		assert_true(th->fresh);
	}
	assert_int_equal(t->n_threads, 41);
	for (pid_t tid = PID + 40; tid > PID + 20; tid--)
		ok(seedling_thread_end(t, tid));
	assert_int_equal(t->n_threads, 21);
	for (size_t i = 0; i < t->n_threads; i++) {
		struct call c[2] = { { .nr = SYS_gettid }, { .nr = SYS_getpid } };

		ok(remote_run(t, t->threads[i], c, 2));
		assert_int_equal(c[0].ret, t->threads[i]->tid);
		assert_int_equal(c[1].ret, PID);
	}
	e = seedling_thread(t, PID + 1, &th);
	assert_int_equal(err_code(e), ERR_LIMIT);
	err_free(e);
	ok(seedling_seal(t));
	for (size_t i = 0; i < t->n_threads; i++) {
		struct call c = { .nr = SYS_gettid };

		ok(remote_run(t, t->threads[i], &c, 1));
		assert_int_equal(c.ret, t->threads[i]->tid);
	}
	ok(seedling_thread_end(t, PID + 1));
}

static void test_taken(void **state)
{
	const struct seedling_spec spec = { .pid = getpid() }, high = { .pid = 99999999 };
	struct task *t = NULL;
	struct err *e = seedling_make(&spec, &t);
	char *line = err_line(e);

	(void)state;
	assert_int_equal(err_code(e), ERR_LIMIT);
	assert_non_null(strstr(line, "kernel-seedling"));
	free(line);
	err_free(e);
	e = seedling_make(&high, &t);
	assert_int_equal(err_code(e), ERR_LIMIT);
	err_free(e);
}

/* Pending signals of the numbers that end batches stay pending. */
static void test_pending(void **state)
{
	autotask struct task *t = make(PID);
	struct thread *leader = task_leader(t);
	const int signals[] = { SIGURG, SIGWINCH };
	autoarena struct arena *a = arena_new();
	struct proc_status st;
	int64_t pid;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		siginfo_t info = { .si_signo = signals[i], .si_code = SI_QUEUE };

		ok(remote_put(t, 0, &info, sizeof(info)));
		ok(REMOTE(t, leader, NULL, "queue a signal", SYS_rt_tgsigqueueinfo, PID, PID,
			(uint64_t)signals[i], remote_scratch(t).v));
		for (int k = 0; k < 50; k++) {
			ok(REMOTE(t, leader, &pid, "getpid", SYS_getpid, 0));
			assert_int_equal(pid, PID);
		}
	}
	ok(proc_status(a, PID, 0, &st));
	assert_int_equal(st.sig_pending, 1ULL << (SIGURG - 1) | 1ULL << (SIGWINCH - 1));
	assert_int_equal(st.sig_shared_pending, 0);
}

/* getpid(); if it is 5000: write a byte to descriptor 7; exit(0) */
static const uint8_t program[] = { 0xb8, 0x27, 0, 0, 0, 0x0f, 0x05, 0x3d, 0x88, 0x13, 0, 0, 0x75,
	0x18, 0xb8, 1, 0, 0, 0, 0xbf, 7, 0, 0, 0, 0x48, 0x8d, 0x35, 0, 0, 0, 0, 0xba, 1, 0, 0, 0,
	0x0f, 0x05, 0xb8, 60, 0, 0, 0, 0xbf, 0, 0, 0, 0, 0x0f, 0x05 };
#define AFTER_GETPID 7

/* A seedling with the program at the end of its making; its pipe says whether it ran as it should.
 */
static void let_go(bool interrupted)
{
	struct seedling_vdso want;
	struct task *t = make(PID);
	struct user_regs_struct *r;
	int p[2], number = 7;
	bool cloexec = false;
	int64_t at;
	char c;

	assert_int_equal(pipe(p), 0);
	want = vdso_of(PID);
	ok(seedling_clear(t, &want));
	ok(seedling_install(t, &p[1], &number, &cloexec, 1));
	close(p[1]);
	ok(REMOTE(t, task_leader(t), &at, "mmap", SYS_mmap, 0x400000, 4096, PROT_READ | PROT_EXEC,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, (uint64_t)-1, 0));
	ok(task_write(t, (uint64_t)at, program, sizeof(program)));
	ok(seedling_seal(t));
	r = (struct user_regs_struct *)(void *)task_leader(t)->state.regs;
	r->rip = (uint64_t)at + (interrupted ? AFTER_GETPID : 0);
	r->rax = interrupted ? (uint64_t)-512 : 0;
	r->orig_rax = interrupted ? SYS_getpid : (uint64_t)-1;
	ok(seedling_release(t));
	ok(task_let_go(t));
	assert_int_equal(read(p[0], &c, 1), 1);
	assert_int_equal(read(p[0], &c, 1), 0);
	ok(task_wait_end(t, deadline_in(60000000)));
	task_free(t);
	close(p[0]);
}

static void test_let_go(void **state)
{
	(void)state;
	let_go(false);
}

/* The kernel makes an interrupted call again in the new process. */
static void test_restart(void **state)
{
	(void)state;
	let_go(true);
}

static void test_dies_with_us(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++) {
		int ready[2];
		char c;
		pid_t worker;

		assert_int_equal(pipe(ready), 0);
		worker = fork();
		if (worker == 0) {
			const struct seedling_spec spec = { .pid = PID };
			struct task *t;
			struct thread *th;

			if (seedling_make(&spec, &t) || seedling_thread(t, PID + 1, &th) ||
				write(ready[1], "x", 1) != 1)
				_exit(1);
			for (;;)
				pause();
		}
		close(ready[1]);
		assert_int_equal(read(ready[0], &c, 1), 1);
		close(ready[0]);
		assert_int_equal(access("/proc/5000", F_OK), 0);
		kill_one(worker, SIGKILL);
		waitpid(worker, NULL, 0);
		for (int k = 0; k < 200 && access("/proc/5000", F_OK) == 0; k++)
			usleep(5000);
		assert_int_equal(access("/proc/5000", F_OK), -1);
	}
}

static void test_bench(void **state)
{
	int64_t made = clock_us(), threads, single;
	struct task *t = make(PID);
	struct thread *th;

	(void)state;
	made = clock_us() - made;
	threads = clock_us();
	for (pid_t tid = PID + 1; tid <= PID + 100; tid++)
		ok(seedling_thread(t, tid, &th));
	threads = clock_us() - threads;
	ok(seedling_seal(t));
	single = clock_us();
	for (int i = 0; i < 1000; i++)
		ok(REMOTE(t, task_leader(t), NULL, "getpid", SYS_getpid, 0));
	single = clock_us() - single;
	print_message("made in %lld us, a thread in %.1f us, a single call %.1f us\n",
		(long long)made, (double)threads / 100, (double)single / 1000);
	task_free(t);
}

/* ---- children ---- */

static struct task *child(struct task *maker, pid_t pid, bool session, bool sibling)
{
	const struct seedling_child_spec spec = {
		.pid = pid, .session = session, .sibling = sibling
	};
	struct task *t;

	ok(seedling_child(maker, &spec, &t));
	return t;
}

static void expect_place(pid_t pid, pid_t parent, pid_t group, pid_t session)
{
	autoarena struct arena *a = arena_new();
	struct proc_stat st;

	ok(proc_stat(a, pid, 0, &st));
	assert_int_equal(st.ppid, parent);
	assert_int_equal(st.pgrp, group);
	assert_int_equal(st.sid, session);
}

static uint64_t pending_of(struct task *t)
{
	autoarena struct arena *a = arena_new();
	struct proc_status st;

	ok(proc_status(a, t->pid, 0, &st));
	return st.sig_pending | st.sig_shared_pending;
}

static void test_children(void **state)
{
	autoarena struct arena *a = arena_new();
	struct task *root = make(PID), *one, *leader, *kin;
	struct call ignore = { .nr = SYS_rt_sigaction };
	const uint64_t action[4] = { 1 /* SIG_IGN */ };
	struct proc_status st;
	struct proc_stat stat;
	int *fds;
	size_t n;

	(void)state;
	/* What the maker has by then is not the child's. */
	ok(remote_put(root, 0, action, sizeof(action)));
	ignore.args[0] = SIGUSR2;
	ignore.args[1] = remote_scratch(root).v;
	ignore.args[3] = sizeof(uint64_t);
	ok(remote_run(root, task_leader(root), &ignore, 1));
	assert_int_equal(ignore.ret, 0);
	one = child(root, PID + 1, false, false);
	expect_place(PID + 1, PID, PID, PID);
	ok(proc_status(a, PID + 1, 0, &st));
	assert_int_equal(st.sig_ignored, 0);
	ok(proc_fds(a, PID + 1, &fds, &n));
	assert_int_equal(n, 1);
	assert_int_equal(count_maps(PID + 1), count_maps(PID));
	near(clock_there(one, CLOCK_MONOTONIC), clock_here(CLOCK_MONOTONIC) + 5 * HOUR);
	leader = child(root, PID + 2, true, false);
	expect_place(PID + 2, PID, PID + 2, PID + 2);
	/* Of the leader's session, a child of the leader's parent. */
	kin = child(leader, PID + 3, false, true);
	expect_place(PID + 3, PID, PID + 2, PID + 2);
	ok(seedling_drop(root, kin));
	ok(seedling_drop(root, leader));
	ok(seedling_drop(root, one));
	assert_int_equal(pending_of(root), 0);
	fails(proc_stat(a, PID + 1, 0, &stat), ERR_GONE);
	fails(seedling_child(root, &(struct seedling_child_spec){ .pid = PID }, &one), ERR_LIMIT);
	task_free(root);
}

static int wait_there(struct task *parent, pid_t pid)
{
	int status = 0;
	int64_t got;

	ok(REMOTE(parent, task_leader(parent), &got, "wait", SYS_wait4, (uint64_t)pid,
		remote_scratch(parent).v, 1 /* WNOHANG */, 0));
	assert_int_equal(got, pid);
	ok(remote_get(parent, 0, &status, sizeof(status)));
	return status;
}

static void test_zombies(void **state)
{
	static const int ends[] = { 0, 42 << 8, 255 << 8, SIGTERM, SIGKILL, SIGSEGV, SIGCHLD << 8 };
	struct task *root = make(PID);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		autoarena struct arena *a = arena_new();
		struct task *one = child(root, PID + 1, false, false);
		struct proc_stat st;

		ok(seedling_end(root, one, ends[i]));
		ok(proc_stat(a, PID + 1, 0, &st));
		assert_int_equal(st.state, 'Z');
		assert_int_equal(st.ppid, PID);
		assert_int_equal(pending_of(root), 0);
		assert_int_equal(wait_there(root, PID + 1), ends[i]);
	}
	task_free(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inherits_nothing),
		cmocka_unit_test(test_clear),
		cmocka_unit_test(test_clear_mismatch),
		cmocka_unit_test(test_install),
		cmocka_unit_test(test_own_socket),
		cmocka_unit_test(test_lend),
		cmocka_unit_test(test_start),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_taken),
		cmocka_unit_test(test_children),
		cmocka_unit_test(test_zombies),
		cmocka_unit_test(test_pending),
		cmocka_unit_test(test_let_go),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_dies_with_us),
		cmocka_unit_test(test_bench),
	};

	ns_enter();
	alarm(600);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
