// SPDX-License-Identifier: Apache-2.0
/* Kinds of descriptors: captured from a live child, made again here. */
#include "files_world.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "epoll.pb-c.h"
#include "kinds/refused.h"
#include "kinds/shared.h"
#include "lock.pb-c.h"
#include "memfd.pb-c.h"
#include "pipe.pb-c.h"
#include "timerfd.pb-c.h"

/* ---- grouping ---- */

static int order_tens(void *arg unused_arg, const struct file_look *a, const struct file_look *b)
{
	return (a->number / 10 > b->number / 10) - (a->number / 10 < b->number / 10);
}

static void test_grouping(void **state unused_arg)
{
	autoarena struct arena *a = arena_new();
	const int numbers[] = { 23, 11, 500, 12, 21, 13 };
	const struct file_order tens = { order_tens, NULL };
	struct file_look l[6] = { 0 };
	struct file_table t;

	for (size_t i = 0; i < 6; i++) {
		l[i].number = numbers[i];
		l[i].link = "anon_inode:[eventfd]";
		l[i].fdinfo = "pos:\t0\nflags:\t02000002\n";
		ok(file_look_parse(&l[i]));
	}
	assert_int_equal(l[0].flags, O_CLOEXEC | O_RDWR);
	l[5].flags &= ~(uint64_t)O_CLOEXEC; /* of the descriptor, not of the description */
	file_table_group(a, l, 6, &tens, &t);
	assert_int_equal(t.n, 3);
	assert_int_equal(t.v[0].id, file_id(0, 11));
	assert_int_equal(t.v[0].n_slots, 3);
	assert_int_equal(t.v[0].slots[2].number, 13);
	assert_false(t.v[0].slots[2].cloexec);
	assert_true(t.v[0].slots[1].cloexec);
	assert_int_equal(t.v[0].flags, O_RDWR);
	assert_int_equal(t.v[1].slots[0].number, 21);
	assert_ptr_equal(file_by_number(&t, 23), &t.v[1]);
	assert_ptr_equal(file_by_number(&t, 500), &t.v[2]);
	assert_null(file_by_number(&t, 24));
	/* Another access mode is another description, whatever the order says. */
	l[1].flags = O_RDONLY;
	file_table_group(a, l, 6, &tens, &t);
	assert_int_equal(t.n, 4);
	file_table_group(a, l, 0, &tens, &t);
	assert_int_equal(t.n, 0);
}

static void make_dups(const char *dir)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/f", dir);
	dup2(open(path, O_RDWR | O_CREAT, 0600), 10);
	fcntl(10, F_DUPFD_CLOEXEC, 900);
	dup2(10, 5);
	dup2(open(path, O_RDWR), 11);
	for (int i = 20; i < 40; i++)
		dup2(eventfd(0, 0), i);
}

static void test_table(void **state unused_arg)
{
	struct fixture f;
	const struct file *file;

	child_start(&f, make_dups);
	file = file_by_number(&f.files, 10);
	assert_non_null(file);
	assert_ptr_equal(file, file_by_number(&f.files, 5));
	assert_ptr_equal(file, file_by_number(&f.files, 900));
	assert_true(file->slots[file->n_slots - 1].cloexec);
	assert_false(file->slots[0].cloexec);
	assert_ptr_not_equal(file, file_by_number(&f.files, 11));
	assert_ptr_not_equal(file_by_number(&f.files, 20), file_by_number(&f.files, 21));
	child_end(&f);
}

/* ---- kinds ---- */

static void test_registry(void **state unused_arg)
{
	size_t n;
	const struct kind *const *k = kinds_all(&n);

	for (size_t i = 0; i < n; i++) {
		assert_ptr_equal(kind_by_id(k[i]->id), k[i]);
		assert_non_null(k[i]->name);
		assert_non_null(k[i]->msg);
		assert_non_null(k[i]->capture);
		if (k[i]->scope == KIND_FILE) {
			assert_non_null(k[i]->claims);
			assert_non_null(k[i]->rebuild);
		}
	}
	assert_null(kind_by_id(0));
	assert_null(kind_by_id(999999));
}

