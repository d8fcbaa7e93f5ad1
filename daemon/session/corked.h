/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What OpenSSL writes into a socket, several records at a time. OpenSSL makes one system call per
 * record of 16 KiB, and each is a segment of its own for TCP; gathered, they cost both ends less.
 */
#pragma once

#include <openssl/bio.h>

#include "base/base.h"

#define CORKED_BYTES (128u << 10)

struct corked {
	int fd; /* not owned */
	uint8_t *buf;
	size_t start, end;
	int failed; /* errno */
};

/* A sink for a connection's SSL_set0_wbio; *c must outlive it. NULL: no memory. */
BIO *corked_bio(struct corked *c);
/* Sends what is gathered; false while some is left (wait until the socket can be written) or, with
 * c->failed set, for ever. */
bool corked_flush(struct corked *c);
