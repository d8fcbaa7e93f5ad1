// SPDX-License-Identifier: Apache-2.0
/*
 * How the pump comes in, in an order in which our death at any moment leaves nothing in the target
 * (but what any remote call would: dead bytes below the main stack and behind the vdso):
 *
 *   held     a thread of the target makes a clone(2). The new thread maps its area, copies its code
 *            there and unshares the descriptor table (arch_launch_code, arch_pump_image). If we die
 *            it goes on with that, and waits until it sees that we are no more.
 *   running  it makes its pipes, so nothing of ours was ever in the target's table. We open the
 *            other ends through /proc/PID/task/TID/fd, give the pipes their size (our limits count,
 *            not the target's), and write one byte: then the pump closes its copies of our ends.
 *
 * An order is a message of at most PIPE_BUF bytes, so it comes whole: which pipe, how many pieces,
 * the pieces. The answer is vmsplice's result: it stops in front of the first page that the process
 * cannot read itself.
 *
 * At the end of its orders the pump unmaps its area and exits. What it executes then must lie
 * elsewhere: in the C library where there is such a place (arch_find_leave), else behind the vdso.
 */
#include "kernel/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "kernel/proc.h"
#include "kernel/remote_priv.h"

/* One page of code, and what an order takes. */
#define AREA_BYTES (2 * PAGE_BYTES)
#define IMAGE_MAX  1024
/* The pump's numbers: its pipes are the first that it opens. */
enum { ORDERS_IN = 0, ORDERS_OUT = 1, RESULTS_IN = 2, PAGES_IN = 4, PAGES_OUT = 5 };
#define PIPE_BYTES (1u << 20)

#define HOLD_US    10000000
#define CONNECT_US 2000000
#define END_US     2000000

/* How much of one file is searched for a place to leave by. */
#define TEXT_MAX    (8u << 20)
#define TEXT_CHUNK  (256u << 10)
#define LEAVE_AHEAD 64 /* bytes around it that must be as in the file */

struct pump {
	struct task *t;
	int orders, results, pages[PUMP_PIPES];
	size_t room;
	size_t asked; /* bytes of the order that is out, 0: none */
	unsigned pipe;
	int64_t stop_us;
	bool ended;
	bool traces; /* LEAVE_BYTES behind the vdso are ours */
	uint64_t leave_at;
};

struct order {
	uint64_t pipe, n;
	struct iovec v[PUMP_VECTOR_MAX];
};
_Static_assert(sizeof(struct order) <= PIPE_BUF, "an order comes whole");

/* ---- where to leave by ---- */

static bool may_have_leave(const struct vma *v, const char *exe)
{
	static const char *const names[] = { "libc.so", "libc-", "libc.musl-", "ld-musl-",
		"libpthread" };
	const char *base = strrchr(v->path, '/');

	if (v->prot != (PROT_READ | PROT_EXEC) || v->shared || !v->inode || !base)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strncmp(base + 1, names[i], strlen(names[i])) == 0)
			return true;
	return strcmp(v->path, exe) == 0;
}

/* In memory it must be as in the file, which is what was searched: that leaves the target's page
 * tables alone. */
static bool same_in_memory(const struct task *t, uint64_t addr, const uint8_t *file)
{
	uint8_t there[2 * LEAVE_AHEAD];
	autoerr struct err *e = task_read(t, addr - LEAVE_AHEAD, there, sizeof(there));

	return !e && memcmp(there, file - LEAVE_AHEAD, sizeof(there)) == 0;
}

static uint64_t search_chunk(const struct task *t, uint64_t addr, const uint8_t *chunk, size_t len)
{
	size_t from = 0;

	while (from < len) {
		int64_t found = arch_find_leave(chunk + from, len - from);

		if (found < 0)
			return 0;
		from += (size_t)found;
		if (from >= LEAVE_AHEAD && len - from >= LEAVE_AHEAD &&
			same_in_memory(t, addr + from, chunk + from))
			return addr + from;
		from++;
	}
	return 0;
}