static void make_simple(const char *dir unused_arg)
{
	uint64_t big = 0xfffffffffffffffeULL;
	sigset_t set;

	dup2(eventfd(7, EFD_NONBLOCK), 10);
	dup2(eventfd(3, EFD_SEMAPHORE), 11);
	dup2(eventfd(0, 0), 12);
	if (write(12, &big, 8) != 8)
		_exit(1);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 3);
	dup2(signalfd(-1, &set, SFD_NONBLOCK), 13);
	dup2(open("/dev/null", O_WRONLY | O_APPEND), 14);
	dup2(open("/dev/urandom", O_RDONLY | O_NONBLOCK), 15);
	dup2(open("/dev/zero", O_RDWR), 16);
	dup2(open("/proc/self/stat", O_RDONLY), 17);
	dup2(open("/proc/self/oom_score_adj", O_WRONLY), 18);
}

static void test_simple(void **state unused_arg)
{
	struct fixture f;
	struct object *o;
	uint64_t v;
	int fd;

	child_start(&f, make_simple);
	close(round_trip(&f, 10));
	fd = round_trip(&f, 11);
	assert_int_equal(read(fd, &v, 8), 8);
	assert_int_equal(v, 1);
	close(fd);
	close(round_trip(&f, 12));
	close(round_trip(&f, 13));
	close(round_trip(&f, 14));
	close(round_trip(&f, 15));
	close(round_trip(&f, 16));
	close(round_trip(&f, 17));
	refused(capture_number(&f, 18, &o), "open for writing");
	child_end(&f);
}

static void make_files(const char *dir)
{
	char path[128], other[128], buf[5000];

	memset(buf, 'x', sizeof(buf));
	snprintf(path, sizeof(path), "%s/f", dir);
	dup2(open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600), 10);
	if (write(10, buf, sizeof(buf)) != sizeof(buf))
		_exit(1);
	dup2(open(path, O_RDONLY | O_NOATIME | O_NOFOLLOW), 11);
	lseek(11, 77, SEEK_SET);
	dup2(open(path, O_WRONLY | O_SYNC | O_NONBLOCK), 12);
	lseek(12, 1LL << 40, SEEK_SET);
	dup2(open(path, O_PATH), 13);
	dup2(open(dir, O_RDONLY | O_DIRECTORY), 14);
	syscall(SYS_getdents64, 14, buf, sizeof(buf));
	dup2(open(dir, O_PATH | O_DIRECTORY), 15);
	snprintf(path, sizeof(path), "%s/gone", dir);
	dup2(open(path, O_RDWR | O_CREAT, 0600), 16);
	unlink(path);
	dup2(open(path, O_RDONLY | O_CREAT, 0600), 17);
	snprintf(path, sizeof(path), "%s/moved", dir);
	dup2(open(path, O_RDONLY | O_CREAT, 0600), 18);
	unlink(path);
	close(open(path, O_RDONLY | O_CREAT, 0600));
	snprintf(path, sizeof(path), "%s/first", dir);
	snprintf(other, sizeof(other), "%s/other", dir);
	dup2(open(path, O_RDONLY | O_CREAT, 0600), 19);
	if (link(path, other) < 0)
		_exit(1);
	unlink(path);
}

static void replace_file(const char *path, const char *with, size_t n)
{
	char tmp[128];
	int fd;

	snprintf(tmp, sizeof(tmp), "%s.new", path);
	fd = open(tmp, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, with, n), n);
	close(fd);
	assert_int_equal(rename(tmp, path), 0);
}

