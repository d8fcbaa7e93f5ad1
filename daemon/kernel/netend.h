/* SPDX-License-Identifier: Apache-2.0 */
/* Ends of IP connections, as the network sees them: an IPv4 address that a socket shows as
 * ::ffff:a.b.c.d is AF_INET here. Ports in host order. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct net_ip {
	int family;        /* AF_INET, AF_INET6 */
	uint8_t bytes[16]; /* network order; 4 of them for AF_INET, the rest 0 */
};

struct net_end {
	struct net_ip ip; /* a listener's may be the wildcard: all bytes 0 */
	uint16_t port;
};

struct net_pair {
	struct net_end local, remote;
};

/* For sorting; 0: equal. */
int net_end_order(const struct net_end *a, const struct net_end *b);
int net_pair_order(const struct net_pair *a, const struct net_pair *b);

#define NET_IP_TEXT  46
#define NET_END_TEXT 56
size_t net_ip_len(int family); /* 4 or 16; 0 for any other family */
bool net_ip_equal(const struct net_ip *a, const struct net_ip *b);
bool net_ip_is_any(const struct net_ip *ip);
bool net_ip_is_loopback(const struct net_ip *ip);
/* "10.0.0.1", "fd00::1"; returns buf. */
const char *net_ip_text(const struct net_ip *ip, char buf[NET_IP_TEXT]);
bool net_ip_parse(const char *text, struct net_ip *ret);
/* "10.0.0.1:80", "[fd00::1]:80"; returns buf. */
const char *net_end_text(const struct net_end *e, char buf[NET_END_TEXT]);
