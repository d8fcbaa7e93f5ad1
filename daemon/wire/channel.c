// SPDX-License-Identifier: Apache-2.0
/* Frames over a non-blocking descriptor; every wait has an end: see channel.h. */
#include "wire/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Header and body pieces of one frame; PAGES needs three. */
#define PIECES_MAX 8

struct err *channel_init(struct channel *ch, int fd, int interrupt_fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_errno(errno, "make the stream non-blocking");
	*ch = (struct channel){
		.fd = fd, .interrupt_fd = interrupt_fd, .deadline = DEADLINE_NEVER
	};
	return NULL;
}

/* Waits until the stream is ready for `events`, the interrupt comes or time is up. */
static struct err *wait_ready(const struct channel *ch, short events)
{
	struct pollfd p[] = { { ch->fd, events, 0 }, { ch->interrupt_fd, POLLIN, 0 } };

	for (;;) {
		int n = poll(p, ch->interrupt_fd >= 0 ? 2 : 1, deadline_poll_ms(ch->deadline));

		if (n < 0 && errno != EINTR)
			return err_errno(errno, "wait for the peer");
		if (n > 0 && ch->interrupt_fd >= 0 && p[1].revents)
			return err_new(ERR_CANCELLED, "cancelled");
		if (n > 0)
			return NULL;
		if (n == 0 && deadline_passed(ch->deadline))
			return err_new(ERR_TIMEOUT, "the other host did not answer in time");
	}
}

static struct err *lost(int no, const char *doing)
{
	if (no == EPIPE || no == ECONNRESET)
		return err_new(ERR_PEER, "connection lost while %s", doing);
	return err_errno(no, "%s", doing);
}

/* Drops what was written from the front of the vector. */
static void advance(struct iovec **iov, int *n, size_t done)
{
	while (*n && done >= (*iov)->iov_len) {
		done -= (*iov)->iov_len;
		(*iov)++;
		(*n)--;
	}
	if (*n) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + done;
		(*iov)->iov_len -= done;
	}
}

struct err *channel_sendv(
	struct channel *ch, uint16_t type, uint64_t arg, const struct iovec *body, int n)
{
	uint8_t head[FRAME_HEAD_BYTES];
	struct iovec pieces[PIECES_MAX], *iov = pieces;
	uint64_t length = 0;
	int left = n + 1;

	if (left > PIECES_MAX)
		return err_new(ERR_BUG, "%s frame in %d pieces", frame_name(type), left);
	pieces[0] = (struct iovec){ head, sizeof(head) };
	for (int i = 0; i < n; i++) {
		pieces[i + 1] = body[i];
		length += body[i].iov_len;
	}
	if (length > frame_limit(type))
		return err_new(ERR_LIMIT, "%s needs %ju bytes, a frame holds %u", frame_name(type),
			(uintmax_t)length, frame_limit(type));
	frame_encode(&(struct frame_head){ (uint32_t)length, type, arg }, head);
	while (left) {
		struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)left };
		ssize_t w = sendmsg(ch->fd, &msg, MSG_NOSIGNAL);

		if (w < 0 && errno == EAGAIN) {
			TRY(wait_ready(ch, POLLOUT));
			continue;
		}
		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return lost(errno, "sending");
		ch->bytes_out += (uint64_t)w;
		advance(&iov, &left, (size_t)w);
	}
	return NULL;
}

struct err *channel_send(
	struct channel *ch, uint16_t type, uint64_t arg, const void *body, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)body, len };

	return channel_sendv(ch, type, arg, &iov, len ? 1 : 0);
}

struct err *channel_read(struct channel *ch, void *buf, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = recv(ch->fd, (char *)buf + done, n - done, 0);

		if (r < 0 && errno == EAGAIN) {
			TRY(wait_ready(ch, POLLIN));
			continue;
		}
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return lost(errno, "receiving");
		if (r == 0)
			return err_new(ERR_PEER, "the other host closed the connection");
		done += (size_t)r;
		ch->bytes_in += (uint64_t)r;
	}
	return NULL;
}

struct err *channel_head(struct channel *ch, struct frame_head *h)
{
	uint8_t buf[FRAME_HEAD_BYTES];

	TRY(channel_read(ch, buf, sizeof(buf)));
	return frame_decode(buf, h);
}

struct err *channel_recv(struct channel *ch, struct arena *a, struct frame_head *h, uint8_t **body)
{
	struct frame_head head;
	uint8_t *buf;

	TRY(channel_head(ch, &head));
	buf = arena_alloc(a, head.length);
	TRY(channel_read(ch, buf, head.length));
	*h = head;
	*body = buf;
	return NULL;
}

struct err *channel_interrupted(const struct channel *ch)
{
	struct pollfd p = { ch->interrupt_fd, POLLIN, 0 };

	if (ch->interrupt_fd >= 0 && poll(&p, 1, 0) > 0)
		return err_new(ERR_CANCELLED, "cancelled");
	return NULL;
}

bool channel_readable(const struct channel *ch)
{
	struct pollfd p = { ch->fd, POLLIN, 0 };

	return poll(&p, 1, 0) > 0;
}
