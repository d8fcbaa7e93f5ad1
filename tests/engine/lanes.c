// SPDX-License-Identifier: Apache-2.0
/* Page streams: what comes over several of them, with delays of all sorts, ends as if it had come
 * over one; and whatever happens to one of them ends the round for all. */
#include "engine/lanes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka.h wants these in front */
#include <cmocka.h>

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAMS 4
#define PAGES   100
#define ROUNDS  150
#define DELAYS  97 /* of a fixed list, so that every run is another one only by its scheduling */

/* One end: of the source or of the destination. */
struct end {
	struct stream control_stream, streams[STREAMS];
	struct channel control;
	int fds[STREAMS], control_fd, interrupt[2];
	struct lanes lanes;
	struct engine_io io;
	struct err *e;
};

static const struct channel_more no_more;

struct world {
	struct end source, destination;
	uint64_t round; /* of the source */
	atomic_uint next;
	unsigned delays_us[DELAYS];
	/* destination: what the last LAYOUT said, and what every page holds */
	uint64_t layout;
	uint64_t pages[PAGES];
	atomic_ulong early, torn, placed;
	unsigned not_last; /* pages that were not of their round when it was over */
	bool asks;
	unsigned stall_lane; /* the source does not send there; STREAMS: nowhere */
	bool cut;            /* and it breaks */
	pthread_t tracer;
	atomic_ulong foreign; /* questions that another thread answered */
};

static struct err *open_stream(void *arg, unsigned n, struct deadline d, struct stream **ret)
{
	struct end *end = arg;

	assert_false(deadline_passed(d));
	*ret = &end->streams[n - 1];
	return stream_socket(take_fd(&end->fds[n - 1]), *ret);
}

static void ok(struct err *e)
{
	if (!e)
		return;
	print_message("%s\n", err_line(e));
	fail();
}

static void end_open(struct end *end)
{
	end->io = (struct engine_io){ .arg = end, .open_stream = open_stream };
	ok(stream_socket(end->control_fd, &end->control_stream));
	assert_int_equal(pipe(end->interrupt), 0);
	channel_init(&end->control, &end->control_stream, end->interrupt[0]);
	end->control.deadline = deadline_in(20000000);
	ok(lanes_open(&end->lanes, &end->io, STREAMS, &no_more));
}

static void end_close(struct end *end)
{
	lanes_close(&end->lanes);
	stream_close(&end->control_stream);
	close(end->interrupt[0]);
	close(end->interrupt[1]);
	err_free(end->e);
	end->e = NULL;
}

static void open_world(struct world *w)
{
	unsigned seed = 1;
	int sp[2];

	*w = (struct world){ .stall_lane = STREAMS };
	for (int i = 0; i <= STREAMS; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp), 0);
		*(i < STREAMS ? &w->source.fds[i] : &w->source.control_fd) = sp[0];
		*(i < STREAMS ? &w->destination.fds[i] : &w->destination.control_fd) = sp[1];
	}
	for (int i = 0; i < DELAYS; i++) {
		seed = seed * 1103515245 + 12345;
		/* mostly none, sometimes so long that other streams run far ahead */
		w->delays_us[i] = (seed >> 16) % 8 ? 0 : (seed >> 20) % 400;
	}
	end_open(&w->source);
	end_open(&w->destination);
}

static void close_world(struct world *w)
{
	end_close(&w->source);
	end_close(&w->destination);
}

static void delay(const struct world *w, uint64_t salt)
{
	unsigned us = w->delays_us[salt % DELAYS];

	if (us)
		usleep(us);
}

/* ---- source ---- */

static struct err *send_page(void *arg, unsigned lane, struct channel *ch, bool *any)
{
	struct world *w = arg;
	unsigned page;

	while (lane == w->stall_lane) {
		TRY(channel_interrupted(ch));
		if (w->cut)
			shutdown(ch->out->fd, SHUT_RDWR);
		usleep(1000);
	}
	page = atomic_fetch_add(&w->next, 1);
	*any = page < PAGES;
	if (!*any)
		return NULL;
	delay(w, w->round * 31 + page * 7 + lane);
	return channel_send(ch, FRAME_PAGES, page, &w->round, sizeof(w->round));
}

