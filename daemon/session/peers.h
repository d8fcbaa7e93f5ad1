/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hosts that this one knows: name, address, key. Pure: text in, text out.
 *
 * In a file there is one peer per line, "NAME HOST[:PORT] FINGERPRINT", separated by blanks; empty
 * lines and lines that begin with # are skipped.
 */
#pragma once

#include "session/address.h"
#include "session/identity.h"

#define PEER_NAME_BYTES 64
#define PEERS_MAX       2000
#define PEERS_TEXT_MAX  (PEERS_MAX * (PEER_NAME_BYTES + ADDRESS_BYTES + FINGERPRINT_BYTES))

struct peer {
	char name[PEER_NAME_BYTES];
	struct address address;
	char fingerprint[FINGERPRINT_BYTES];
};

struct peers {
	struct peer *v;
	size_t n;
};

void peers_fini(struct peers *p);
#define autopeers AUTO(peers_fini)

/* Replaces what is in *p; on error *p is as before. The error names the line. */
struct err *peers_parse(struct peers *p, const char *text) must_check;
/* The caller frees it. */
char *peers_text(const struct peers *p) must_check;
/* Adds, or replaces the peer of that name. INVALID input, LIMIT. */
struct err *peers_add(
	struct peers *p, const char *name, const char *host, const char *fingerprint) must_check;
struct err *peers_remove(struct peers *p, const char *name) must_check;
/* NULL if nobody has this key. */
const struct peer *peers_by_key(const struct peers *p, const char *fingerprint);
/*
 * The peer that a user means by a peer's name or HOST[:PORT]. *dial is where to connect to (a port
 * in `text` counts more than the peer's).
 */
struct err *peers_find(const struct peers *p, const char *text, const struct peer **peer,
	struct address *dial) must_check;
