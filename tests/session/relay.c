// SPDX-License-Identifier: Apache-2.0
/*
 * Two relays back to back, as between two hosts: what goes in at one end comes out at the other,
 * byte for byte, both ways at once, and every end is told from a cut.
 *
 *     test -- pair -- relay A == TLS == relay B -- pair -- test
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "session/relay.h"
#include "wire/channel.h"
#include "wire/handoff.h"
#include "wire/stream_relay.h"

#define LIMIT_US 60000000

/* Of the relay at the dialling end. */
static struct {
	uint64_t rekey_bytes; /* 0: as it comes */
	uint64_t records;     /* else: so many are sealed, and the peer takes no new keys */
} special;

struct bench {
	struct identity *id;
	int ends[2]; /* the test's */
	pid_t relays[2];
};

static struct err *any_key(void *arg unused_arg, const char *fingerprint unused_arg)
{
	return NULL;
}

/* Exit status 0: all went as it should; 1: relay_run said no; 2: set-up failed; 3: a limit. */
static int relay_process(const struct identity *id, enum tls_side side, int tcp, int fd)
{
	const struct tls_verify v = { any_key, NULL };
	struct relay_stats stats;
	struct tls_ctx ctx;
	struct tls *t;
	struct err *e;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	if (tls_ctx_init(&ctx, id, side) || tls_handshake(&ctx, tcp, v, deadline_in(LIMIT_US), &t))
		return 2;
	if (side == TLS_DIAL && special.rekey_bytes)
		t->rekey_bytes = special.rekey_bytes;
	if (side == TLS_DIAL && special.records) {
		t->rekey_bytes = 0;
		t->keys.out = special.records;
	}
	e = relay_run(t, fd, &stats);
	close(fd);
	tls_close(t, deadline_in(LIMIT_US));
	if (e && err_code(e) == ERR_LIMIT)
		return 3;
	return e ? 1 : 0;
}

static void bench_start(struct bench *b)
{
	int line[2], pairs[2][2];

	signal(SIGPIPE, SIG_IGN);
	assert_null(identity_new(&b->id));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, line), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[i]), 0);
	for (int i = 0; i < 2; i++) {
		b->relays[i] = fork();
		assert_true(b->relays[i] >= 0);
		if (b->relays[i])
			continue;
		close(line[!i]);
		close(pairs[0][0]);
		close(pairs[1][0]);
		close(pairs[!i][1]);
		_exit(relay_process(b->id, i ? TLS_ACCEPT : TLS_DIAL, line[i], pairs[i][1]));
	}
	for (int i = 0; i < 2; i++) {
		close(line[i]);
		close(pairs[i][1]);
		b->ends[i] = pairs[i][0];
	}
}

/* The relays pass on what comes over the sockets themselves. */
static void bench_open(struct bench *b)
{
	bench_start(b);
	for (int i = 0; i < 2; i++)
		assert_null(handoff_say(b->ends[i], HANDOFF_PLAIN, NULL, 0));
}

/* Through rings. */
static void bench_rings(struct bench *b, struct stream s[2])
{
	bench_start(b);
	for (int i = 0; i < 2; i++)
		assert_null(stream_relay(take_fd(&b->ends[i]), &s[i]));
}