static void test_files(void **state unused_arg)
{
	struct object *o, *ro, *rw;
	char path[128], buf[5000];
	struct fixture f;
	int fd;

	child_start(&f, make_files);
	for (int i = 10; i <= 15; i++)
		close(round_trip(&f, i));
	ok(capture_number(&f, 16, &o));
	assert_string_equal(o->kind->name, "memfd");
	ok(capture_number(&f, 18, &o)); /* its name is another file's now */
	assert_string_equal(o->kind->name, "memfd");
	refused(capture_number(&f, 19, &o), "first"); /* it has another name */
	ok(capture_number(&f, 11, &ro));
	ok(capture_number(&f, 10, &rw));
	/* Another file with the same content does for reading only. */
	memset(buf, 'x', sizeof(buf));
	snprintf(path, sizeof(path), "%s/f", f.dir);
	replace_file(path, buf, sizeof(buf));
	ok(rebuild_object(&f, ro, &fd));
	close(fd);
	ok(rebuild_object(&f, ro, &fd)); /* by the cache */
	close(fd);
	refused(rebuild_object(&f, rw, &fd), "open for writing");
	buf[17]++;
	replace_file(path, buf, sizeof(buf));
	refused(rebuild_object(&f, ro, &fd), "contents differ");
	replace_file(path, buf, 3);
	refused(rebuild_object(&f, ro, &fd), "3 bytes");
	assert_int_equal(unlink(path), 0);
	refused(rebuild_object(&f, ro, &fd), "does not exist");
	assert_int_equal(mkfifo(path, 0600), 0);
	refused(rebuild_object(&f, rw, &fd), "another type");
	child_end(&f);
}

static void make_pipes(const char *dir unused_arg)
{
	char path[64], buf[70000];
	int p[2];

	memset(buf, 'p', sizeof(buf));
	if (pipe2(p, O_NONBLOCK) < 0)
		_exit(1);
	dup2(p[0], 10);
	dup2(p[1], 11);
	fcntl(11, F_SETPIPE_SZ, 1 << 18);
	if (write(11, buf, sizeof(buf)) != sizeof(buf))
		_exit(1);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", 10);
	dup2(open(path, O_RDONLY), 12);
	dup2(open(path, O_RDWR | O_NONBLOCK), 13);
	close_range(p[0], 9, 0);
	/* 20: read end alone, with data; 21: write end alone */
	if (pipe(p) < 0 || write(p[1], "left", 4) != 4)
		_exit(1);
	dup2(p[0], 20);
	close(p[0]);
	close(p[1]);
	if (pipe(p) < 0)
		_exit(1);
	dup2(p[1], 21);
	close(p[0]);
	close(p[1]);
	/* 22: a packet behind so many other bytes that nobody can tell where it begins */
	if (pipe(p) < 0 || write(p[1], buf, 8192) != 8192 || fcntl(p[1], F_SETFL, O_DIRECT) < 0 ||
		write(p[1], "packet", 6) != 6)
		_exit(1);
	dup2(p[0], 22);
	close(p[0]);
	close(p[1]);
}

static void check_pipe_group(struct fixture *f)
{
	struct object *o[4];
	char buf[1 << 17];
	int fd[4], n;

	for (int i = 0; i < 4; i++)
		ok(capture_number(f, 10 + i, &o[i]));
	for (int i = 3; i >= 0; i--) {
		assert_int_equal(o[i]->group, o[0]->group);
		ok(rebuild_object(f, o[i], &fd[i]));
	}
	for (int i = 0; i < 4; i++)
		assert_string_equal(
			stable_fdinfo(f, getpid(), fd[i]), stable_fdinfo(f, f->task.pid, 10 + i));
	assert_int_equal(fcntl(fd[1], F_GETPIPE_SZ), 1 << 18);
	assert_int_equal(ioctl(fd[2], FIONREAD, &n), 0);
	assert_int_equal(n, 70000);
	assert_int_equal(read(fd[0], buf, sizeof(buf)), 70000);
	assert_int_equal(buf[69999], 'p');
	for (int i = 0; i < 4; i++)
		close(fd[i]);
	/* Nothing was consumed. */
	ok(capture_number(f, 10, &o[0]));
	assert_true(o[0]->body_len > 70000);
}

