// SPDX-License-Identifier: Apache-2.0
#include "session/corked.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

void corked_init(struct corked *c, int fd)
{
	*c = (struct corked){ .fd = fd };
	c->in.buf = xcalloc(1, CORKED_IN_BYTES);
	c->out.buf = xcalloc(1, CORKED_OUT_BYTES);
}

void corked_fini(struct corked *c)
{
	mem_freep(&c->in.buf);
	mem_freep(&c->out.buf);
	BIO_meth_free(c->method);
	c->method = NULL;
}

void corked_drop(struct corked *c)
{
	c->out.start = c->out.end = 0;
}

/* @calls net: sendto */
bool corked_flush(struct corked *c)
{
	struct corked_way *w = &c->out;

	while (w->start < w->end && !c->failed) {
		ssize_t n = send(
			c->fd, w->buf + w->start, w->end - w->start, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0)
			w->start += (size_t)n;
		else if (errno == EAGAIN)
			return false;
		else if (errno != EINTR)
			c->failed = errno;
	}
	if (w->start == w->end)
		w->start = w->end = 0;
	return !c->failed;
}

static int corked_write(BIO *b, const char *buf, int n)
{
	struct corked *c = BIO_get_data(b);
	struct corked_way *w = &c->out;

	BIO_clear_retry_flags(b);
	if (CORKED_OUT_BYTES - w->end < (size_t)n && !corked_flush(c)) {
		errno = c->failed;
		if (!c->failed)
			BIO_set_retry_write(b);
		return -1;
	}
	n = (int)MIN((size_t)n, CORKED_OUT_BYTES - w->end);
	memcpy(w->buf + w->end, buf, (size_t)n);
	w->end += (size_t)n;
	return n;
}

/* 1, 0 at the end, -1 as recv. @calls net: recvfrom */
static int fill(struct corked *c)
{
	struct corked_way *w = &c->in;
	ssize_t got;

	do
		got = recv(c->fd, w->buf, CORKED_IN_BYTES, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	w->start = 0;
	w->end = got > 0 ? (size_t)got : 0;
	c->ended = got == 0;
	return got > 0 ? 1 : (int)got;
}

static int corked_read(BIO *b, char *buf, int n)
{
	struct corked *c = BIO_get_data(b);
	struct corked_way *w = &c->in;

	BIO_clear_retry_flags(b);
	if (w->start == w->end) {
		int rc = fill(c);

		if (rc < 0 && errno == EAGAIN)
			BIO_set_retry_read(b);
		if (rc <= 0)
			return rc;
	}
	n = (int)MIN((size_t)n, w->end - w->start);
	memcpy(buf, w->buf + w->start, (size_t)n);
	w->start += (size_t)n;
	return n;
}

static long corked_ctrl(BIO *b, int cmd, long num unused_arg, void *ptr unused_arg)
{
	const struct corked *c = BIO_get_data(b);

	switch (cmd) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_EOF:
		return c->ended;
	default:
		return 0;
	}
}

BIO *corked_bio(struct corked *c)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "corked");
	BIO *b;

	c->method = m;
	if (!m || !BIO_meth_set_write(m, corked_write) || !BIO_meth_set_read(m, corked_read) ||
		!BIO_meth_set_ctrl(m, corked_ctrl))
		return NULL;
	b = BIO_new(m);
	if (b) {
		BIO_set_data(b, c);
		BIO_set_init(b, 1);
	}
	return b;
}
