// SPDX-License-Identifier: Apache-2.0
/* Several threads read pages of one process, several place pages of one, at the same time. */
#include "pages/pages_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka.h wants these in front */
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "kernel/dirty.h"
#include "puppet.h"
#include "remote_puppet.h"

#define AT      PUPPET_AT
#define STREAMS 4
#define PAGES   4000 /* of private memory; as many of shared memory */
#define STRIPE  50   /* pages; each stream has every fourth of these */

static enum page_sink_way way;

struct lane {
	struct all *all;
	unsigned number;
	struct stream streams[2];
	struct channel out, in;
	struct page_source *source;
	struct placer *placer;
	struct page_runs runs;
	struct pages_stats st;
	struct err *sent, *placed;
	pthread_t sender, receiver;
};

struct all {
	struct puppet_task from, to;
	struct page_source *source;
	struct page_sink *sink;
	struct lane lanes[STREAMS];
	int shared[2];
	pthread_mutex_t tracer; /* the puppet does one thing at a time */
	atomic_uint asked;
};

static int space_fd(void *arg, uint64_t space)
{
	return space == 1 ? ((struct all *)arg)->shared[1] : -1;
}

static struct err *ask(void *arg, struct err *(*fn)(void *what), void *what)
{
	struct all *all = arg;
	struct err *e;

	atomic_fetch_add(&all->asked, 1);
	pthread_mutex_lock(&all->tracer);
	e = fn(what);
	pthread_mutex_unlock(&all->tracer);
	return e;
}

static void lane_open(struct lane *l)
{
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	for (int i = 0; i < 2; i++)
		ok(stream_socket(ends[i], &l->streams[i]));
	channel_init(&l->out, &l->streams[0], -1);
	channel_init(&l->in, &l->streams[1], -1);
	l->out.deadline = l->in.deadline = deadline_in(60000000);
	ok(source_copy.another(l->all->source, &l->source));
	l->placer = placer_open(l->all->sink, &(struct placer_remote){ ask, l->all });
}

/* Only what is under test: what else the puppet touches for the first time would kill it. */
static void layout(struct all *all)
{
	autoarena struct arena *a = arena_new();
	struct vma_list maps, under_test = { 0 };

	ok(proc_smaps(a, all->to.t.pid, &maps));
	for (size_t i = 0; i < maps.n; i++)
		if (maps.v[i].start == AT)
			under_test = (struct vma_list){ .v = &maps.v[i], .n = 1 };
	assert_int_equal(under_test.n, 1);
	ok(page_sink_layout(all->sink, &under_test));
}

static void all_open(struct all *all)
{
	*all = (struct all){ .tracer = PTHREAD_MUTEX_INITIALIZER };
	puppet_task_start(&all->from);
	puppet_task_start(&all->to);
	assert_int_equal(map(&all->from.puppet, AT, PAGES * P, -1), AT);
	assert_int_equal(map(&all->to.puppet, AT, PAGES * P, -1), AT);
	for (int i = 0; i < 2; i++)
		all->shared[i] = memfd_create("shared", MFD_CLOEXEC);
	/* Only the source's has its size: the other one grows as pages come. */
	assert_int_equal(ftruncate(all->shared[0], (off_t)(PAGES * P)), 0);
	ok(source_copy.open(&all->from.t, SPACE_PRIVATE, &all->source));
	ok(page_sink_open(&(struct page_sink_spec){ &all->to.t, space_fd, all, way }, &all->sink));
	layout(all);
	for (unsigned i = 0; i < STREAMS; i++) {
		all->lanes[i] = (struct lane){ .all = all, .number = i };
		lane_open(&all->lanes[i]);
	}
}

static void all_close(struct all *all)
{
	for (struct lane *l = all->lanes; l < all->lanes + STREAMS; l++) {
		source_copy.close(l->source);
		placer_close(l->placer);
		page_runs_fini(&l->runs);
		stream_close(&l->streams[0]);
		stream_close(&l->streams[1]);
	}
	source_copy.close(all->source);
	page_sink_close(all->sink);
	puppet_task_stop(&all->from);
	puppet_task_stop(&all->to);
	close(all->shared[0]);
	close(all->shared[1]);
}

