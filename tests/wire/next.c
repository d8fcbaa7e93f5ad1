// SPDX-License-Identifier: Apache-2.0
/*
 * A channel that goes on over other connections, because the streams that it gets here are worn
 * after few bytes: every byte arrives once and in order, however often; and what happens where
 * there is no other connection.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "wire/channel.h"

#define LIMIT_US  60000000
#define LINKS_MAX 4096
#define BODY_MAX  60000
#define FRAMES    3000

/* ---- streams that wear out ---- */

struct wearing {
	size_t sent, worn, used_up; /* bytes */
};

static const struct stream_ops *plain; /* of a socket */

static ssize_t counted(struct stream *s, ssize_t n)
{
	struct wearing *w = s->state;

	w->sent += n > 0 ? (size_t)n : 0;
	return n;
}

static ssize_t wearing_write(struct stream *s, const struct iovec *iov, int n, bool more)
{
	return counted(s, plain->write(s, iov, n, more));
}

static ssize_t wearing_splice_out(struct stream *s, int pipe_fd, size_t n, bool more)
{
	return counted(s, plain->splice_out(s, pipe_fd, n, more));
}

static enum stream_wear wearing_wear(struct stream *s)
{
	const struct wearing *w = s->state;

	if (w->sent >= w->used_up)
		return STREAM_USED_UP;
	return w->sent >= w->worn ? STREAM_WORN : STREAM_FRESH;
}

static struct stream_ops wearing_ops;

/* ---- connections by number ---- */

struct link {
	struct stream side[2]; /* of who dials, of who waits */
	struct wearing wear[2];
	bool there;
};

struct net {
	struct link *links; /* 0: the first connection */
	unsigned n;
	size_t worn, used_up;        /* for new ones */
	unsigned asked, refuse_from; /* dials so far; that one and later ones fail */
	bool unlike;
	pthread_mutex_t lock;
	pthread_cond_t more;
};

static void connect_link(struct net *net, unsigned n)
{
	struct link *l = &net->links[n];
	int sp[2];

	assert_true(n < LINKS_MAX);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp), 0);
	for (int i = 0; i < 2; i++) {
		assert_null(stream_socket(sp[i], &l->side[i]));
		l->wear[i] = (struct wearing){ 0, net->worn, net->used_up };
		l->side[i].state = &l->wear[i];
		if (!net->unlike || n == 0)
			l->side[i].ops = &wearing_ops;
	}
	l->there = true;
}

static struct err *dial(void *arg, unsigned *n, struct deadline d unused_arg, struct stream **ret)
{
	struct net *net = arg;

	assert_int_equal(*n, 0);
	if (++net->asked >= net->refuse_from)
		return err_new(ERR_UNSUPPORTED, "there are no more connections");
	pthread_mutex_lock(&net->lock);
	*n = ++net->n;
	connect_link(net, *n);
	pthread_cond_signal(&net->more);
	pthread_mutex_unlock(&net->lock);
	*ret = &net->links[*n].side[0];
	return NULL;
}

static struct err *wait_for(
	void *arg, unsigned *n, struct deadline d unused_arg, struct stream **ret)
{
	struct net *net = arg;

	if (*n >= LINKS_MAX)
		return err_new(ERR_TIMEOUT, "it did not come");
	pthread_mutex_lock(&net->lock);
	while (!net->links[*n].there)
		pthread_cond_wait(&net->more, &net->lock);
	pthread_mutex_unlock(&net->lock);
	*ret = &net->links[*n].side[1];
	return NULL;
}

struct bench {
	struct net net;
	struct channel a, b; /* who dials, who waits */
};

static void bench_open(struct bench *t, size_t worn, size_t used_up)
{
	*t = (struct bench){
		.net = { .worn = worn, .used_up = used_up, .refuse_from = UINT32_MAX },
	};
	t->net.links = xcalloc(LINKS_MAX, sizeof(struct link));
	pthread_mutex_init(&t->net.lock, NULL);
	pthread_cond_init(&t->net.more, NULL);
	connect_link(&t->net, 0);
	channel_init(&t->a, &t->net.links[0].side[0], -1);
	channel_init(&t->b, &t->net.links[0].side[1], -1);
	t->a.deadline = t->b.deadline = deadline_in(LIMIT_US);
	t->a.more = (struct channel_more){ dial, &t->net, true };
	t->b.more = (struct channel_more){ wait_for, &t->net, false };
}

