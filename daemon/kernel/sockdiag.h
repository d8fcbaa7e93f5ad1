/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sock_diag tells about a socket and getsockopt does not: the other end of a unix socket, the
 * inode of its name, its shutdown state; keys and upper layers of a TCP listener. Every call asks
 * anew over a netlink socket of its own, in the network namespace of the caller.
 */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "kernel/netend.h"

struct diag_unix {
	int type, state; /* SOCK_*; TCP_* (1 connected, 7 neither, 10 listening) */
	bool has_peer;
	uint32_t peer_inode; /* 0: the other end has been closed */
	bool has_file;       /* its name is a path */
	uint32_t file_inode; /* low 32 bits, of the socket file when it was bound */
	uint32_t file_dev;   /* kernel's own form: major << 20 | minor */
	uint32_t shutdown;   /* 1: receiving, 2: sending */
	uint32_t waiting;    /* listener: connections not accepted yet; else bytes to be read */
	uint32_t backlog;    /* listener only */
};

/* GONE if there is none with this inode in this network namespace. */
struct err *diag_unix(uint64_t inode, struct diag_unix *ret) must_check;
/* Is a living socket bound to this socket file? */
struct err *diag_unix_file_used(uint64_t file_inode, bool *ret) must_check;

struct diag_inet {
	bool found;
	uint32_t shutdown; /* 1: receiving, 2: sending */
	bool has_md5;      /* TCP: RFC 2385 keys; seen with CAP_NET_ADMIN only */
};
/* A bound TCP listener or UDP socket by its inode among those of this local port. Sockets that are
 * in no hash table (TCP bound but not listening, UDP without a port) are not found. */
struct diag_inet_query {
	int family, protocol; /* AF_INET, AF_INET6; IPPROTO_TCP, IPPROTO_UDP */
	uint16_t port;        /* host order */
	uint64_t inode;
};
struct err *diag_inet(const struct diag_inet_query *q, struct diag_inet *ret) must_check;

/* Every TCP socket of one family in this network namespace that is in one of these states (bits
 * 1 << TCP_*; SYN_RECV are connections that are being made). In the arena. */
struct diag_tcp {
	uint8_t state;
	struct net_pair pair;
	uint64_t inode;      /* 0: no descriptor leads to it */
	uint32_t queued_in;  /* listener: not accepted yet; else bytes to be read */
	uint32_t queued_out; /* listener: backlog; else bytes not confirmed */
	uint32_t cookie[2];
	unsigned interface;
};
struct err *diag_tcp_list(
	struct arena *a, int family, uint32_t states, struct diag_tcp **v, size_t *n) must_check;
/* Ends a connection with a reset to its peer, whoever has it. UNSUPPORTED: this kernel does not do
 * that (CONFIG_INET_DIAG_DESTROY). It may have ended by itself: no error. */
struct err *diag_tcp_reset(const struct diag_tcp *d) must_check;
/* Every bound UDP socket of one family. */
struct diag_udp {
	struct net_pair pair;
	uint64_t inode;
	uint32_t queued_in; /* bytes, as the kernel counts them */
};
struct err *diag_udp_list(struct arena *a, int family, struct diag_udp **v, size_t *n) must_check;