static uint64_t search_text(const struct task *t, const struct vma *v, uint8_t *buf)
{
	autoclose int fd = -1;
	uint64_t found = 0;
	char path[96];

	snprintf(path, sizeof(path), "/proc/%d/map_files/%jx-%jx", (int)t->pid, (uintmax_t)v->start,
		(uintmax_t)v->end);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	for (uint64_t at = 0; fd >= 0 && !found && at < MIN(v->end - v->start, TEXT_MAX);
		at += TEXT_CHUNK - 2 * LEAVE_AHEAD) {
		ssize_t n = pread(
			fd, buf, MIN(v->end - v->start - at, TEXT_CHUNK), (off_t)(v->offset + at));

		if (n <= 0)
			break;
		found = search_chunk(t, v->start + at, buf, (size_t)n);
	}
	return found;
}

/* *ret 0: there is none. */
static struct err *find_leave(const struct task *t, uint64_t *ret)
{
	autoarena struct arena *a = arena_new();
	autofree uint8_t *buf = xcalloc(1, TEXT_CHUNK);
	struct vma_list maps;
	char *exe;

	*ret = 0;
	TRY(proc_link(a, t->pid, "exe", &exe));
	TRY(proc_maps(a, t->pid, &maps));
	for (size_t i = 0; i < maps.n && !*ret; i++)
		if (may_have_leave(&maps.v[i], exe))
			*ret = search_text(t, &maps.v[i], buf);
	return NULL;
}

/* Behind the vdso; there may still be those of a daemon that has died. */
static struct err *put_leave(struct pump *p, uint64_t *at)
{
	uint8_t was[LEAVE_BYTES], want[LEAVE_BYTES] = { 0 };
	static const uint8_t nothing[LEAVE_BYTES];
	struct remote *r = p->t->remote;
	size_t len;
	const void *code = arch_leave_code(&len);

	if (r->place == PLACE_NONE)
		TRY(remote_place(p->t));
	memcpy(want, code, len);
	TRY(task_read(p->t, r->leave_at, was, sizeof(was)));
	if (memcmp(was, want, sizeof(was)) != 0 && memcmp(was, nothing, sizeof(was)) != 0)
		return err_new(ERR_UNSUPPORTED,
			"no place in process %d from which a thread can leave without a trace",
			(int)p->t->pid);
	TRY(task_write(p->t, r->leave_at, want, sizeof(want)));
	p->traces = true;
	*at = p->leave_at = r->leave_at;
	return NULL;
}

static struct err *take_leave_back(struct pump *p)
{
	static const uint8_t nothing[LEAVE_BYTES];

	if (!p->traces)
		return NULL;
	TRY(task_write(p->t, p->leave_at, nothing, sizeof(nothing)));
	p->traces = false;
	return NULL;
}

/* ---- coming in ---- */

static struct err *ended_at_once(const struct task *t)
{
	return err_new(ERR_GONE,
		"the pump in process %d ended at once (are its descriptors limited to less than "
		"8?)",
		(int)t->pid);
}

static struct err *remember(struct task *t, pid_t tid, uint64_t area)
{
	autoarena struct arena *a = arena_new();
	struct proc_stat st;
	struct err *e = proc_stat(a, t->pid, tid, &st);

	if (e && err_code(e) == ERR_GONE) {
		err_free(e);
		return ended_at_once(t);
	}
	TRY(e);
	t->pump = (struct task_pump){
		.tid = tid, .start_time = st.start_time, .start = area, .end = area + AREA_BYTES
	};
	return NULL;
}

static struct err *launch(struct pump *p, uint64_t leave)
{
	uint8_t image[IMAGE_MAX];
	struct remote_launch l = { .image = image, .area_bytes = AREA_BYTES };
	uint64_t area;
	pid_t tid;

	if (!leave)
		TRY(put_leave(p, &leave));
	l.image_len = arch_pump_image(leave, getpid(), image, sizeof(image));
	if (!l.image_len)
		return err_new(ERR_BUG, "the pump's code needs more than %d bytes", IMAGE_MAX);
	TRY(remote_launch(p->t, &l, &tid, &area));
	return remember(p->t, tid, area);
}

static struct err *launch_stopped(struct pump *p, uint64_t leave)
{
	struct err *e, *let;
	int64_t began = clock_us();