static struct err *send_stripes(struct lane *l)
{
	TRY(source_copy.send(l->source, &l->runs, &l->out, &l->st));
	for (uint64_t at = l->number * STRIPE; at < PAGES; at += STREAMS * STRIPE)
		TRY(source_copy.send_shared(l->source,
			&(struct shared_part){ 1, l->all->shared[0], at * P, STRIPE * P }, &l->out,
			&l->st));
	return channel_send(&l->out, FRAME_BYE, 0, NULL, 0);
}

static void *send_lane(void *arg)
{
	struct lane *l = arg;

	l->sent = send_stripes(l);
	return NULL;
}

static struct err *place_all(struct lane *l)
{
	struct frame_head h;

	for (;;) {
		TRY(channel_head(&l->in, &h));
		if (h.type == FRAME_BYE)
			return NULL;
		TRY(placer_frame(l->placer, &h, &l->in));
	}
}

static void *place_lane(void *arg)
{
	struct lane *l = arg;

	l->placed = place_all(l);
	return NULL;
}

static void transfer(struct all *all)
{
	for (struct lane *l = all->lanes; l < all->lanes + STREAMS; l++) {
		l->runs.n = 0;
		for (uint64_t at = l->number * STRIPE; at < PAGES; at += STREAMS * STRIPE)
			page_runs_add_first(&l->runs, AT + at * P, STRIPE, PAGE_DATA);
		assert_int_equal(pthread_create(&l->receiver, NULL, place_lane, l), 0);
		assert_int_equal(pthread_create(&l->sender, NULL, send_lane, l), 0);
	}
	for (struct lane *l = all->lanes; l < all->lanes + STREAMS; l++) {
		pthread_join(l->sender, NULL);
		pthread_join(l->receiver, NULL);
		ok(l->sent);
		ok(l->placed);
	}
}

/* Every third page, beginning elsewhere each time, is all zeros. */
static void fill(struct all *all, uint64_t seed)
{
	uint64_t words[PAGE_BYTES / 8];

	for (uint64_t i = 0; i < PAGES; i++) {
		for (size_t k = 0; k < ARRAY_LEN(words); k++)
			words[k] = (i + seed) % 3 ? (i * P + k) * 0x9e3779b97f4a7c15ULL + seed : 0;
		assert_int_equal(pwrite(all->from.t.mem_fd, words, P, (off_t)(AT + i * P)), P);
		assert_int_equal(pwrite(all->shared[0], words, P, (off_t)(i * P)), P);
	}
}

static void compare(struct all *all)
{
	uint8_t a[PAGE_BYTES], b[PAGE_BYTES];

	for (uint64_t i = 0; i < PAGES; i++) {
		off_t where = (off_t)(AT + i * P);

		assert_int_equal(pread(all->from.t.mem_fd, a, P, where), P);
		/* What is missing cannot even be read while the sink is open. */
		memset(b, 0, sizeof(b));
		if (pread(all->to.t.mem_fd, b, P, where) < 0)
			assert_int_equal(errno, EIO);
		if (memcmp(a, b, P))
			fail_msg("page %ju differs", (uintmax_t)i);
		memset(b, 0, sizeof(b));
		/* It ends with its last page that is not zero. */
		assert_true(pread(all->shared[1], b, P, (off_t)(i * P)) >= 0);
		if (memcmp(a, b, P))
			fail_msg("page %ju of shared memory differs", (uintmax_t)i);
	}
}

static void stripes(unused_arg void **state)
{
	struct all all;

	all_open(&all);
	for (uint64_t round = 0; round < 6; round++) {
		fill(&all, round);
		transfer(&all);
		compare(&all);
		/* What was there and is zero now is dropped, by who may. */
		if (way == SINK_COPY)
			assert_int_equal(all.asked > 0, round > 0);
	}
	if (way == SINK_SPLICE)
		assert_int_equal(page_sink_copied(all.sink), 0);
	all_close(&all);
}

static int to_splice(unused_arg void **state)
{
	way = SINK_SPLICE;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stripes),
		cmocka_unit_test_setup(stripes, to_splice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
