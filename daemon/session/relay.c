// SPDX-License-Identifier: Apache-2.0
#include "session/relay.h"

#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

/* One way: filled from one end, drained into the other. */
struct way {
	uint8_t *buf;
	size_t start, end;
	bool ended; /* nothing more comes in */
	bool done;  /* and the end was passed on */
};

struct relay {
	struct tls *tls;
	int fd;
	struct way out; /* socket to TLS */
	struct way in;  /* TLS to socket */
	bool deaf;      /* the socket takes nothing more: what comes is dropped */
	bool gone;      /* the socket's other end is closed; what it wrote may be left */
	struct deadline last_words; /* then: for what it wrote */
	short tls_wanted;           /* what the last TLS calls wait for, as poll events */
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

/* Nothing goes out any more; the peer's last words may still be there to read. */
static void fail_out(struct relay *r, int rc)
{
	fail(r, tls_failure(r->tls, rc));
	r->out.start = r->out.end = 0;
	r->out.ended = r->out.done = true;
	(void)shutdown(r->fd, SHUT_RD); /* the worker gets EPIPE instead of waiting for room */
}

static struct err *fill_out(struct relay *r)
{
	struct way *w = &r->out;
	ssize_t n;

	if (w->ended || held(w))
		return NULL;
	n = recv(r->fd, w->buf, RELAY_OUT_BYTES, MSG_DONTWAIT);
	if (n > 0)
		w->end = (size_t)n;
	else if (n == 0 || errno == ECONNRESET)
		/* A reset means that the worker closed with bytes from the peer unread. */
		w->ended = true;
	else if (errno != EAGAIN && errno != EINTR)
		return err_errno(errno, "read from the worker");
	return NULL;
}

static void rekey(struct relay *r, size_t n)
{
	r->since_rekey += n;
	if (r->since_rekey < RELAY_REKEY_BYTES)
		return;
	r->since_rekey = 0;
	/* Fails only while an earlier update is still unsent: then the next round does it. */
	if (!SSL_key_update(r->tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED))
		r->since_rekey = RELAY_REKEY_BYTES / 2;
}

static void drain_out(struct relay *r)
{
	struct way *w = &r->out;
	int rc;

	while (held(w)) {
		size_t n;

		ERR_clear_error();
		errno = 0;
		rc = SSL_write_ex(r->tls->ssl, w->buf + w->start, held(w), &n);
		if (rc != 1) {
			if (!tls_waits(r, rc))
				fail_out(r, rc);
			return;
		}
		drained(w, n);
		r->stats->to_peer += n;
		rekey(r, n);
	}
	if (!w->ended || w->done)
		return;
	ERR_clear_error();
	errno = 0;
	rc = SSL_shutdown(r->tls->ssl);
	if (rc >= 0)
		w->done = true;
	else if (!tls_waits(r, rc))
		fail_out(r, rc);
}

/* True if it stopped only because the buffer is full: there may be more without anything to wait
 * for, inside of OpenSSL. */
static bool fill_in(struct relay *r)
{
	struct way *w = &r->in;

	while (!w->ended && w->end < RELAY_IN_BYTES) {
		size_t n;
		int rc;

		ERR_clear_error();
		errno = 0;
		rc = SSL_read_ex(r->tls->ssl, w->buf + w->end, RELAY_IN_BYTES - w->end, &n);
		if (rc != 1) {
			if (tls_waits(r, rc))
				return false;
			if (SSL_get_error(r->tls->ssl, rc) != SSL_ERROR_ZERO_RETURN) {
				fail(r, tls_failure(r->tls, rc));
				r->out.ended = r->out.done = true;
			}
			w->ended = true;
			return false;
		}
		w->end += n;
		r->stats->from_peer += n;
		if (r->deaf)
			drained(w, held(w));
	}
	return !w->ended;
}

static struct err *drain_in(struct relay *r)
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
	if (w->ended && !w->done) {
		(void)shutdown(r->fd, SHUT_WR); /* a worker that is gone does not care */
		w->done = true;
	}
	return NULL;
}

/* When the worker is gone and its last bytes are out, nobody wants what the peer still says. */
static bool over(const struct relay *r)
{
	return r->out.done && (r->in.done || r->deaf);
}

static struct err *wait_any(struct relay *r)
{
	struct pollfd p[] = { { r->fd, 0, 0 }, { r->tls->fd, r->tls_wanted, 0 } };

	if (!r->out.ended && !held(&r->out))
		p[0].events |= POLLIN;
	if (held(&r->in))
		p[0].events |= POLLOUT;
	/* POLLHUP comes unasked and for ever: an end that nothing is wanted from is left out. That
	 * the worker is gone altogether is worth knowing, once. */
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
	if (r->gone && r->out.ended)
		r->deaf = true;
	return NULL;
}

/* A peer that takes nothing more cannot keep us when nobody is left to serve. */
static void check_last_words(struct relay *r)
{
	if (!r->gone || over(r) || !deadline_passed(r->last_words))
		return;
	fail(r, err_new(ERR_TIMEOUT, "the other host takes nothing more"));
	r->out.start = r->out.end = 0;
	r->out.ended = r->out.done = r->deaf = true;
}

static struct err *pump(struct relay *r)
{
	while (!over(r)) {
		bool full;

		r->tls_wanted = 0;
		TRY(fill_out(r));
		drain_out(r);
		full = fill_in(r);
		TRY(drain_in(r));
		if (!over(r) && !(full && !held(&r->in)))
			TRY(wait_any(r));
		check_last_words(r);
	}
	return NULL;
}

struct err *relay_run(struct tls *t, int fd, struct relay_stats *stats)
{
	autofree uint8_t *out = xcalloc(1, RELAY_OUT_BYTES);
	autofree uint8_t *in = xcalloc(1, RELAY_IN_BYTES);
	struct relay r = { .tls = t, .fd = fd, .stats = stats };
	struct err *e;

	tls_keep(t);
	*stats = (struct relay_stats){ 0, 0 };
	r.out.buf = out;
	r.in.buf = in;
	e = pump(&r);
	if (!e)
		return r.failed;
	err_free(r.failed);
	return e;
}
