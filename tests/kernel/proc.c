// SPDX-License-Identifier: Apache-2.0
#include "kernel/proc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka.h wants these in front */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void ok(struct err *e)
{
	if (e)
		fail_msg("%s", err_line(e));
}

static void is_err(struct err *e, enum err_code code)
{
	assert_non_null(e);
	assert_string_equal(err_code_name(err_code(e)), err_code_name(code));
	err_free(e);
}

/* ---- maps ---- */

static const char maps_text[] =
	"557592e91000-557592e93000 r--p 00000000 fe:00 247134                     /usr/bin/cat\n"
	"557592e93000-557592e98000 r-xs 00002000 fe:00 247134                     "
	"/tmp/a b\\012c (deleted)\n"
	"7ffdd0a3e000-7ffdd0a5f000 rw-p 00000000 00:00 0                          [stack]\n"
	"7ffdd0a60000-7ffdd0a61000 ---p 00000000 00:00 0 \n"
	"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";

static void maps_of_every_form(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	struct vma_list l;

	ok(proc_parse_maps(a, maps_text, &l));
	assert_int_equal(l.n, 5);
	assert_int_equal(l.v[0].start, 0x557592e91000);
	assert_int_equal(l.v[0].end, 0x557592e93000);
	assert_int_equal(l.v[0].prot, PROT_READ);
	assert_false(l.v[0].shared);
	assert_int_equal(l.v[0].dev_major, 0xfe);
	assert_int_equal(l.v[0].inode, 247134);
	assert_string_equal(l.v[0].path, "/usr/bin/cat");
	assert_int_equal(l.v[1].prot, PROT_READ | PROT_EXEC);
	assert_true(l.v[1].shared);
	assert_int_equal(l.v[1].offset, 0x2000);
	assert_string_equal(l.v[1].path, "/tmp/a b\nc (deleted)");
	assert_string_equal(l.v[2].path, "[stack]");
	assert_string_equal(l.v[3].path, "");
	assert_int_equal(l.v[3].prot, PROT_NONE);
	assert_ptr_equal(vma_at(&l, 0x557592e93000), &l.v[1]);
	assert_ptr_equal(vma_at(&l, 0x557592e97fff), &l.v[1]);
	assert_null(vma_at(&l, 0x557592e98000));
	assert_null(vma_at(&l, 0));
	assert_null(vma_at(&l, UINT64_MAX));
}

static void absurd_maps_are_refused(unused_arg void **state)
{
	static const char *const texts[] = {
		"x",
		"\n",
		"1000-2000 rw-p 0 0:0",
		"1000-2000 rw-p 0 0:0 ",
		"1000-2000 rw-q 0 0:0 0",
		"1000-2000 wr-p 0 0:0 0",
		"1000-2000 rw-p 0 0:0 0x",
		"2000-1000 rw-p 0 0:0 0",
		"1000-1000 rw-p 0 0:0 0",
		"1001-2000 rw-p 0 0:0 0",
		"1000-2001 rw-p 0 0:0 0",
		"1000-2000 rw-p 1 0:0 0",
		"1000-2000 rw-p 0 100000000:0 0",
		"1000-2000 rw-p 0 0:0 99999999999999999999",
		"10000000000001000-2000 rw-p 0 0:0 0",
		"1000-3000 rw-p 0 0:0 0\n2000-3000 rw-p 0 0:0 0\n",
		"3000-4000 rw-p 0 0:0 0\n1000-2000 rw-p 0 0:0 0\n",
		"1000-2000 rw-p 0 0:0 0\n\n",
	};
	autoarena struct arena *a = arena_new();
	struct vma_list l = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		is_err(proc_parse_maps(a, texts[i], &l), ERR_UNSUPPORTED);
		is_err(proc_parse_smaps(a, texts[i], &l), ERR_UNSUPPORTED);
		assert_null(l.v);
	}
	ok(proc_parse_maps(a, "", &l));
	assert_int_equal(l.n, 0);
}

static void too_many_maps(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	size_t room = (PROC_VMAS_MAX + 1) * 64UL, len = 0;
	autofree char *text = malloc(room);
	struct vma_list l;

	for (size_t i = 1; i <= PROC_VMAS_MAX + 1; i++)
		len += (size_t)snprintf(
			text + len, room - len, "%zx000-%zx000 ---p 0 0:0 0\n", i, i + 1);
	is_err(proc_parse_maps(a, text, &l), ERR_LIMIT);
}