/* How many were still open. */
static unsigned bench_close(struct bench *t)
{
	unsigned open = 0;

	for (unsigned n = 0; n <= t->net.n; n++)
		for (int i = 0; i < 2; i++) {
			open += t->net.links[n].side[i].ops != NULL;
			stream_close(&t->net.links[n].side[i]);
		}
	free(t->net.links);
	return open;
}

static int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void assert_code(struct err *e, enum err_code code, const char *says)
{
	autofree char *line = e ? err_line(e) : NULL;

	assert_non_null(e);
	assert_int_equal(err_code(e), code);
	assert_non_null(strstr(line, says));
	err_free(e);
}

/* ---- byte by byte ---- */

static uint8_t pattern(unsigned frame, size_t i)
{
	return (uint8_t)(frame * 31 + i * 7 + (i >> 8));
}

/* Each frame has another length, and the same one at both ends. */
static size_t body_bytes(unsigned frame)
{
	return frame % 5 ? (frame * 7919u) % BODY_MAX : frame % 64;
}

static void *write_frames(void *arg)
{
	struct bench *t = arg;
	autofree uint8_t *buf = xcalloc(1, BODY_MAX);
	struct frame_head h;
	int pipe_fd[2];

	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
	assert_true(fcntl(pipe_fd[1], F_SETPIPE_SZ, 1 << 17) > 0);
	for (unsigned f = 0; f < FRAMES; f++) {
		size_t n = body_bytes(f), piped = f % 3 ? 0 : n / 2;
		struct iovec iov = { buf, n - piped };
		struct frame_body body = { &iov, 1, pipe_fd[0], piped };

		for (size_t i = 0; i < n; i++)
			buf[i] = pattern(f, i);
		if (piped)
			assert_int_equal(write(pipe_fd[1], buf + n - piped, piped), piped);
		assert_null(channel_send_body(&t->a, FRAME_PAGES, f, &body));
		if (f % 100 != 99)
			continue;
		/* the other direction stays where it was */
		assert_null(channel_head(&t->a, &h));
		assert_int_equal(h.type, FRAME_ROUND_OK);
		assert_int_equal(h.arg, f);
	}
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	return NULL;
}

/* By reading, borrowing and splicing in turn. */
static void take_body(struct channel *ch, uint8_t *buf, size_t n, int pipe_fd[2], unsigned how)
{
	for (size_t done = 0, got; done < n; done += got) {
		const uint8_t *at;

		got = MIN(n - done, (size_t)16384);
		if (how == 0) {
			assert_null(channel_read(ch, buf + done, got));
		} else if (how == 1) {
			assert_null(channel_borrow(ch, buf + done, got, &at));
			if (at != buf + done)
				memcpy(buf + done, at, got);
		} else {
			assert_null(channel_splice(ch, pipe_fd[1], got, &got));
			assert_int_equal(read(pipe_fd[0], buf + done, got), got);
		}
	}
}

static void every_byte_arrives(void **state unused_arg)
{
	autofree uint8_t *buf = xcalloc(1, BODY_MAX);
	int before = open_fds(), pipe_fd[2];
	struct bench t;
	pthread_t writer;
	uint64_t sent = 0;

	bench_open(&t, 100000, 1 << 20);
	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
	assert_int_equal(pthread_create(&writer, NULL, write_frames, &t), 0);
	for (unsigned f = 0; f < FRAMES; f++) {
		struct frame_head h;

		assert_null(channel_head(&t.b, &h));
		assert_int_equal(h.type, FRAME_PAGES);
		assert_int_equal(h.arg, f);
		assert_int_equal(h.length, body_bytes(f));
		take_body(&t.b, buf, h.length, pipe_fd, f / 7 % 3);
		for (size_t i = 0; i < h.length; i++)
			if (buf[i] != pattern(f, i))
				fail_msg("byte %zu of frame %u", i, f);
		sent += h.length;
		if (f % 100 == 99)
			assert_null(channel_send(&t.b, FRAME_ROUND_OK, f, NULL, 0));
	}
	assert_int_equal(pthread_join(writer, NULL), 0);
	/* a connection carries what wears it, and the frame during which that was reached */
	assert_in_range(t.net.n, sent / (100000 + BODY_MAX), sent / 100000);
	assert_true(t.net.n > 300);
	assert_int_equal(t.a.bytes_out, t.b.bytes_in);
	/* the first one, the present one and the one before it, at both ends */
	assert_int_equal(bench_close(&t), 6);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	assert_int_equal(open_fds(), before);
}

