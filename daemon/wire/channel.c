// SPDX-License-Identifier: Apache-2.0
/* Frames over a stream; every wait has an end: see channel.h. */
#include "wire/channel.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

/* Header and body pieces of one frame; PAGES needs three. */
#define PIECES_MAX 8

void channel_init(struct channel *ch, struct stream *s, int interrupt_fd)
{
	*ch = (struct channel){ .in = s,
		.out = s,
		.first = s,
		.interrupt_fd = interrupt_fd,
		.deadline = DEADLINE_NEVER };
}

void channel_wait(struct channel *ch, int64_t us, struct deadline until)
{
	ch->wait_us = us;
	ch->until = until;
	ch->stepped = 0;
	ch->deadline = deadline_min(deadline_in(us), until);
}

void channel_until(struct channel *ch, struct deadline d)
{
	ch->wait_us = 0;
	ch->deadline = d;
}

static void moved(struct channel *ch, size_t n)
{
	ch->stepped += n;
	if (ch->stepped < CHANNEL_STEP_BYTES)
		return;
	ch->stepped = 0;
	if (ch->wait_us)
		channel_wait(ch, ch->wait_us, ch->until);
	if (ch->on_step)
		ch->on_step(ch->step_arg);
}

/* Waits until the stream is ready for `events`, the interrupt comes or time is up. */
/* @calls net pages: poll */
static struct err *wait_ready(const struct channel *ch, const struct stream *s, short events)
{
	for (;;) {
		struct pollfd p[] = { s->ops->wants(s, events), { ch->interrupt_fd, POLLIN, 0 } };
		int n = poll(p, ch->interrupt_fd >= 0 ? 2 : 1, deadline_poll_ms(ch->deadline));

		if (n < 0 && errno != EINTR)
			return err_errno(errno, "wait for the peer");
		if (n > 0 && ch->interrupt_fd >= 0 && p[1].revents)
			return err_new(ERR_CANCELLED, "cancelled");
		if (n > 0)
			return NULL;
		if (n == 0 && deadline_passed(ch->deadline))
			return err_hint(
				err_new(ERR_TIMEOUT, "the other host did not answer in time"),
				"see how busy that host is, and the link between the two");
	}
}

/* What a call on the stream returned: an error, or NULL with *n > 0, or with *n 0 after a wait. */
static struct err *settle(
	struct channel *ch, ssize_t ret, short events, const char *doing, size_t *n)
{
	const struct stream *s = events == POLLIN ? ch->in : ch->out;

	*n = 0;
	if (ret < 0 && s->ops->explain)
		TRY(s->ops->explain(s, (int)-ret));
	if (ret > 0)
		moved(ch, *n = (size_t)ret);
	else if (ret == 0)
		return err_new(ERR_PEER, "the other host closed the connection");
	else if (ret == -EAGAIN)
		return wait_ready(ch, s, events);
	else if (ret == -EPIPE || ret == -ECONNRESET)
		return err_hint(err_new(ERR_PEER, "connection lost while %s", doing),
			"see the link to that host, and what migrated there has logged");
	else if (ret != -EINTR)
		return err_errno((int)-ret, "%s", doing);
	return NULL;
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

static struct err *write_all(struct channel *ch, struct iovec *iov, int left, bool more)
{
	while (left) {
		size_t n;

		TRY(settle(
			ch, ch->out->ops->write(ch->out, iov, left, more), POLLOUT, "sending", &n));
		ch->bytes_out += n;
		advance(&iov, &left, n);
	}
	return NULL;
}

/* ---- another connection ---- */

/* The stream that was left before is over: its other end has read it to its NEXT. */
static void leave(const struct channel *ch, struct stream **left, struct stream *s)
{
	if (*left)
		stream_close(*left);
	*left = s == ch->first ? NULL : s;
}

static bool wants_another(const struct channel *ch)
{
	enum stream_wear wear = ch->out->ops->wear ? ch->out->ops->wear(ch->out) : STREAM_FRESH;

	if (!ch->more.open || !ch->more.dials || wear == STREAM_FRESH)
		return false;
	return wear == STREAM_USED_UP || (!ch->hurried && !ch->no_more);
}

static struct err *open_more(struct channel *ch, unsigned *n, struct stream **s)
{
	return ch->more.open(
		ch->more.arg, n, deadline_min(ch->deadline, deadline_in(CHANNEL_MORE_US)), s);
}

/* Who makes frames was promised what this stream can do: the next one must be of its sort. */
static struct err *open_alike(struct channel *ch, unsigned *n, struct stream **s)
{
	struct stream *next;

