/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Further connections of a migration, in the monitor. The source's worker asks for one by number
 * and net dials; at the destination net asks whether it may join, and the worker gets it when it
 * asks for that number. Each number is used once. Neither side waits without end.
 */
#pragma once

#include <event2/event.h>

#include "roles/ipc.h"
#include "session/hello.h"

struct monitor;
struct move;
struct join;

/* Of one migration. */
struct joins {
	bool allowed; /* the first connection came with a token */
	uint8_t token[JOIN_TOKEN_BYTES];
	struct join *first;
};

/* How many may wait at the destination for its worker to ask, and how long. */
#define JOINS_WAITING_MAX  8
#define JOINS_UNCLAIMED_US 30000000

/* The token of the first connection; empty: the other side takes one connection only. */
void joins_allow(struct move *v, const ProtobufCBinaryData *token);
/* Open, from a worker. */
void joins_wanted(void *move, struct ipc_msg *msg);
/* JoinAsk, from net. */
void joins_asked(void *net_service, struct ipc_msg *msg);
/* Connected, from net, for one of them. */
void joins_connected(struct monitor *m, struct ipc_msg *msg);
/* True if this connection of net's is one of them. */
bool joins_has(const struct move *v, uint64_t connection);
void joins_net_died(struct move *v);
void joins_fini(struct move *v);
