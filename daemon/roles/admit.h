/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a peer may begin here, in the monitor: whether it is (still) a peer, how often and how many
 * at once, and with how much memory. A connection that has not said what it wants counts as silent:
 * it may stay for three times the handshake's time limit, and when there is no more room the silent
 * ones go first, of the peer that has most of them.
 */
#pragma once

#include "roles/ipc.h"

struct monitor;
struct move;

/* An incoming connection of a known key that has said HELLO. */
struct err *admit_connection(struct monitor *m, const Migrate__Connected *c) must_check;
/* Room for one more migration, of `peer` or (NULL) of a local user; may end a silent one. */
struct err *admit_room(struct monitor *m, const char *peer) must_check;
/* It is silent from now on. */
void admit_watch(struct move *v);
/* Reserve, from its worker. */
void admit_reserve(void *move, struct ipc_msg *msg);
/* Ends the migrations, in both directions, whose peer or key was removed, unless they are
 * committed. */
void admit_revoke(struct monitor *m);
void admit_fini(struct move *v);
