// SPDX-License-Identifier: Apache-2.0
/*
 * A TCP socket on which the kernel does TLS. Tried on Linux 6.1 and 6.12 (tests/wire/ktls.c):
 *
 * - Non-blocking calls lose nothing while the socket is open, with whatever buffers, sizes and
 *   readers: what one of them has taken, the kernel sends by itself when there is room. But it
 *   throws away what it has not sent when the socket is closed (up to some records, whether or not
 *   a call has said EAGAIN), so close waits for it in a blocking call.
 * - With MORE the last record stays open, and nothing but further bytes closes it.
 * - A record that is no data stops reading. Only recvmsg with room for its type takes it: read says
 *   EIO, splice EINVAL.
 * - The end of TCP is told apart from the end of TLS by the alert close_notify alone.
 * - New keys cannot be set, so no more than ONE_KEY_RECORDS_MAX records go out: before that, the
 *   channel goes on over another connection, if it can have one.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/clock.h"
#include "wire/stream.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

enum { RECORD_ALERT = 21, RECORD_HANDSHAKE = 22, RECORD_DATA = 23, ALERT_CLOSE_NOTIFY = 0 };

/* The kernel is asked for its count after so much; it is a small part of that number. */
#define ASK_CALLS 4096
#define ASK_BYTES (64 << 20)

/* For what was not sent when the stream is closed, and for the peer to take it. */
#define FLUSH_US  10000000
#define LINGER_US 5000000

/* Errors that only this carrier has; numbers that no socket call returns here. */
enum { NO_GOODBYE = ESHUTDOWN, NOT_DATA = EPROTO, KEY_USED_UP = EKEYEXPIRED };

struct ktls {
	bool ended;          /* close_notify has come */
	uint8_t type, alert; /* of the record that is no data */
	size_t calls, bytes; /* since the kernel was asked */
	uint64_t records;    /* what it said */
};

/* ---- records that are no data ---- */

