/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a stream gets from the net role, which has the connection, to whoever serves it: a socketpair
 * lies between them, and the server's first byte says how it wants the bytes.
 *
 *   HANDOFF_PLAIN  over the socketpair itself, both ways
 *   HANDOFF_RING   through two rings of shared memory, which come with the byte (first the one that
 *                  the server reads). On the socketpair are wake-ups then; its end is the stream's.
 *                  Outwards, a ring holds pieces: how much to skip, how much to send, the bytes.
 *                  HANDOFF_PLAIN in their midst: last words follow on the socketpair itself.
 */
#pragma once

#include "base/clock.h"
#include "base/err.h"

enum handoff { HANDOFF_PLAIN = 'P', HANDOFF_RING = 'R', HANDOFF_WAKE = 'w' };

/* The rings are big enough for a frame in the making and one or two on their way. */
#define HANDOFF_IN_BYTES  (1u << 20)
#define HANDOFF_OUT_BYTES (4u << 20)

/* In front of each piece of an outward ring. */
struct piece {
	uint32_t skip, send;
};

struct err *handoff_say(int fd, enum handoff how, const int *fds, size_t n) must_check;
/* What the server says, and up to two descriptors with it (-1: none). GONE when it has closed. */
struct err *handoff_hear(int fd, struct deadline d, enum handoff *how, int fds[2]) must_check;
