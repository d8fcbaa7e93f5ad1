// SPDX-License-Identifier: Apache-2.0
#include "session/relay.h"

#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "session/corked.h"
#include "session/ossl.h"
#include "wire/handoff.h"
#include "wire/ring.h"
#include "wire/stream.h"

/* A buffer between the two ends, for bytes that go over the socket itself. */
struct way {
	uint8_t *buf;
	size_t start, end;
};

struct relay;

/* How bytes get to and from the server. */
struct serving {
	/* Bytes for the peer, where they lie: 0 for none now. Sets out_ended when no more come. */
	struct err *(*look)(struct relay *r, const uint8_t **at, size_t *n);
	void (*sent)(struct relay *r, size_t n);
	/* Where bytes from the peer go: 0 for no room now. Then, n of them are there. */
	struct err *(*room)(struct relay *r, uint8_t **at, size_t *n);
	struct err *(*came)(struct relay *r, size_t n);
	/* What to poll the socket for. */
	short (*wants)(struct relay *r);
};

struct relay {
	struct tls *tls;
	int fd;
	const struct serving *serving;
	struct way out, in; /* the socket's */
	struct ring ring_out, ring_in;
	size_t piece;             /* left of the piece at the front of ring_out */
	bool words;               /* last words came on the socket: the ring is drained first */
	bool hung_up;             /* the socket has ended; the ring may hold bytes */
	bool starved, full;       /* waits for bytes, for room, in a ring */
	bool out_ended, out_done; /* nothing more comes from the server; and the peer knows */
	bool in_ended, in_done;   /* nothing more comes from the peer; and the server knows */
	bool deaf;                /* the server takes nothing more: what comes is dropped */
	bool gone;                /* the socket's other end is closed; what it wrote may be left */
	struct deadline last_words; /* then: for what it wrote */
	short tls_wanted;           /* what the last TLS calls wait for, as poll events */
	struct corked line;         /* what TLS has written and is not sent yet, and the like */
	struct err *failed;         /* the first thing that went wrong with TLS */
	uint64_t since_rekey;
	struct relay_stats *stats;
};

static size_t held(const struct way *w)
{
	return w->end - w->start;
}

static void drained(struct way *w, size_t n)
{
	w->start += n;
	if (w->start == w->end)
		w->start = w->end = 0;
}

