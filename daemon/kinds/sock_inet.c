// SPDX-License-Identifier: Apache-2.0
#include "kinds/sock_inet.h"

#include <errno.h>
#include <string.h>

#include "kinds/sockopts.h"

bool inet_claims(const struct sock_seen *s, int type, int protocol)
{
	return (s->domain == AF_INET || s->domain == AF_INET6) && s->type == type &&
	       s->protocol == protocol;
}

struct err *inet_valid(const struct sock *s, int type, int protocol)
{
	const struct sock_seen seen = {
		.domain = s->m->domain, .type = s->m->type, .protocol = s->m->protocol
	};

	if (!inet_claims(&seen, type, protocol))
		return err_new(ERR_PEER, "family %d, type %d, protocol %d", seen.domain, seen.type,
			seen.protocol);
	return NULL;
}

struct err *inet_local(
	struct arena *a, int fd, union sock_addr *addr, Migrate__Kind__SocketAddress **m)
{
	socklen_t len = sizeof(*addr);

	memset(addr, 0, sizeof(*addr));
	*m = NULL;
	if (getsockname(fd, &addr->any, &len) < 0)
		return err_errno(errno, "local address");
	if (sockaddr_is_none(addr))
		return NULL;
	return sockaddr_pack(a, addr, m);
}

struct err *inet_peer(
	struct arena *a, int fd, union sock_addr *addr, Migrate__Kind__SocketAddress **m)
{
	socklen_t len = sizeof(*addr);

	memset(addr, 0, sizeof(*addr));
	*m = NULL;
	if (getpeername(fd, &addr->any, &len) == 0)
		return sockaddr_pack(a, addr, m);
	return errno == ENOTCONN ? NULL : err_errno(errno, "address of the other end");
}

static struct err *bind_error(int no, const struct sock *s, const union sock_addr *a)
{
	char text[SOCKADDR_TEXT];

	sockaddr_text(a, text);
	if (no == EADDRINUSE)
		return err_hint(err_new(ERR_MISMATCH, "address %s is in use here", text),
			"find who has it with `ss -%sanp`, and stop it",
			s->m->type == SOCK_STREAM ? "t" : "u");
	if (no == EADDRNOTAVAIL)
		return err_hint(
			err_new(ERR_MISMATCH, "this host does not have the address %s", text),
			"give it that address, or let the program bind a wildcard address");
	return err_errno(no, "bind %s", text);
}

/* An address that is not here yet: it comes along, or somebody brings it. Whether it does is the
 * engine's question (NETWORK). */
static struct err *bind_early(int fd, const struct sock *s, const union sock_addr *a)
{
	bool six = a->any.sa_family == AF_INET6;
	int level = six ? SOL_IPV6 : SOL_IP, name = six ? IPV6_FREEBIND : IP_FREEBIND;
	int before = 0, on = 1, no = 0;

	(void)sock_int(fd, level, name, &before);
	if (setsockopt(fd, level, name, &on, sizeof(on)) < 0)
		return err_errno(errno, "bind an address that is not here");
	if (bind(fd, &a->any, sockaddr_len(a)) < 0)
		no = errno;
	if (setsockopt(fd, level, name, &before, sizeof(before)) < 0)
		return err_errno(errno, "set IP_FREEBIND back");
	return no ? bind_error(no, s, a) : NULL;
}

struct err *inet_bind(const struct sock *s, int fd, const Migrate__Kind__SocketAddress *local)
{
	union sock_addr a;

	TRY(sockaddr_unpack(local, s->m->domain, &a));
	if (bind(fd, &a.any, sockaddr_len(&a)) == 0)
		return NULL;
	if (errno != EADDRNOTAVAIL || (a.any.sa_family == AF_INET6 && a.in6.sin6_scope_id))
		return bind_error(errno, s, &a);
	return bind_early(fd, s, &a);
}

struct err *inet_check(const struct sock *s, const Migrate__Kind__SocketAddress *local)
{
	autoclose int fd = socket(s->m->domain, s->m->type | SOCK_CLOEXEC, s->m->protocol);

	if (fd < 0)
		return err_errno(errno, "make a socket");
	TRY(sockopts_apply(fd, s->m));
	return local ? inet_bind(s, fd, local) : NULL;
}
