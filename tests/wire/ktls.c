// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel-TLS carrier on a kernel that has it (77 elsewhere): every byte arrives once and in
 * order, whatever the buffers, sizes and readers; a clean end, a cut, and records that are no data
 * are told apart.
 *
 *     ktls            a short run of everything
 *     ktls MIB [SEED] bytes for each combination; another seed, other sizes
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "wire/channel.h"
#include "wire/stream.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define PIPE_BYTES (1 << 20)
#define PIECE_MAX  300000
#define RING_BYTES (8UL << 20) /* no two stretches of it are alike */
#define STUCK_MS   120000

static uint64_t mib = 4;
static unsigned first_seed = 1;
static uint8_t *ring; /* twice, so that a piece need not be cut */

/* ---- two sockets with keys ---- */

static int set_keys(int fd, int way, uint8_t key, uint64_t records)
{
	struct tls12_crypto_info_aes_gcm_128 c = {
		.info = { TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128 },
	};
	uint64_t seq = htobe64(records);

	memset(c.key, key, sizeof(c.key));
	memset(c.salt, key, sizeof(c.salt));
	memset(c.iv, key, sizeof(c.iv));
	memcpy(c.rec_seq, &seq, sizeof(seq));
	return setsockopt(fd, SOL_TLS, way, &c, sizeof(c));
}

struct buffers {
	int send, receive, segment; /* 0: as the kernel likes */
};

static int connected(const struct buffers *b, int fd[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t len = sizeof(a);
	autoclose int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (b->receive)
		setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &b->receive, sizeof(int));
	if (b->send)
		setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &b->send, sizeof(int));
	if (b->segment)
		setsockopt(fd[0], IPPROTO_TCP, TCP_MAXSEG, &b->segment, sizeof(int));
	if (bind(listener, (struct sockaddr *)&a, len) < 0 || listen(listener, 1) < 0 ||
		getsockname(listener, (struct sockaddr *)&a, &len) < 0 ||
		connect(fd[0], (struct sockaddr *)&a, len) < 0)
		return -1;
	fd[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	return fd[1] < 0 ? -1 : 0;
}

/* fd[0] speaks with key 5, fd[1] with key 6. */
static void open_pair(const struct buffers *b, uint64_t records, int fd[2])
{
	int one = 1;

	assert_int_equal(connected(b, fd), 0);
	for (int i = 0; i < 2; i++) {
		setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		assert_int_equal(setsockopt(fd[i], IPPROTO_TCP, TCP_ULP, "tls", 4), 0);
		assert_int_equal(set_keys(fd[i], TLS_RX, i ? 5 : 6, records), 0);
		assert_int_equal(set_keys(fd[i], TLS_TX, i ? 6 : 5, records), 0);
		setsockopt(fd[i], SOL_TLS, TLS_RX_EXPECT_NO_PAD, &one, sizeof(one));
	}
}

static void open_streams(const struct buffers *b, uint64_t records, struct stream s[2])
{
	int fd[2];

	open_pair(b, records, fd);
	for (int i = 0; i < 2; i++)
		assert_null(stream_ktls(fd[i], &s[i]));
}

static bool kernel_can(void)
{
	const struct buffers any = { 0, 0, 0 };
	int fd[2], can;

	if (connected(&any, fd) < 0)
		return false;
	can = setsockopt(fd[0], IPPROTO_TCP, TCP_ULP, "tls", 4) == 0;
	close(fd[0]);
	close(fd[1]);
	return can;
}

/* A record that is no data, by the kernel's own means. */
static void send_record(int fd, uint8_t type, const void *data, size_t n)
{
	union {
		char room[CMSG_SPACE(1)];
		struct cmsghdr head;
	} control = { .room = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)data, n };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };

	control.head.cmsg_level = SOL_TLS;
	control.head.cmsg_type = TLS_SET_RECORD_TYPE;
	control.head.cmsg_len = CMSG_LEN(1);
	*CMSG_DATA(&control.head) = type;
	assert_int_equal(sendmsg(fd, &msg, 0), n);
}