/* ---- when, and when not ---- */

static void ping(struct channel *ch)
{
	assert_null(channel_send(ch, FRAME_PING, 0, NULL, 0));
}

static void hurried_waits(void **state unused_arg)
{
	struct bench t;

	bench_open(&t, 1, 10 * FRAME_HEAD_BYTES);
	t.a.hurried = true;
	for (int i = 0; i < 10; i++)
		ping(&t.a);
	assert_int_equal(t.net.n, 0);
	ping(&t.a); /* it must */
	assert_int_equal(t.net.n, 1);
	t.a.hurried = false;
	ping(&t.a);
	assert_int_equal(t.net.n, 2);
	bench_close(&t);
}

static void goes_on_where_there_is_none(void **state unused_arg)
{
	struct bench t;

	bench_open(&t, 1, 10 * FRAME_HEAD_BYTES);
	t.net.refuse_from = 1;
	for (int i = 0; i < 10; i++)
		ping(&t.a);
	assert_int_equal(t.net.asked, 1); /* not for each frame */
	assert_code(channel_send(&t.a, FRAME_PING, 0, NULL, 0), ERR_UNSUPPORTED,
		"go on over another connection: there are no more connections");
	assert_int_equal(t.net.asked, 2);
	bench_close(&t);
}

static void only_who_dials(void **state unused_arg)
{
	struct bench t;

	bench_open(&t, 1, 2);
	for (int i = 0; i < 10; i++)
		ping(&t.b);
	assert_int_equal(t.net.n, 0);
	t.a.more.open = NULL;
	for (int i = 0; i < 10; i++)
		ping(&t.a);
	assert_int_equal(t.net.n, 0);
	bench_close(&t);
}

static void another_sort_is_no_use(void **state unused_arg)
{
	struct bench t;

	bench_open(&t, 1, 2 * FRAME_HEAD_BYTES);
	t.net.unlike = true;
	ping(&t.a);
	ping(&t.a); /* worn: stays */
	assert_ptr_equal(t.a.out, &t.net.links[0].side[0]);
	assert_code(channel_send(&t.a, FRAME_PING, 0, NULL, 0), ERR_PEER, "is carried by");
	bench_close(&t);
}

/* A peer that names connections that cannot be. */
static void absurd_next(void **state unused_arg)
{
	static const struct {
		uint64_t number;
		bool more;
		enum err_code code;
	} bad[] = { { 0, true, ERR_PEER }, { UINT64_C(1) << 32, true, ERR_PEER },
		{ (UINT64_C(1) << 32) + 1, true, ERR_PEER }, { 1, false, ERR_PEER },
		{ LINKS_MAX, true, ERR_TIMEOUT } };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct frame_head h;
		struct bench t;

		bench_open(&t, 1 << 20, 1 << 20);
		if (!bad[i].more)
			t.b.more.open = NULL;
		assert_null(channel_send(&t.a, FRAME_NEXT, bad[i].number, NULL, 0));
		assert_code(channel_head(&t.b, &h), bad[i].code, "connection");
		bench_close(&t);
	}
}

static void make_ops(void)
{
	struct stream s;

	if (stream_socket(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), &s))
		abort();
	plain = s.ops;
	wearing_ops = *plain;
	wearing_ops.write = wearing_write;
	wearing_ops.splice_out = wearing_splice_out;
	wearing_ops.wear = wearing_wear;
	stream_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte_arrives),
		cmocka_unit_test(hurried_waits),
		cmocka_unit_test(goes_on_where_there_is_none),
		cmocka_unit_test(only_who_dials),
		cmocka_unit_test(another_sort_is_no_use),
		cmocka_unit_test(absurd_next),
	};

	signal(SIGPIPE, SIG_IGN);
	make_ops();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