	TRY(open_more(ch, n, &next));
	if (next->ops != ch->out->ops) {
		struct err *e = err_new(ERR_PEER, "connection %u is carried by %s, not by %s", *n,
			next->ops->name, ch->out->ops->name);

		stream_close(next);
		return e;
	}
	*s = next;
	return NULL;
}

/* Before each frame. A stream that is only worn goes on where there is no other. */
static struct err *go_on(struct channel *ch)
{
	uint8_t head[FRAME_HEAD_BYTES];
	struct iovec iov = { head, sizeof(head) };
	struct stream *next = NULL;
	struct err *e;
	unsigned n = 0;

	if (!wants_another(ch))
		return NULL;
	e = open_alike(ch, &n, &next);
	if (e && ch->out->ops->wear(ch->out) == STREAM_WORN) {
		err_free(e);
		ch->no_more = true;
		return NULL;
	}
	TRY_IN(e, "go on over another connection");
	frame_encode(&(struct frame_head){ .type = FRAME_NEXT, .arg = n }, head);
	e = write_all(ch, &iov, 1, false);
	if (e) {
		stream_close(next);
		return e;
	}
	leave(ch, &ch->left_out, ch->out);
	ch->out = next;
	ch->no_more = false;
	return NULL;
}

/* ---- frames ---- */

/* @calls pages: ioctl[1=FIONREAD] */
static struct err *splice_all(struct channel *ch, int pipe_fd, size_t left)
{
	while (left) {
		size_t n;
		int there = 0;

		/* An empty pipe would look like a stream that takes nothing. */
		if (ioctl(pipe_fd, FIONREAD, &there) < 0 || there <= 0)
			return err_new(ERR_BUG, "%zu bytes of a frame are missing in a pipe", left);

		TRY(settle(ch, ch->out->ops->splice_out(ch->out, pipe_fd, left, false), POLLOUT,
			"sending", &n));
		ch->bytes_out += n;
		ch->spliced_out += n;
		left -= n;
	}
	return NULL;
}

struct err *channel_send_body(
	struct channel *ch, uint16_t type, uint64_t arg, const struct frame_body *body)
{
	uint8_t head[FRAME_HEAD_BYTES];
	struct iovec pieces[PIECES_MAX];
	uint64_t length = body->piped;

	if (body->n >= PIECES_MAX)
		return err_new(ERR_BUG, "%s frame in %d pieces", frame_name(type), body->n);
	pieces[0] = (struct iovec){ head, sizeof(head) };
	for (int i = 0; i < body->n; i++) {
		pieces[i + 1] = body->iov[i];
		length += body->iov[i].iov_len;
	}
	if (length > frame_limit(type))
		return err_new(ERR_LIMIT, "%s needs %ju bytes, a frame holds %u", frame_name(type),
			(uintmax_t)length, frame_limit(type));
	frame_encode(&(struct frame_head){ (uint32_t)length, type, arg }, head);
	TRY(go_on(ch));
	TRY(write_all(ch, pieces, body->n + 1, body->piped));
	return splice_all(ch, body->pipe_fd, body->piped);
}

struct err *channel_sendv(
	struct channel *ch, uint16_t type, uint64_t arg, const struct iovec *iov, int n)
{
	return channel_send_body(ch, type, arg, &(struct frame_body){ iov, n, -1, 0 });
}

struct err *channel_send(
	struct channel *ch, uint16_t type, uint64_t arg, const void *body, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)body, len };

	return channel_sendv(ch, type, arg, &iov, len ? 1 : 0);
}

bool channel_makes(const struct channel *ch)
{
	return ch->out->ops->reserve;
}

struct err *channel_make(struct channel *ch, size_t n, uint8_t **at)
{
	size_t got;

	TRY(go_on(ch));
	do
		TRY(settle(ch, ch->out->ops->reserve(ch->out, FRAME_HEAD_BYTES + n, at), POLLOUT,
			"sending", &got));
	while (!got);
	return NULL;
}

struct err *channel_send_made(struct channel *ch, const struct frame_head *h, uint8_t *body)
{
	if (h->length > frame_limit(h->type))
		return err_new(ERR_LIMIT, "%s needs %u bytes, a frame holds %u",
			frame_name(h->type), h->length, frame_limit(h->type));
	frame_encode(h, body - FRAME_HEAD_BYTES);
	ch->out->ops->commit(ch->out, body - FRAME_HEAD_BYTES, FRAME_HEAD_BYTES + h->length);
	ch->bytes_out += FRAME_HEAD_BYTES + h->length;
	return NULL;
}

