// SPDX-License-Identifier: Apache-2.0
/* Frames and run tables: what is right arrives, what is absurd ends in an error, nothing hangs. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "wire/channel.h"
#include "wire/err_wire.h"

struct pair {
	struct channel a, b;
	struct stream s[2];
	int sp[2], interrupt[2];
};

static void pair_open(struct pair *p)
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p->sp), 0);
	assert_int_equal(pipe(p->interrupt), 0);
	for (int i = 0; i < 2; i++)
		assert_null(stream_socket(p->sp[i], &p->s[i]));
	channel_init(&p->a, &p->s[0], p->interrupt[0]);
	channel_init(&p->b, &p->s[1], p->interrupt[0]);
	p->a.deadline = p->b.deadline = deadline_in(60000000);
}

static void pair_close(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		stream_close(&p->s[i]);
		fd_closep(&p->interrupt[i]);
	}
}

static void assert_code(struct err *e, enum err_code code)
{
	assert_non_null(e);
	assert_int_equal(err_code(e), code);
	err_free(e);
}

/* Out of a pipe, into a pipe: the copying calls and these must agree about every byte. */
static void test_body_by_pipe(void **state)
{
	char pre[] = "pre", text[8] = "";
	struct iovec iov = { pre, 3 };
	struct frame_body body = { &iov, 1, -1, 4 };
	struct frame_head h;
	int out[2], in[2];
	struct pair p;
	size_t n;

	(void)state;
	pair_open(&p);
	assert_int_equal(pipe2(out, O_CLOEXEC) | pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(write(out[1], "copy", 4), 4);
	body.pipe_fd = out[0];
	assert_true(channel_splices_out(&p.a) && channel_splices_in(&p.b));
	assert_null(channel_send_body(&p.a, FRAME_PAGES, 7, &body));
	assert_int_equal(p.a.spliced_out, 4);
	assert_null(channel_head(&p.b, &h));
	assert_int_equal(h.length, 7);
	assert_null(channel_splice(&p.b, in[1], 5, &n));
	assert_int_equal(read(in[0], text, sizeof(text)), n);
	for (; n < 7; n++) {
		const uint8_t *at;

		assert_null(channel_borrow(&p.b, text + n, 1, &at));
		text[n] = (char)*at;
	}
	assert_memory_equal(text, "precopy", 7);
	assert_false(channel_readable(&p.b));
	for (int i = 0; i < 2; i++) {
		close(out[i]);
		close(in[i]);
	}
	pair_close(&p);
}

static void test_frame_arrives(void **state)
{
	char pre[] = "pre", copy[] = "copy";
	struct iovec body[] = { { pre, 3 }, { copy, 4 } };
	autoarena struct arena *a = arena_new();
	struct frame_head h;
	struct pair p;
	uint8_t *got;

	(void)state;
	pair_open(&p);
	assert_null(channel_sendv(&p.a, FRAME_BEGIN, 7, body, 2));
	assert_null(channel_recv(&p.b, a, &h, &got));
	assert_int_equal(h.type, FRAME_BEGIN);
	assert_int_equal(h.arg, 7);
	assert_int_equal(h.length, 7);
	assert_memory_equal(got, "precopy", 7);
	assert_int_equal(p.a.bytes_out, FRAME_HEAD_BYTES + 7);
	assert_int_equal(p.b.bytes_in, FRAME_HEAD_BYTES + 7);
	pair_close(&p);
}

static void test_too_long_is_not_sent(void **state)
{
	autofree char *big = xcalloc(1, 4097);
	struct pair p;

	(void)state;
	pair_open(&p);
	assert_code(channel_send(&p.a, FRAME_HELLO, 0, big, 4097), ERR_LIMIT);
	assert_int_equal(p.a.bytes_out, 0);
	pair_close(&p);
}

static void put_head(uint8_t *b, uint32_t length, uint16_t type, uint16_t flags)
{
	memset(b, 0, FRAME_HEAD_BYTES);
	memcpy(b, &length, 4);
	memcpy(b + 4, &type, 2);
	memcpy(b + 6, &flags, 2);
}

static void test_absurd_heads(void **state)
{
	uint8_t b[FRAME_HEAD_BYTES];
	struct frame_head h;

	(void)state;
	put_head(b, 0, 9999, 0);
	assert_code(frame_decode(b, &h), ERR_PEER);
	put_head(b, 0, FRAME_COMMIT, 1);
	assert_code(frame_decode(b, &h), ERR_PEER);
	put_head(b, 1, FRAME_COMMIT, 0);
	assert_code(frame_decode(b, &h), ERR_PEER);
	put_head(b, UINT32_MAX, FRAME_PAGES, 0);
	assert_code(frame_decode(b, &h), ERR_PEER);
	put_head(b, frame_limit(FRAME_PAGES), FRAME_PAGES, 0);
	assert_null(frame_decode(b, &h));
}

static void test_truncated(void **state)
{
	autoarena struct arena *a = arena_new();
	uint8_t b[FRAME_HEAD_BYTES], *body;
	struct frame_head h;
	struct pair p;

	(void)state;
	pair_open(&p);
	put_head(b, 100, FRAME_BEGIN, 0);
	assert_int_equal(write(p.sp[0], b, sizeof(b)), sizeof(b));
	assert_int_equal(write(p.sp[0], "abc", 3), 3);
	stream_close(&p.s[0]);
	assert_code(channel_recv(&p.b, a, &h, &body), ERR_PEER);
	pair_close(&p);
}

static void test_waits_end(void **state)
{
	struct frame_head h;
	struct pair p;

	(void)state;
	pair_open(&p);
	p.b.deadline = deadline_in(1000);
	assert_code(channel_head(&p.b, &h), ERR_TIMEOUT);
	p.b.deadline = DEADLINE_NEVER;
	assert_int_equal(write(p.interrupt[1], "c", 1), 1);
	assert_code(channel_head(&p.b, &h), ERR_CANCELLED);
	assert_code(channel_interrupted(&p.a), ERR_CANCELLED);
	p.a.interrupt_fd = -1;
	assert_null(channel_interrupted(&p.a));
	pair_close(&p);
}

/* A reader that never reads: the sender gets away by the interrupt too. */
static void test_full_pipe_is_interrupted(void **state)
{
	autofree char *big = xcalloc(1, 1 << 20);
	struct err *e = NULL;
	struct pair p;

	(void)state;
	pair_open(&p);
	assert_int_equal(write(p.interrupt[1], "c", 1), 1);
	for (int i = 0; i < 64 && !e; i++)
		e = channel_send(&p.a, FRAME_PAGES, 0, big, 1 << 20);
	assert_code(e, ERR_CANCELLED);
	pair_close(&p);
}

static struct err *read_with(struct channel *ch, int64_t us, struct deadline until, size_t n)
{
	autofree char *buf = xcalloc(1, n);

	channel_wait(ch, us, until);
	return channel_read(ch, buf, n);
}

struct trickle {
	struct pair *p;
	size_t each; /* bytes, each millisecond, until the reader has ended */
	atomic_bool over;
};

static void *trickle(void *arg)
{
	struct trickle *t = arg;
	autofree char *buf = xcalloc(1, t->each);

	while (!atomic_load(&t->over)) {
		(void)send(t->p->sp[0], buf, t->each, MSG_DONTWAIT | MSG_NOSIGNAL);
		usleep(1000);
	}
	return NULL;
}

#define LONG_US 60000000

/* The reader's own deadline is short. What comes is more than that time has for the slow peer, and
 * less than moves for the one that trickles. */
static struct err *read_slowly(struct pair *p, size_t each, struct deadline until)
{
	struct trickle t = { .p = p, .each = each };
	pthread_t thread;
	struct err *e;

	assert_int_equal(pthread_create(&thread, NULL, trickle, &t), 0);
	e = read_with(&p->b, 200000, until, 100 * CHANNEL_STEP_BYTES);
	atomic_store(&t.over, true);
	pthread_join(thread, NULL);
	return e;
}

static void test_slow_is_waited_for(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p);
	/* 100 steps of two milliseconds at best, each within 200 ms: longer in all */
	assert_null(read_slowly(&p, CHANNEL_STEP_BYTES / 2, DEADLINE_NEVER));
	pair_close(&p);
	pair_open(&p);
	assert_code(read_slowly(&p, 1, deadline_in(LONG_US)), ERR_TIMEOUT);
	pair_close(&p);
	/* However much moves, there is an end. */
	pair_open(&p);
	assert_code(read_slowly(&p, CHANNEL_STEP_BYTES / 2, deadline_in(20000)), ERR_TIMEOUT);
	pair_close(&p);
}