	if (p->t->held)
		return launch(p, leave);
	TRY(task_hold(p->t, deadline_in(HOLD_US)));
	e = launch(p, leave);
	let = task_let_go(p->t);
	p->stop_us = clock_us() - began;
	if (!e)
		return let;
	err_free(let);
	return e;
}

/* Its descriptor, as one of ours. ENOENT as long as it is not there yet. */
/* By the engine's thread, like all that follows but orders and results.
 * @calls none: openat pread64 newfstatat */
static struct err *take_end(struct pump *p, int number, int flags, int *fd)
{
	struct deadline d = deadline_in(CONNECT_US);
	char path[96];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/fd/%d", (int)p->t->pid, (int)p->t->pump.tid,
		number);
	for (;;) {
		*fd = open(path, flags | O_NONBLOCK | O_CLOEXEC);
		if (*fd >= 0)
			return NULL;
		if (errno != ENOENT)
			return err_errno(errno, "open %s", path);
		if (!task_pump_is(p->t, p->t->pump.tid))
			return ended_at_once(p->t);
		if (deadline_passed(d))
			return err_new(ERR_TIMEOUT, "the pump in process %d does not begin",
				(int)p->t->pid);
		usleep(50);
	}
}

static struct err *connect_pipes(struct pump *p)
{
	/* The last that it makes first. */
	for (unsigned i = PUMP_PIPES; i-- > 0;)
		TRY(take_end(p, PAGES_IN + 2 * (int)i, O_RDONLY, &p->pages[i]));
	TRY(take_end(p, RESULTS_IN, O_RDONLY, &p->results));
	TRY(take_end(p, ORDERS_OUT, O_WRONLY, &p->orders));
	p->room = SIZE_MAX;
	for (unsigned i = 0; i < PUMP_PIPES; i++)
		p->room = MIN(p->room, io_pipe_grow(p->pages[i], PIPE_BYTES) / PAGE_BYTES);
	if (!p->room)
		return err_new(ERR_KERNEL, "a pipe of less than a page");
	return io_write_full(p->orders, "", 1, "the pump's orders");
}

struct err *pump_open(struct task *t, struct pump **ret)
{
	struct pump *p = xcalloc(1, sizeof(*p));
	uint64_t leave = 0;
	struct err *e;

	*p = (struct pump){ .t = t, .orders = -1, .results = -1, .pages = { -1, -1 } };
	e = find_leave(t, &leave);
	if (!e)
		e = launch_stopped(p, leave);
	if (!e)
		e = connect_pipes(p);
	if (!e) {
		*ret = p;
		return NULL;
	}
	pump_free(p);
	return err_in(e, "put a pump into process %d", (int)t->pid);
}

void pump_facts(const struct pump *p, struct pump_facts *ret)
{
	*ret = (struct pump_facts){ .stop_us = p->stop_us,
		.fds = 2 + PUMP_PIPES,
		.pipe_bytes = PUMP_PIPES * p->room * PAGE_BYTES,
		.leaves_traces = p->traces };
}

int pump_pipe(const struct pump *p, unsigned pipe)
{
	return p->pages[pipe];
}

size_t pump_room(const struct pump *p)
{
	return p->room;
}

/* ---- orders ---- */

static struct err *gone(const struct pump *p)
{
	TRY(task_check_alive(p->t));
	return err_new(ERR_GONE,
		"the pump in process %d has ended (did it execute another program?)",
		(int)p->t->pid);
}

/* @calls pages: write */
struct err *pump_order(struct pump *p, unsigned pipe, const struct iovec *v, size_t n)
{
	struct order o = { .pipe = PAGES_OUT + 2 * pipe, .n = n };
	size_t len = offsetof(struct order, v) + n * sizeof(*v), asked = 0;
	ssize_t w;

	for (size_t i = 0; i < n; i++)
		asked += v[i].iov_len;
	if (!n || n > PUMP_VECTOR_MAX || asked > p->room * PAGE_BYTES || p->asked)
		return err_new(ERR_BUG, "an order of %zu pieces, %zu bytes", n, asked);
	memcpy(o.v, v, n * sizeof(*v));
	w = write(p->orders, &o, len);
	if (w < 0 && errno == EPIPE)
		return gone(p);
	if (w != (ssize_t)len)
		return err_errno(w < 0 ? errno : EIO, "order pages of process %d", (int)p->t->pid);
	p->asked = asked;
	p->pipe = pipe;
	return NULL;
}