#define HEAD "1000-3000 rw-p 00000000 00:00 0 \n"
/* Grown downwards between two reads. */
static void overlapping_maps_are_cut(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	struct vma_list l;

	ok(proc_parse_maps(a, "1000-3000 rw-p 0 0:0 0\n2000-4000 rw-p 5000 0:1 7\n", &l));
	assert_int_equal(l.n, 2);
	assert_int_equal(l.v[1].start, 0x3000);
	assert_int_equal(l.v[1].offset, 0x6000);
	ok(proc_parse_smaps(a,
		"1000-3000 rw-p 0 0:0 0\nVmFlags: rd\n2000-4000 rw-p 0 0:0 0\nSize: 8 kB\nVmFlags: "
		"rd\n",
		&l));
	assert_int_equal(l.v[1].start, 0x3000);
}

static void smaps_flags(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	struct vma_list l;

	ok(proc_parse_smaps(a,
		HEAD "Size:                  8 kB\nAnonHugePages: 0 kB\nProtectionKey:         3\n"
		     "VmFlags: rd wr mr mw me gd ac hg \n"
		     "a000-b000 r--p 00000000 00:00 0 [vvar]\nVmFlags: rd zz ?? io\n",
		&l));
	assert_int_equal(l.n, 2);
	assert_int_equal(l.v[0].flags,
		VMF_READ | VMF_WRITE | VMF_MAYWRITE | VMF_GROWSDOWN | VMF_ACCOUNT | VMF_HUGEPAGE);
	assert_int_equal(l.v[0].pkey, 3);
	assert_string_equal(l.v[0].unknown_flags, "");
	assert_true(l.v[1].flags == (VMF_READ | VMF_IO | VMF_UNKNOWN));
	assert_string_equal(l.v[1].unknown_flags, "zz ??");
}

static void absurd_smaps_are_refused(unused_arg void **state)
{
	static const char *const texts[] = {
		HEAD,
		HEAD "Size: 8 kB\n",
		HEAD HEAD "VmFlags: rd\n",
		"Size: 8 kB\n",
		HEAD "Size: 12 kB\nVmFlags: rd\n",
		HEAD "VmFlags: rd\nVmFlags: rd\n",
		HEAD "VmFlags: rdwr\n",
		HEAD "VmFlags: r\n",
		HEAD "Some\nVmFlags: rd\n",
		HEAD "ProtectionKey: x\nVmFlags: rd\n",
		HEAD "ProtectionKey: 99999\nVmFlags: rd\n",
		HEAD "VmFlags: rd\nZ\n",
	};
	autoarena struct arena *a = arena_new();
	struct vma_list l = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		is_err(proc_parse_smaps(a, texts[i], &l), ERR_UNSUPPORTED);
		assert_null(l.v);
	}
}

