// SPDX-License-Identifier: Apache-2.0
#include "kinds/sockaddr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

const char *sockaddr_text(const union sock_addr *a, char buf[SOCKADDR_TEXT])
{
	char ip[INET6_ADDRSTRLEN] = "?", name[IF_NAMESIZE + 1] = "";

	if (a->any.sa_family == AF_INET) {
		(void)inet_ntop(AF_INET, &a->in.sin_addr, ip, sizeof(ip));
		(void)snprintf(buf, SOCKADDR_TEXT, "%s:%u", ip, ntohs(a->in.sin_port));
		return buf;
	}
	if (a->any.sa_family != AF_INET6) {
		(void)snprintf(buf, SOCKADDR_TEXT, "address of family %d", a->any.sa_family);
		return buf;
	}
	(void)inet_ntop(AF_INET6, &a->in6.sin6_addr, ip, sizeof(ip));
	if (a->in6.sin6_scope_id) {
		name[0] = '%';
		if (!if_indextoname(a->in6.sin6_scope_id, name + 1))
			name[1] = '?';
	}
	(void)snprintf(buf, SOCKADDR_TEXT, "[%s%s]:%u", ip, name, ntohs(a->in6.sin6_port));
	return buf;
}

socklen_t sockaddr_len(const union sock_addr *a)
{
	if (a->any.sa_family == AF_INET)
		return sizeof(a->in);
	return a->any.sa_family == AF_INET6 ? sizeof(a->in6) : 0;
}

uint16_t sockaddr_port(const union sock_addr *a)
{
	return ntohs(a->any.sa_family == AF_INET ? a->in.sin_port : a->in6.sin6_port);
}

bool sockaddr_is_none(const union sock_addr *a)
{
	if (sockaddr_port(a) != 0)
		return false;
	if (a->any.sa_family == AF_INET)
		return a->in.sin_addr.s_addr == htonl(INADDR_ANY);
	return IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr);
}

struct err *sockaddr_pack(
	struct arena *a, const union sock_addr *addr, Migrate__Kind__SocketAddress **ret)
{
	Migrate__Kind__SocketAddress *m = arena_alloc(a, sizeof(*m));
	union sock_addr copy = *addr;
	char name[IF_NAMESIZE];

	migrate__kind__socket_address__init(m);
	if (addr->any.sa_family == AF_INET6 && addr->in6.sin6_scope_id) {
		if (!if_indextoname(addr->in6.sin6_scope_id, name))
			return err_errno(
				errno, "interface %u of an address", addr->in6.sin6_scope_id);
		m->interface = arena_strdup(a, name);
		copy.in6.sin6_scope_id = 0;
	}
	m->addr.len = sockaddr_len(&copy);
	m->addr.data = arena_dup(a, &copy, m->addr.len);
	*ret = m;
	return NULL;
}

struct err *sockaddr_unpack(const Migrate__Kind__SocketAddress *m, int family, union sock_addr *ret)
{
	union sock_addr a = { 0 };

	if (m->addr.len < sizeof(sa_family_t) || m->addr.len > sizeof(a))
		return err_new(ERR_PEER, "a socket address of %zu bytes", m->addr.len);
	memcpy(&a, m->addr.data, m->addr.len);
	if (a.any.sa_family != family || m->addr.len != sockaddr_len(&a))
		return err_new(ERR_PEER, "a socket address of family %d and %zu bytes",
			a.any.sa_family, m->addr.len);
	if (m->interface && m->interface[0]) {
		if (family != AF_INET6)
			return err_new(ERR_PEER, "an IPv4 address with an interface");
		a.in6.sin6_scope_id = if_nametoindex(m->interface);
		if (!a.in6.sin6_scope_id)
			return err_hint(
				err_new(ERR_UNSUPPORTED, "no interface %s here", m->interface),
				"the address is local to that interface; give the destination one "
				"of that name");
	}
	*ret = a;
	return NULL;
}
