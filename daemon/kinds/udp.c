// SPDX-License-Identifier: Apache-2.0
/*
 * UDP sockets: not bound, bound, connected. Datagrams that wait to be read cannot be put back with
 * their sender's address: what the process does not read in time is dropped, as any datagram may
 * be, and said. Bound is the same as listening here (a bound socket collects datagrams), so binding
 * is late. An address that connect() chose is bound by name; that shows only after
 * connect(AF_UNSPEC).
 *
 * shutdown() works on UDP too (it wakes readers for ever). sock_diag shows it for sockets that have
 * a port; without one poll shows the receiving half.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>

#include "kernel/sockdiag.h"
#include "kinds/sock_inet.h"
#include "kinds/sockopts.h"
#include "udp.pb-c.h"

#define SHUT_MASK_RD 1U
#define SHUT_MASK_WR 2U

static bool udp_claims(const struct sock_seen *s)
{
	return inet_claims(s, SOCK_DGRAM, IPPROTO_UDP);
}

static struct err *udp_valid(const struct sock *s)
{
	const Migrate__Kind__Udp *m = s->state;

	if (m->shutdown > (SHUT_MASK_RD | SHUT_MASK_WR))
		return err_new(ERR_PEER, "shutdown state %u", m->shutdown);
	return inet_valid(s, SOCK_DGRAM, IPPROTO_UDP);
}

static struct err *udp_shutdown_state(
	const struct sock_seen *s, const union sock_addr *local, uint32_t *ret)
{
	const struct diag_inet_query q = { .family = s->domain,
		.protocol = IPPROTO_UDP,
		.port = sockaddr_port(local),
		.inode = s->inode };
	struct diag_inet d = { 0 };
	short now;

	if (q.port)
		TRY(diag_inet(&q, &d));
	if (d.found) {
		*ret = d.shutdown;
		return NULL;
	}
	now = sock_poll(s->fd, POLLRDHUP);
	*ret = (now & POLLHUP) ? SHUT_MASK_RD | SHUT_MASK_WR : (now & POLLRDHUP) ? SHUT_MASK_RD : 0;
	return NULL;
}

/* After shutdown poll always says readable. recv() would eat a pending error, and move SO_PEEK_OFF
 * if that is on: then the answer is the safe one. */
static bool udp_has_data(const struct sock_seen *s, uint32_t shutdown)
{
	int off = -1;
	char byte;

	if (!(shutdown & SHUT_MASK_RD))
		return sock_poll(s->fd, POLLIN) & POLLIN;
	if ((sock_poll(s->fd, 0) & POLLERR) ||
		(sock_int(s->fd, SOL_SOCKET, SO_PEEK_OFF, &off) && off >= 0))
		return true;
	return recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC) >= 0;
}

/* Is there a part of a datagram (MSG_MORE) that waits for the rest? Then the kernel does not look
 * at the address of what is added to it; else nobody can send to port 0. Not for a socket without a
 * port: it has no part, and sending would choose one. */
static bool udp_has_part(const struct sock_seen *s)
{
	const union sock_addr nowhere = { .any = { .sa_family = (sa_family_t)s->domain } };

	return sendto(s->fd, "", 0, MSG_MORE | MSG_DONTWAIT | MSG_NOSIGNAL, &nowhere.any,
		       sockaddr_len(&nowhere)) == 0;
}

static struct err *udp_capture(struct capture *c, const struct sock_seen *s, ProtobufCMessage **msg,
	uint64_t *group unused_arg)
{
	Migrate__Kind__Udp *m = arena_alloc(c->arena, sizeof(*m));
	union sock_addr local, peer;
	char text[SOCKADDR_TEXT];

	migrate__kind__udp__init(m);
	TRY(inet_local(c->arena, s->fd, &local, &m->local));
	TRY(inet_peer(c->arena, s->fd, &peer, &m->peer));
	TRY(udp_shutdown_state(s, &local, &m->shutdown));
	/* The engine has let it run on for a while (net_use_pending), so that it could read them.
	 */
	if (c->stopped && udp_has_data(s, m->shutdown))
		capture_warn(c, "datagrams that waited to be read on %s are dropped",
			sockaddr_text(&local, text));
	if (c->stopped && sockaddr_port(&local) && udp_has_part(s))
		capture_refuse(c, err_hint(err_new(ERR_UNSUPPORTED,
						   "part of a datagram waits on %s for the rest",
						   sockaddr_text(&local, text)),
					  "try again"));
	if (c->stopped && (sock_poll(s->fd, 0) & POLLERR))
		capture_warn(
			c, "a pending error of UDP socket %s is lost", sockaddr_text(&local, text));
	*msg = &m->base;
	return NULL;
}

static struct err *udp_connect(const struct sock *s, int fd)
{
	const Migrate__Kind__Udp *m = s->state;
	union sock_addr peer;
	char text[SOCKADDR_TEXT];

	TRY(sockaddr_unpack(m->peer, s->m->domain, &peer));
	if (connect(fd, &peer.any, sockaddr_len(&peer)) < 0)
		return err_errno(errno, "connect to %s", sockaddr_text(&peer, text));
	return NULL;
}

static struct err *udp_check(struct rebuild *r unused_arg, const struct sock *s)
{
	const Migrate__Kind__Udp *m = s->state;
	autoclose int fd = socket(s->m->domain, s->m->type | SOCK_CLOEXEC, s->m->protocol);

	TRY(inet_check(s, m->local));
	if (!m->peer)
		return NULL;
	if (fd < 0)
		return err_errno(errno, "make a socket");
	TRY(sockopts_apply(fd, s->m));
	return udp_connect(s, fd);
}

static struct err *udp_rebuild(struct rebuild *r, const struct sock *s, int *ret)
{
	autoclose int fd = -1;

	TRY(sock_make(r, s->m, &fd));
	TRY(sockopts_apply(fd, s->m));
	*ret = take_fd(&fd);
	return NULL;
}

static struct err *udp_finish(struct rebuild *r, const struct sock *s)
{
	static const int how[] = { -1, SHUT_RD, SHUT_WR, SHUT_RDWR };
	const Migrate__Kind__Udp *m = s->state;
	autoclose int fd = -1;

	if (!m->local && !m->peer && !m->shutdown)
		return NULL;
	TRY(sock_home(r, s, &fd));
	if (m->local)
		TRY(inet_bind(s, fd, m->local));
	if (m->peer)
		TRY(udp_connect(s, fd));
	/* ENOTCONN is only an answer: the state is set all the same. */
	if (m->shutdown && shutdown(fd, how[m->shutdown]) < 0 && errno != ENOTCONN)
		return err_errno(errno, "shut down");
	return NULL;
}

const struct sock_impl sock_udp = {
	.id = 2,
	.name = "UDP socket",
	.msg = &migrate__kind__udp__descriptor,
	.claims = udp_claims,
	.capture = udp_capture,
	.valid = udp_valid,
	.check = udp_check,
	.rebuild = udp_rebuild,
	.finish = udp_finish,
};
