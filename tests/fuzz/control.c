// SPDX-License-Identifier: Apache-2.0
/*
 * The control role between a client and the monitor: the input is pieces (each behind its length,
 * 16 bits) that a client writes (even) or the monitor sends as packets (odd), in that order. A
 * client that has been answered is followed by another.
 */
#include "roles/control.c" /* NOLINT: what it does is static */

#include "fuzz.h"

const char *(*const fuzz_prepare)(void) = fuzz_nothing;

static int connect_client(struct control *ct)
{
	int ends[2];
	struct client *c = xcalloc(1, sizeof(*c));

	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
	*c = (struct client){ .next = ct->clients, .control = ct, .cookie = ++ct->last_cookie };
	c->bev = bufferevent_socket_new(ct->base, ends[0], BEV_OPT_CLOSE_ON_FREE);
	ct->clients = c;
	ct->n_clients++;
	bufferevent_setcb(c->bev, on_client_readable, on_client_written, on_client_event, c);
	bufferevent_setwatermark(c->bev, EV_READ, 0, REQUEST_MAX + sizeof(uint32_t));
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
	return ends[1];
}

static void turn(struct control *ct)
{
	for (int i = 0; i < 4; i++)
		event_base_loop(ct->base, EVLOOP_NONBLOCK);
}

/* What it says is read, so that nothing waits. */
static void drain(int fd)
{
	char buf[4096];
	ssize_t n;

	do
		n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	while (n > 0);
}

/* What it tells the monitor must be what the monitor understands: else it would be cut off. */
static void monitor_reads(int fd)
{
	for (;;) {
		autoipc struct ipc_msg msg = { .m = NULL };
		struct err *e = ipc_recv(fd, deadline_in(0), &msg);

		MUST(!e || err_code(e) != ERR_BUG);
		err_free(e);
		if (e)
			return;
		MUST(msg.m->body_case == MIGRATE__IPC__BODY_ASK ||
			msg.m->body_case == MIGRATE__IPC__BODY_LEFT ||
			msg.m->body_case == MIGRATE__IPC__BODY_READY);
	}
}

static void client_writes(struct control *ct, const struct feed *piece)
{
	int fd = connect_client(ct);

	(void)send(fd, piece->p, piece->n, MSG_DONTWAIT | MSG_NOSIGNAL);
	turn(ct);
	drain(fd);
	/* Every other one stays to see how it ends. */
	if (ct->last_cookie & 1)
		shutdown(fd, SHUT_WR);
	turn(ct);
	drain(fd);
	close(fd);
	turn(ct);
}

static void monitor_sends(struct control *ct, int monitor, const struct feed *piece)
{
	(void)send(monitor, piece->p, piece->n, MSG_DONTWAIT | MSG_NOSIGNAL);
	turn(ct);
}

int fuzz_one(const uint8_t *data, size_t n)
{
	struct control ct = { .base = event_base_new() };
	struct feed f = { data, n }, piece;
	int ends[2];
	struct err *e = ipc_pair(ends);

	MUST(!e && ct.base);
	ct.monitor = ipc_new(ct.base, ends[0], &monitor_handlers, &ct);
	for (bool monitor = false; feed_piece(&f, &piece); monitor = !monitor) {
		if (monitor)
			monitor_sends(&ct, ends[1], &piece);
		else
			client_writes(&ct, &piece);
		monitor_reads(ends[1]);
	}
	control_fini(&ct);
	close(ends[1]);
	return 0;
}
