/* SPDX-License-Identifier: Apache-2.0 */
/* The source's part in the network. */
#pragma once

#include "engine/capture.h"
#include "engine/network.h"
#include "kinds/net_use.h"

struct source_network {
	struct arena *arena;      /* of all this; NULL: nothing yet */
	struct network list;      /* what is written down: addresses that leave, connections */
	struct net_address *here; /* this host's, in the rehearsal */
	size_t n_here;
	struct snapshot first;  /* holds `planned` */
	struct net_use planned; /* in the rehearsal, of all its processes, the youngest too */
	struct snapshot before; /* holds `use` */
	struct net_use use;     /* when nobody new was let in any more */
	struct snapshot late;   /* connections, as they were captured */
	bool any;               /* it has sockets that others can reach, or have reached */
	bool lockless;          /* this kernel has no lock, and it can do without */
	bool locked;            /* the lock may be there */
	bool passes;            /* it lets all pass again, and is to be removed */
	bool given_up;          /* addresses may be missing, connections in repair mode */
};

struct source;
/* In the rehearsal: what it is on the network, what of it comes along, what cannot. Blockers go to
 * the notes; the peer is told. */
struct err *source_network_plan(struct source *s) must_check;
/* Before the freeze: nobody new can connect to it any more. */
struct err *source_network_close(struct source *s) must_check;
/* Held: lets it go on for moments until nothing waits that would be lost (connections not accepted,
 * handshakes, what it has closed and the kernel still delivers, events that only it can take), or
 * does what the options say. */
struct err *source_drain(struct source *s) must_check;
/* Held in its group, all else sent: nothing of its connections comes in or goes out any more. */
struct err *source_network_lock(struct source *s) must_check;
/* Then the addresses leave, */
struct err *source_network_leave(struct source *s) must_check;
/* and the connections are captured and sent. */
struct err *source_network_send(struct source *s) must_check;
/* Undoes all of these; the process is still held. */
void source_network_back(struct source *s);
/* The original has ended. */
void source_network_ended(struct source *s);
void source_network_fini(struct source *s);