static void test_alive(void **state)
{
	struct deadline before;
	struct frame_head h;
	struct pair p;

	(void)state;
	pair_open(&p);
	assert_null(channel_send(&p.a, FRAME_ALIVE, 0, NULL, 0));
	assert_null(channel_send(&p.a, FRAME_ALIVE, 0, NULL, 0));
	assert_null(channel_send(&p.a, FRAME_READY, 7, NULL, 0));
	channel_wait(&p.b, LONG_US, DEADLINE_NEVER);
	before = p.b.deadline = deadline_in(LONG_US / 2);
	assert_null(channel_head(&p.b, &h));
	assert_int_equal(h.type, FRAME_READY);
	assert_true(p.b.deadline.at_us > before.at_us);
	/* Who has fixed the end is not held up by it. */
	channel_until(&p.b, before);
	assert_null(channel_send(&p.a, FRAME_ALIVE, 0, NULL, 0));
	assert_null(channel_send(&p.a, FRAME_READY, 7, NULL, 0));
	assert_null(channel_head(&p.b, &h));
	assert_int_equal(p.b.deadline.at_us, before.at_us);
	pair_close(&p);
}

static void test_runs(void **state)
{
	const struct run in = { .start = 0x7f0000001000, .pages = 512, .kind = RUN_ZERO };
	uint8_t b[RUN_BYTES];
	struct run out;

	(void)state;
	run_encode(&in, b);
	assert_null(run_decode(b, &out));
	assert_int_equal(out.start, in.start);
	assert_int_equal(out.pages, in.pages);
	assert_int_equal(out.kind, RUN_ZERO);
	b[0] = 3;
	assert_code(run_decode(b, &out), ERR_PEER);
	run_encode(&(struct run){ .start = 4096, .pages = 0 }, b);
	assert_code(run_decode(b, &out), ERR_PEER);
	run_encode(&(struct run){ .start = 4096, .pages = UINT64_MAX / 4096 }, b);
	assert_code(run_decode(b, &out), ERR_PEER);
	run_encode(&(struct run){ .start = PAGE_DOWN(UINT64_MAX), .pages = 2 }, b);
	assert_code(run_decode(b, &out), ERR_PEER);
}

static void test_error_travels(void **state)
{
	autoarena struct arena *a = arena_new();
	struct err *e = err_hint(err_in(err_errno(2, "open /x"), "rebuild\nfile"), "look"), *back;
	Migrate__Error *m;

	(void)state;
	m = err_to_wire(a, e, "destination", "rebuild");
	assert_string_equal(m->side, "destination");
	back = err_from_wire(m);
	assert_int_equal(err_code(back), ERR_KERNEL);
	assert_string_equal(err_text(back, 0), "rebuild?file");
	assert_string_equal(err_text(back, 1), "open /x");
	assert_string_equal(err_hint_text(back), "look");
	err_free(e);
	err_free(back);
	m->n_texts = 0;
	m->code = 12345;
	assert_code(err_from_wire(m), ERR_PEER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frame_arrives),
		cmocka_unit_test(test_body_by_pipe),
		cmocka_unit_test(test_too_long_is_not_sent),
		cmocka_unit_test(test_absurd_heads),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_waits_end),
		cmocka_unit_test(test_full_pipe_is_interrupted),
		cmocka_unit_test(test_slow_is_waited_for),
		cmocka_unit_test(test_alive),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_error_travels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