/* @calls net pages: recvmsg */
/* As recvmsg, and the type of the record; 0 where it says none (the end, an error). */
static ssize_t receive(int fd, void *buf, size_t n, uint8_t *type)
{
	union {
		char room[CMSG_SPACE(sizeof(uint8_t))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { buf, n };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t got = recvmsg(fd, &msg, MSG_DONTWAIT);
	const struct cmsghdr *c = got >= 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	*type = 0;
	if (c && c->cmsg_level == SOL_TLS && c->cmsg_type == TLS_GET_RECORD_TYPE)
		memcpy(type, CMSG_DATA(c), sizeof(*type));
	return got < 0 ? -errno : got;
}

/* A record of this type, of which `got` bytes are in `head`. */
static ssize_t take_control(struct stream *s, uint8_t type, uint8_t head[2], size_t got)
{
	struct ktls *k = s->state;
	uint8_t again;

	k->type = type;
	if (type == RECORD_ALERT && got == 1 && receive(s->fd, head + 1, 1, &again) == 1 &&
		again == type)
		got = 2;
	k->alert = type == RECORD_ALERT && got >= 2 ? head[1] : UINT8_MAX;
	k->ended = type == RECORD_ALERT && k->alert == ALERT_CLOSE_NOTIFY;
	return k->ended ? 0 : -NOT_DATA;
}

/* What splice will not take. */
static ssize_t splice_control(struct stream *s)
{
	uint8_t head[2] = { 0 }, type;
	ssize_t got = receive(s->fd, head, sizeof(head), &type);

	return got < 0 ? got : take_control(s, type, head, (size_t)got);
}

static struct err *explain_record(const struct ktls *k)
{
	if (k->type == RECORD_ALERT)
		return err_new(ERR_PEER, "the other host ended the connection with TLS alert %u",
			k->alert);
	if (k->type == RECORD_HANDSHAKE)
		return err_new(ERR_PEER, "the other host wants other TLS keys, which the kernel's "
					 "TLS cannot change");
	return err_new(ERR_PEER, "the other host sent a TLS record of type %u", k->type);
}

static struct err *ktls_explain(const struct stream *s, int no)
{
	switch (no) {
	case EBADMSG:
		return err_new(ERR_PEER, "a TLS record has arrived that the other host did not "
					 "write so: something between the hosts changes bytes");
	case NO_GOODBYE:
		return err_new(ERR_PEER, "the other host closed the connection without a word");
	case NOT_DATA:
		return explain_record(s->state);
	case KEY_USED_UP:
		return err_hint(err_new(ERR_LIMIT,
					"this connection's key has sealed %llu records, which is "
					"as many as it may, and there is no other connection",
					ONE_KEY_RECORDS_MAX),
			"set kernel_tls = no in migrated.conf for processes of this size");
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ENETDOWN:
		return err_new(ERR_PEER, "connection lost: %s", strerror(no));
	default:
		return NULL;
	}
}

/* ---- reading ---- */

static ssize_t ktls_read(struct stream *s, void *buf, size_t n)
{
	const struct ktls *k = s->state;
	uint8_t head[2], type;
	ssize_t got;

	if (k->ended)
		return 0;
	got = receive(s->fd, buf, n, &type);
	if (got < 0)
		return got;
	if (got == 0 && !type)
		return -NO_GOODBYE;
	if (type == RECORD_DATA)
		return got ? got : -EAGAIN; /* an empty record */
	memcpy(head, buf, MIN((size_t)got, sizeof(head)));
	return take_control(s, type, head, (size_t)got);
}

/* @calls pages: splice */
static ssize_t ktls_splice_in(struct stream *s, int pipe_fd, size_t n)
{
	const struct ktls *k = s->state;
	ssize_t got;

	if (k->ended)
		return 0;
	got = splice(s->fd, NULL, pipe_fd, NULL, n, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (got < 0)
		return errno == EINVAL || errno == EIO ? splice_control(s) : -errno;
	return got ? got : -NO_GOODBYE;
}

/* ---- writing ---- */

/* Both counts start anew with each question. @calls net pages: getsockopt[1=SOL_TLS] */
static ssize_t count_records(struct stream *s)
{
	struct tls12_crypto_info_aes_gcm_128 c;
	struct ktls *k = s->state;
	socklen_t len = sizeof(c);
	uint64_t records;

	if (k->calls < ASK_CALLS && k->bytes < ASK_BYTES)
		return 0;
	memset(&c, 0, sizeof(c));
	if (getsockopt(s->fd, SOL_TLS, TLS_TX, &c, &len) < 0)
		return -errno;
	memcpy(&records, c.rec_seq, sizeof(records));
	explicit_bzero(&c, sizeof(c));
	k->records = be64toh(records);
	k->calls = k->bytes = 0;
	return 0;
}

static ssize_t check_key(struct stream *s)
{
	const struct ktls *k = s->state;
	ssize_t no = count_records(s);

	if (no < 0)
		return no;
	return k->records < ONE_KEY_RECORDS_MAX ? 0 : -KEY_USED_UP;
}

/* A count that the kernel does not tell is for the next write to complain of. */
static enum stream_wear ktls_wear(struct stream *s)
{
	const struct ktls *k = s->state;

	(void)count_records(s);
	return stream_wear_of(k->records);
}

static ssize_t count(struct stream *s, ssize_t done)
{
	struct ktls *k = s->state;

	if (done < 0)
		return -errno;
	k->calls++;
	k->bytes += (size_t)done;
	return done;
}

/* @calls net pages: sendmsg */
static ssize_t ktls_write(struct stream *s, const struct iovec *iov, int n, bool more)
{
	const struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)iov,
		.msg_iovlen = (size_t)n };
	ssize_t no = check_key(s);

	if (no < 0)
		return no;
	return count(s, sendmsg(s->fd, &msg, MSG_NOSIGNAL | (more ? MSG_MORE : 0)));
}

static ssize_t ktls_splice_out(struct stream *s, int pipe_fd, size_t n, bool more)
{
	ssize_t no = check_key(s);

	if (no < 0)
		return no;
	return count(s, splice(pipe_fd, NULL, s->fd, NULL, n,
				SPLICE_F_NONBLOCK | SPLICE_F_MOVE | (more ? SPLICE_F_MORE : 0)));
}

static struct pollfd ktls_wants(const struct stream *s, short events)
{
	return (struct pollfd){ s->fd, events, 0 };
}

/* ---- the end ---- */

/* @calls net pages: fcntl[1=F_GETFL] fcntl[1=F_SETFL] setsockopt[1=SOL_SOCKET,2=SO_SNDTIMEO] */
/* Behind everything that was written; returns when it is with TCP, or when time is up. */
static void say_goodbye(int fd)
{
	const struct timeval limit = { FLUSH_US / 1000000, 0 };
	uint8_t alert[2] = { 1, ALERT_CLOSE_NOTIFY }, type = RECORD_ALERT;
	union {
		char room[CMSG_SPACE(sizeof(type))];
		struct cmsghdr head;
	} control = { .room = { 0 } };
	struct iovec iov = { alert, sizeof(alert) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	int flags = fcntl(fd, F_GETFL);

	control.head.cmsg_level = SOL_TLS;
	control.head.cmsg_type = TLS_SET_RECORD_TYPE;
	control.head.cmsg_len = CMSG_LEN(sizeof(type));
	memcpy(CMSG_DATA(&control.head), &type, sizeof(type));
	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
		return;
	(void)sendmsg(fd, &msg, MSG_NOSIGNAL); /* a peer that is gone does not care */
}

/* @calls net pages: shutdown poll close */
/* Eats what still comes, so that the kernel has no reason for a reset, which would make the peer
 * lose our last words. */
static void linger(int fd)
{
	struct deadline d = deadline_in(LINGER_US);
	struct pollfd p = { fd, POLLIN, 0 };
	char buf[4096];
	uint8_t type;

	if (shutdown(fd, SHUT_WR) < 0)
		return;
	while (poll(&p, 1, deadline_poll_ms(d)) > 0) {
		ssize_t n = receive(fd, buf, sizeof(buf), &type);

		if ((n == 0 && !type) || (n < 0 && n != -EAGAIN && n != -EINTR))
			return;
	}
}

static void ktls_close(struct stream *s)
{
	say_goodbye(s->fd);
	linger(s->fd);
	fd_closep(&s->fd);
	free(s->state);
	s->state = NULL;
}

static const struct stream_ops ktls_ops = {
	.name = "ktls",
	.write = ktls_write,
	.read = ktls_read,
	.splice_out = ktls_splice_out,
	.splice_in = ktls_splice_in,
	.explain = ktls_explain,
	.wear = ktls_wear,
	.wants = ktls_wants,
	.close = ktls_close,
};

/* @calls net pages: setsockopt[1=IPPROTO_TCP,2=TCP_NOTSENT_LOWAT] */
struct err *stream_ktls(int fd, struct stream *ret)
{
	autoclose int own = fd;
	int flags = fcntl(own, F_GETFL), any = INT_MAX;
	struct ktls *k;

	if (flags < 0 || fcntl(own, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_errno(errno, "make the stream non-blocking");
	/* A limit below the size of a record, set for the whole host, makes TCP wait for a timer
	 * after each record. */
	(void)setsockopt(own, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &any, sizeof(any));
	k = xcalloc(1, sizeof(*k));
	k->calls = ASK_CALLS; /* it has records already: its HELLO */
	*ret = (struct stream){ .ops = &ktls_ops, .fd = take_fd(&own), .state = k };
	return NULL;
}
