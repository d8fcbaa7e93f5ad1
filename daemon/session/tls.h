/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 between two daemons, both with their keys, for a process that has one connection.
 *
 * Everything here waits by poll with a deadline: a process per connection needs no event loop for a
 * handshake, and its parent need not care how slow a stranger is.
 */
#pragma once

#include <openssl/ssl.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "session/identity.h"

enum tls_side { TLS_DIAL, TLS_ACCEPT };

/* Whether the key at the other end may talk to us; an error says why not. */
struct tls_verify {
	struct err *(*fn)(void *arg, const char *fingerprint);
	void *arg;
	const char *expects; /* dialling: a key that would do, which we ask for; NULL: any */
	bool *cut;           /* set when the other side ends without a word; may be NULL */
};

struct tls_ctx {
	SSL_CTX *ctx;
	enum tls_side side;
	char own[FINGERPRINT_BYTES];
	/* Accepting: shown instead of our own key to whoever asks for it. May be NULL; borrowed. */
	const struct identity *other;
};
struct err *tls_ctx_init(
	struct tls_ctx *c, const struct identity *id, enum tls_side side) must_check;
void tls_ctx_fini(struct tls_ctx *c);

/* A connection's keys are renewed after this much (AES-GCM is good for 2^24.5 records). */
#define TLS_REKEY_BYTES  (64ULL << 30)
#define TLS_SECRET_BYTES 32

/* What somebody else would need to go on where OpenSSL stands: see ktls.h. */
struct tls_keys {
	/* Traffic secrets of the dialling and of the accepting side; NULL: not known. */
	uint8_t *secret[2];
	uint64_t in, out; /* records of application data so far */
	bool other;       /* another record has gone by since the handshake, or the keys are new */
};

struct tls {
	SSL *ssl;
	int fd; /* TCP; owned */
	enum tls_side side;
	char peer[FINGERPRINT_BYTES]; /* "" until the other side has shown a key */
	char own[FINGERPRINT_BYTES];  /* the key that we have shown */
	struct tls_verify verify;
	const struct identity *other; /* as in the context */
	struct err *refused;          /* what verify said */
	bool ready;                   /* the handshake is over */
	bool own_refused;             /* the other side does not know our key */
	/* New keys after so much in our direction; 0: the peer takes none. */
	uint64_t rekey_bytes;
	struct tls_keys keys;
};

/* Takes fd (also on error, where it is closed so that the alert reaches the peer). The dialling
 * side learns by its first read whether its own key was taken: TLS 1.3 ends its handshake before.
 */
struct err *tls_handshake(const struct tls_ctx *c, int fd, struct tls_verify verify,
	struct deadline d, struct tls **ret) must_check;
/* Exactly n bytes. An end of the connection is PEER. */
struct err *tls_read_full(struct tls *t, void *buf, size_t n, struct deadline d) must_check;
struct err *tls_write_full(struct tls *t, const void *buf, size_t n, struct deadline d) must_check;
/* Says goodbye in a way that does not lose what was written last (a reset would, while unread data
 * of the peer is in our queue), at most until `d`; then frees. */
void tls_close(struct tls *t, struct deadline d);
void tls_freep(struct tls **t);
#define autotls AUTO(tls_freep)
/* Nobody else takes over any more. */
void tls_keep(struct tls *t);

/* What went wrong in SSL_read, SSL_write or SSL_do_handshake with result `rc`; for relay. */
struct err *tls_failure(struct tls *t, int rc) must_check;