static void test_pipes(void **state unused_arg)
{
	struct fixture f;
	struct pollfd p = { 0 };
	struct object *o;
	char buf[8];
	int fd;

	child_start(&f, make_pipes);
	check_pipe_group(&f);
	fd = round_trip(&f, 20);
	for (size_t i = 0; i < f.rp.n; i++)
		for (size_t j = 0; j < 4; j++)
			if (f.rp.stash[i][j] > 0)
				close(f.rp.stash[i][j] - 1);
	f.rp.n = 0;
	assert_int_equal(read(fd, buf, sizeof(buf)), 4);
	assert_int_equal(read(fd, buf, sizeof(buf)), 0);
	close(fd);
	memset(f.rp.stash, 0, sizeof(f.rp.stash));
	p.fd = round_trip(&f, 21);
	close(f.rp.stash[0][0] - 1);
	close(f.rp.stash[0][1] - 1);
	f.rp.n = 0;
	assert_int_equal(poll(&p, 1, 0), 1);
	assert_true(p.revents & POLLERR);
	close(p.fd);
	refused(capture_number(&f, 22, &o), "packets");
	child_end(&f);
}

static int inherited[2];

static void make_nothing(const char *dir unused_arg)
{
}

static void test_outside(void **state unused_arg)
{
	struct fixture f = { 0 };
	struct holder_name by;
	struct object *o;
	pid_t child;
	int hold[2];

	/* Our own end does not count (we are the one who looks), a third process's does. */
	assert_int_equal(pipe(inherited), 0);
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	dup2(inherited[0], 0);
	close(inherited[0]);
	child_start(&f, make_nothing); /* 0: the read end; the write end is outside */
	refused(capture_number(&f, 0, &o), "the write end is held by process");
	assert_true(kind_cache_held_outside(
		f.cache, &f.inside, true, file_by_number(&f.files, 0)->link, &by));
	child_end(&f);
	close(inherited[1]);
	/* Nobody else is there once that one is gone. */
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	child_start(&f, make_nothing);
	ok(capture_number(&f, 0, &o));
	child_end(&f);
	assert_int_equal(pipe(hold), 0);
	assert_false(kind_cache_held_outside(NULL, &f.inside, false, "pipe:[1]", &by));
	close(hold[0]);
	close(hold[1]);
	dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
}

/* What the parent has open as well: kcmp finds it in a third process. */
static void test_shared(void **state unused_arg)
{
	struct fixture f;
	pid_t child;
	int event;

	event = eventfd(0, 0);
	dup2(event, 0);
	close(event);
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	child_start(&f, make_nothing);
	ok(shared_outside(&f.c));
	refused(take(&f.cp.refused), "is shared with process");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ok(shared_outside(&f.c));
	assert_null(f.cp.refused);
	child_end(&f);
	dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
}

static void make_timers(const char *dir unused_arg)
{
	struct itimerspec once = { .it_value = { 100, 0 } };
	struct itimerspec often = { { 0, 1000000 }, { 0, 1000000 } };

	dup2(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), 10);
	timerfd_settime(10, 0, &once, NULL);
	dup2(timerfd_create(CLOCK_REALTIME, 0), 11);
	timerfd_settime(11, 0, &often, NULL);
	dup2(timerfd_create(CLOCK_BOOTTIME, 0), 12);
	clock_gettime(CLOCK_REALTIME, &once.it_value);
	once.it_value.tv_sec += 1000;
	dup2(timerfd_create(CLOCK_REALTIME, 0), 13);
	timerfd_settime(13, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &once, NULL);
}

static const Migrate__Kind__Timerfd *timer(struct fixture *f, int number)
{
	struct object *o;
	void *msg;
	int fd = -1;

	ok(capture_number(f, number, &o));
	ok(kind_unpack(f->arena, o, &msg));
	ok(rebuild_object(f, o, &fd));
	close(fd);
	return msg;
}