static void nothing(void *arg unused_arg)
{
}

static struct err *peer_spoke(void *arg unused_arg)
{
	return err_new(ERR_PEER, "it spoke");
}

static struct err *send_round(struct world *w, int64_t timeout_us)
{
	struct end *end = &w->source;
	const struct lanes_round r = {
		.number = w->round,
		.timeout_us = timeout_us,
		.until = DEADLINE_NEVER,
		.interrupt_fd = end->interrupt[0],
		.control = &end->control,
		.arg = w,
		.send = send_page,
		.progress = nothing,
		.spoken = peer_spoke,
	};

	atomic_store(&w->next, 0);
	TRY(channel_send(&end->control, FRAME_LAYOUT, 0, &w->round, sizeof(w->round)));
	TRY(channel_send(&end->control, FRAME_SPREAD, w->round, NULL, 0));
	TRY(lanes_send(&end->lanes, &r));
	return channel_send(&end->control, FRAME_ROUND, w->round, NULL, 0);
}

/* Waits for the peer after every third round only: what keeps the order must not be that. */
static struct err *send_rounds(struct world *w)
{
	struct frame_head h;

	for (w->round = 1; w->round <= ROUNDS; w->round++) {
		TRY(send_round(w, 20000000));
		if (w->round % 3 == 0)
			TRY(channel_head(&w->source.control, &h));
	}
	return channel_send(&w->source.control, FRAME_BYE, 0, NULL, 0);
}

/* ---- destination ---- */

struct question {
	struct world *w;
	uint64_t value;
};

static struct err *answer(void *arg)
{
	struct question *q = arg;

	if (!pthread_equal(pthread_self(), q->w->tracer))
		atomic_fetch_add(&q->w->foreign, 1);
	q->value = ~q->value;
	return NULL;
}

static struct err *place_page(
	void *arg, unsigned lane, struct channel *ch, const struct frame_head *h)
{
	struct world *w = arg;
	struct question q = { .w = w };
	uint64_t round;

	TRY(channel_read(ch, &round, sizeof(round)));
	if (round != w->layout)
		atomic_fetch_add(&w->early, 1);
	delay(w, round * 13 + h->arg * 5 + lane);
	q.value = round;
	if (w->asks && h->arg % 4 == 0) {
		TRY(crew_ask(w->destination.lanes.crew, answer, &q));
		if (q.value != ~round)
			atomic_fetch_add(&w->torn, 1);
	}
	w->pages[h->arg] = round;
	atomic_fetch_add(&w->placed, 1);
	return NULL;
}

static struct err *stay(void *arg unused_arg)
{
	return NULL;
}

static struct err *take_round(struct world *w, uint64_t number, int64_t timeout_us)
{
	struct end *end = &w->destination;
	const struct lanes_round r = {
		.number = number,
		.timeout_us = timeout_us,
		.until = DEADLINE_NEVER,
		.interrupt_fd = end->interrupt[0],
		.control = &end->control,
		.arg = w,
		.place = place_page,
		.progress = nothing,
		.spoken = stay,
	};

	w->tracer = pthread_self();
	TRY(lanes_take(&end->lanes, &r));
	for (int i = 0; i < PAGES; i++)
		w->not_last += w->pages[i] != number;
	return NULL;
}

static struct err *take_rounds(struct world *w, int64_t timeout_us)
{
	struct channel *control = &w->destination.control;
	struct frame_head h;

	for (;;) {
		TRY(channel_head(control, &h));
		if (h.type == FRAME_BYE)
			return NULL;
		if (h.type == FRAME_LAYOUT)
			TRY(channel_read(control, &w->layout, sizeof(w->layout)));
		else if (h.type == FRAME_SPREAD)
			TRY(take_round(w, h.arg, timeout_us));
		else if (h.arg % 3 == 0)
			TRY(channel_send(control, FRAME_ROUND_OK, h.arg, NULL, 0));
	}
}

