/* SPDX-License-Identifier: Apache-2.0 */
/* HOST[:PORT] in text, and the TCP sockets that come of it. */
#pragma once

#include "base/clock.h"
#include "base/err.h"

#define PORT_DEFAULT  7420
#define HOST_BYTES    256 /* a DNS name has at most 253 characters */
#define ADDRESS_BYTES (HOST_BYTES + 8)

struct address {
	char host[HOST_BYTES]; /* name or number, without brackets; "" for any (listen only) */
	uint16_t port;         /* 0: none was given */
};

/* HOST, HOST:PORT, V6, [V6], [V6]:PORT; INVALID otherwise. */
struct err *address_parse(const char *text, struct address *ret) must_check;
/* The same, but the host may be missing: "", ":PORT", "ADDR". "*" is any. */
struct err *address_parse_listen(const char *text, struct address *ret) must_check;
/* As text, with brackets where they are needed and without a port of 0. */
void address_text(const struct address *a, char out[ADDRESS_BYTES]);

/* Connects. Blocks: the name service has no deadline, so callers run this in a process of its own
 * under an alarm. The descriptor is non-blocking. */
struct err *address_dial(const struct address *a, struct deadline d, int *fd) must_check;
/* A listening socket, both protocols at once where the host is "". Non-blocking. */
struct err *address_listen(const struct address *a, int *fd) must_check;
/* Numeric peer address of a connected socket, for logs. */
void address_of_peer(int fd, char out[ADDRESS_BYTES]);