/* Notes what a TLS call waits for; true if that is all that is wrong. */
static bool tls_waits(struct relay *r, int rc)
{
	switch (SSL_get_error(r->tls->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
		r->tls_wanted |= POLLIN;
		return true;
	case SSL_ERROR_WANT_WRITE:
		r->tls_wanted |= POLLOUT;
		return true;
	default:
		return false;
	}
}

static void fail(struct relay *r, struct err *e)
{
	if (r->failed)
		err_free(e);
	else
		r->failed = e;
}

/* @calls net: shutdown */
/* Nothing goes out any more; the peer's last words may still be there to read. */
static void give_up_out(struct relay *r)
{
	r->out.start = r->out.end = 0;
	corked_drop(&r->line);
	r->out_ended = r->out_done = true;
	(void)shutdown(r->fd, SHUT_RD); /* the server gets EPIPE instead of waiting for room */
}

static void fail_out(struct relay *r, int rc)
{
	fail(r, tls_failure(r->tls, rc));
	give_up_out(r);
}

/* ---- over the socket ---- */

/* @calls net: recvfrom */
static struct err *socket_look(struct relay *r, const uint8_t **at, size_t *n)
{
	struct way *w = &r->out;
	ssize_t got;

	if (!held(w) && !r->out_ended) {
		got = recv(r->fd, w->buf, RELAY_OUT_BYTES, MSG_DONTWAIT);
		if (got > 0)
			w->end = (size_t)got;
		else if (got == 0 || errno == ECONNRESET)
			/* A reset means that the server closed with bytes from the peer unread. */
			r->out_ended = true;
		else if (errno != EAGAIN && errno != EINTR)
			return err_errno(errno, "read from the worker");
	}
	*at = w->buf + w->start;
	*n = held(w);
	return NULL;
}

static void socket_sent(struct relay *r, size_t n)
{
	drained(&r->out, n);
}

/* @calls net: sendto */
static struct err *socket_drain(struct relay *r)
{
	struct way *w = &r->in;

	while (held(w)) {
		ssize_t n = send(r->fd, w->buf + w->start, held(w), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n >= 0) {
			drained(w, (size_t)n);
		} else if (errno == EAGAIN) {
			return NULL;
		} else if (errno == EPIPE || errno == ECONNRESET) {
			r->deaf = true;
			drained(w, held(w));
		} else if (errno != EINTR) {
			return err_errno(errno, "write to the worker");
		}
	}
	return NULL;
}

static struct err *socket_room(struct relay *r, uint8_t **at, size_t *n)
{
	TRY(socket_drain(r));
	*at = r->in.buf;
	*n = held(&r->in) ? 0 : RELAY_IN_BYTES;
	return NULL;
}

static struct err *socket_came(struct relay *r, size_t n)
{
	r->in.end = n;
	return socket_drain(r);
}

static short socket_wants(struct relay *r)
{
	short events = 0;

	if (!r->out_ended && !held(&r->out))
		events |= POLLIN;
	if (held(&r->in))
		events |= POLLOUT;
	return events;
}

static const struct serving by_socket = {
	.look = socket_look,
	.sent = socket_sent,
	.room = socket_room,
	.came = socket_came,
	.wants = socket_wants,
};

/* ---- through rings ---- */

static const struct serving by_words;

static void wake(const struct relay *r)
{
	const char byte = HANDOFF_WAKE;

	(void)send(r->fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Wake-ups, the end, or the beginning of last words, which stay in the buffer. */
static struct err *take_wakes(struct relay *r)
{
	char bytes[64];
	ssize_t n;

	while (!r->hung_up && !r->words) {
		const char *words;

		n = recv(r->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return NULL;
		if (n < 0 && errno != ECONNRESET)
			return err_errno(errno, "read from the worker");
		r->hung_up = n <= 0;
		words = n > 0 ? memchr(bytes, HANDOFF_PLAIN, (size_t)n) : NULL;
		if (!words)
			continue;
		r->words = true;
		r->out.end = (size_t)(bytes + n - words - 1);
		memcpy(r->out.buf, words + 1, r->out.end);
	}
	return NULL;
}

/* At the front of the ring: the rest of a piece, or the next one's head. */
static struct err *next_piece(struct relay *r, const uint8_t **at, size_t *n)
{
	ssize_t there = ring_readable(&r->ring_out, at);
	struct piece p;

	*n = 0;
	if (there < 0 || (there > 0 && !r->piece && (size_t)there < sizeof(p)))
		return err_new(ERR_BUG, "the worker's ring holds nonsense");
	if (there == 0)
		return NULL;
	if (!r->piece) {
		memcpy(&p, *at, sizeof(p));
		if (p.skip + (uint64_t)p.send + sizeof(p) > (size_t)there)
			return err_new(ERR_BUG, "the worker's ring holds nonsense");
		if (ring_read(&r->ring_out, sizeof(p) + p.skip))
			wake(r);
		r->piece = p.send;
		*at += sizeof(p) + p.skip;
	}
	*n = r->piece;
	return NULL;
}

static struct err *ring_look(struct relay *r, const uint8_t **at, size_t *n)
{
	TRY(next_piece(r, at, n));
	r->starved = !*n;
	if (*n || r->out_ended)
		return NULL;
	(void)ring_reader_sleeps(&r->ring_out, 1);
	TRY(take_wakes(r));
	/* What was written before the wake-up or the end is there now. */
	TRY(next_piece(r, at, n));
	if (*n)
		return NULL;
	if (r->words) {
		r->serving = &by_words;
		return r->serving->look(r, at, n);
	}
	r->out_ended = r->hung_up;
	return NULL;
}

static void ring_sent(struct relay *r, size_t n)
{
	r->piece -= n;
	if (ring_read(&r->ring_out, n))
		wake(r);
}

/* Less room than this is waited for rather than used: a server that is slower would be woken, and
 * wake us, for every record. */
#define RING_ROOM (64u << 10)

static struct err *ring_room(struct relay *r, uint8_t **at, size_t *n)
{
	ssize_t room = ring_writable(&r->ring_in, at);

	if (room >= 0 && room < (ssize_t)RING_ROOM && ring_writer_sleeps(&r->ring_in, RING_ROOM))
		TRY(take_wakes(r));
	room = ring_writable(&r->ring_in, at);
	if (room < 0)
		return err_new(ERR_BUG, "the worker's ring holds nonsense");
	r->full = room < (ssize_t)RING_ROOM;
	*n = r->full ? 0 : (size_t)room;
	return NULL;
}

static struct err *ring_came(struct relay *r, size_t n)
{
	if (ring_written(&r->ring_in, n))
		wake(r);
	return NULL;
}

/* Wake-ups are taken only by who waits for one: to others, they would never cease to be there. */
static short ring_wants(struct relay *r)
{
	return (r->starved || r->full) && !r->hung_up ? POLLIN : 0;
}

static const struct serving by_ring = {
	.look = ring_look,
	.sent = ring_sent,
	.room = ring_room,
	.came = ring_came,
	.wants = ring_wants,
};

/* The rings are done with, but what the peer says has its place there still. */
static const struct serving by_words = {
	.look = socket_look,
	.sent = socket_sent,
	.room = ring_room,
	.came = ring_came,
	.wants = socket_wants,
};

/* ---- TLS ---- */

static void rekey(struct relay *r, size_t n)
{
	uint64_t limit = r->tls->rekey_bytes;

	r->since_rekey += n;
	if (!limit || r->since_rekey < limit)
		return;
	r->since_rekey = 0;
	/* Fails only while an earlier update is still unsent: then the next round does it. */
	if (!SSL_key_update(r->tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED))
		r->since_rekey = limit / 2;
}

/* The server may have another connection by the time that this one is used up. */
static void tell_wear(struct relay *r)
{
	if (r->tls->rekey_bytes || r->serving != &by_ring)
		return;
	atomic_store_explicit(
		&r->ring_out.shared->wear, stream_wear_of(r->tls->keys.out), memory_order_relaxed);
}

/* True once a peer that takes no new keys has got as many records as one key may seal. */
static bool key_used_up(struct relay *r)
{
	if (r->tls->rekey_bytes || r->tls->keys.out < ONE_KEY_RECORDS_MAX)
		return false;
	fail(r, err_hint(err_new(ERR_LIMIT,
				 "this connection's key has sealed %llu records, which is as many "
				 "as it may",
				 ONE_KEY_RECORDS_MAX),
			"set kernel_tls = no in migrated.conf of the other host"));
	give_up_out(r);
	return true;
}

static void flush(struct relay *r)
{
	if (corked_flush(&r->line))
		return;
	if (!r->line.failed) {
		r->tls_wanted |= POLLOUT;
		return;
	}
	fail(r, err_errno(r->line.failed, "send to the other host"));
	give_up_out(r);
}

static void goodbye(struct relay *r)
{
	int rc;

	ERR_clear_error();
	errno = 0;
	rc = SSL_shutdown(r->tls->ssl);
	if (rc >= 0)
		r->out_done = true;
	else if (!tls_waits(r, rc))
		fail_out(r, rc);
}

/* How often one way goes on before the other gets its turn. */
#define TURN 16

/* *more: it stopped only for that, not for want of bytes or room. */
static struct err *pass_out(struct relay *r, bool *more)
{
	for (int i = 0; i < TURN && !r->out_done; i++) {
		const uint8_t *at;
		size_t n, there;
		int rc;

		TRY(r->serving->look(r, &at, &there));
		*more = there > 0;
		if (!there || key_used_up(r))
			break;
		ERR_clear_error();
		errno = 0;
		rc = SSL_write_ex(r->tls->ssl, at, there, &n);
		if (rc != 1) {
			*more = false;
			if (!tls_waits(r, rc))
				fail_out(r, rc);
			break;
		}
		r->serving->sent(r, n);
		r->stats->to_peer += n;
		rekey(r, n);
		tell_wear(r);
	}
	if (r->out_ended && !r->out_done)
		goodbye(r);
	return NULL;
}

/* One piece from the peer: *more if there may be another at once. */
static struct err *pass_one_in(struct relay *r, bool *more)
{
	size_t n, room;
	uint8_t *at;
	int rc;

	*more = false;
	TRY(r->serving->room(r, &at, &room));
	/* Nobody takes it: it may overwrite itself. */
	if (r->deaf && !room)
		room = RELAY_IN_BYTES, at = r->in.buf;
	if (!room)
		return NULL;
	ERR_clear_error();
	errno = 0;
	rc = SSL_read_ex(r->tls->ssl, at, room, &n);
	if (rc == 1) {
		*more = true;
		r->stats->from_peer += n;
		return r->deaf ? NULL : r->serving->came(r, n);
	}
	if (tls_waits(r, rc))
		return NULL;
	if (SSL_get_error(r->tls->ssl, rc) != SSL_ERROR_ZERO_RETURN) {
		fail(r, tls_failure(r->tls, rc));
		r->out_ended = r->out_done = true;
	}
	r->in_ended = true;
	return NULL;
}

/* True in *more if it stopped only for that: there may be bytes inside of OpenSSL, which no poll
 * tells of. */
static struct err *pass_in(struct relay *r, bool *more)
{
	*more = !r->in_ended;
	for (int i = 0; i < TURN && *more; i++)
		TRY(pass_one_in(r, more));
	*more &= !r->in_ended;
	if (r->in_ended && !r->in_done && !held(&r->in)) {
		(void)shutdown(r->fd, SHUT_WR); /* a server that is gone does not care */
		r->in_done = true;
	}
	return NULL;
}

/* When the server is gone and its last bytes are out, nobody wants what the peer still says. */
static bool over(const struct relay *r)
{
	return r->out_done && !corked_holds(&r->line) && (r->in_done || r->deaf);
}

/* @calls net: poll */
static struct err *wait_any(struct relay *r)
{
	struct pollfd p[] = { { r->fd, r->serving->wants(r), 0 },
		{ r->tls->fd, r->tls_wanted, 0 } };

	/* POLLHUP comes unasked and for ever: an end that nothing is wanted from is left out. That
	 * the server is gone altogether is worth knowing, once. */
	if (!p[0].events && r->gone)
		p[0].fd = -1;
	if (!p[1].events)
		p[1].fd = -1;
	if (poll(p, ARRAY_LEN(p), r->gone ? deadline_poll_ms(r->last_words) : -1) < 0 &&
		errno != EINTR)
		return err_errno(errno, "wait for bytes");
	if (!r->gone && (p[0].revents & POLLHUP)) {
		r->gone = true;
		r->last_words = deadline_in(RELAY_LAST_WORDS_US);
	}
	return NULL;
}

/* A peer that takes nothing more cannot keep us when nobody is left to serve. */
static void check_last_words(struct relay *r)
{
	if (!r->gone || over(r) || !deadline_passed(r->last_words))
		return;
	fail(r, err_new(ERR_TIMEOUT, "the other host takes nothing more"));
	give_up_out(r);
	r->deaf = true;
}

static struct err *pump(struct relay *r)
{
	while (!over(r)) {
		bool more_out = false, more_in;

		r->tls_wanted = 0;
		TRY(pass_out(r, &more_out));
		if (r->gone && r->out_ended)
			r->deaf = true;
		TRY(pass_in(r, &more_in));
		if (!more_out)
			flush(r);
		if (!over(r) && !more_out && !more_in)
			TRY(wait_any(r));
		check_last_words(r);
	}
	return NULL;
}

/* The server is asked how it wants its bytes. One that never comes is as good as gone. */
static struct err *take_serving(struct relay *r)
{
	int fds[2] = { -1, -1 };
	enum handoff how;
	struct err *e = handoff_hear(r->fd, deadline_in(RELAY_HANDOFF_US), &how, fds);

	r->serving = &by_socket;
	if (!e && how == HANDOFF_RING) {
		r->serving = &by_ring;
		e = ring_map(fds[0], &r->ring_in);
		if (!e)
			e = ring_map(fds[1], &r->ring_out);
	} else if (!e && how != HANDOFF_PLAIN) {
		e = err_new(ERR_BUG, "the worker wants its bytes in a way %#x", (unsigned)how);
	} else if (e && err_code(e) == ERR_GONE) {
		err_free(e);
		e = NULL;
	}
	fd_closep(&fds[0]);
	fd_closep(&fds[1]);
	return e;
}

static struct err *cork(struct relay *r)
{
	BIO *b;

	corked_init(&r->line, r->tls->fd);
	b = corked_bio(&r->line);
	if (!b)
		return ossl_err("set up the relay");
	SSL_set_bio(r->tls->ssl, b, b);
	return NULL;
}

/* What is said from here on (an alert, goodbye) goes out at once. */
static void uncork(struct relay *r)
{
	BIO *b = BIO_new_socket(r->tls->fd, BIO_NOCLOSE);

	SSL_set_bio(r->tls->ssl, b, b);
	corked_fini(&r->line);
}

struct err *relay_run(struct tls *t, int fd, struct relay_stats *stats)
{
	autofree uint8_t *out = xcalloc(1, RELAY_OUT_BYTES);
	autofree uint8_t *in = xcalloc(1, RELAY_IN_BYTES);
	struct relay r = { .tls = t, .fd = fd, .stats = stats };
	struct err *e;

	*stats = (struct relay_stats){ 0, 0 };
	r.out.buf = out;
	r.in.buf = in;
	e = cork(&r);
	if (!e)
		e = take_serving(&r);
	/* From here on, nobody else can read what we have read already. */
	tls_keep(t);
	tell_wear(&r);
	if (!e)
		e = pump(&r);
	uncork(&r);
	ring_unmap(&r.ring_in);
	ring_unmap(&r.ring_out);
	if (!e)
		return r.failed;
	err_free(r.failed);
	return e;
}
