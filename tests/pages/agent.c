// SPDX-License-Identifier: Apache-2.0
/* Tracker, source and sink with real remote calls: from a running process into a seedling. */
#include "pages/pages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka.h wants these in front */
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <string.h>

#include "kernel/ns.h"
#include "kernel/remote.h"
#include "odd_stream.h"
#include "puppet.h"

#define AT    0x300000000000ULL
#define PAGES 3000
#define PID   5000

struct how {
	const struct page_source_ops *source;
	enum page_sink_way sink;
};

struct move {
	const struct how *how;
	struct stream streams[2];
	struct puppet target;
	struct task *from, *to;
	struct dirty *dirty;
	const struct page_source_ops *ops;
	struct page_source *source;
	struct page_sink *sink;
	struct channel out, in;
	struct page_runs runs;
	struct err *sent;
};

static size_t count_fds(pid_t pid)
{
	autoarena struct arena *a = arena_new();
	size_t n;
	int *fds;

	ok(proc_fds(a, pid, &fds, &n));
	return n;
}

static void remote_map(struct task *t, uint64_t at, uint64_t bytes)
{
	ok(REMOTE(t, task_leader(t), NULL, "mmap", SYS_mmap, at, bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, (uint64_t)-1, 0));
}

static void layout(struct move *m)
{
	autoarena struct arena *a = arena_new();
	struct vma_list l;

	ok(proc_maps(a, m->to->pid, &l));
	ok(page_sink_layout(m->sink, &l));
}

static void sink_open(struct move *m)
{
	ok(page_sink_open(&(struct page_sink_spec){ .t = m->to, .way = m->how->sink }, &m->sink));
	layout(m);
}

static void sink_close(struct move *m)
{
	ok(page_sink_leave(m->sink));
	page_sink_close(m->sink);
	m->sink = NULL;
}

static void move_open(struct move *m, void **state)
{
	const struct seedling_spec spec = { .pid = PID };
	int ends[2];

	*m = (struct move){ .how = *state };
	m->ops = m->how->source;
	puppet_start(&m->target);
	assert_int_equal(map(&m->target, AT, PAGES * P, -1), AT);
	ok(task_open(m->target.pid, &m->from));
	ok(task_hold(m->from, deadline_in(60000000)));
	ok(dirty_wp.open(m->from, &m->dirty));
	ok(task_let_go(m->from));
	ok(m->ops->open(m->from, SPACE_PRIVATE, &m->source));
	ok(seedling_make(&spec, &m->to));
	remote_map(m->to, AT, PAGES * P);
	sink_open(m);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	for (int i = 0; i < 2; i++)
		ok(odd_stream(ends[i], (struct odd){ .in_max = 16384 }, &m->streams[i]));
	channel_init(&m->out, &m->streams[0], -1);
	channel_init(&m->in, &m->streams[1], -1);
	m->out.deadline = m->in.deadline = deadline_in(60000000);
}

static void move_close(struct move *m)
{
	m->ops->close(m->source);
	page_sink_close(m->sink);
	stream_close(&m->streams[0]);
	stream_close(&m->streams[1]);
	page_runs_fini(&m->runs);
	ok(task_kill(m->to));
	task_free(m->to);
	task_free(m->from);
	puppet_stop(&m->target);
}

static void collect(struct move *m)
{
	autoarena struct arena *a = arena_new();
	struct vma_dirty info;
	struct vma_list l;

	ok(proc_maps(a, m->from->pid, &l));
	ok(dirty_wp.begin(m->dirty, &l));
	m->runs.n = 0;
	ok(dirty_wp.collect(m->dirty, vma_at(&l, AT), &m->runs, &info));
}

static void *send_all(void *arg)
{
	struct move *m = arg;
	struct pages_stats st = { 0 };

	m->sent = m->ops->send(m->source, &m->runs, &m->out, &st);
	if (!m->sent)
		m->sent = channel_send(&m->out, FRAME_BYE, 0, NULL, 0);
	return NULL;
}

static void round_trip(struct move *m)
{
	pthread_t sender;

	collect(m);
	assert_int_equal(pthread_create(&sender, NULL, send_all, m), 0);
	for (;;) {
		struct frame_head h;

		ok(channel_head(&m->in, &h));
		if (h.type == FRAME_BYE)
			break;
		ok(page_sink_frame(m->sink, &h, &m->in));
	}
	ok(page_sink_settle(m->sink));
	pthread_join(sender, NULL);
	ok(m->sent);
}

static void same(struct move *m)
{
	uint8_t a[PAGE_BYTES], b[PAGE_BYTES];

	for (uint64_t i = 0; i < PAGES; i++) {
		ok(task_read(m->from, AT + i * P, a, P));
		ok(task_read(m->to, AT + i * P, b, P));
		assert_memory_equal(a, b, P);
	}
}

static void rounds_into_a_seedling(void **state)
{
	struct move m;
	size_t fds;

	move_open(&m, state);
	fds = count_fds(m.target.pid);
	touch(&m.target, AT, PAGES, 1);
	round_trip(&m);
	touch(&m.target, AT + 7 * P, 100, 2);
	CALL(&m.target, SYS_madvise, (long)(AT + 50 * P), 60 * P, MADV_DONTNEED);
	CALL(&m.target, SYS_madvise, (long)(AT + 2000 * P), 1000 * P, MADV_DONTNEED);
	round_trip(&m);
	ok(task_hold(m.from, deadline_in(60000000)));
	round_trip(&m);
	if (m.ops->leave)
		ok(m.ops->leave(m.source));
	dirty_wp.close(m.dirty);
	sink_close(&m);
	same(&m);
	ok(task_let_go(m.from));
	/* Nothing of ours is left on either side. */
	touch(&m.target, AT, 1, 3);
	assert_int_equal(count_fds(m.target.pid), fds);
	move_close(&m);
}