/* ---- the stress: sender and receiver are processes ---- */

enum how { COPY, SPLICE, BOTH };

struct flow {
	struct buffers buffers;
	enum how out, in;
	unsigned seed;
	unsigned slow;      /* the receiver sleeps after one of so many reads; 0: never */
	unsigned fragments; /* pipes are filled with pieces below this, not with pages; 0: pages */
	unsigned pipe;      /* the receiver fills a pipe of so many pages before it empties it */
	uint64_t total;
};

static unsigned any_of(struct flow *r, unsigned n)
{
	return (unsigned)rand_r(&r->seed) % n;
}

static size_t any_size(struct flow *r)
{
	switch (any_of(r, 6)) {
	case 0:
		return 1 + any_of(r, 64);
	case 1:
		return 1 + any_of(r, 5000);
	case 2:
		return PAGE_BYTES * (1 + any_of(r, 16));
	case 3:
		return 16384 - 20 + any_of(r, 40);
	case 4:
		return 1 + any_of(r, 70000);
	default:
		return 1 + any_of(r, PIECE_MAX);
	}
}

static void open_pipe(int p[2])
{
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_true(fcntl(p[1], F_SETPIPE_SZ, PIPE_BYTES) >= PIPE_BYTES);
}

static void wait_for(struct stream *s, short events)
{
	struct pollfd p = s->ops->wants(s, events);

	if (poll(&p, 1, STUCK_MS) <= 0) {
		fprintf(stderr, "stuck while %s\n", events & POLLIN ? "reading" : "writing");
		_exit(3);
	}
}

/* After a call on the stream: bytes moved, or 0 after a wait. */
static size_t moved(struct stream *s, ssize_t ret, short events)
{
	if (ret > 0)
		return (size_t)ret;
	if (ret != -EAGAIN) {
		fprintf(stderr, "%s: %s\n", events & POLLIN ? "read" : "write",
			strerror((int)-ret));
		_exit(4);
	}
	wait_for(s, events);
	return 0;
}

static void put_copied(struct stream *s, const uint8_t *at, size_t n, bool more)
{
	while (n) {
		struct iovec iov = { (void *)(uintptr_t)at, n };
		size_t done = moved(s, s->ops->write(s, &iov, 1, more), POLLOUT);

		at += done;
		n -= done;
	}
}

/* Some of it, so that the pipe holds it by reference. */
static size_t fill_pipe(struct flow *r, int pipe_fd, const uint8_t *at, size_t n)
{
	size_t done = 0, most = r->fragments ? MIN(n, (size_t)20000) : n;

	while (done < most) {
		size_t piece = r->fragments ? 1 + any_of(r, r->fragments) : most;
		struct iovec iov = { (void *)(uintptr_t)(at + done), MIN(piece, most - done) };
		ssize_t w = vmsplice(pipe_fd, &iov, 1, SPLICE_F_NONBLOCK);

		if (w <= 0)
			break;
		done += (size_t)w;
		if (!r->fragments)
			break;
	}
	assert_true(done > 0);
	return done;
}

static void put_spliced(struct flow *r, struct stream *s, const uint8_t *at, size_t n, bool more)
{
	static int p[2] = { -1, -1 };

	if (p[0] < 0)
		open_pipe(p);
	while (n) {
		size_t held = fill_pipe(r, p[1], at, n);

		at += held;
		n -= held;
		while (held)
			held -= moved(s, s->ops->splice_out(s, p[0], held, more || n), POLLOUT);
	}
}

static void put(struct flow *r, struct stream *s, const uint8_t *at, size_t n, bool more)
{
	if (r->out == SPLICE || (r->out == BOTH && any_of(r, 2)))
		put_spliced(r, s, at, n, more);
	else
		put_copied(s, at, n, more);
}

