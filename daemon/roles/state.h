/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon keeps in --state-dir: identity.key (0600, made at the first start) and peers.
 * Only the monitor touches it. A lock makes sure that there is one monitor.
 */
#pragma once

#include "session/identity.h"
#include "session/peers.h"

struct state {
	char *dir;
	int lock_fd;
	struct identity *identity;
	struct peers peers;
};

struct err *state_open(struct state *s, const char *dir) must_check;
void state_fini(struct state *s);
/* Changes the peers there and in the file, or neither. */
struct err *state_peer_add(
	struct state *s, const char *name, const char *host, const char *fingerprint) must_check;
struct err *state_peer_remove(struct state *s, const char *name) must_check;
/* The file was edited by hand: reads it again; on error nothing changes. */
struct err *state_reload(struct state *s) must_check;
/* The peers' text in a new anonymous file at offset 0. */
struct err *state_peers_fd(const struct state *s, int *fd) must_check;

/* Replaces a file as a whole: after a crash there is the old one or the new one. */
struct err *state_write_file(const char *path, const char *text, mode_t mode) must_check;
