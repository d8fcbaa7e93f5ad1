// SPDX-License-Identifier: Apache-2.0
/*
 * What lies in a connection's queues, in pieces, behind the connection itself: what the program has
 * not read, what was sent and is not confirmed, what was not sent yet.
 *
 * Kernel facts: in repair mode what is written to the send queue counts as sent, so what was not is
 * written outside of it, where the network lock keeps it from leaving. Should we die just then, the
 * socket is closed with a reset (SO_LINGER 0), which does not leave either.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "kinds/tcp_repair.h"
#include "kinds/tcp_state.h"
#include "tcp_connection.pb-c.h"

#define PIECE_BYTES (1u << 20)
#define PIECES_MAX  65536

static bool data_claims(const struct file *f)
{
	return strncmp(f->link, "socket:[", 8) == 0 && !(f->flags & O_PATH);
}

struct pieces {
	struct capture *c;
	uint64_t next_id;
};

static struct err *emit(
	struct pieces *p, Migrate__Kind__TcpQueue queue, const uint8_t *data, size_t len)
{
	while (len) {
		Migrate__Kind__TcpData m = MIGRATE__KIND__TCP_DATA__INIT;

		if (p->next_id % PIECES_MAX == PIECES_MAX - 1)
			return err_new(ERR_LIMIT, "too much lies in its queues");
		m.queue = queue;
		m.data.len = MIN(len, (size_t)PIECE_BYTES);
		m.data.data = (uint8_t *)(uintptr_t)data;
		capture_emit(p->c, p->next_id++, &m.base);
		data += m.data.len;
		len -= m.data.len;
	}
	return NULL;
}

/* Peeking begins at the front each time, so all of it in one call. */
static struct err *peek(struct capture *c, int fd, int queue, uint32_t bytes, const uint8_t **ret)
{
	uint8_t *buf = arena_alloc(c->arena, (size_t)bytes + 1);
	ssize_t n;

	*ret = buf;
	if (!bytes)
		return NULL;
	TRY(tcp_choose_queue(fd, queue));
	n = recv(fd, buf, bytes, MSG_PEEK | MSG_DONTWAIT);
	TRY(tcp_choose_queue(fd, TCP_NO_QUEUE));
	if (n < 0)
		return err_errno(errno, "read its queue");
	if ((size_t)n != bytes)
		return err_new(ERR_BUG, "%zd bytes in a queue of %u", n, bytes);
	return NULL;
}

static struct err *data_capture(struct capture *c)
{
	struct pieces p = { c, c->file->id * PIECES_MAX };
	const uint8_t *in, *out;
	struct tcp_sizes sizes;
	unsigned state;
	int fd, on = 0;

	TRY(capture_home(c, &fd));
	state = tcp_connected(fd);
	if (!state || !sock_int(fd, SOL_TCP, TCP_REPAIR, &on) || !on)
		return NULL;
	TRY(tcp_sizes(fd, state, &sizes));
	TRY(peek(c, fd, TCP_RECV_QUEUE, sizes.unread, &in));
	TRY(peek(c, fd, TCP_SEND_QUEUE, sizes.sent + sizes.unsent, &out));
	TRY(emit(&p, MIGRATE__KIND__TCP_QUEUE__UNREAD, in, sizes.unread));
	TRY(emit(&p, MIGRATE__KIND__TCP_QUEUE__SENT, out, sizes.sent));
	return emit(&p, MIGRATE__KIND__TCP_QUEUE__UNSENT, out + sizes.sent, sizes.unsent);
}

/* ---- rebuild ---- */

/* The kernel takes some pages at a time. */
static struct err *write_all(int fd, const ProtobufCBinaryData *data)
{
	size_t done = 0;

	while (done < data->len) {
		ssize_t n =
			send(fd, data->data + done, data->len - done, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n <= 0)
			return err_errno(n ? errno : EAGAIN, "fill its queue");
		done += (size_t)n;
	}
	return NULL;
}

static struct err *write_queue(int fd, int queue, const ProtobufCBinaryData *data)
{
	struct err *e, *back;

	TRY(tcp_choose_queue(fd, queue));
	e = write_all(fd, data);
	back = tcp_choose_queue(fd, TCP_NO_QUEUE);
	if (!e)
		return back;
	err_free(back);
	return e;
}

static struct err *write_unsent(int fd, const ProtobufCBinaryData *data)
{
	const struct linger reset = { 1, 0 };
	struct linger before = { 0, 0 };
	socklen_t len = sizeof(before);

	if (getsockopt(fd, SOL_SOCKET, SO_LINGER, &before, &len) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0)
		return err_errno(errno, "set SO_LINGER");
	TRY(tcp_repair_set(fd, false));
	TRY(write_all(fd, data));
	TRY(tcp_repair_set(fd, true));
	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &before, len) < 0)
		return err_errno(errno, "set SO_LINGER");
	return NULL;
}

static struct err *data_rebuild(
	struct rebuild *r, const struct object *o, const void *msg, int *ret unused_arg)
{
	const Migrate__Kind__TcpData *m = msg;
	autoclose int fd = -1;
	int on = 0;

	TRY(remote_fd_home(r->task, o->slots[0].number, &fd));
	/* Only tcp_connection's rebuild makes one. */
	if (!tcp_connected(fd) || !sock_int(fd, SOL_TCP, TCP_REPAIR, &on) || !on)
		return err_new(ERR_PEER, "data for what is no connection");
	switch (m->queue) {
	case MIGRATE__KIND__TCP_QUEUE__UNREAD:
		return write_queue(fd, TCP_RECV_QUEUE, &m->data);
	case MIGRATE__KIND__TCP_QUEUE__SENT:
		return write_queue(fd, TCP_SEND_QUEUE, &m->data);
	case MIGRATE__KIND__TCP_QUEUE__UNSENT:
		return write_unsent(fd, &m->data);
	case _MIGRATE__KIND__TCP_QUEUE_IS_INT_SIZE:
	default:
		return err_new(ERR_PEER, "queue %d of a connection", m->queue);
	}
}

const struct kind kind_tcp_data = {
	.id = 44,
	.name = "data of a TCP connection",
	.scope = KIND_LATE,
	.stage = STAGE_LOCK,
	.msg = &migrate__kind__tcp_data__descriptor,
	.claims = data_claims,
	.capture = data_capture,
	.rebuild = data_rebuild,
};