static void *destination(void *arg)
{
	struct world *w = arg;

	w->destination.e = take_rounds(w, 20000000);
	return NULL;
}

/* ---- tests ---- */

static void the_last_content_stays(unused_arg void **state)
{
	for (int asks = 0; asks < 2; asks++) {
		struct world w;
		pthread_t t;

		open_world(&w);
		w.asks = asks;
		assert_int_equal(pthread_create(&t, NULL, destination, &w), 0);
		ok(send_rounds(&w));
		pthread_join(t, NULL);
		ok(w.destination.e);
		assert_int_equal(w.early, 0);
		assert_int_equal(w.torn, 0);
		assert_int_equal(w.foreign, 0);
		assert_int_equal(w.not_last, 0);
		assert_int_equal(w.placed, PAGES * ROUNDS);
		for (int i = 0; i < PAGES; i++)
			assert_int_equal(w.pages[i], ROUNDS);
		assert_int_equal(lanes_bytes(&w.source.lanes), lanes_bytes(&w.destination.lanes));
		assert_int_equal(lanes_bytes(&w.source.lanes),
			ROUNDS * (PAGES * (FRAME_HEAD_BYTES + 8) + STREAMS * FRAME_HEAD_BYTES));
		close_world(&w);
	}
}

static void expect(const struct err *e, enum err_code code)
{
	assert_non_null(e);
	assert_string_equal(err_code_name(err_code(e)), err_code_name(code));
}

