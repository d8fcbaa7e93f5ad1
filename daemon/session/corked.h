/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A socket for OpenSSL, with several records to a system call. OpenSSL makes one system call per
 * record of 16 KiB that it writes, each a segment of its own for TCP, and two per record that it
 * reads, each of which may be an acknowledgement; gathered, they cost both ends less. Its own
 * read-ahead moves what is left in its buffer forward with each record, which is dearer than our
 * copy.
 */
#pragma once

#include <openssl/bio.h>

#include "base/base.h"

#define CORKED_OUT_BYTES (128u << 10)
#define CORKED_IN_BYTES  (256u << 10)

struct corked_way {
	uint8_t *buf;
	size_t start, end;
};

struct corked {
	int fd; /* not owned */
	struct corked_way in, out;
	bool ended; /* nothing more comes in */
	int failed; /* errno of sending */
	BIO_METHOD *method;
};

void corked_init(struct corked *c, int fd);
void corked_fini(struct corked *c);
/* Once, for both directions of one connection; *c must outlive it. NULL: no memory. */
BIO *corked_bio(struct corked *c);
/* Sends what is gathered; false while some is left (wait until the socket can be written) or, with
 * c->failed set, for ever. */
bool corked_flush(struct corked *c);
/* What is gathered will not be sent. */
void corked_drop(struct corked *c);
static inline bool corked_holds(const struct corked *c)
{
	return c->out.start < c->out.end;
}
