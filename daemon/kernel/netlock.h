/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network lock: while a process stands still, or until it is known on which host it goes on,
 * nothing answers for its connections. One nftables table per migration and its sets, whatever the
 * number of connections; over libmnl, in the network namespace of the caller. A table survives its
 * maker, so that no death of ours lets a packet through; who cleans up removes it by name.
 *
 * Every change is one transaction: all of it is in force when the call returns, or nothing. Packets
 * with NETLOCK_MARK pass: they are ours.
 */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "kernel/netend.h"

#define NETLOCK_PREFIX "migrated-"
#define NETLOCK_MARK   0x6d696772 /* "migr" */

/* UNSUPPORTED, with what is missing, if this kernel cannot have a lock; DENIED without
 * CAP_NET_ADMIN. Tried by making one and removing it, which takes the kernel some milliseconds.
 * silence4: IPv4 addresses are to be silenced, too. That needs tables of family arp, which a kernel
 * may lack; all else goes without. */
struct err *netlock_probe(bool silence4) must_check;
/* An empty lock. id: of the migration. INVALID: it is there already. */
struct err *netlock_make(const char *id) must_check;
/* No new connection to these: SYNs to them are dropped, all else passes. */
struct err *netlock_listeners(const char *id, const struct net_end *v, size_t n) must_check;
/* Packets of exactly these connections are dropped, in both directions. */
struct err *netlock_connections(const char *id, const struct net_pair *v, size_t n) must_check;
/* These addresses, which this host has, are not told: ARP packets and neighbour solicitations and
 * advertisements that name them as sender or target do not leave. IPv4 addresses: in one call only,
 * and UNSUPPORTED without tables of family arp. */
struct err *netlock_silence(const char *id, const struct net_ip *v, size_t n) must_check;
/* Packets pass, at once; the rest of it can be removed later. None there: NULL too, but that takes
 * the kernel some milliseconds: so say whether IPv4 addresses were silenced (true: perhaps). */
struct err *netlock_open(const char *id, bool silenced4) must_check;
/* All of it is gone; takes the kernel some milliseconds. None there: NULL too. */
struct err *netlock_remove(const char *id) must_check;
/* Ids of all locks in this network namespace; in the arena. */
struct err *netlock_list(struct arena *a, char ***ids, size_t *n) must_check;
