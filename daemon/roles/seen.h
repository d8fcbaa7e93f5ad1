/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When each peer was last connected, with which key of its own, and which of ours it took: what an
 * operator needs to know to remove a key or a peer. Pure: text in, text out.
 *
 * In a file there is one peer per line, "NAME SECONDS KEY OWN_KEY". It is a memory aid, not state:
 * a line that does not parse is dropped.
 */
#pragma once

#include "session/peers.h"

struct seen_peer {
	char name[PEER_NAME_BYTES];
	uint64_t when_s; /* CLOCK_REALTIME */
	char key[FINGERPRINT_BYTES], own[FINGERPRINT_BYTES];
};
struct seen {
	struct seen_peer *v;
	size_t n;
};
#define SEEN_TEXT_MAX (PEERS_MAX * (PEER_NAME_BYTES + 2 * FINGERPRINT_BYTES + 24))

void seen_fini(struct seen *s);
void seen_note(struct seen *s, const char *name, uint64_t when_s, const char *key, const char *own);
/* NULL: never. */
const struct seen_peer *seen_find(const struct seen *s, const char *name);
/* Forgets those that are no peers any more. */
void seen_tidy(struct seen *s, const struct peers *p);
void seen_parse(struct seen *s, const char *text);
/* The caller frees it. */
char *seen_text(const struct seen *s) must_check;
