/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hosts that this one knows: name, address, keys. Pure: text in, text out.
 *
 * A host has one key, and two or more while it changes keys. A key is of one peer only: so its
 * limits are clear, and whoever removes that peer, or that key, has removed it.
 *
 * In a file there is one peer per line, "NAME HOST[:PORT] FINGERPRINT...", separated by blanks;
 * empty lines and lines that begin with # are skipped.
 */
#pragma once

#include "session/address.h"
#include "session/identity.h"

#define PEER_NAME_BYTES 64
#define PEERS_MAX       2000
#define PEER_KEYS_MAX   4
#define PEERS_TEXT_MAX \
	(PEERS_MAX * (PEER_NAME_BYTES + ADDRESS_BYTES + PEER_KEYS_MAX * FINGERPRINT_BYTES))

struct peer {
	char name[PEER_NAME_BYTES];
	struct address address;
	size_t n_keys;                               /* 1 at least */
	char keys[PEER_KEYS_MAX][FINGERPRINT_BYTES]; /* in the order in which they were added */
};

struct peers {
	struct peer *v;
	size_t n;
};

void peers_fini(struct peers *p);
#define autopeers AUTO(peers_fini)

struct err *peer_check_name(const char *name) must_check;
/* Replaces what is in *p; on error *p is as before. The error names the line. */
struct err *peers_parse(struct peers *p, const char *text) must_check;
/* The caller frees it. */
char *peers_text(const struct peers *p) must_check;
/* Adds a peer; one that is there gets the address, and the key besides those that it has. INVALID
 * input, LIMIT; on error nothing changes. */
struct err *peers_add(
	struct peers *p, const char *name, const char *host, const char *fingerprint) must_check;
/* The whole peer, or (`fingerprint` not NULL) one of its keys, which is not its last. */
struct err *peers_remove(struct peers *p, const char *name, const char *fingerprint) must_check;
bool peer_has_key(const struct peer *p, const char *fingerprint);
/* NULL if nobody has this key. */
const struct peer *peers_by_key(const struct peers *p, const char *fingerprint);
/* By its exact name; NULL if there is none. */
const struct peer *peers_by_name(const struct peers *p, const char *name);
/*
 * The peer that a user means by a peer's name or HOST[:PORT]. *dial is where to connect to (a port
 * in `text` counts more than the peer's).
 */
struct err *peers_find(const struct peers *p, const char *text, const struct peer **peer,
	struct address *dial) must_check;