/* The number comes out of the target: it may be anything. @calls pages: ioctl[1=FIONREAD] */
static struct err *check_result(struct pump *p, int64_t result, size_t *bytes)
{
	int there = 0;

	*bytes = result < 0 ? 0 : (size_t)result;
	if (ioctl(p->pages[p->pipe], FIONREAD, &there) < 0)
		return err_errno(errno, "look into the pump's pipe");
	if (*bytes > p->asked || *bytes % PAGE_BYTES || (size_t)there != *bytes)
		return err_new(ERR_KERNEL,
			"the pump in process %d was asked for %zu bytes, says %jd, and %d are "
			"there",
			(int)p->t->pid, p->asked, (intmax_t)result, there);
	p->asked = 0;
	return NULL;
}

/* @calls pages: read poll */
struct err *pump_result(struct pump *p, struct deadline d, size_t *bytes)
{
	struct pollfd poll_fd = { .fd = p->results, .events = POLLIN };
	int64_t result;
	ssize_t n;

	for (;;) {
		n = read(p->results, &result, sizeof(result));
		if (n == sizeof(result))
			return check_result(p, result, bytes);
		if (n >= 0)
			return gone(p);
		if (errno != EAGAIN && errno != EINTR)
			return err_errno(errno, "wait for the pump");
		if (poll(&poll_fd, 1, deadline_poll_ms(d)) == 0 && deadline_passed(d))
			return err_hint(
				err_new(ERR_TIMEOUT, "the pump in process %d does not answer",
					(int)p->t->pid),
				"was it stopped, or its control group frozen?");
	}
}

/* ---- the end ---- */

static bool is_mapped(const struct task *t)
{
	char path[96];
	struct stat st;

	/* two mappings: code, and data */
	snprintf(path, sizeof(path), "/proc/%d/map_files/%jx-%jx", (int)t->pid,
		(uintmax_t)t->pump.start, (uintmax_t)(t->pump.start + PAGE_BYTES));
	return lstat(path, &st) == 0;
}

static struct err *wait_end(struct pump *p)
{
	struct deadline d = deadline_in(END_US);
	struct pollfd hung = { .fd = p->results };

	/* It hangs up when it is almost gone. */
	if (p->results >= 0)
		(void)poll(&hung, 1, deadline_poll_ms(d));
	while (task_pump_is(p->t, p->t->pump.tid)) {
		if (deadline_passed(d))
			return err_new(
				ERR_TIMEOUT, "the pump in process %d does not end", (int)p->t->pid);
		sched_yield();
	}
	if (is_mapped(p->t))
		return err_new(ERR_KERNEL, "the pump's memory in process %d is still there",
			(int)p->t->pid);
	return NULL;
}

/* It waits for us, and has our end itself. */
static void release_waiting(struct pump *p)
{
	autoerr struct err *e = take_end(p, ORDERS_OUT, O_WRONLY, &p->orders);

	if (!e)
		e = io_write_full(p->orders, "", 1, "the pump's orders");
}

static struct err *end_pump(struct pump *p)
{
	if (p->t->pump.tid && p->orders < 0 && !p->ended)
		release_waiting(p);
	p->ended = true;
	fd_closep(&p->orders);
	if (p->t->pump.tid)
		TRY(wait_end(p));
	p->t->pump = (struct task_pump){ 0 };
	return take_leave_back(p);
}

struct err *pump_end(struct pump *p)
{
	struct err *e = end_pump(p), *dead;

	if (!e)
		return NULL;
	dead = task_check_alive(p->t);
	if (!dead)
		return e;
	err_free(e);
	err_free(dead);
	return NULL;
}

void pump_free(struct pump *p)
{
	if (!p)
		return;
	err_free(pump_end(p));
	fd_closep(&p->results);
	for (unsigned i = 0; i < PUMP_PIPES; i++)
		fd_closep(&p->pages[i]);
	free(p);
}
