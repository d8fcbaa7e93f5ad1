/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first two frames of a stream: which version of the protocol both sides speak, and whether it
 * is a migration of its own or one more connection of another. The net role does this inside TLS;
 * the engine sees the stream from the next frame on.
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

#define JOIN_TOKEN_BYTES 16
#define JOIN_NUMBER_MAX  255

/* One more connection of a migration that goes on. Who knows the token may have it: only the peer
 * of its first connection was told. */
struct hello_join {
	uint32_t number; /* 0: none, this is the first one */
	uint8_t token[JOIN_TOKEN_BYTES];
};

/* Longer than any answer and any id. */
#define FATE_BYTES 32
#define ASK_BYTES  64

struct hello_peer {
	uint32_t version;
	char software[SOFTWARE_BYTES]; /* for logs; only printable characters */
	char boot_id[BOOT_ID_BYTES];
	bool fixed_keys;
	/* Accepting: what it joins. Where that is none, and when dialling: the token by which
	 * others can join this connection, if can_join. */
	struct hello_join join;
	bool can_join;
	char ask[ASK_BYTES];   /* accepting: the migration it asks about; "": none */
	char fate[FATE_BYTES]; /* dialling: what it answered; "": nothing. Printable. */
};
struct hello_self {
	const char *software;
	const char *boot_id;
	bool fixed_keys;        /* the kernel may take the connection over: see ktls.h */
	struct hello_join join; /* dialling: as whom */
	/* Accepting: whether that connection may join; an error goes to the peer. */
	struct err *(*may_join)(void *arg, const struct hello_join *j);
	const char *ask; /* dialling: only what became of this migration; NULL: no */
	/* Accepting: what became of it. */
	struct err *(*fate_of)(void *arg, const char *id, char fate[FATE_BYTES]);
	void *arg;
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
