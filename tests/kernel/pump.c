// SPDX-License-Identifier: Apache-2.0
/* The pump: what it brings, what it cannot, and that nothing of it stays, however it ends. */
#include "kernel/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "kernel/proc.h"
#include "kernel/remote.h"
#include "tests/kernel/check.h"
#include "tests/kernel/ns.h"
#include "tests/kernel/target.h"

#define P        PAGE_BYTES
#define DEADLINE deadline_in(60000000)
#define PAGES    2048
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif
/* How often the placing process is killed. */
#define KILLS 300

static void end(pid_t pid)
{
	kill_one(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static char *maps_of(struct arena *a, pid_t pid)
{
	char path[64], *text;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	ok(io_read_file(a, path, 1 << 20, &text, NULL));
	return text;
}

static size_t threads_of(struct arena *a, pid_t pid)
{
	pid_t *tids;
	size_t n;

	ok(proc_tids(a, pid, &tids, &n));
	return n;
}

static size_t fds_of(struct arena *a, pid_t pid)
{
	int *fds;
	size_t n;

	ok(proc_fds(a, pid, &fds, &n));
	return n;
}

/* Bytes behind the vdso's image: 0 when nothing of ours is there. */
static bool vdso_is_clean(const struct task *t)
{
	autoarena struct arena *a = arena_new();
	uint8_t mine[8192], its[8192];
	struct vma_list l;

	ok(proc_maps(a, getpid(), &l));
	for (size_t i = 0; i < l.n; i++)
		if (strcmp(l.v[i].path, "[vdso]") == 0)
			memcpy(mine, (void *)(uintptr_t)(l.v[i].end - sizeof(mine)), sizeof(mine));
	ok(proc_maps(a, t->pid, &l));
	for (size_t i = 0; i < l.n; i++)
		if (strcmp(l.v[i].path, "[vdso]") == 0)
			ok(task_read(t, l.v[i].end - sizeof(its), its, sizeof(its)));
	return memcmp(mine, its, sizeof(its)) == 0;
}

/* ---- a target with some memory ---- */

struct memory {
	uint8_t *at; /* the same address in it and in us: mapped before the fork */
	pid_t pid;
	int orders;
};

/* A child that makes system calls when told, and has PAGES pages of private memory. */
static void obey(int fd)
{
	long o[7];

	while (read(fd, o, sizeof(o)) == sizeof(o)) {
		long r = syscall(o[0], o[1], o[2], o[3], o[4], o[5], o[6]);

		if (write(fd, &r, sizeof(r)) != sizeof(r))
			break;
	}
	_exit(0);
}

static long answer(const struct memory *m)
{
	long r;

	assert_int_equal(read(m->orders, &r, sizeof(r)), sizeof(r));
	return r;
}

static long tell(const struct memory *m, long nr, long a, long b, long c)
{
	long o[7] = { nr, a, b, c };

	assert_int_equal(write(m->orders, o, sizeof(o)), sizeof(o));
	return answer(m);
}

static void memory_start(struct memory *m, void (*before)(void))
{
	int pair[2];

	m->at = mmap(NULL, PAGES * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(m->at, MAP_FAILED);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	m->pid = fork();
	if (m->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		for (size_t i = 0; i < PAGES; i++)
			memset(m->at + i * P, (int)(i % 251 + 1), P);
		if (before)
			before();
		obey(pair[1]);
	}
	close(pair[1]);
	m->orders = pair[0];
	assert_int_equal(tell(m, SYS_getpid, 0, 0, 0), m->pid);
}

static void memory_end(struct memory *m)
{
	close(m->orders);
	end(m->pid);
	munmap(m->at, PAGES * P);
}

/* What came out of the pipe: pages of this number on. */
static void expect_pages(struct pump *p, unsigned pipe, size_t first, size_t n)
{
	uint8_t page[P], want[P];

	for (size_t i = first; i < first + n; i++) {
		ok(io_read_full(pump_pipe(p, pipe), page, P, "a pipe"));
		memset(want, (int)(i % 251 + 1), P);
		if (memcmp(page, want, P))
			fail_msg("page %zu differs", i);
	}
}

static size_t run(struct pump *p, unsigned pipe, const struct iovec *v, size_t n)
{
	size_t bytes;

	ok(pump_order(p, pipe, v, n));
	ok(pump_result(p, DEADLINE, &bytes));
	return bytes / P;
}

static struct iovec pages(const struct memory *m, size_t first, size_t n)
{
	return (struct iovec){ m->at + first * P, n * P };
}

static void test_pages(void **state)
{
	autoarena struct arena *a = arena_new();
	autotask struct task *t = NULL;
	struct pump_facts facts;
	struct memory m;
	struct pump *p;
	char *before;
	size_t fds;

	(void)state;
	memory_start(&m, NULL);
	before = maps_of(a, m.pid);
	fds = fds_of(a, m.pid);
	ok(task_open(m.pid, &t));
	ok(pump_open(t, &p));
	pump_facts(p, &facts);
	print_message("  stopped for %jd us, %zu pages per pipe, traces: %d\n",
		(intmax_t)facts.stop_us, pump_room(p), facts.leaves_traces);
	assert_true(pump_room(p) >= 16);
	assert_int_equal(threads_of(a, m.pid), 2);
	assert_int_equal(fds_of(a, m.pid), fds);
	assert_true(task_pump_is(t, t->pump.tid));
	for (size_t at = 0; at < PAGES; at += pump_room(p)) {
		unsigned pipe = at / pump_room(p) % 2;

		assert_int_equal(run(p, pipe, (struct iovec[]){ pages(&m, at, pump_room(p)) }, 1),
			pump_room(p));
		expect_pages(p, pipe, at, pump_room(p));
	}
	/* Many pieces, not in order. */
	struct iovec v[8];

	for (size_t i = 0; i < 8; i++)
		v[i] = pages(&m, 1000 - 7 * i, 1);
	assert_int_equal(run(p, 1, v, 8), 8);
	for (size_t i = 0; i < 8; i++)
		expect_pages(p, 1, 1000 - 7 * i, 1);
	/* By reference: what is written afterwards is what comes. */
	assert_int_equal(run(p, 0, (struct iovec[]){ pages(&m, 5, 1) }, 1), 1);
	assert_int_equal(pwrite(t->mem_fd, "x", 1, (off_t)(uintptr_t)(m.at + 5 * P)), 1);
	uint8_t page[P];

	ok(io_read_full(pump_pipe(p, 0), page, P, "a pipe"));
	assert_int_equal(page[0], 'x');
	/* It works while the process is held, and is not part of it. */
	ok(task_hold(t, DEADLINE));
	assert_int_equal(t->n_threads, 1);
	assert_int_equal(run(p, 0, (struct iovec[]){ pages(&m, 6, 3) }, 1), 3);
	ok(pump_end(p));
	assert_int_equal(threads_of(a, m.pid), 1);
	ok(task_let_go(t));
	expect_pages(p, 0, 6, 3); /* still there */
	ok(pump_end(p));
	pump_free(p);
	assert_string_equal(maps_of(a, m.pid), before);
	assert_true(vdso_is_clean(t));
	memory_end(&m);
}

static void test_holes(void **state)
{
	autotask struct task *t = NULL;
	struct memory m;
	struct pump *p;

	(void)state;
	memory_start(&m, NULL);
	ok(task_open(m.pid, &t));
	ok(pump_open(t, &p));
	assert_int_equal(tell(&m, SYS_munmap, (long)(m.at + 10 * P), 2 * (long)P, 0), 0);
	assert_int_equal(tell(&m, SYS_mprotect, (long)(m.at + 20 * P), (long)P, PROT_NONE), 0);
	assert_int_equal(run(p, 0, (struct iovec[]){ pages(&m, 0, 16) }, 1), 10);
	expect_pages(p, 0, 0, 10);
	assert_int_equal(run(p, 1, (struct iovec[]){ pages(&m, 11, 2) }, 1), 0);
	assert_int_equal(
		run(p, 0, (struct iovec[]){ pages(&m, 18, 2), pages(&m, 20, 1), pages(&m, 21, 1) },
			3),
		2);
	expect_pages(p, 0, 18, 2);
	assert_int_equal(run(p, 0, (struct iovec[]){ pages(&m, 21, 4) }, 1), 4);
	expect_pages(p, 0, 21, 4);
	/* What makes no sense is not even asked. */
	fails(pump_order(p, 0, (struct iovec[]){ pages(&m, 0, pump_room(p) + 1) }, 1), ERR_BUG);
	fails(pump_order(p, 0, NULL, 0), ERR_BUG);
	ok(pump_end(p));
	pump_free(p);
	memory_end(&m);
}

static uint64_t huge_kib(pid_t pid)
{
	autoarena struct arena *a = arena_new();
	uint64_t sum = 0, kib;
	char path[64], *text;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	ok(io_read_file(a, path, 1 << 20, &text, NULL));
	for (const char *at = text; (at = strstr(at, "AnonHugePages:")); at++)
		if (sscanf(at, "AnonHugePages: %ju", &kib) == 1)
			sum += kib;
	return sum;
}

static void test_huge_pages(void **state)
{
	autotask struct task *t = NULL;
	struct memory m;
	struct pump *p;
	uint64_t before;

	(void)state;
	memory_start(&m, NULL);
	ok(task_open(m.pid, &t));
	ok(pump_open(t, &p));
	(void)tell(&m, SYS_madvise, (long)m.at, PAGES * (long)P, MADV_HUGEPAGE);
	(void)tell(&m, SYS_madvise, (long)m.at, PAGES * (long)P, MADV_COLLAPSE);
	before = huge_kib(m.pid);
	print_message("  %ju KiB in huge pages\n", before);
	for (size_t i = 3; i + 97 < PAGES; i += 97) {
		size_t n = MIN(pump_room(p), (size_t)97);

		assert_int_equal(run(p, 0, (struct iovec[]){ pages(&m, i, n) }, 1), n);
		expect_pages(p, 0, i, n);
	}
	assert_int_equal(huge_kib(m.pid), before); /* not split */
	ok(pump_end(p));
	pump_free(p);
	memory_end(&m);
}

static void many_fds(void)
{
	for (int i = 0; i < 10000; i++)
		if (open("/dev/null", O_RDONLY) < 0)
			break;
}

static void few_fds(void)
{
	const struct rlimit few = { 5, 5 };

	setrlimit(RLIMIT_NOFILE, &few);
}

static void test_descriptors(void **state)
{
	autoarena struct arena *a = arena_new();
	autotask struct task *t = NULL, *t2 = NULL;
	struct rlimit limit = { 20000, 20000 }, old;
	struct pump_facts facts;
	struct memory m;
	struct pump *p;
	size_t fds;

	(void)state;
	getrlimit(RLIMIT_NOFILE, &old);
	limit.rlim_max = old.rlim_max;
	limit.rlim_cur = MIN(limit.rlim_cur, old.rlim_max);
	setrlimit(RLIMIT_NOFILE, &limit);
	memory_start(&m, many_fds);
	setrlimit(RLIMIT_NOFILE, &old);
	fds = fds_of(a, m.pid);
	print_message("  %zu descriptors\n", fds);
	ok(task_open(m.pid, &t));
	ok(pump_open(t, &p));
	pump_facts(p, &facts);
	print_message("  stopped for %jd us\n", (intmax_t)facts.stop_us);
	assert_int_equal(run(p, 0, (struct iovec[]){ pages(&m, 0, 4) }, 1), 4);
	assert_int_equal(fds_of(a, m.pid), fds);
	ok(pump_end(p));
	pump_free(p);
	memory_end(&m);

	/* Its pipes count against the limit of the target. */
	memory_start(&m, few_fds);
	ok(task_open(m.pid, &t2));
	fails(pump_open(t2, &p), ERR_GONE);
	assert_int_equal(threads_of(a, m.pid), 1);
	assert_int_equal(tell(&m, SYS_getpid, 0, 0, 0), m.pid);
	memory_end(&m);
}

/* ---- what a target may be ---- */

static void expect_refused(void (*before)(void), enum err_code code)
{
	autoarena struct arena *a = arena_new();
	autotask struct task *t = NULL;
	struct memory m;
	struct pump *p;
	char *maps;

	memory_start(&m, before);
	maps = maps_of(a, m.pid);
	ok(task_open(m.pid, &t));
	fails(pump_open(t, &p), code);
	assert_int_equal(t->pump.tid, 0);
	assert_int_equal(threads_of(a, m.pid), 1);
	assert_string_equal(maps_of(a, m.pid), maps);
	assert_true(vdso_is_clean(t));
	assert_int_equal(tell(&m, SYS_getpid, 0, 0, 0), m.pid);
	memory_end(&m);
}

static void deny_write_exec(void)
{
	prctl(65 /* PR_SET_MDWE, Linux 6.3 */, 1, 0, 0, 0);
}

static void filtered(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	const struct sock_fprog all = { 1, &allow };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all) < 0)
		_exit(1);
}

/* Root may always have one more. */
static void no_more_threads(void)
{
	const struct rlimit one = { 1, 1 };

	if (setgid(65534) < 0 || setuid(65534) < 0 || setrlimit(RLIMIT_NPROC, &one) < 0)
		_exit(1);
	prctl(PR_SET_DUMPABLE, 1);
}

static void test_refused(void **state)
{
	(void)state;
	expect_refused(filtered, ERR_UNSUPPORTED);
	expect_refused(no_more_threads, ERR_KERNEL);
	if (prctl(66 /* PR_GET_MDWE */, 0, 0, 0, 0) >= 0)
		expect_refused(deny_write_exec, ERR_DENIED);
}

/* A user whose pipes are large already. */
static void nobody(void)
{
	int ends[2];

	if (setgid(65534) < 0 || setuid(65534) < 0)
		_exit(1);
	prctl(PR_SET_DUMPABLE, 1);
	for (int i = 0; i < 100 && pipe(ends) == 0; i++)
		if (fcntl(ends[0], F_SETPIPE_SZ, 1 << 20) < 0)
			break;
}

static void test_unprivileged(void **state)
{
	autotask struct task *t = NULL;
	struct memory m;
	struct pump *p;

	(void)state;
	memory_start(&m, nobody);
	ok(task_open(m.pid, &t));
	ok(pump_open(t, &p));
	print_message("  %zu pages per pipe\n", pump_room(p));
	assert_int_equal(pump_room(p), 256);
	assert_int_equal(run(p, 0, (struct iovec[]){ pages(&m, 0, 256) }, 1), 256);
	expect_pages(p, 0, 0, 256);
	ok(pump_end(p));
	pump_free(p);
	memory_end(&m);
}

/* As in a program without a C library that has a place to leave by: what looks like one is not what
 * the file has. */
static void no_leave(void)
{
	static const uint8_t loop[] = { 0x31, 0xff, 0x89, 0xd0, 0x0f, 0x05, 0xeb, 0xf8 };
	char line[512];
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long start, end;

	while (f && fgets(line, sizeof(line), f)) {
		uint8_t *text, *at;

		if (sscanf(line, "%lx-%lx", &start, &end) != 2 || !strstr(line, " r-xp ") ||
			!strstr(line, "/libc."))
			continue;
		text = (uint8_t *)start;
		if (mprotect(text, end - start, PROT_READ | PROT_WRITE | PROT_EXEC) < 0)
			_exit(1);
		while ((at = memmem(text, end - (uintptr_t)text, loop, sizeof(loop)))) {
			at[0] = 0x33; /* the same, differently encoded */
			text = at + 1;
		}
		if (mprotect((void *)start, end - start, PROT_READ | PROT_EXEC) < 0)
			_exit(1);
	}
	fclose(f);
}

static void test_no_leave(void **state)
{
	autoarena struct arena *a = arena_new();
	autotask struct task *t = NULL;
	struct pump_facts facts;
	struct memory m;
	struct pump *p;
	char *before;

	(void)state;
	memory_start(&m, no_leave);
	before = maps_of(a, m.pid);
	ok(task_open(m.pid, &t));
	for (int i = 0; i < 20; i++) {
		ok(pump_open(t, &p));
		pump_facts(p, &facts);
		assert_true(facts.leaves_traces);
		assert_false(vdso_is_clean(t));
		/* Remote calls have a place beside it. */
		ok(task_hold(t, DEADLINE));
		ok(REMOTE(t, task_leader(t), NULL, "getpid", SYS_getpid, 0));
		ok(task_let_go(t));
		assert_int_equal(run(p, 0, (struct iovec[]){ pages(&m, 0, 4) }, 1), 4);
		ok(pump_end(p));
		assert_int_equal(threads_of(a, m.pid), 1);
		assert_string_equal(maps_of(a, m.pid), before);
		assert_true(vdso_is_clean(t));
		pump_free(p);
	}
	memory_end(&m);
}

static void test_target_ends(void **state)
{
	autotask struct task *t = NULL;
	struct memory m;
	struct pump *p;
	size_t bytes;

	(void)state;
	memory_start(&m, NULL);
	ok(task_open(m.pid, &t));
	ok(pump_open(t, &p));
	kill_one(m.pid, SIGKILL);
	waitid(P_PID, (id_t)m.pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT);
	struct iovec v = pages(&m, 0, 4);
	struct err *e = pump_order(p, 0, &v, 1);

	fails(e ? e : pump_result(p, DEADLINE, &bytes), ERR_GONE);
	ok(pump_end(p));
	pump_free(p);
	memory_end(&m);
}

static void test_target_executes(void **state)
{
	autotask struct task *t = NULL;
	char *const argv[] = { (char *)"/bin/sleep", (char *)"1000", NULL };
	struct pump *p;
	size_t bytes;
	int go[2];
	pid_t pid;
	char c;

	(void)state;
	assert_int_equal(pipe2(go, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (read(go[0], &c, 1) == 1)
			execv(argv[0], argv);
		_exit(1);
	}
	ok(task_open(pid, &t));
	ok(pump_open(t, &p));
	assert_int_equal(write(go[1], "x", 1), 1);
	while (task_pump_is(t, t->pump.tid))
		usleep(1000);
	struct err *e = pump_order(p, 0, &(struct iovec){ &c, P }, 1);

	fails(e ? e : pump_result(p, DEADLINE, &bytes), ERR_GONE);
	pump_free(p);
	ok(task_check_alive(t));
	end(pid);
	close(go[0]);
	close(go[1]);
}

/* The process that the target forks does not get our memory. */
static void test_children(void **state)
{
	autoarena struct arena *a = arena_new();
	autotask struct task *t = NULL;
	struct memory m;
	struct pump *p;
	char *before, *child;
	long pid;

	(void)state;
	memory_start(&m, NULL);
	before = maps_of(a, m.pid);
	ok(task_open(m.pid, &t));
	ok(pump_open(t, &p));
	assert_string_not_equal(maps_of(a, m.pid), before);
	pid = tell(&m, SYS_clone, SIGCHLD, 0, 0);
	if (pid == 0) /* the child was faster */
		pid = answer(&m);
	assert_true(pid > 0);
	child = maps_of(a, (pid_t)pid);
	assert_string_equal(child, before);
	kill_one((pid_t)pid, SIGKILL);
	pump_free(p);
	memory_end(&m);
}

static int by_number(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Threads in every kind of wait notice nothing. */
static void test_unnoticed(void **state)
{
	autoarena struct arena *a = arena_new();
	autotask struct task *t = NULL;
	struct target_shared *s;
	pid_t pid = target_start(&s);
	char *before = maps_of(a, pid);
	int64_t stops[51], holds[51];

	(void)state;
	ok(task_open(pid, &t));
	for (size_t i = 0; i < ARRAY_LEN(stops); i++) {
		struct pump_facts f;
		struct pump *p;
		int64_t began = clock_us();

		ok(task_hold(t, DEADLINE));
		ok(task_let_go(t));
		holds[i] = clock_us() - began;

		ok(pump_open(t, &p));
		pump_facts(p, &f);
		stops[i] = f.stop_us;
		assert_int_equal(threads_of(a, pid), 7);
		ok(task_hold(t, DEADLINE));
		assert_int_equal(t->n_threads, 6);
		ok(task_let_go(t));
		ok(pump_end(p));
		pump_free(p);
	}
	qsort(stops, ARRAY_LEN(stops), sizeof(stops[0]), by_number);
	qsort(holds, ARRAY_LEN(holds), sizeof(holds[0]), by_number);
	print_message("  6 threads stopped for %jd us (median, at most %jd); without a pump %jd\n",
		(intmax_t)stops[ARRAY_LEN(stops) / 2], (intmax_t)stops[ARRAY_LEN(stops) - 1],
		(intmax_t)holds[ARRAY_LEN(holds) / 2]);
	assert_true(target_alive(pid, s));
	if (s->bad)
		print_message("target: %s\n", s->why);
	assert_int_equal(s->bad, 0);
	assert_int_equal(s->eintr, 0);
	assert_string_equal(maps_of(a, pid), before);
	assert_true(vdso_is_clean(t));
	target_end(pid, s);
}

/* ---- whoever placed it dies ---- */

static void must(struct err *e)
{
	if (!e)
		return;
	fprintf(stderr, "%s\n", err_line(e));
	_exit(1);
}

static void place_and_work(const struct memory *m, int ready)
{
	struct task *t;
	struct pump *p;
	size_t bytes;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (write(ready, "x", 1) != 1)
		_exit(1);
	must(task_open(m->pid, &t));
	must(pump_open(t, &p));
	for (unsigned i = 0;; i++) {
		uint8_t page[P];
		struct iovec v = pages(m, i % 1000, 2);

		must(pump_order(p, i % 2, &v, 1));
		must(pump_result(p, DEADLINE, &bytes));
		for (size_t k = 0; k < bytes; k += P)
			if (read(pump_pipe(p, i % 2), page, P) != (ssize_t)P)
				_exit(3);
		if (i % 64 == 63) {
			must(pump_end(p));
			pump_free(p);
			must(pump_open(t, &p));
		}
	}
}

static void kill_placers(void (*prepare)(void))
{
	autoarena struct arena *a = arena_new();
	autotask struct task *t = NULL;
	struct memory m;
	char *before;
	size_t fds;
	unsigned dirty = 0;

	memory_start(&m, prepare);
	before = maps_of(a, m.pid);
	fds = fds_of(a, m.pid);
	ok(task_open(m.pid, &t));
	for (int i = 0; i < KILLS; i++) {
		int ready[2], status;
		pid_t placer;
		char c;

		assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
		placer = fork();
		if (placer == 0)
			place_and_work(&m, ready[1]);
		assert_int_equal(read(ready[0], &c, 1), 1);
		usleep((useconds_t)(rand() % 6000));
		kill_one(placer, SIGKILL);
		assert_int_equal(waitpid(placer, &status, 0), placer);
		if (!WIFSIGNALED(status))
			fail_msg("whoever placed it ended by itself: %d", WEXITSTATUS(status));
		close(ready[0]);
		close(ready[1]);
		/* A thread that was just starting it goes on with that. */
		assert_int_equal(tell(&m, SYS_getpid, 0, 0, 0), m.pid);
		/* At once, but for one that waited for its other ends to be taken. */
		for (int k = 0; threads_of(a, m.pid) > 1; k++) {
			assert_true(k < 30000);
			usleep(1000);
		}
		assert_string_equal(maps_of(a, m.pid), before);
		assert_int_equal(fds_of(a, m.pid), fds);
		dirty += !vdso_is_clean(t);
	}
	print_message("  bytes behind the vdso after %u of %d\n", dirty, KILLS);
	memory_end(&m);
}

static void test_killed(void **state)
{
	(void)state;
	kill_placers(NULL);
}

static void test_killed_no_leave(void **state)
{
	(void)state;
	kill_placers(no_leave);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_holes),
		cmocka_unit_test(test_huge_pages),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_unprivileged),
		cmocka_unit_test(test_no_leave),
		cmocka_unit_test(test_target_ends),
		cmocka_unit_test(test_target_executes),
		cmocka_unit_test(test_children),
		cmocka_unit_test(test_unnoticed),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_killed_no_leave),
	};

	ns_enter();
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