static unsigned count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static unsigned count_threads(void)
{
	DIR *d = opendir("/proc/self/task");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Both sides of one round, the destination in a thread; what goes wrong is in its own thread too.
 */
struct trouble {
	struct world w;
	int64_t timeout_us;
	bool cut;
};

static void *take_one(void *arg)
{
	struct trouble *t = arg;

	t->w.layout = 1;
	t->w.destination.e = take_round(&t->w, 1, t->timeout_us);
	/* as an engine that gives up */
	shutdown(t->w.destination.control_stream.fd, SHUT_RDWR);
	lanes_close(&t->w.destination.lanes);
	return NULL;
}

static void send_one(struct trouble *t)
{
	pthread_t taker;

	assert_int_equal(pthread_create(&taker, NULL, take_one, t), 0);
	t->w.round = 1;
	t->w.source.e = send_round(&t->w, t->timeout_us);
	shutdown(t->w.source.control_stream.fd, SHUT_RDWR);
	lanes_close(&t->w.source.lanes);
	pthread_join(taker, NULL);
}

static void *cancel_soon(void *arg)
{
	struct end *end = arg;

	usleep(20000);
	if (write(end->interrupt[1], "c", 1) < 0)
		abort();
	return NULL;
}

/* The end of the control stream, or a word on it, also counts. */
static void *speak_soon(void *arg)
{
	struct trouble *t = arg;

	usleep(20000);
	err_free(channel_send(&t->w.destination.control, FRAME_ERROR, 0, NULL, 0));
	return NULL;
}

/* Of four streams, the second does not come to the end of its round. */
static void in_trouble(struct trouble *t, void *(*what)(void *), void *arg)
{
	unsigned fds = count_fds(), threads = count_threads();
	pthread_t helper;

	open_world(&t->w);
	t->w.stall_lane = 1;
	t->w.cut = t->cut;
	if (what)
		assert_int_equal(pthread_create(&helper, NULL, what, arg), 0);
	send_one(t);
	if (what)
		pthread_join(helper, NULL);
	/* A failed crew takes nothing else, and is gone when it is closed. */
	assert_int_equal(count_threads(), threads);
	assert_null(t->w.source.lanes.crew);
	/* Before end_close, so that errors can be looked at by the caller. */
	lanes_close(&t->w.source.lanes);
	stream_close(&t->w.source.control_stream);
	stream_close(&t->w.destination.control_stream);
	for (int i = 0; i < 2; i++) {
		close(t->w.source.interrupt[i]);
		close(t->w.destination.interrupt[i]);
	}
	assert_int_equal(count_fds(), fds);
}

static void forget(struct trouble *t)
{
	err_free(t->w.source.e);
	err_free(t->w.destination.e);
}

static void a_cut_stream_ends_the_round(unused_arg void **state)
{
	struct trouble t = { .timeout_us = 20000000, .cut = true };
	int64_t began = clock_us();

	in_trouble(&t, NULL, NULL);
	expect(t.w.source.e, ERR_PEER);
	expect(t.w.destination.e, ERR_PEER);
	assert_true(clock_us() - began < 5000000);
	assert_string_equal(err_text(t.w.destination.e, 0), "receive pages over stream 2");
	forget(&t);
}

static void a_stalled_stream_ends_the_round(unused_arg void **state)
{
	struct trouble t = { .timeout_us = 200000 };

	in_trouble(&t, NULL, NULL);
	/* The destination waits in vain for the one that is silent. */
	expect(t.w.destination.e, ERR_TIMEOUT);
	assert_string_equal(err_text(t.w.destination.e, 0), "receive pages over stream 2");
	expect(t.w.source.e, ERR_PEER);
	forget(&t);
}

static void cancel_ends_the_round(unused_arg void **state)
{
	struct trouble t = { .timeout_us = 20000000 };

	in_trouble(&t, cancel_soon, &t.w.source);
	expect(t.w.source.e, ERR_CANCELLED);
	expect(t.w.destination.e, ERR_PEER);
	forget(&t);
	t = (struct trouble){ .timeout_us = 20000000 };
	in_trouble(&t, cancel_soon, &t.w.destination);
	expect(t.w.destination.e, ERR_CANCELLED);
	expect(t.w.source.e, ERR_PEER);
	forget(&t);
}

static void a_word_on_the_control_stream_ends_the_round(unused_arg void **state)
{
	struct trouble t = { .timeout_us = 20000000 };

	in_trouble(&t, speak_soon, &t);
	expect(t.w.source.e, ERR_PEER);
	assert_string_equal(err_text(t.w.source.e, 0), "it spoke");
	forget(&t);
}

static struct err *never(void *arg unused_arg, unsigned n, struct deadline d unused_arg,
	struct stream **ret unused_arg)
{
	return n < 3 ? open_stream(arg, n, d, ret) : err_new(ERR_PEER, "nobody answers");
}

static void all_connections_or_none(unused_arg void **state)
{
	struct world w;
	struct lanes l = { .n = 0 };
	struct engine_io io;

	open_world(&w);
	lanes_close(&w.source.lanes);
	for (int i = 0; i < STREAMS; i++)
		w.source.fds[i] = dup(w.source.control_stream.fd);
	io = (struct engine_io){ .arg = &w.source, .open_stream = never };
	w.source.e = lanes_open(&l, &io, STREAMS, &no_more);
	expect(w.source.e, ERR_PEER);
	assert_string_equal(err_text(w.source.e, 0), "connect page stream 3");
	assert_int_equal(l.n, 0);
	assert_null(l.crew);
	close(w.source.fds[2]);
	close(w.source.fds[3]);
	close_world(&w);
}

static void numbers(unused_arg void **state)
{
	static const unsigned want[] = { 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 4 };

	for (unsigned i = 0; i < ARRAY_LEN(want); i++)
		assert_int_equal(lanes_auto(i), want[i]);
	assert_int_equal(lanes_auto(1000), 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers),
		cmocka_unit_test(the_last_content_stays),
		cmocka_unit_test(a_cut_stream_ends_the_round),
		cmocka_unit_test(a_stalled_stream_ends_the_round),
		cmocka_unit_test(cancel_ends_the_round),
		cmocka_unit_test(a_word_on_the_control_stream_ends_the_round),
		cmocka_unit_test(all_connections_or_none),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