bool channel_splices_out(const struct channel *ch)
{
	return ch->out->ops->splice_out;
}

bool channel_splices_in(const struct channel *ch)
{
	return ch->in->ops->splice_in;
}

/* ---- reading ---- */

static void give_back(struct channel *ch)
{
	if (ch->lent)
		ch->in->ops->give_back(ch->in, ch->lent);
	ch->lent = 0;
}

static struct err *arrived(struct channel *ch, ssize_t ret, size_t *got)
{
	TRY(settle(ch, ret, POLLIN, "receiving", got));
	ch->bytes_in += *got;
	return NULL;
}

struct err *channel_read(struct channel *ch, void *buf, size_t n)
{
	give_back(ch);
	for (size_t done = 0, got; done < n; done += got)
		TRY(arrived(ch, ch->in->ops->read(ch->in, (char *)buf + done, n - done), &got));
	return NULL;
}

struct err *channel_borrow(struct channel *ch, void *buf, size_t n, const uint8_t **at)
{
	size_t got;

	give_back(ch);
	*at = buf;
	if (!ch->in->ops->lend)
		return channel_read(ch, buf, n);
	if (n > CHANNEL_BORROW_MAX)
		return err_new(ERR_BUG, "%zu bytes to be borrowed", n);
	do
		TRY(arrived(ch, ch->in->ops->lend(ch->in, n, at), &got));
	while (!got);
	ch->lent = n;
	return NULL;
}

static bool is_full(int pipe_fd)
{
	struct pollfd p = { pipe_fd, POLLOUT, 0 };

	return poll(&p, 1, 0) == 0;
}

struct err *channel_splice(struct channel *ch, int pipe_fd, size_t n, size_t *got)
{
	give_back(ch);
	do {
		ssize_t ret = ch->in->ops->splice_in(ch->in, pipe_fd, n);

		*got = 0;
		if (ret == -EAGAIN && is_full(pipe_fd))
			return NULL;
		TRY(arrived(ch, ret, got));
	} while (!*got);
	ch->spliced_in += *got;
	return NULL;
}

/* The peer's frames go on over connection `number`. */
static struct err *follow(struct channel *ch, uint64_t number)
{
	unsigned n = (unsigned)number;
	struct stream *next;

	if (!ch->more.open || !n || n != number)
		return err_new(ERR_PEER,
			"the other host goes on over connection %ju, which cannot be",
			(uintmax_t)number);
	TRY_IN(open_more(ch, &n, &next), "follow the other host to another connection");
	leave(ch, &ch->left_in, ch->in);
	ch->in = next;
	return NULL;
}

/* What has come of it stays, should the wait end before the rest. */
static struct err *read_head(struct channel *ch, struct frame_head *h)
{
	give_back(ch);
	for (size_t got; ch->head_n < sizeof(ch->head); ch->head_n += got)
		TRY(arrived(ch,
			ch->in->ops->read(
				ch->in, ch->head + ch->head_n, sizeof(ch->head) - ch->head_n),
			&got));
	ch->head_n = 0;
	return frame_decode(ch->head, h);
}

bool channel_news(struct channel *ch)
{
	give_back(ch);
	for (;;) {
		struct frame_head h;
		ssize_t got;

		if (ch->head_n == sizeof(ch->head)) {
			autoerr struct err *e = frame_decode(ch->head, &h);

			if (e || h.type != FRAME_ALIVE)
				return true;
			ch->head_n = 0;
			moved(ch, CHANNEL_STEP_BYTES);
		}
		got = ch->in->ops->read(
			ch->in, ch->head + ch->head_n, sizeof(ch->head) - ch->head_n);
		if (got <= 0 && got != -EINTR)
			return got != -EAGAIN;
		if (got > 0) {
			ch->bytes_in += (size_t)got;
			ch->head_n += (size_t)got;
		}
	}
}

struct err *channel_head(struct channel *ch, struct frame_head *h)
{
	struct frame_head head;

	for (;;) {
		TRY(read_head(ch, &head));
		if (head.type == FRAME_ALIVE)
			moved(ch, CHANNEL_STEP_BYTES);
		else if (head.type == FRAME_NEXT)
			TRY(follow(ch, head.arg));
		else
			break;
	}
	*h = head;
	return NULL;
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
	return ch->head_n || stream_readable(ch->in);
}