/* Like frames: a small head, a middle, an end; only the end goes without MORE. */
static void send_all(struct flow *r, struct stream *s)
{
	for (uint64_t at = 0; at < r->total;) {
		size_t size = any_size(r), n = MIN(size, r->total - at);
		size_t head = MIN(n, (size_t)16), middle;
		const uint8_t *from = ring + at % RING_BYTES;

		middle = head + (n > head ? any_of(r, (unsigned)(n - head)) : 0);
		if (any_of(r, 4) == 0 || head == n) {
			put(r, s, from, n, false);
		} else {
			put_copied(s, from, head, true);
			if (middle > head)
				put(r, s, from + head, middle - head, true);
			put(r, s, from + middle, n - middle, false);
		}
		at += n;
		if (any_of(r, 400) == 0)
			usleep(any_of(r, 3000));
	}
}

static pid_t start_sender(const struct flow *r, struct stream s[2])
{
	struct flow own = *r;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		close(s[1].fd);
		send_all(&own, &s[0]);
		stream_close(&s[0]);
		_exit(0);
	}
	close(s[0].fd);
	free(s[0].state);
	return pid;
}

/* As read, by way of a pipe or not. */
static ssize_t get(struct flow *r, struct stream *s, uint8_t *buf, size_t n)
{
	static int p[2] = { -1, -1 };
	ssize_t got;

	if (r->in == COPY || (r->in == BOTH && any_of(r, 2)))
		return s->ops->read(s, buf, n);
	if (p[0] < 0)
		open_pipe(p);
	got = s->ops->splice_in(s, p[1], n);
	for (ssize_t done = 0, k; done < got; done += k) {
		k = read(p[0], buf + done, (size_t)(got - done));
		assert_true(k > 0);
	}
	return got;
}

/* Until the end; how much came, or fails at the first byte that is wrong. */
static uint64_t receive_all(struct flow *r, struct stream *s)
{
	static uint8_t buf[PIECE_MAX];
	uint64_t at = 0;

	for (;;) {
		ssize_t got = get(r, s, buf, any_size(r));

		if (got == 0)
			return at;
		got = (ssize_t)moved(s, got, POLLIN);
		if (memcmp(buf, ring + at % RING_BYTES, (size_t)got) != 0)
			fail_msg("wrong bytes at %ju", (uintmax_t)at);
		at += (uint64_t)got;
		if (r->slow && any_of(r, r->slow) == 0)
			usleep(any_of(r, 4000));
	}
}

/* The same by way of a pipe that is filled as far as SPLICE_IN_PIECES allows. */
static uint64_t receive_held(struct flow *r, struct stream *s)
{
	const int size = (int)(r->pipe * PAGE_BYTES);
	static uint8_t buf[PIPE_BYTES];
	uint64_t at = 0;
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(fcntl(p[1], F_SETPIPE_SZ, size), size);
	for (;;) {
		size_t held = 0, used = 0, k;
		ssize_t got = 1;

		while (got > 0 && (!used || used + SPLICE_IN_PIECES <= r->pipe)) {
			got = s->ops->splice_in(s, p[1], any_size(r));
			held += got > 0 ? (size_t)got : 0;
			used += got > 0 ? (size_t)got / PAGE_BYTES + 2 : 0;
		}
		for (size_t done = 0; done < held; done += k) {
			ssize_t n = read(p[0], buf + done, held - done);

			assert_true(n > 0);
			k = (size_t)n;
		}
		if (memcmp(buf, ring + at % RING_BYTES, held) != 0)
			fail_msg("wrong bytes behind %ju", (uintmax_t)at);
		at += held;
		if (got == 0)
			break;
		if (got < 0)
			moved(s, got, POLLIN);
	}
	close(p[0]);
	close(p[1]);
	return at;
}

