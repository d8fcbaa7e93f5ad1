// SPDX-License-Identifier: Apache-2.0
#include "wire/stream_relay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "wire/handoff.h"
#include "wire/ring.h"

struct halves {
	struct ring in, out;
};

/* @calls pages: sendto */
static void wake(const struct stream *s)
{
	const char byte = HANDOFF_WAKE;

	/* Full of wake-ups is as good; that nobody is there is seen by reading. */
	(void)send(s->fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* @calls pages: recvfrom */
/* Takes the wake-ups that came: -EAGAIN when there are none (left), 0 at the end. */
static ssize_t take_wakes(const struct stream *s)
{
	char bytes[64];
	ssize_t n;

	do
		n = recv(s->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	while (n > 0 || (n < 0 && errno == EINTR));
	return n == 0 || errno == ECONNRESET ? 0 : -errno;
}

/* ---- inwards ---- */

/* At least n bytes at *at: how many. */
static ssize_t wait_for(struct stream *s, size_t n, const uint8_t **at)
{
	struct halves *h = s->state;
	ssize_t there = ring_readable(&h->in, at), end = -EAGAIN;

	if (there >= 0 && (size_t)there < n) {
		if (ring_reader_sleeps(&h->in, n))
			end = take_wakes(s);
		/* What was written before the end, or just now, is there now. */
		there = ring_readable(&h->in, at);
	}
	return there >= 0 && (size_t)there < n ? end : there;
}

static ssize_t relay_lend(struct stream *s, size_t n, const uint8_t **at)
{
	ssize_t there = wait_for(s, n, at);

	return there > 0 ? (ssize_t)n : there;
}

static void relay_give_back(struct stream *s, size_t n)
{
	struct halves *h = s->state;

	if (ring_read(&h->in, n))
		wake(s);
}

static ssize_t relay_read(struct stream *s, void *buf, size_t n)
{
	const uint8_t *at;
	ssize_t there = wait_for(s, 1, &at);

	if (there > 0) {
		there = (ssize_t)MIN((size_t)there, n);
		memcpy(buf, at, (size_t)there);
		relay_give_back(s, (size_t)there);
	}
	return there;
}

/* ---- outwards ---- */

/* Room for a piece of at least `n` bytes, or -EAGAIN. */
static ssize_t room(struct stream *s, size_t n, uint8_t **at)
{
	struct halves *h = s->state;
	size_t need = sizeof(struct piece) + n;
	ssize_t free = ring_writable(&h->out, at);

	if (free >= 0 && (size_t)free < need) {
		if (take_wakes(s) == 0)
			return -EPIPE;
		if (ring_writer_sleeps(&h->out, need))
			return -EAGAIN;
		free = ring_writable(&h->out, at);
	}
	*at += sizeof(struct piece);
	return free < 0 ? free : free - (ssize_t)sizeof(struct piece);
}

static void publish(struct stream *s, uint8_t *at, size_t skip, size_t n)
{
	struct halves *h = s->state;
	const struct piece p = { (uint32_t)skip, (uint32_t)n };

	memcpy(at - sizeof(p), &p, sizeof(p));
	if (ring_written(&h->out, sizeof(p) + skip + n))
		wake(s);
}

static ssize_t relay_write(struct stream *s, const struct iovec *iov, int n, bool more unused_arg)
{
	size_t done = 0;
	uint8_t *at;
	ssize_t free = room(s, 1, &at);

	if (free < 0)
		return free;
	for (int i = 0; i < n && done < (size_t)free; i++) {
		size_t part = MIN(iov[i].iov_len, (size_t)free - done);

		memcpy(at + done, iov[i].iov_base, part);
		done += part;
	}
	publish(s, at, 0, done);
	return (ssize_t)done;
}

static ssize_t relay_reserve(struct stream *s, size_t n, uint8_t **at)
{
	ssize_t free = room(s, n, at);

	return free < 0 ? free : (ssize_t)n;
}

static void relay_commit(struct stream *s, const uint8_t *from, size_t n)
{
	struct halves *h = s->state;
	uint8_t *at;

	(void)ring_writable(&h->out, &at);
	at += sizeof(struct piece);
	publish(s, at, (size_t)(from - at), n);
}

/* The relay counts. A number that it cannot mean is as bad as the worst. */
static enum stream_wear relay_wear(struct stream *s)
{
	const struct halves *h = s->state;
	uint64_t wear = atomic_load_explicit(&h->out.shared->wear, memory_order_relaxed);

	return wear < STREAM_USED_UP ? (enum stream_wear)wear : STREAM_USED_UP;
}

/* ---- the whole ---- */

static struct pollfd relay_wants(const struct stream *s, short events unused_arg)
{
	return (struct pollfd){ s->fd, POLLIN, 0 };
}

static void relay_close(struct stream *s)
{
	struct halves *h = s->state;

	fd_closep(&s->fd);
	ring_unmap(&h->in);
	ring_unmap(&h->out);
	free(h);
}

static const struct stream_ops relay_ops = {
	.name = "relay",
	.write = relay_write,
	.read = relay_read,
	.lend = relay_lend,
	.give_back = relay_give_back,
	.reserve = relay_reserve,
	.commit = relay_commit,
	.wear = relay_wear,
	.wants = relay_wants,
	.close = relay_close,
};

static struct err *make(size_t bytes, int *fd, struct ring *r)
{
	TRY(ring_make(bytes, fd));
	return ring_map(*fd, r);
}

struct err *stream_relay(int fd, struct stream *ret)
{
	struct stream s = { .ops = &relay_ops, .fd = fd };
	autoclose int in = -1, out = -1;
	struct halves *h = xcalloc(1, sizeof(*h));
	struct err *e;

	s.state = h;
	e = make(HANDOFF_IN_BYTES, &in, &h->in);
	if (!e)
		e = make(HANDOFF_OUT_BYTES, &out, &h->out);
	if (!e)
		e = handoff_say(fd, HANDOFF_RING, (int[]){ in, out }, 2);
	if (e)
		stream_close(&s);
	else
		*ret = s;
	return e;
}
