/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of this host's interfaces: listed, taken away, put, announced. rtnetlink over libmnl,
 * in the network namespace of the caller. */
#pragma once

#include <net/if.h>

#include "base/arena.h"
#include "base/err.h"
#include "kernel/netend.h"

struct net_address {
	struct net_ip ip;
	uint8_t prefix; /* bits */
	uint8_t scope;  /* RT_SCOPE_* */
	uint8_t proto;  /* IFAPROT_*, 0: unknown */
	uint32_t flags; /* IFA_F_* */
	unsigned index; /* of the interface, on this host */
	char interface[IF_NAMESIZE];
	char label[IF_NAMESIZE]; /* IPv4; "" for none */
	bool has_peer, has_broadcast;
	struct net_ip peer, broadcast;
	uint32_t metric;           /* IFA_RT_PRIORITY, 0: none */
	uint32_t valid, preferred; /* lifetimes in seconds; UINT32_MAX: for ever */
};

/* All addresses of this host. */
struct err *netaddr_list(struct arena *a, struct net_address **v, size_t *n) must_check;
/* Does this host answer for ip, as one of its own? */
struct err *netaddr_is_local(const struct net_ip *ip, bool *ret) must_check;
/* Where an address that lay on interface `like` of another host belongs here: the interface with an
 * address in whose prefix ip lies; else one of that name. MISMATCH, with what there is: neither, or
 * it is down. index and interface of *ret are set. */
struct err *netaddr_place(
	const struct net_ip *ip, const char *like, struct net_address *ret) must_check;
/* IPv6: without duplicate address detection; waits, up to 50 ms, until packets to it are this
 * host's (they never are while the link has no carrier: NULL too). *was_there: nothing was changed.
 */
struct err *netaddr_put(const struct net_address *a, bool *was_there) must_check;
/* None there: NULL too. Other addresses of its network stay. */
struct err *netaddr_drop(const struct net_address *a) must_check;
/* A socket to tell addresses through. To close it takes the kernel 7 ms and more (packet_release
 * waits for all processors), so that is for when there is time. */
struct err *netaddr_teller(int *fd) must_check;
/* Tells the link once that ip is here: gratuitous ARP (request and reply), or an unsolicited
 * neighbour advertisement to all nodes. NULL on interfaces without link addresses (lo, tunnels). */
struct err *netaddr_announce(int teller, const struct net_ip *ip, unsigned index) must_check;
