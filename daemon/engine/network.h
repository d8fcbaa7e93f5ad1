/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network's part of a handover. What both sides keep of it is one list (struct network): the
 * lock, the addresses that go with the process, its connections. It is written down
 * (engine_io.on_network) before any of it is done, and says the same on both sides: where the
 * process runs in the end the addresses are, and its connections go on; where it does not, they are
 * not, and nothing answers for it. So whoever comes later needs to know only which.
 */
#pragma once

#include "engine/engine.h"
#include "kernel/netaddr.h"
#include "kernel/netlock.h"
#include "network.pb-c.h"

/* In one move. */
#define NETWORK_ADDRESSES_MAX   64
#define NETWORK_CONNECTIONS_MAX 100000

struct network_connection {
	struct net_pair pair;
	pid_t pid;  /* a process that has it, */
	int number; /* and one of its descriptors there */
	bool reuse; /* SO_REUSEADDR */
};

struct network {
	const char *id; /* of the migration: names the lock */
	struct net_address *addresses;
	size_t n_addresses;
	struct network_connection *connections;
	size_t n_connections;
	bool silenced; /* IPv4 addresses may be behind the lock, too */
	int teller;    /* to tell addresses through; -1: not needed yet */
};
void network_init(struct network *n, const char *id);
/* Waits for the kernel to close what is open. */
void network_fini(struct network *n);

/* The wire's messages of them, in the arena, and back: PEER if a field makes no sense. */
Migrate__NetAddress *network_pack_address(struct arena *a, const struct net_address *v);
struct err *network_unpack_address(
	const Migrate__NetAddress *m, struct net_address *ret) must_check;
void network_pack_ip(struct arena *a, const struct net_ip *ip, ProtobufCBinaryData *ret);
struct err *network_unpack_ip(const ProtobufCBinaryData *m, struct net_ip *ret) must_check;
Migrate__NetConnection **network_pack_connections(struct arena *a, const struct network *n);
/* connections and n_connections of *ret, in the arena. */
struct err *network_unpack_connections(struct arena *a, Migrate__NetConnection *const *v, size_t n,
	struct network *ret) must_check;

/* Hands the list to io->on_network; NULL (n): there is nothing any more. */
struct err *network_note(const struct engine_io *io, const struct network *n) must_check;
/* Drops packets of all its connections, in one transaction. */
struct err *network_lock(const struct network *n) must_check;

/* The process runs here: addresses are put and told, packets pass, then its connections go on. What
 * is left of the lock can be removed later.
 * pid 0: there is no process (any more). What cannot be done goes to the notes, and false is
 * returned; everything that can be is. Can be repeated. */
bool network_stay(struct network *n, pid_t pid, struct notes *notes);
/* It does not, and what stood here has ended or will without a sound. */
struct err *network_leave(const struct network *n) must_check;
/* Tells all addresses once more. */
void network_announce(struct network *n);

/* For whoever comes after our death, with what on_network was given. */
struct network_settle {
	const char *id;
	const uint8_t *list;
	size_t len;
	bool stays; /* it runs here, or will when this has returned; */
	bool runs;  /* it does already, as it should: only the remains of the lock are to go */
	pid_t pid;  /* 0: it has ended */
	uint64_t start_time;
};
struct err *engine_network_settle(
	const struct network_settle *spec, struct notes *notes) must_check;
