// SPDX-License-Identifier: Apache-2.0
#include "session/corked.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

bool corked_flush(struct corked *c)
{
	while (c->start < c->end && !c->failed) {
		ssize_t n = send(
			c->fd, c->buf + c->start, c->end - c->start, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0)
			c->start += (size_t)n;
		else if (errno == EAGAIN)
			return false;
		else if (errno != EINTR)
			c->failed = errno;
	}
	if (c->start == c->end)
		c->start = c->end = 0;
	return !c->failed;
}

static int corked_write(BIO *b, const char *buf, int n)
{
	struct corked *c = BIO_get_data(b);

	BIO_clear_retry_flags(b);
	if (CORKED_BYTES - c->end < (size_t)n && !corked_flush(c)) {
		errno = c->failed;
		if (!c->failed)
			BIO_set_retry_write(b);
		return -1;
	}
	n = (int)MIN((size_t)n, CORKED_BYTES - c->end);
	memcpy(c->buf + c->end, buf, (size_t)n);
	c->end += (size_t)n;
	return n;
}

static long corked_ctrl(BIO *b, int cmd, long num unused_arg, void *ptr unused_arg)
{
	(void)b;
	return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

/* One per process: a connection has a process of its own. */
BIO *corked_bio(struct corked *c)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "corked");
	BIO *b;

	if (!m || !BIO_meth_set_write(m, corked_write) || !BIO_meth_set_ctrl(m, corked_ctrl))
		return NULL;
	b = BIO_new(m);
	if (b) {
		BIO_set_data(b, c);
		BIO_set_init(b, 1);
	}
	return b;
}
