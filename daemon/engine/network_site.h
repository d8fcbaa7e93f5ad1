/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's part in the network. In the frozen stretch the addresses are put and the
 * connections rebuilt behind a lock, so that nobody outside can tell; after COMMIT one transaction
 * takes the lock away.
 */
#pragma once

#include "engine/network.h"

struct network_site {
	const struct engine_io *io;
	const struct receive_options *opt;
	struct notes *notes;    /* borrowed */
	struct arena *arena;    /* borrowed */
	Migrate__Network *plan; /* NULL: none came */
	struct network list;
	struct net_pair *locked; /* sorted: what may be rebuilt */
	bool made;               /* something of the list may be here */
	bool kept;               /* not all of it could be done: the list is for who comes later */
};

/* Takes a NETWORK body. */
struct err *network_site_plan(struct network_site *n, const uint8_t *body, size_t len) must_check;
/* Blockers to the notes. */
struct err *network_site_check(struct network_site *n) must_check;
/* Takes a CONNECTIONS body. */
struct err *network_site_connections(
	struct network_site *n, const uint8_t *body, size_t len) must_check;
/* Frozen: the lock, then the addresses, of which nobody hears. Before the first connection is
 * rebuilt, and before the process runs; does it once. */
struct err *network_site_prepare(struct network_site *n) must_check;
/* Is it one of those that were announced and locked? */
bool network_site_has(const struct network_site *n, const struct net_pair *p);
/* After COMMIT, before the first instruction. */
void network_site_open(struct network_site *n, pid_t pid);
/* It runs: nothing has to be remembered any more. */
void network_site_done(struct network_site *n);
/* It is gone: so is all of this. */
void network_site_undo(struct network_site *n);