static int64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void test_timers(void **state unused_arg)
{
	const Migrate__Kind__Timerfd *m;
	struct fixture f;
	int64_t left;

	child_start(&f, make_timers);
	usleep(20000);
	look(&f);
	f.c.stopped = true;
	m = timer(&f, 10);
	left = m->expiry_ns - now_ns(CLOCK_MONOTONIC);
	assert_true(m->armed && left > 90000000000LL && left < 100000000000LL);
	assert_int_equal(m->clock, CLOCK_MONOTONIC);
	assert_int_equal(m->flags, O_NONBLOCK);
	m = timer(&f, 11);
	assert_true(m->armed && m->ticks >= 19 && m->interval_ns == 1000000);
	left = m->expiry_ns - now_ns(CLOCK_MONOTONIC);
	assert_true(left > -1000000000LL && left <= 1000000);
	m = timer(&f, 12);
	assert_false(m->armed);
	m = timer(&f, 13);
	left = m->expiry_ns - now_ns(CLOCK_REALTIME);
	assert_true(left > 990000000000LL && left < 1000000000000LL);
	assert_int_equal(m->settime_flags, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
	child_end(&f);
}

static void make_epoll(const char *dir unused_arg)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u64 = 0xfeedfacedeadbeefULL };
	int p[2];

	dup2(epoll_create1(0), 10);
	dup2(eventfd(1, 0), 30);
	dup2(eventfd(1, 0), 20);
	epoll_ctl(10, EPOLL_CTL_ADD, 30, &ev);
	ev.events = EPOLLIN | EPOLLONESHOT;
	epoll_ctl(10, EPOLL_CTL_ADD, 20, &ev);
	if (epoll_wait(10, &ev, 1, 0) != 1 || epoll_wait(10, &ev, 1, 0) != 1)
		_exit(1);
	/* 11: an item whose number was closed while its file lives on */
	dup2(epoll_create1(0), 11);
	if (pipe(p) < 0)
		_exit(1);
	epoll_ctl(11, EPOLL_CTL_ADD, p[0], &ev);
	dup2(p[0], 40);
	dup2(30, p[0]);
}

static void test_epoll(void **state unused_arg)
{
	const Migrate__Kind__Epoll *m;
	struct fixture f;
	struct object *o;
	void *msg;

	child_start(&f, make_epoll);
	ok(capture_number(&f, 10, &o));
	ok(kind_unpack(f.arena, o, &msg));
	m = msg;
	assert_int_equal(m->n_items, 2);
	assert_int_equal(o->n_refs, 2);
	assert_int_equal(m->items[0]->number, 20);
	assert_int_equal(m->items[0]->events, EPOLLONESHOT); /* fired */
	assert_int_equal(m->items[1]->number, 30);
	assert_true(m->items[1]->events & (uint32_t)EPOLLET);
	assert_true(m->items[1]->data == 0xfeedfacedeadbeefULL);
	refused(capture_number(&f, 11, &o), "only open under another number");
	f.c.stopped = true;
	refused(capture_number(&f, 11, &o), "only open under another number");
	child_end(&f);
}

static void make_locks(const char *dir)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 10 };
	char path[128];

	snprintf(path, sizeof(path), "%s/l", dir);
	dup2(open(path, O_RDWR | O_CREAT, 0600), 10);
	fcntl(10, F_SETLK, &fl);
	fl = (struct flock){ .l_type = F_RDLCK, .l_start = 500 };
	fcntl(10, F_SETLK, &fl);
	snprintf(path, sizeof(path), "%s/m", dir);
	dup2(open(path, O_RDWR | O_CREAT, 0600), 11);
	flock(11, LOCK_EX);
	snprintf(path, sizeof(path), "%s/n", dir);
	dup2(open(path, O_RDWR | O_CREAT, 0600), 12);
	fl.l_pid = 0;
	fcntl(12, F_OFD_SETLK, &fl);
}