static void stress_one(struct flow *r)
{
	int64_t began = clock_us();
	struct stream s[2];
	uint64_t came;
	pid_t sender;
	int status;

	open_streams(&r->buffers, 0, s);
	sender = start_sender(r, s);
	r->seed ^= 0x5555;
	came = r->pipe ? receive_held(r, &s[1]) : receive_all(r, &s[1]);
	assert_int_equal(came, r->total);
	assert_int_equal(s[1].ops->read(&s[1], &status, 1), 0); /* and it stays the end */
	stream_close(&s[1]);
	assert_int_equal(waitpid(sender, &status, 0), sender);
	assert_int_equal(status, 0);
	printf("  %ju bytes, out %d, in %d, buffers %d %d, segments %d, fragments %u: %.1f MiB/s\n",
		(uintmax_t)came, (int)r->out, (int)r->in, r->buffers.send, r->buffers.receive,
		r->buffers.segment, r->fragments,
		(double)came / 1048576 * 1e6 / (double)(clock_us() - began));
	fflush(stdout);
}

static void stress(void **state unused_arg)
{
	static const struct buffers buffers[] = { { 0, 0, 0 }, { 4608, 2304, 0 },
		{ 20000, 8000, 1448 }, { 40000, 3000, 536 }, { 0, 0, 1448 } };
	unsigned seed = first_seed;

	for (size_t b = 0; b < ARRAY_LEN(buffers); b++)
		for (enum how out = COPY; out <= BOTH; out++) {
			struct flow r = {
				.buffers = buffers[b],
				.out = out,
				.in = (enum how)((seed + b) % 3),
				.seed = seed,
				.slow = 50,
				.total = mib << 20,
			};

			stress_one(&r);
			seed++;
		}
}

/* Pipes that hold many small pieces: a record has room for 17 of them. */
static void small_fragments(void **state unused_arg)
{
	static const unsigned most[] = { 30, 300, 3000 };

	for (size_t i = 0; i < ARRAY_LEN(most); i++) {
		struct flow r = {
			.out = SPLICE,
			.in = BOTH,
			.seed = first_seed,
			.slow = 50,
			.fragments = most[i],
			.total = MIN(mib, 16UL) << 20,
		};

		stress_one(&r);
	}
}

/* Pipes with room for one record at least, of which not all is free each time. */
static void pipes_that_fill_up(void **state unused_arg)
{
	static const unsigned pages[] = { 32, 64, 256 };

	for (size_t i = 0; i < ARRAY_LEN(pages); i++)
		for (enum how out = COPY; out <= BOTH; out++) {
			struct flow r = {
				.out = out,
				.in = SPLICE,
				.seed = first_seed + 100 * (unsigned)i,
				.pipe = pages[i],
				.fragments = i == 1 ? 300 : 0,
				.total = mib << 20,
			};

			stress_one(&r);
		}
}

/* The last records do not fit into the buffers when the sender closes; nothing of them is lost. */
static void end_under_pressure(void **state unused_arg)
{
	for (unsigned i = 0; i < 16; i++) {
		struct flow r = {
			.buffers = { 4608, 2304, i % 2 ? 1448 : 0 },
			.out = BOTH,
			.in = COPY,
			.seed = first_seed + i,
			.slow = 3,
			.total = 300000 + 7777 * i,
		};

		stress_one(&r);
	}
}

/* ---- ends and other records ---- */

static const struct buffers usual = { 0, 0, 0 };

static void close_raw(struct stream *s)
{
	fd_closep(&s->fd);
	free(s->state);
}

/* The next result that is not EAGAIN. */
static ssize_t next(struct stream *s, enum how in, int pipe_fd, void *buf, size_t n)
{
	ssize_t got;

	do {
		wait_for(s, POLLIN);
		got = in == COPY ? s->ops->read(s, buf, n) : s->ops->splice_in(s, pipe_fd, n);
	} while (got == -EAGAIN);
	return got;
}

