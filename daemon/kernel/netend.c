// SPDX-License-Identifier: Apache-2.0
#include "kernel/netend.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

size_t net_ip_len(int family)
{
	return family == AF_INET ? 4 : family == AF_INET6 ? 16 : 0;
}

bool net_ip_equal(const struct net_ip *a, const struct net_ip *b)
{
	return a->family == b->family && memcmp(a->bytes, b->bytes, net_ip_len(a->family)) == 0;
}

int net_end_order(const struct net_end *a, const struct net_end *b)
{
	int ip = memcmp(a->ip.bytes, b->ip.bytes, sizeof(a->ip.bytes));

	if (a->ip.family != b->ip.family)
		return a->ip.family < b->ip.family ? -1 : 1;
	return ip ? ip : (int)a->port - (int)b->port;
}

int net_pair_order(const struct net_pair *a, const struct net_pair *b)
{
	int local = net_end_order(&a->local, &b->local);

	return local ? local : net_end_order(&a->remote, &b->remote);
}

bool net_ip_is_any(const struct net_ip *ip)
{
	static const uint8_t none[16];

	return memcmp(ip->bytes, none, net_ip_len(ip->family)) == 0;
}

bool net_ip_is_loopback(const struct net_ip *ip)
{
	return ip->family == AF_INET ? ip->bytes[0] == IN_LOOPBACKNET
				     : memcmp(ip->bytes, &in6addr_loopback, sizeof(ip->bytes)) == 0;
}

const char *net_ip_text(const struct net_ip *ip, char buf[NET_IP_TEXT])
{
	if (!inet_ntop(ip->family, ip->bytes, buf, NET_IP_TEXT))
		snprintf(buf, NET_IP_TEXT, "?");
	return buf;
}

bool net_ip_parse(const char *text, struct net_ip *ret)
{
	*ret = (struct net_ip){ .family = strchr(text, ':') ? AF_INET6 : AF_INET };
	return inet_pton(ret->family, text, ret->bytes) == 1;
}

const char *net_end_text(const struct net_end *e, char buf[NET_END_TEXT])
{
	char ip[NET_IP_TEXT];

	net_ip_text(&e->ip, ip);
	snprintf(buf, NET_END_TEXT, e->ip.family == AF_INET6 ? "[%s]:%u" : "%s:%u", ip, e->port);
	return buf;
}
