/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes between TLS and whoever serves the stream, both ways, until both ways have ended: over a
 * socket as it is, or through rings of shared memory, whichever the server wants (wire/handoff.h).
 * Through rings, bytes are encrypted from where the server made them, and decrypted to where it
 * takes them.
 *
 * The end of one way is passed on (close_notify <-> shutdown) while the other goes on. A TCP
 * connection that ends without close_notify is an error: it was cut. One buffer per way; nothing
 * else grows.
 */
#pragma once

#include "session/tls.h"

/* Small enough that what one copy has written is still in the cache for the next one: with 256 KiB
 * both ways the receiving relay took 10 to 30 % more CPU per byte. */
#define RELAY_OUT_BYTES (128 << 10)
#define RELAY_IN_BYTES  (64 << 10)
/* How long the last bytes of a worker that is gone may take to get out. */
#define RELAY_LAST_WORDS_US 10000000

struct relay_stats {
	uint64_t to_peer, from_peer; /* bytes of plain text */
};

/* How long the server may take to say how it wants the bytes. */
#define RELAY_HANDOFF_US 30000000

/* `fd` is a non-blocking stream socket to the server, not owned. On return everything that could be
 * delivered was, and close_notify is sent, but the TCP connection is open: see tls_close. */
struct err *relay_run(struct tls *t, int fd, struct relay_stats *stats) must_check;