static const Migrate__Kind__Locks *locks(struct fixture *f, size_t i)
{
	void *msg;

	assert_true(i < f->cp.n);
	ok(kind_unpack(f->arena, &f->cp.objects[i], &msg));
	return msg;
}

static void test_locks(void **state unused_arg)
{
	const Migrate__Kind__Locks *m;
	struct fixture f;

	child_start(&f, make_locks);
	f.cp.kind = kind_by_id(29);
	ok(f.cp.kind->capture(&f.c));
	assert_int_equal(f.cp.n, 3);
	m = locks(&f, 0);
	assert_int_equal(m->number, file_by_number(&f.files, 10)->slots[0].number);
	assert_int_equal(m->n_locks, 2);
	assert_true(m->locks[0]->write);
	assert_int_equal(m->locks[0]->start, 100);
	assert_int_equal(m->locks[0]->len, 10);
	assert_false(m->locks[1]->write);
	assert_int_equal(m->locks[1]->len, 0);
	m = locks(&f, 1);
	assert_true(m->n_locks == 1 && m->locks[0]->flock && m->locks[0]->write);
	m = locks(&f, 2);
	assert_true(m->n_locks == 1 && m->locks[0]->ofd && !m->locks[0]->write);
	assert_int_equal(m->locks[0]->start, 500);
	child_end(&f);
}

static void make_memfd(const char *dir unused_arg)
{
	char path[64];

	dup2(memfd_create("some name", MFD_ALLOW_SEALING), 10);
	if (ftruncate(10, 8192) < 0)
		_exit(1);
	lseek(10, 100, SEEK_SET);
	snprintf(path, sizeof(path), "/proc/self/fd/10");
	dup2(open(path, O_RDONLY), 11);
	fcntl(10, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_WRITE);
}

static void test_memfd(void **state unused_arg)
{
	struct fixture f;
	struct object *o;
	struct stat st;
	void *msg;
	int fd;

	child_start(&f, make_memfd);
	f.rp.space = memfd_create("some name", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	assert_int_equal(ftruncate(f.rp.space, 8192), 0);
	close(round_trip(&f, 11));
	fd = round_trip(&f, 10);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 8192);
	ok(capture_number(&f, 10, &o));
	assert_string_equal(o->kind->name, "memfd");
	ok(kind_unpack(f.arena, o, &msg));
	ok(o->kind->finish(&f.r, o, msg));
	ok(o->kind->finish(&f.r, o, msg));
	assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_GROW | F_SEAL_WRITE);
	close(fd);
	child_end(&f);
}

static void test_refused(void **state unused_arg)
{
	struct file f = { .link = "anon_inode:[fanotify]" };
	const char *hint;

	assert_non_null(strstr(refused_reason(&f, &hint), "fanotify"));
	f.link = "anon_inode:[never-heard-of]";
	assert_non_null(refused_reason(&f, &hint));
	f = (struct file){ .link = "/dev/pts/3",
		.st = { .st_mode = S_IFCHR, .st_rdev = 136 << 8 } };
	assert_non_null(strstr(refused_reason(&f, &hint), "terminal"));
	assert_non_null(strstr(hint, "setsid"));
	f = (struct file){ .link = "whatever" };
	assert_non_null(refused_reason(&f, &hint));
}

static void test_nonsense(void **state unused_arg)
{
	autoarena struct arena *a = arena_new();
	struct object o = {
		.kind = kind_by_id(24), .body = (const uint8_t *)"\xff\xff\xff", .body_len = 3
	};
	void *msg;

	refused(kind_unpack(a, &o, &msg), "does not parse");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grouping),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_registry),
		cmocka_unit_test(test_simple),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_pipes),
		cmocka_unit_test(test_outside),
		cmocka_unit_test(test_shared),
		cmocka_unit_test(test_timers),
		cmocka_unit_test(test_epoll),
		cmocka_unit_test(test_locks),
		cmocka_unit_test(test_memfd),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
