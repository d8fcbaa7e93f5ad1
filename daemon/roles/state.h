/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon keeps in --state-dir: identity.key (0600, made at the first start), identity.next
 * while the key is changed, peers, and when they were seen. Only the monitor touches it. A lock
 * makes sure that there is one monitor. Private keys are in the memory of net only: the monitor has
 * them looked at, and made, by a process that ends.
 */
#pragma once

#include "roles/seen.h"
#include "session/identity.h"
#include "session/peers.h"

struct state {
	char *dir;
	int lock_fd;
	char fingerprint[FINGERPRINT_BYTES];
	char next_fingerprint[FINGERPRINT_BYTES]; /* of the key that follows; "": none */
	struct peers peers;
	struct seen seen;
};

struct err *state_open(struct state *s, const char *dir) must_check;
void state_fini(struct state *s);
/* Changes the peers there and in the file, or neither. */
struct err *state_peer_add(
	struct state *s, const char *name, const char *host, const char *fingerprint) must_check;
/* `fingerprint` NULL: the whole peer. */
struct err *state_peer_remove(
	struct state *s, const char *name, const char *fingerprint) must_check;
/* Makes the key that will follow ours. */
struct err *state_rotate(struct state *s) must_check;
/* Destroys our key: the next one takes its place. Refuses while there are peers that were not seen
 * to know that one, unless `force`. */
struct err *state_retire(struct state *s, bool force) must_check;
/* Writes down who was seen: not synced, because nothing depends on it. */
struct err *state_save_seen(struct state *s) must_check;
/* The file was edited by hand: reads it again; on error nothing changes. */
struct err *state_reload(struct state *s) must_check;
/* The files with our keys, for net; *next stays as it was if there is none. */
struct err *state_key_fds(const struct state *s, int *key, int *next) must_check;
/* Text of the peers, and of when they were seen, each in a new anonymous file at offset 0. */
struct err *state_peers_fd(const struct state *s, int *fd) must_check;
struct err *state_seen_fd(const struct state *s, int *fd) must_check;

/* Replaces a file as a whole: after a crash there is the old one or the new one. */
struct err *state_write_file(const char *path, const char *text, mode_t mode) must_check;