/* What comes next must be an error with this text or, without a text, the end. */
static void expect(struct stream *s, enum how in, enum err_code code, const char *text)
{
	char buf[64];
	struct err *e;
	ssize_t got;
	int p[2];

	open_pipe(p);
	got = next(s, in, p[1], buf, sizeof(buf));
	close(p[0]);
	close(p[1]);
	if (!text) {
		assert_int_equal(got, 0);
		return;
	}
	assert_true(got < 0);
	e = s->ops->explain(s, (int)-got);
	assert_non_null(e);
	assert_int_equal(err_code(e), code);
	if (!strstr(err_text(e, 0), text))
		fail_msg("\"%s\" does not say \"%s\"", err_text(e, 0), text);
	err_free(e);
}

static void expect_data(struct stream *s, enum how in)
{
	char buf[64];
	int p[2];

	open_pipe(p);
	assert_int_equal(next(s, in, p[1], buf, sizeof(buf)), 4);
	close(p[0]);
	close(p[1]);
}

static void other_records(void **state unused_arg)
{
	static const struct {
		uint8_t type, data[5], n;
		const char *text;
	} records[] = {
		{ 21, { 1, 0 }, 2, NULL },
		{ 21, { 2, 20 }, 2, "TLS alert 20" },
		{ 22, { 24, 0, 0, 1, 0 }, 5, "other TLS keys" },
		{ 20, { 1 }, 1, "type 20" },
	};

	for (size_t i = 0; i < ARRAY_LEN(records); i++)
		for (enum how in = COPY; in <= SPLICE; in++) {
			struct stream s[2];

			open_streams(&usual, 0, s);
			assert_int_equal(send(s[0].fd, "data", 4, 0), 4);
			send_record(s[0].fd, records[i].type, records[i].data, records[i].n);
			expect_data(&s[1], in);
			expect(&s[1], in, ERR_PEER, records[i].text);
			close_raw(&s[0]);
			stream_close(&s[1]);
		}
}

/* An alert that is read byte by byte. */
static void goodbye_in_parts(void **state unused_arg)
{
	struct stream s[2];
	char byte;

	open_streams(&usual, 0, s);
	stream_close(&s[0]); /* waits for nobody but TCP */
	assert_int_equal(next(&s[1], COPY, -1, &byte, 1), 0);
	assert_int_equal(s[1].ops->read(&s[1], &byte, 1), 0);
	stream_close(&s[1]);
}

static void cut(void **state unused_arg)
{
	for (enum how in = COPY; in <= SPLICE; in++) {
		struct stream s[2];

		open_streams(&usual, 0, s);
		assert_int_equal(send(s[0].fd, "data", 4, 0), 4);
		close_raw(&s[0]); /* as by SIGKILL: no word */
		expect_data(&s[1], in);
		expect(&s[1], in, ERR_PEER, "without a word");
		stream_close(&s[1]);
	}
}

static void tampered(void **state unused_arg)
{
	for (enum how in = COPY; in <= SPLICE; in++) {
		struct stream s;
		uint8_t bad[60] = { 23, 3, 3, 0, 55 };
		int fd[2], one = 1;

		assert_int_equal(connected(&usual, fd), 0);
		setsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		assert_int_equal(setsockopt(fd[1], IPPROTO_TCP, TCP_ULP, "tls", 4), 0);
		assert_int_equal(set_keys(fd[1], TLS_RX, 5, 1), 0);
		assert_int_equal(set_keys(fd[1], TLS_TX, 6, 1), 0);
		assert_int_equal(send(fd[0], bad, sizeof(bad), 0), sizeof(bad));
		assert_null(stream_ktls(fd[1], &s));
		expect(&s, in, ERR_PEER, "something between the hosts");
		close(fd[0]);
		stream_close(&s);
	}
}

