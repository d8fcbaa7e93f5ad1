// SPDX-License-Identifier: Apache-2.0
/*
 * TCP sockets: not bound, bound, listening, connected. The port is bound in the rehearsal (nobody
 * outside can tell: a bound port answers as an unused one does), listen() is late and made by the
 * process. Of a connection there is only the socket with its options here; what it is made of comes
 * in the last moment (tcp_connection.c).
 *
 * TCP_INFO of a listener: tcpi_sacked is the backlog as it was cut to net.core.somaxconn. A
 * connection that has ended leaves the socket in the state of a fresh one, but shut down: poll
 * shows POLLRDHUP or POLLERR, where a fresh socket shows POLLHUP only.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>

#include "kernel/sockdiag.h"
#include "kinds/sock_inet.h"
#include "kinds/sockopts.h"
#include "tcp.pb-c.h"

#define OPT_IP_PROTOCOL 52

static bool tcp_claims(const struct sock_seen *s)
{
	return inet_claims(s, SOCK_STREAM, IPPROTO_TCP);
}

static struct err *tcp_valid(const struct sock *s)
{
	const Migrate__Kind__Tcp *m = s->state;

	if (m->listening && !m->local)
		return err_new(ERR_PEER, "listening without an address");
	if (m->connected && m->listening)
		return err_new(ERR_PEER, "listening and connected");
	return inet_valid(s, SOCK_STREAM, IPPROTO_TCP);
}

/* What the peer has said or will say out of order, and options that tcp_connection.c would move. */
static struct err *tcp_capture_connection(
	struct capture *c, const struct sock_seen *s, Migrate__Kind__Tcp *m)
{
	union sock_addr local, peer;
	char here[SOCKADDR_TEXT], there[SOCKADDR_TEXT];
	int off = -1;

	m->connected = true;
	TRY(inet_local(c->arena, s->fd, &local, &m->local));
	TRY(inet_peer(c->arena, s->fd, &peer, &m->peer));
	sockaddr_text(&local, here);
	sockaddr_text(&peer, there);
	if (sock_poll(s->fd, POLLPRI) & POLLPRI)
		capture_refuse(c, err_hint(err_new(ERR_UNSUPPORTED,
						   "urgent data on the connection from %s to %s",
						   here, there),
					  "try again when the program has read it"));
	if (sock_int(s->fd, SOL_SOCKET, SO_PEEK_OFF, &off) && off >= 0)
		capture_refuse(c,
			err_new(ERR_UNSUPPORTED,
				"SO_PEEK_OFF is set on the connection from %s to %s", here, there));
	return NULL;
}

static struct err *tcp_capture_listener(
	struct capture *c, const struct sock_seen *s, const union sock_addr *local)
{
	const struct diag_inet_query q = { .family = s->domain,
		.protocol = IPPROTO_TCP,
		.port = sockaddr_port(local),
		.inode = s->inode };
	struct diag_inet d;
	char text[SOCKADDR_TEXT];

	TRY(diag_inet(&q, &d));
	if (d.has_md5)
		capture_refuse(c,
			err_new(ERR_UNSUPPORTED, "TCP MD5 keys on %s", sockaddr_text(local, text)));
	return NULL;
}

/* A connect() that failed leaves the port that it had tried in the socket's name and has given it
 * up; the kernel's own number of it shows where protocols have theirs (Linux 6.2). */
static bool port_given_up(const struct sock_seen *s)
{
	int number;

	return sock_int(s->fd, SOL_IP, OPT_IP_PROTOCOL, &number) && number == 0;
}

static struct err *tcp_capture(struct capture *c, const struct sock_seen *s, ProtobufCMessage **msg,
	uint64_t *group unused_arg)
{
	Migrate__Kind__Tcp *m = arena_alloc(c->arena, sizeof(*m));
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	union sock_addr local;

	migrate__kind__tcp__init(m);
	if (getsockopt(s->fd, SOL_TCP, TCP_INFO, &info, &len) < 0)
		return err_errno(errno, "state of a TCP socket");
	*msg = &m->base;
	if (info.tcpi_state != TCP_CLOSE && info.tcpi_state != TCP_LISTEN)
		return tcp_capture_connection(c, s, m);
	if (info.tcpi_state == TCP_CLOSE &&
		(sock_poll(s->fd, POLLIN | POLLRDHUP) & (POLLRDHUP | POLLERR)))
		return err_new(ERR_UNSUPPORTED, "its connection has ended, but it is still open");
	TRY(inet_local(c->arena, s->fd, &local, &m->local));
	if (sockaddr_port(&local) && port_given_up(s))
		m->local = NULL;
	if (info.tcpi_state == TCP_LISTEN) {
		m->listening = true;
		m->backlog = info.tcpi_sacked;
		TRY(tcp_capture_listener(c, s, &local));
	}
	return NULL;
}

static struct err *tcp_check(struct rebuild *r, const struct sock *s)
{
	const Migrate__Kind__Tcp *m = s->state;

	if (m->listening)
		sock_check_backlog(r, m->backlog);
	return inet_check(s, m->connected ? NULL : m->local);
}

static struct err *tcp_rebuild(struct rebuild *r, const struct sock *s, int *ret)
{
	const Migrate__Kind__Tcp *m = s->state;
	autoclose int fd = -1;

	TRY(sock_make(r, s->m, &fd));
	TRY(sockopts_apply(fd, s->m));
	if (m->local && !m->connected) {
		/* Changed since the rehearsal: what was made then still has the address. */
		TRY(sock_drop_old(r, s));
		TRY(inet_bind(s, fd, m->local));
	}
	*ret = take_fd(&fd);
	return NULL;
}

static struct err *tcp_finish(struct rebuild *r, const struct sock *s)
{
	const Migrate__Kind__Tcp *m = s->state;
	union sock_addr a;
	char text[SOCKADDR_TEXT];

	if (!m->listening)
		return NULL;
	TRY(sockaddr_unpack(m->local, s->m->domain, &a));
	TRY_IN(sock_listen(r, s, m->backlog, NULL), "%s", sockaddr_text(&a, text));
	return NULL;
}

const struct sock_impl sock_tcp = {
	.id = 1,
	.name = "TCP socket",
	.msg = &migrate__kind__tcp__descriptor,
	.claims = tcp_claims,
	.capture = tcp_capture,
	.valid = tcp_valid,
	.check = tcp_check,
	.rebuild = tcp_rebuild,
	.finish = tcp_finish,
};
