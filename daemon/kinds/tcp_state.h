/* SPDX-License-Identifier: Apache-2.0 */
/* What the kinds that carry a TCP connection share: its state, its queues, packets in its peer's
 * name. */
#pragma once

#include "kernel/netend.h"
#include "kinds/sockaddr.h"
#include "kinds/socket.h"

/* An end as the network sees it: v4-mapped addresses are IPv4. */
void tcp_end(const union sock_addr *a, struct net_end *ret);

/* The TCP_* state of a TCP socket; 0: it is none, or not connected (closed, listening). */
unsigned tcp_connected(int fd);
/* Has the program ended its sending; has the peer? */
bool tcp_fin_ours(unsigned state);
bool tcp_fin_theirs(unsigned state);

struct tcp_sizes { /* of queues, in bytes of data */
	uint32_t unread, sent, unsent;
	bool fin_unacked, fin_unsent; /* our FIN lies behind them */
};
struct err *tcp_sizes(int fd, unsigned state, struct tcp_sizes *ret) must_check;
/* Of a socket in repair mode: all that follows is about this queue. TCP_NO_QUEUE and others. */
struct err *tcp_choose_queue(int fd, int queue) must_check;

/* A packet from peer to local, through our own loopback and the network lock. */
struct tcp_packet {
	struct net_pair pair;
	uint32_t seq, ack;
	uint16_t window;
	bool fin;
};
struct err *tcp_spoof(const struct tcp_packet *p) must_check;
