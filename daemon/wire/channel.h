/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames over a stream descriptor. The channel does not know what is behind the descriptor (kernel
 * TLS, a relay, a socketpair) and never looks inside a body.
 *
 * Every wait ends: with the deadline, or when the interrupt descriptor becomes readable (CANCELLED:
 * somebody wants the migration to stop). A peer that closes without BYE is PEER.
 */
#pragma once

#include <sys/uio.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "proto/frame.h"

struct channel {
	int fd;           /* non-blocking; not owned */
	int interrupt_fd; /* readable: stop waiting; -1 for none */
	struct deadline deadline;
	uint64_t bytes_in, bytes_out;
};

/* Sets O_NONBLOCK on fd. */
struct err *channel_init(struct channel *ch, int fd, int interrupt_fd) must_check;
/* A whole frame: header and body pieces in one go. */
struct err *channel_send(
	struct channel *ch, uint16_t type, uint64_t arg, const void *body, size_t len) must_check;
struct err *channel_sendv(
	struct channel *ch, uint16_t type, uint64_t arg, const struct iovec *iov, int n) must_check;
/* The next header. The body must be read with channel_read (exactly h->length bytes in all). */
struct err *channel_head(struct channel *ch, struct frame_head *h) must_check;
struct err *channel_read(struct channel *ch, void *buf, size_t n) must_check;
/* Header and body at once; the body into the arena. */
struct err *channel_recv(
	struct channel *ch, struct arena *a, struct frame_head *h, uint8_t **body) must_check;
/* CANCELLED if the interrupt came: waits notice it by themselves, work in between asks. */
struct err *channel_interrupted(const struct channel *ch) must_check;
/* True if a read would not block. */
bool channel_readable(const struct channel *ch);
