/* SPDX-License-Identifier: Apache-2.0 */
/* What a process is on the network: its connections, what it listens to, which addresses it needs.
 * For the engine, which locks the network and moves addresses. */
#pragma once

#include "kernel/netend.h"
#include "kinds/capture.h"

struct net_use {
	struct net_pair *connections; /* TCP, in any state but closed; each once */
	pid_t *pids;                  /* of each, a process that has it, */
	int *numbers;                 /* one descriptor of it there, */
	bool *reuse;                  /* and SO_REUSEADDR */
	size_t n_connections;
	struct net_end *listeners; /* TCP */
	size_t n_listeners;
	/* Local addresses that TCP connections, and listeners and UDP sockets that are bound to
	 * one, stand on; each once, no wildcard, no loopback. */
	struct net_ip *addresses;
	size_t n_addresses;
	size_t n_datagram;   /* UDP sockets that have a port */
	size_t n_connecting; /* TCP sockets whose connect() is not over */
};
/* Of a process that runs or is held; in c->arena. Changes nothing. */
struct err *net_use_look(struct capture *c, struct net_use *ret) must_check;

/* What would be lost if the process stood still from now on. */
struct net_pending {
	uint32_t unaccepted; /* connections in accept queues of its listeners */
	uint32_t handshakes; /* connections to them that are being made (SYN_RECV) */
	/* Connections that it has closed and whose data is still to be delivered by the kernel:
	 * local end is one of its own (listeners or connections). */
	uint32_t closing;
	uint32_t datagrams;       /* UDP sockets with something to read */
	uint32_t connecting;      /* connections of its own that are being made */
	char where[NET_END_TEXT]; /* a listener that has some of it, for messages */
};
struct err *net_use_pending(
	struct capture *c, const struct net_use *use, struct net_pending *ret) must_check;
/* Ends the connections in the accept queues and those that are being made, each with a reset.
 * *n: how many. UNSUPPORTED: this kernel cannot (CONFIG_INET_DIAG_DESTROY). */
struct err *net_use_reset_unaccepted(
	struct capture *c, const struct net_use *use, uint32_t *n) must_check;
/* Is an address used by a socket of this host that is not the process's own? *who: descriptive text
 * ("TCP 10.0.0.1:80, port of pid 17 (nginx)"), in c->arena; NULL: nobody. */
struct err *net_use_others(struct capture *c, const struct net_ip *ip, char **who) must_check;
