// SPDX-License-Identifier: Apache-2.0
/* What all carriers share, and the simplest of them: see stream.h. */
#include "wire/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

void stream_close(struct stream *s)
{
	if (s->ops)
		s->ops->close(s);
	s->ops = NULL;
}

/* @calls net pages: poll */
bool stream_readable(struct stream *s)
{
	struct pollfd p;
	const uint8_t *at;

	/* A doorbell may have rung for bytes that were taken since. */
	if (s->ops->lend)
		return s->ops->lend(s, 1, &at) != -EAGAIN;
	p = s->ops->wants(s, POLLIN);
	return poll(&p, 1, 0) > 0;
}

/* ---- a socket ---- */

/* @calls pages: sendmsg recvfrom splice */
static ssize_t socket_write(struct stream *s, const struct iovec *iov, int n, bool more)
{
	const struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)iov,
		.msg_iovlen = (size_t)n };
	ssize_t w = sendmsg(s->fd, &msg, MSG_NOSIGNAL | (more ? MSG_MORE : 0));

	return w < 0 ? -errno : w;
}

static ssize_t socket_read(struct stream *s, void *buf, size_t n)
{
	ssize_t r = recv(s->fd, buf, n, 0);

	return r < 0 ? -errno : r;
}

static ssize_t socket_splice_out(struct stream *s, int pipe_fd, size_t n, bool more)
{
	ssize_t w = splice(pipe_fd, NULL, s->fd, NULL, n,
		SPLICE_F_NONBLOCK | SPLICE_F_MOVE | (more ? SPLICE_F_MORE : 0));

	return w < 0 ? -errno : w;
}

static ssize_t socket_splice_in(struct stream *s, int pipe_fd, size_t n)
{
	ssize_t r = splice(s->fd, NULL, pipe_fd, NULL, n, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

	return r < 0 ? -errno : r;
}

static struct pollfd socket_wants(const struct stream *s, short events)
{
	return (struct pollfd){ s->fd, events, 0 };
}

static void socket_close(struct stream *s)
{
	fd_closep(&s->fd);
}

static const struct stream_ops socket_ops = {
	.name = "socket",
	.write = socket_write,
	.read = socket_read,
	.splice_out = socket_splice_out,
	.splice_in = socket_splice_in,
	.wants = socket_wants,
	.close = socket_close,
};

/* @calls pages: fcntl[1=F_GETFL] fcntl[1=F_SETFL] close */
struct err *stream_socket(int fd, struct stream *ret)
{
	autoclose int own = fd;
	int flags = fcntl(own, F_GETFL);

	if (flags < 0 || fcntl(own, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_errno(errno, "make the stream non-blocking");
	*ret = (struct stream){ .ops = &socket_ops, .fd = take_fd(&own) };
	return NULL;
}