/* Whoever has sealed as many records as a key is good for gets an error, and no record more. */
static void key_used_up(void **state unused_arg)
{
	struct channel ch;
	struct stream s[2];
	struct err *e = NULL;
	char buf[100000];
	int i;

	open_streams(&usual, (1 << 23) - 1000, s);
	channel_init(&ch, &s[0], -1);
	for (i = 0; i < 1 << 20 && !e; i++) {
		e = channel_send(&ch, FRAME_PING, 0, NULL, 0);
		(void)recv(s[1].fd, buf, sizeof(buf), MSG_DONTWAIT);
	}
	assert_non_null(e);
	assert_int_equal(err_code(e), ERR_LIMIT);
	assert_true(i > 1000 && i < 20000);
	err_free(e);
	close_raw(&s[1]);
	stream_close(&s[0]);
}

/* A channel that goes on over others in time: while somebody stands still, only when it must. */
struct spare {
	struct stream s[2];
	unsigned asked;
};

static struct err *open_spare(
	void *arg, unsigned *n, struct deadline d unused_arg, struct stream **ret)
{
	struct spare *spare = arg;
	bool dials = *n == 0;

	if (dials) {
		open_streams(&usual, 0, spare->s);
		*n = ++spare->asked;
	}
	*ret = &spare->s[!dials];
	return NULL;
}

static void goes_on(void **state unused_arg)
{
	static const struct {
		uint64_t records;
		bool hurried, another;
	} cases[] = {
		{ ONE_KEY_RECORDS_WORN - 10, false, false },
		{ ONE_KEY_RECORDS_WORN, true, false },
		{ ONE_KEY_RECORDS_WORN, false, true },
		{ ONE_KEY_RECORDS_USED_UP, true, true },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct spare spare = { .asked = 0 };
		struct channel a, b;
		struct stream s[2];
		struct frame_head h;

		open_streams(&usual, cases[i].records, s);
		channel_init(&a, &s[0], -1);
		channel_init(&b, &s[1], -1);
		a.deadline = b.deadline = deadline_in(STUCK_MS * 1000);
		a.more = (struct channel_more){ open_spare, &spare, true };
		b.more = (struct channel_more){ open_spare, &spare, false };
		a.hurried = cases[i].hurried;
		for (unsigned n = 0; n < 5; n++)
			assert_null(channel_send(&a, FRAME_ROUND, n, NULL, 0));
		for (unsigned n = 0; n < 5; n++) {
			assert_null(channel_head(&b, &h));
			assert_int_equal(h.arg, n);
		}
		assert_int_equal(spare.asked, cases[i].another);
		assert_ptr_equal(a.out, cases[i].another ? &spare.s[0] : &s[0]);
		close_raw(&s[1]);
		stream_close(&s[0]);
		if (spare.asked) {
			close_raw(&spare.s[1]);
			stream_close(&spare.s[0]);
		}
	}
}

static void make_ring(void)
{
	uint64_t x = 88172645463325252ULL, *word;

	ring = mmap(
		NULL, 2 * RING_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ring == MAP_FAILED)
		abort();
	word = (uint64_t *)(void *)ring;
	for (size_t i = 0; i < RING_BYTES / sizeof(x); i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		word[i] = x;
	}
	memcpy(ring + RING_BYTES, ring, RING_BYTES);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(other_records),
		cmocka_unit_test(goodbye_in_parts),
		cmocka_unit_test(cut),
		cmocka_unit_test(tampered),
		cmocka_unit_test(key_used_up),
		cmocka_unit_test(goes_on),
		cmocka_unit_test(end_under_pressure),
		cmocka_unit_test(small_fragments),
		cmocka_unit_test(pipes_that_fill_up),
		cmocka_unit_test(stress),
	};

	signal(SIGPIPE, SIG_IGN);
	if (argc > 1)
		mib = strtoull(argv[1], NULL, 10);
	if (argc > 2)
		first_seed = (unsigned)strtoul(argv[2], NULL, 10);
	if (!kernel_can()) {
		fprintf(stderr, "skipped: this kernel has no TLS for TCP sockets (module tls)\n");
		return 77;
	}
	make_ring();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
