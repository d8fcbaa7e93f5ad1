/* SPDX-License-Identifier: Apache-2.0 */
/* HOST[:PORT] in text, and the TCP sockets that come of it. */
#pragma once

#include <sys/socket.h>

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

/* What a name stands for. */
#define ADDRESS_PLACES_MAX 16
struct address_places {
	size_t n;
	struct sockaddr_storage v[ADDRESS_PLACES_MAX];
	socklen_t len[ADDRESS_PLACES_MAX];
};
/* Blocks: the name service has no deadline, so callers run this in a process of its own under an
 * alarm. It opens files, and loads libraries. */
struct err *address_look_up(const struct address *a, struct address_places *ret) must_check;
/* Connects to the first that answers. The descriptor is non-blocking. */
struct err *address_dial(const struct address_places *to, struct deadline d, int *fd) must_check;
/* A listening socket, both protocols at once where the host is "". Non-blocking. */
struct err *address_listen(const struct address *a, int *fd) must_check;
/* Numeric peer address of a connected socket, for logs. */
void address_of_peer(int fd, char out[ADDRESS_BYTES]);
/* The IP address alone of our own end; "" if it cannot be told. */
void address_of_self(int fd, char out[ADDRESS_BYTES]);