static void own_maps(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	void *p = mmap(NULL, 3 * PAGE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct vma_list maps, smaps;
	const struct vma *v;

	assert_int_equal(mprotect((char *)p + PAGE_BYTES, PAGE_BYTES, PROT_NONE), 0);
	madvise((char *)p + PAGE_BYTES, PAGE_BYTES, MADV_DONTFORK);
	ok(proc_maps(a, getpid(), &maps));
	ok(proc_smaps(a, getpid(), &smaps));
	v = vma_at(&smaps, (uintptr_t)p + PAGE_BYTES);
	assert_non_null(v);
	assert_int_equal(v->start, (uintptr_t)p + PAGE_BYTES);
	assert_int_equal(v->end, (uintptr_t)p + 2 * PAGE_BYTES);
	assert_true(v->flags & VMF_DONTFORK);
	assert_false(v->flags & VMF_READ);
	assert_int_equal(vma_at(&maps, (uintptr_t)p)->prot, PROT_READ);
	/* Every flag of this kernel is known here. */
	for (size_t i = 0; i < smaps.n; i++)
		assert_string_equal(smaps.v[i].unknown_flags, "");
	munmap(p, 3 * PAGE_BYTES);
}

/* ---- stat ---- */

#define STAT_REST \
	" R 7067 7067 3189 0 -1 4194304 102 0 0 0 0 0 0 0 20 0 1 0 186778 3133440 409 " \
	"18446744073709551615 94097192361984 94097192381865 140732160893248 0 0 0 0 0 0 0 0 0 " \
	"17 1 0 0 0 0 0 94097192397872 94097192399488 94097460969472 140732160899689 " \
	"140732160899745 140732160899745 140732160901099 0\n"

static void stat_of_a_hostile_name(unused_arg void **state)
{
	struct proc_stat s;

	ok(proc_parse_stat("7081 (a) R 1 (\n)" STAT_REST, &s));
	assert_string_equal(s.comm, "a) R 1 (\n");
	assert_int_equal(s.state, 'R');
	assert_int_equal(s.ppid, 7067);
	assert_int_equal(s.sid, 3189);
	assert_int_equal(s.flags, 4194304);
	assert_int_equal(s.nice, 0);
	assert_int_equal(s.num_threads, 1);
	assert_int_equal(s.start_time, 186778);
	assert_int_equal(s.rss_pages, 409);
	assert_int_equal(s.start_code, 94097192361984);
	assert_int_equal(s.start_stack, 140732160893248);
	assert_int_equal(s.exit_signal, 17);
	assert_int_equal(s.start_data, 94097192397872);
	assert_int_equal(s.start_brk, 94097460969472);
	assert_int_equal(s.env_end, 140732160901099);
}

static void absurd_stat_is_refused(unused_arg void **state)
{
	static const char *const texts[] = {
		"",
		"1",
		"1 (x",
		"1 (x)",
		"1 (x) R 1 2 3",
		") 1 (x",
		"x (x)" STAT_REST,
		"1 "
		"(0123456789012345678901234567890123456789012345678901234567890123456789"
		")" STAT_REST,
		"1 (x)" STAT_REST "x",
		"1 (x) R 99999999999 7067 3189 0 -1 4194304 102 0 0 0 0 0 0 0 20 0 1 0 186778 1 1 "
		"1 1 1 1 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 1 1 1 1 1 1 1 0\n",
		"1 (x) R 1 1 1 0 -1 -5 102 0 0 0 0 0 0 0 20 0 1 0 186778 1 1 "
		"1 1 1 1 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 1 1 1 1 1 1 1 0\n",
		"1 (x) R 1 1 1 0 -1 5 102 0 0 0 0 0 0 0 20 -21 1 0 186778 1 1 "
		"1 1 1 1 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 1 1 1 1 1 1 1 0\n",
	};
	struct proc_stat s;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		is_err(proc_parse_stat(texts[i], &s), ERR_UNSUPPORTED);
}

/* ---- status ---- */

#define STATUS_IDS "TracerPid:\t0\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n"
#define STATUS_SIG \
	"SigPnd:\t0000000000000001\nShdPnd:\t2\nSigBlk:\t3\nSigIgn:\t4\nSigCgt:" \
	"\tfffffffe7ffbfeff\n"
#define STATUS_CAP "CapInh:\t1\nCapPrm:\t2\nCapEff:\t3\nCapBnd:\t4\nCapAmb:\t5\nNoNewPrivs:\t1\n"
#define STATUS_CPU "Cpus_allowed:\t3\nCpus_allowed_list:\t0-1\nMems_allowed_list:\t0\n"

static void status_fields_read(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	struct proc_status s;

	ok(proc_parse_status(a,
		"Name:\ta\\nb\nUmask:\t0027\nState:\tR (running)\n" STATUS_IDS
		"Groups:\t4 24 4294967294 \nNSpid:\t812\t7\n"
		"VmSize:\t    3060 kB\nVmLck:\t   4 kB\nVmRSS:\t    1752 kB\nVmSwap:\t 0 kB\n"
		"CoreDumping:\t1\n" STATUS_SIG STATUS_CAP "Seccomp:\t2\n" STATUS_CPU,
		&s));
	assert_int_equal(s.umask, 027);
	assert_int_equal(s.uid[3], 4);
	assert_int_equal(s.gid[0], 5);
	assert_int_equal(s.n_groups, 3);
	assert_int_equal(s.groups[2], 4294967294u);
	assert_int_equal(s.ns_pid, 7);
	assert_int_equal(s.ns_depth, 2);
	assert_int_equal(s.vm_rss_bytes, 1752 * 1024);
	assert_int_equal(s.vm_locked_bytes, 4096);
	assert_true(s.coredump);
	assert_true(s.sig_caught == 0xfffffffe7ffbfeffULL);
	assert_int_equal(s.cap_amb, 5);
	assert_int_equal(s.no_new_privs, 1);
	assert_int_equal(s.seccomp, 2);
	assert_string_equal(s.cpus_allowed_list, "0-1");
	assert_string_equal(s.mems_allowed_list, "0");
}

static void absurd_status_is_refused(unused_arg void **state)
{
#define ALL_BUT_IDS "Groups:\t\nNSpid:\t1\n" STATUS_SIG STATUS_CAP STATUS_CPU
	static const char *const texts[] = {
		"",
		ALL_BUT_IDS,
		STATUS_IDS ALL_BUT_IDS "Umask:\t8\n",
		STATUS_IDS ALL_BUT_IDS "Umask:\t\n022",
		STATUS_IDS ALL_BUT_IDS STATUS_IDS,
		STATUS_IDS ALL_BUT_IDS "VmRSS:\t1 MB\n",
		STATUS_IDS ALL_BUT_IDS "VmRSS:\t18446744073709551615 kB\n",
		STATUS_IDS ALL_BUT_IDS "no colon\n",
		STATUS_IDS ALL_BUT_IDS "\n",
		STATUS_IDS ALL_BUT_IDS "CoreDumping:\t2\n",
		"TracerPid:\t0\nUid:\t1\t2\t3\nGid:\t5\t6\t7\t8\n" ALL_BUT_IDS,
		"TracerPid:\t0\nUid:\t1\t2\t3\t4\t5\nGid:\t5\t6\t7\t8\n" ALL_BUT_IDS,
		"TracerPid:\t-1\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n" ALL_BUT_IDS,
		STATUS_IDS "Groups:\tx\nNSpid:\t1\n" STATUS_SIG STATUS_CAP STATUS_CPU,
		STATUS_IDS "Groups:\t\nNSpid:\t\n" STATUS_SIG STATUS_CAP STATUS_CPU,
	};
	autoarena struct arena *a = arena_new();
	struct proc_status s;

	ok(proc_parse_status(a, STATUS_IDS ALL_BUT_IDS, &s));
	assert_int_equal(s.n_groups, 0);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		is_err(proc_parse_status(a, texts[i], &s), ERR_UNSUPPORTED);
}

/* ---- the rest ---- */

static void fdinfo_fields(unused_arg void **state)
{
	static const char text[] = "pos:\t12\nflags:\t02100002\neventfd-count:               2a\n"
				   "settime flags: 01\nit_value: (0, 5)\ntfd: 5 events: 19\n"
				   "neg:\t-1\nlong:\t99999999999999999999\n";
	uint64_t v;

	ok(fdinfo_u64(text, "flags", 8, &v));
	assert_int_equal(v, 02100002);
	ok(fdinfo_u64(text, "eventfd-count", 16, &v));
	assert_int_equal(v, 42);
	ok(fdinfo_u64(text, "settime flags", 8, &v));
	assert_int_equal(v, 1);
	ok(fdinfo_u64(text, "tfd", 10, &v));
	assert_int_equal(v, 5);
	is_err(fdinfo_u64(text, "events", 10, &v), ERR_UNSUPPORTED);
	is_err(fdinfo_u64(text, "it_value", 10, &v), ERR_UNSUPPORTED);
	is_err(fdinfo_u64(text, "neg", 10, &v), ERR_UNSUPPORTED);
	is_err(fdinfo_u64(text, "long", 10, &v), ERR_UNSUPPORTED);
	is_err(fdinfo_u64("flags:", "flags", 8, &v), ERR_UNSUPPORTED);
	assert_true(fdinfo_has(text, "it_value"));
	assert_false(fdinfo_has(text, "it"));
	assert_false(fdinfo_has("", "it"));
}

static void timers_text(unused_arg void **state)
{
	static const char *const absurd[] = {
		"ID: 0\n",
		"ID: x\nsignal: 60/0\nnotify: signal/pid.2634\nClockID: 0\n",
		"ID: 0\nsignal: 60\nnotify: signal/pid.2634\nClockID: 0\n",
		"ID: 0\nsignal: 60/0\nnotify: other/pid.2634\nClockID: 0\n",
		"ID: 0\nsignal: 60/0\nnotify: signal/2634\nClockID: 0\n",
		"ID: 0\nsignal: 60/0\nnotify: signal/pid.2634\nClockID: 0 1\n",
		"signal: 60/0\nID: 0\nnotify: signal/pid.2634\nClockID: 0\n",
		"\n",
	};
	autoarena struct arena *a = arena_new();
	struct proc_timer *t;
	size_t n;

	ok(proc_parse_timers(a,
		"ID: 0\nsignal: 60/00007fff86e452a8\nnotify: signal/tid.2634\nClockID: 0\n"
		"ID: 7\nsignal: 14/0000000000000000\nnotify: none/pid.2633\nClockID: -6\n",
		&t, &n));
	assert_int_equal(n, 2);
	assert_int_equal(t[0].signal, 60);
	assert_int_equal(t[0].sigval, 0x7fff86e452a8);
	assert_int_equal(t[0].notify, SIGEV_SIGNAL | SIGEV_THREAD_ID);
	assert_int_equal(t[0].target, 2634);
	assert_int_equal(t[1].id, 7);
	assert_int_equal(t[1].notify, SIGEV_NONE);
	assert_int_equal(t[1].clock, -6);
	for (size_t i = 0; i < ARRAY_LEN(absurd); i++)
		is_err(proc_parse_timers(a, absurd[i], &t, &n), ERR_UNSUPPORTED);
	ok(proc_parse_timers(a, "", &t, &n));
	assert_int_equal(n, 0);
}

static void own_files(unused_arg void **state)
{
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	autoarena struct arena *a = arena_new();
	struct proc_status status;
	struct proc_timer *timers;
	pid_t *tids, *children, child;
	struct proc_stat st;
	timer_t timer;
	int *fds, fd;
	size_t n;
	char *s;

	ok(proc_stat(a, getpid(), 0, &st));
	assert_int_equal(st.ppid, getppid());
	ok(proc_stat(a, getpid(), getpid(), &st));
	ok(proc_status(a, getpid(), 0, &status));
	assert_int_equal(status.uid[0], getuid());
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ok(proc_fds(a, getpid(), &fds, &n));
	assert_true(n >= 1 && fds[0] >= 0 && fds[n - 1] >= fd);
	ok(proc_fdinfo(a, getpid(), fd, &s));
	assert_true(fdinfo_has(s, "flags"));
	close(fd);
	is_err(proc_fdinfo(a, getpid(), fd, &s), ERR_GONE);
	is_err(proc_link(a, getpid(), "fd/99999", &s), ERR_GONE);
	ok(proc_link(a, getpid(), "exe", &s));
	assert_non_null(strstr(s, "kernel-proc"));
	ok(proc_tids(a, getpid(), &tids, &n));
	assert_int_equal(n, 1);
	assert_int_equal(tids[0], getpid());
	child = fork();
	if (child == 0) {
		pause();
		_exit(0);
	}
	ok(proc_children(a, getpid(), &children, &n));
	assert_int_equal(n, 1);
	assert_int_equal(children[0], child);
	assert_true(child > 1);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	assert_int_equal(timer_create(CLOCK_MONOTONIC, &ev, &timer), 0);
	ok(proc_timers(a, getpid(), &timers, &n));
	assert_int_equal(n, 1);
	assert_int_equal(timers[0].signal, SIGUSR1);
	assert_int_equal(timers[0].target, getpid());
	timer_delete(timer);
}

static void ended_processes_are_gone(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	struct proc_status status;
	struct proc_stat st;
	struct vma_list l;
	siginfo_t si;
	pid_t child = fork(), *tids;
	int *fds;
	size_t n;
	char *s;

	if (child == 0)
		_exit(0);
	assert_int_equal(waitid(P_PID, (id_t)child, &si, WEXITED | WNOWAIT), 0);
	ok(proc_stat(a, child, 0, &st)); /* a zombie */
	assert_int_equal(st.state, 'Z');
	ok(proc_status(a, child, 0, &status));
	assert_int_equal(status.vm_rss_bytes, 0);
	is_err(proc_maps(a, child, &l), ERR_GONE);
	is_err(proc_smaps(a, child, &l), ERR_GONE);
	waitpid(child, NULL, 0);
	is_err(proc_maps(a, child, &l), ERR_GONE);
	is_err(proc_stat(a, child, 0, &st), ERR_GONE);
	is_err(proc_status(a, child, child, &status), ERR_GONE);
	is_err(proc_fds(a, child, &fds, &n), ERR_GONE);
	is_err(proc_tids(a, child, &tids, &n), ERR_GONE);
	is_err(proc_children(a, child, &tids, &n), ERR_GONE);
	is_err(proc_link(a, child, "exe", &s), ERR_GONE);
	is_err(proc_fdinfo(a, child, 0, &s), ERR_GONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(maps_of_every_form),
		cmocka_unit_test(absurd_maps_are_refused),
		cmocka_unit_test(too_many_maps),
		cmocka_unit_test(overlapping_maps_are_cut),
		cmocka_unit_test(smaps_flags),
		cmocka_unit_test(absurd_smaps_are_refused),
		cmocka_unit_test(own_maps),
		cmocka_unit_test(stat_of_a_hostile_name),
		cmocka_unit_test(absurd_stat_is_refused),
		cmocka_unit_test(status_fields_read),
		cmocka_unit_test(absurd_status_is_refused),
		cmocka_unit_test(fdinfo_fields),
		cmocka_unit_test(timers_text),
		cmocka_unit_test(own_files),
		cmocka_unit_test(ended_processes_are_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