static void no_registration_is_left(void **state)
{
	autoarena struct arena *a = arena_new();
	struct vma_list l;
	struct move m;

	move_open(&m, state);
	touch(&m.target, AT, PAGES, 1);
	round_trip(&m);
	/* the seedling's own socket, and our pipes */
	assert_int_equal(count_fds(m.to->pid), m.how->sink == SINK_SPLICE ? 3 : 1);
	ok(proc_smaps(a, m.to->pid, &l));
	assert_int_equal(!(vma_at(&l, AT)->flags & VMF_UFFD_MISSING), m.how->sink == SINK_SPLICE);
	dirty_wp.close(m.dirty);
	sink_close(&m);
	assert_int_equal(count_fds(m.to->pid), 1);
	ok(proc_smaps(a, m.to->pid, &l));
	for (size_t i = 0; i < l.n; i++)
		assert_false(l.v[i].flags & (VMF_UFFD_MISSING | VMF_UFFD_WP));
	ok(proc_smaps(a, m.from->pid, &l));
	for (size_t i = 0; i < l.n; i++)
		assert_false(l.v[i].flags & (VMF_UFFD_MISSING | VMF_UFFD_WP));
	move_close(&m);
}

static int64_t huge_pages_off(struct move *m)
{
	int64_t ret;

	ok(REMOTE(m->to, task_leader(m->to), &ret, "prctl", SYS_prctl, PR_GET_THP_DISABLE));
	return ret;
}

/* What the sink switches for a moment is as the process has it, whichever that is. */
static void huge_pages_stay_as_they_are(void **state)
{
	struct move m;

	move_open(&m, state);
	touch(&m.target, AT, PAGES, 1);
	assert_int_equal(huge_pages_off(&m), 0);
	round_trip(&m);
	assert_int_equal(huge_pages_off(&m), 0);
	touch(&m.target, AT, PAGES, 2);
	ok(REMOTE(m.to, task_leader(m.to), NULL, "prctl", SYS_prctl, PR_SET_THP_DISABLE, 1));
	round_trip(&m);
	assert_int_equal(huge_pages_off(&m), 1);
	dirty_wp.close(m.dirty);
	sink_close(&m);
	same(&m);
	move_close(&m);
}

/* Descriptors of the process are rebuilt while pages come in, at the numbers that are ours. */
static void numbers_are_wanted(void **state)
{
	struct move m;
	int fds[3], numbers[3];
	bool cloexec[3] = { false };

	move_open(&m, state);
	touch(&m.target, AT, PAGES, 1);
	for (int i = 0; i < 3; i++) {
		fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		numbers[i] = i + seedling_lent(m.to, 0) - 1;
	}
	ok(seedling_install(m.to, fds, numbers, cloexec, 3));
	round_trip(&m);
	dirty_wp.close(m.dirty);
	sink_close(&m);
	same(&m);
	assert_int_equal(count_fds(m.to->pid), 1 + 3);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	move_close(&m);
}

static void a_seedling_that_ended(void **state)
{
	struct frame_head h;
	struct move m;
	pthread_t sender;
	struct err *e;

	move_open(&m, state);
	touch(&m.target, AT, PAGES, 1);
	collect(&m);
	assert_int_equal(pthread_create(&sender, NULL, send_all, &m), 0);
	ok(channel_head(&m.in, &h));
	ok(task_kill(m.to));
	waitid(P_PID, (id_t)m.to->pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT | __WALL);
	e = page_sink_frame(m.sink, &h, &m.in);
	if (!e)
		e = page_sink_settle(m.sink);
	assert_non_null(e);
	if (err_code(e) != ERR_GONE)
		fail_msg("%s", err_line(e));
	err_free(e);
	stream_close(&m.streams[1]);
	pthread_join(sender, NULL);
	assert_non_null(m.sent);
	err_free(m.sent);
	dirty_wp.close(m.dirty);
	move_close(&m);
}

#define WITH(test, how) cmocka_unit_test_prestate(test, (void *)(uintptr_t) & (how))

int main(void)
{
	static const struct how copy_copy = { &source_copy, SINK_COPY },
				pump_copy = { &source_pump, SINK_COPY },
				copy_splice = { &source_copy, SINK_SPLICE },
				pump_splice = { &source_pump, SINK_SPLICE };
	const struct CMUnitTest tests[] = {
		WITH(rounds_into_a_seedling, copy_copy),
		WITH(no_registration_is_left, copy_copy),
		WITH(rounds_into_a_seedling, pump_copy),
		WITH(no_registration_is_left, pump_copy),
		WITH(rounds_into_a_seedling, copy_splice),
		WITH(no_registration_is_left, copy_splice),
		WITH(rounds_into_a_seedling, pump_splice),
		WITH(no_registration_is_left, pump_splice),
		WITH(huge_pages_stay_as_they_are, copy_splice),
		WITH(numbers_are_wanted, copy_splice),
		WITH(a_seedling_that_ended, copy_splice),
	};

	ns_enter();
	signal(SIGPIPE, SIG_IGN);
	if (!dirty_wp.probe()) {
		printf("SKIP: userfaultfd has no asynchronous write-protection here\n");
		return TEST_SKIP;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
