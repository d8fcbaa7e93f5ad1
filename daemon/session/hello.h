/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first two frames of a stream: which version of the protocol both sides speak. The net role
 * does this inside TLS; the engine sees the stream from the next frame on.
 */
#pragma once

#include "base/clock.h"
#include "base/err.h"
#include "session.pb-c.h"
#include "session/tls.h"

/* Versions of wire.md that this daemon speaks. */
#define PROTOCOL_MIN 1
#define PROTOCOL_MAX 1

#define SOFTWARE_BYTES 64
#define BOOT_ID_BYTES  40

struct hello_peer {
	uint32_t version;
	char software[SOFTWARE_BYTES]; /* for logs; only printable characters */
	char boot_id[BOOT_ID_BYTES];
	bool fixed_keys;
};
struct hello_self {
	const char *software;
	const char *boot_id;
	bool fixed_keys; /* the kernel may take the connection over: see ktls.h */
};

/* The highest version that both speak; MISMATCH names both ranges. */
struct err *hello_choose(uint32_t theirs_min, uint32_t theirs_max, uint32_t *version) must_check;

/* A peer that cannot change keys is remembered in t: no KeyUpdate from us. */
/* Dialling side: says HELLO, hears HELLO_OK or why not. */
struct err *hello_dial(struct tls *t, const struct hello_self *self, struct deadline d,
	struct hello_peer *peer) must_check;
/* Accepting side. Where the versions do not meet, the peer is told before the error returns. */
struct err *hello_accept(struct tls *t, const struct hello_self *self, struct deadline d,
	struct hello_peer *peer) must_check;