static int wait_relay(struct bench *b, int i)
{
	int status;

	assert_int_equal(waitpid(b->relays[i], &status, 0), b->relays[i]);
	b->relays[i] = -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void bench_close(struct bench *b)
{
	for (int i = 0; i < 2; i++)
		fd_closep(&b->ends[i]);
	for (int i = 0; i < 2; i++)
		if (b->relays[i] > 1)
			wait_relay(b, i);
	identity_free(b->id);
}

/* Byte `at` of stream `which`: no two stretches are alike. */
static uint8_t pattern(int which, size_t at)
{
	return (uint8_t)((at * 2654435761u) >> 13 ^ at >> 20 ^ (size_t)which * 91);
}

struct flow {
	int which;
	size_t total, written, read;
	unsigned seed;
	bool closed;
};

static void flow_write(struct flow *f, int fd)
{
	uint8_t buf[70000];
	size_t n = (size_t)rand_r(&f->seed) % sizeof(buf) + 1;
	ssize_t done;

	n = MIN(n, f->total - f->written);
	for (size_t i = 0; i < n; i++)
		buf[i] = pattern(f->which, f->written + i);
	done = n ? send(fd, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
	assert_true(done >= 0 || errno == EAGAIN);
	f->written += done > 0 ? (size_t)done : 0;
	if (f->written == f->total && !f->closed) {
		shutdown(fd, SHUT_WR);
		f->closed = true;
	}
}

/* False at the end of the stream. */
static bool flow_read(struct flow *f, int fd)
{
	uint8_t buf[70000];
	size_t n = (size_t)rand_r(&f->seed) % sizeof(buf) + 1;
	ssize_t got = recv(fd, buf, n, MSG_DONTWAIT);

	if (got < 0 && errno == EAGAIN)
		return true;
	assert_true(got >= 0);
	for (ssize_t i = 0; i < got; i++)
		assert_int_equal(buf[i], pattern(f->which, f->read + (size_t)i));
	f->read += (size_t)got;
	return got > 0;
}

static void carry(size_t forth, size_t back, unsigned seed)
{
	struct bench b;
	struct flow f[2] = { { 0, forth, 0, 0, seed, false }, { 1, back, 0, 0, seed + 1, false } };
	bool open[2] = { true, true };

	bench_open(&b);
	while (open[0] || open[1]) {
		struct pollfd p[2];

		for (int i = 0; i < 2; i++)
			p[i] = (struct pollfd){ b.ends[i],
				(short)((f[i].closed ? 0 : POLLOUT) | (open[!i] ? POLLIN : 0)), 0 };
		assert_true(poll(p, 2, LIMIT_US / 1000) > 0);
		for (int i = 0; i < 2; i++) {
			if (p[i].revents & POLLOUT && !f[i].closed)
				flow_write(&f[i], b.ends[i]);
			if (p[i].revents & (POLLIN | POLLHUP) && open[!i])
				open[!i] = flow_read(&f[!i], b.ends[i]);
		}
	}
	assert_int_equal(f[0].read, forth);
	assert_int_equal(f[1].read, back);
	for (int i = 0; i < 2; i++)
		fd_closep(&b.ends[i]);
	assert_int_equal(wait_relay(&b, 0), 0);
	assert_int_equal(wait_relay(&b, 1), 0);
	bench_close(&b);
}

static void exact(void **state unused_arg)
{
	static const size_t sizes[] = { 0, 1, 16383, 16384, 16385, 65535, 65537, 131071, 131073,
		5000000 };

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		carry(sizes[i], 0, (unsigned)i);
		carry(0, sizes[i], (unsigned)i + 50);
		carry(sizes[i], sizes[ARRAY_LEN(sizes) - 1 - i], (unsigned)i + 100);
	}
}

/* New keys in the middle of it, several times, one way. */
static void new_keys(void **state unused_arg)
{
	special.rekey_bytes = 300000;
	carry(5000000, 5000000, 7);
	special.rekey_bytes = 0;
}

/* A peer that takes no new keys gets no more than one key may seal. What did go out arrives. */
static void key_used_up(void **state unused_arg)
{
	static uint8_t block[1 << 16];
	struct bench b;
	size_t came = 0;
	ssize_t n;

	special.records = ONE_KEY_RECORDS_MAX - 10;
	bench_open(&b);
	special.records = 0;
	while (write(b.ends[0], block, sizeof(block)) > 0)
		;
	assert_int_equal(errno, EPIPE);
	fd_closep(&b.ends[0]);
	assert_int_equal(wait_relay(&b, 0), 3);
	while ((n = recv(b.ends[1], block, sizeof(block), 0)) > 0)
		came += (size_t)n;
	assert_true(came > 0 && came < 1 << 20);
	bench_close(&b);
}

/* Writes one small record after the other until the stream says another thing of its wear. */
static unsigned write_until(struct stream *s, enum stream_wear wear)
{
	char byte = 'x';
	unsigned n = 0;

	for (; s->ops->wear(s) != wear; n++) {
		assert_int_equal(s->ops->write(s, &(struct iovec){ &byte, 1 }, 1, false), 1);
		usleep(2000);
		assert_true(n < 1000);
	}
	return n;
}

/* The relay's count is seen by who writes: in time for another connection. */
static void wear_shows(void **state unused_arg)
{
	static const struct {
		uint64_t records;
		enum stream_wear first, next;
	} cases[] = {
		{ ONE_KEY_RECORDS_WORN - 5, STREAM_FRESH, STREAM_WORN },
		{ ONE_KEY_RECORDS_USED_UP - 5, STREAM_WORN, STREAM_USED_UP },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct stream s[2];
		struct bench b;

		special.records = cases[i].records;
		bench_rings(&b, s);
		special.records = 0;
		for (int ms = 0; s[0].ops->wear(&s[0]) != cases[i].first; ms++) {
			assert_true(ms < LIMIT_US / 1000);
			usleep(1000);
		}
		assert_in_range(write_until(&s[0], cases[i].next), 1, 100);
		/* the other way has keys that are renewed */
		assert_int_equal(s[1].ops->wear(&s[1]), STREAM_FRESH);
		stream_close(&s[0]);
		stream_close(&s[1]);
		bench_close(&b);
	}
}

/* One side has said all and waits for the answer. */
static void half_close(void **state unused_arg)
{
	struct bench b;
	char buf[16];

	bench_open(&b);
	assert_int_equal(write(b.ends[0], "question", 8), 8);
	shutdown(b.ends[0], SHUT_WR);
	assert_int_equal(recv(b.ends[1], buf, 8, MSG_WAITALL), 8);
	assert_int_equal(recv(b.ends[1], buf, 8, 0), 0);
	usleep(50000);
	assert_int_equal(write(b.ends[1], "answer", 6), 6);
	fd_closep(&b.ends[1]);
	assert_int_equal(recv(b.ends[0], buf, 6, MSG_WAITALL), 6);
	assert_memory_equal(buf, "answer", 6);
	assert_int_equal(recv(b.ends[0], buf, 8, 0), 0);
	fd_closep(&b.ends[0]);
	assert_int_equal(wait_relay(&b, 0), 0);
	assert_int_equal(wait_relay(&b, 1), 0);
	bench_close(&b);
}

/* The last words of a worker that is gone arrive, though the other side was still sending. */
static void last_words(void **state unused_arg)
{
	static const char words[] = "why it ended";
	char buf[sizeof(words)];
	struct bench b;

	bench_open(&b);
	for (int i = 0; i < 30; i++)
		assert_true(write(b.ends[0], "more and more", 13) == 13);
	assert_int_equal(write(b.ends[1], words, sizeof(words)), sizeof(words));
	fd_closep(&b.ends[1]); /* with unread bytes */
	assert_int_equal(recv(b.ends[0], buf, sizeof(buf), MSG_WAITALL), sizeof(buf));
	assert_memory_equal(buf, words, sizeof(words));
	bench_close(&b);
}

/* A connection that is cut is an error on the side that is left, and ends its stream. */
static void cut(void **state unused_arg)
{
	struct bench b;
	char buf[8];

	bench_open(&b);
	assert_int_equal(write(b.ends[0], "x", 1), 1);
	assert_int_equal(recv(b.ends[1], buf, 1, MSG_WAITALL), 1);
	kill(b.relays[0], SIGKILL);
	assert_int_equal(wait_relay(&b, 0), 128 + SIGKILL);
	assert_int_equal(recv(b.ends[1], buf, 8, 0), 0);
	assert_int_equal(wait_relay(&b, 1), 1);
	bench_close(&b);
}

/* Nobody reads at the far end: the near one is held back, and memory does not grow. */
static void held_back(void **state unused_arg)
{
	static uint8_t block[1 << 16];
	struct pollfd p;
	struct bench b;
	size_t sent = 0;

	bench_open(&b);
	for (;;) {
		ssize_t n = send(b.ends[0], block, sizeof(block), MSG_DONTWAIT);

		sent += n > 0 ? (size_t)n : 0;
		p = (struct pollfd){ b.ends[0], POLLOUT, 0 };
		if (n < 0 && poll(&p, 1, 300) == 0)
			break;
	}
	assert_true(sent < 16 << 20);
	bench_close(&b);
}

/* ---- through rings ---- */

struct side {
	struct stream s;
	struct flow out, in;
};

static void side_write(struct side *d)
{
	struct flow *f = &d->out;
	size_t n = (size_t)rand_r(&f->seed) % 300000 + 1, skip;
	static uint8_t buf[300000];
	ssize_t done;
	uint8_t *at;

	n = MIN(n, f->total - f->written);
	if (!n)
		return;
	skip = (size_t)rand_r(&f->seed) % 5000;
	if (rand_r(&f->seed) % 2) {
		for (size_t i = 0; i < n; i++)
			buf[i] = pattern(f->which, f->written + i);
		done = d->s.ops->write(&d->s, &(struct iovec){ buf, n }, 1, false);
	} else {
		done = d->s.ops->reserve(&d->s, skip + n, &at);
		for (size_t i = 0; done > 0 && i < n; i++)
			at[skip + i] = pattern(f->which, f->written + i);
		if (done > 0)
			d->s.ops->commit(&d->s, at + skip, n);
		done = done > 0 ? (ssize_t)n : done;
	}
	assert_true(done > 0 || done == -EAGAIN);
	f->written += done > 0 ? (size_t)done : 0;
}

static void side_read(struct side *d)
{
	struct flow *f = &d->in;
	size_t n = (size_t)rand_r(&f->seed) % 200000 + 1;
	const uint8_t *at;
	ssize_t got;

	n = MIN(n, f->total - f->read);
	if (!n)
		return;
	got = d->s.ops->lend(&d->s, n, &at);
	if (got == -EAGAIN)
		return;
	assert_int_equal(got, n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(at[i], pattern(f->which, f->read + i));
	d->s.ops->give_back(&d->s, n);
	f->read += n;
}

#define RING_TOTAL (24u << 20)

/* Both ways at once, in pieces of all sizes, each reader much slower for a while. */
static void test_rings(void **state)
{
	struct side d[2];
	struct bench b;

	(void)state;
	bench_start(&b);
	for (int i = 0; i < 2; i++) {
		assert_null(stream_relay(take_fd(&b.ends[i]), &d[i].s));
		d[i].out =
			(struct flow){ .which = i, .total = RING_TOTAL, .seed = 3 + (unsigned)i };
		d[i].in =
			(struct flow){ .which = !i, .total = RING_TOTAL, .seed = 7 + (unsigned)i };
	}
	for (unsigned turn = 0; d[0].in.read < RING_TOTAL || d[1].in.read < RING_TOTAL; turn++) {
		struct pollfd p[] = { d[0].s.ops->wants(&d[0].s, POLLIN),
			d[1].s.ops->wants(&d[1].s, POLLIN) };
		size_t before = d[0].in.read + d[1].in.read + d[0].out.written + d[1].out.written;

		for (int i = 0; i < 2; i++) {
			side_write(&d[i]);
			if ((turn >> 6) % 3 != (unsigned)i)
				side_read(&d[i]);
		}
		if (before == d[0].in.read + d[1].in.read + d[0].out.written + d[1].out.written &&
			(turn >> 6) % 3 == 2)
			assert_true(poll(p, 2, LIMIT_US / 1000) > 0);
	}
	stream_close(&d[0].s);
	/* The end comes after the last byte. */
	for (const uint8_t *at; d[1].s.ops->lend(&d[1].s, 1, &at) != 0;)
		assert_true(poll(&(struct pollfd){ d[1].s.fd, POLLIN, 0 }, 1, LIMIT_US / 1000) > 0);
	stream_close(&d[1].s);
	assert_int_equal(wait_relay(&b, 0), 0);
	assert_int_equal(wait_relay(&b, 1), 0);
	bench_close(&b);
}

/* Whoever holds the socketpair too can add something when the ring's user is gone. */
static void test_last_words(void **state)
{
	struct stream s[2];
	struct bench b;
	struct channel ch;
	uint8_t buf[8];
	int other;

	(void)state;
	bench_rings(&b, s);
	other = dup(s[0].fd);
	assert_int_equal(s[0].ops->write(&s[0], &(struct iovec){ buf, 3 }, 1, false), 3);
	stream_close(&s[0]);
	assert_null(handoff_say(other, HANDOFF_PLAIN, NULL, 0));
	assert_int_equal(write(other, "words", 5), 5);
	close(other);
	channel_init(&ch, &s[1], -1);
	ch.deadline = deadline_in(LIMIT_US);
	assert_null(channel_read(&ch, buf, sizeof(buf)));
	assert_memory_equal(buf + 3, "words", 5);
	stream_close(&s[1]);
	bench_close(&b);
}

/* What is on its way to a server that has gone keeps nobody: its relay does not wait for room. */
static void test_nobody_takes_it(void **state)
{
	struct stream s[2];
	struct bench b;
	uint8_t *room;
	int64_t began;

	(void)state;
	bench_rings(&b, s);
	for (int quiet = 0; quiet < 3;) {
		struct pollfd p = s[0].ops->wants(&s[0], POLLOUT);

		if (s[0].ops->reserve(&s[0], 1u << 20, &room) > 0)
			s[0].ops->commit(&s[0], room, 1u << 20);
		else
			quiet = poll(&p, 1, 100) ? 0 : quiet + 1;
	}
	began = clock_us();
	stream_close(&s[0]);
	stream_close(&s[1]);
	bench_close(&b);
	assert_true(clock_us() - began < RELAY_LAST_WORDS_US / 2);
}

/* A relay that is killed is an end, not a wait for ever. */
static void test_relay_dies(void **state)
{
	struct stream s[2];
	struct bench b;
	const uint8_t *at;
	uint8_t *room;

	(void)state;
	bench_rings(&b, s);
	assert_true(b.relays[0] > 1);
	kill(b.relays[0], SIGKILL);
	waitpid(b.relays[0], NULL, 0);
	b.relays[0] = -1;
	/* The other one may still hold this one's end for a moment: it was forked later. */
	assert_true(poll(&(struct pollfd){ s[0].fd, POLLIN, 0 }, 1, LIMIT_US / 1000) > 0);
	assert_int_equal(s[0].ops->lend(&s[0], 1, &at), 0);
	while (s[0].ops->reserve(&s[0], 1u << 20, &room) > 0)
		s[0].ops->commit(&s[0], room, 1u << 20);
	assert_int_equal(s[0].ops->reserve(&s[0], 1u << 20, &room), -EPIPE);
	stream_close(&s[0]);
	stream_close(&s[1]);
	bench_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rings),
		cmocka_unit_test(test_last_words),
		cmocka_unit_test(test_nobody_takes_it),
		cmocka_unit_test(test_relay_dies),
		cmocka_unit_test(exact),
		cmocka_unit_test(new_keys),
		cmocka_unit_test(key_used_up),
		cmocka_unit_test(wear_shows),
		cmocka_unit_test(half_close),
		cmocka_unit_test(last_words),
		cmocka_unit_test(cut),
		cmocka_unit_test(held_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
