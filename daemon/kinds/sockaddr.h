/* SPDX-License-Identifier: Apache-2.0 */
/* Socket addresses as text and as messages. */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/arena.h"
#include "base/err.h"
#include "socket.pb-c.h"

union sock_addr {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_storage storage;
};

/* "10.0.0.1:80", "[fe80::1%eth0]:80". */
#define SOCKADDR_TEXT 96
const char *sockaddr_text(const union sock_addr *a, char buf[SOCKADDR_TEXT]);
/* Length for bind and connect: by family, 0 for one that is not AF_INET or AF_INET6. */
socklen_t sockaddr_len(const union sock_addr *a);
uint16_t sockaddr_port(const union sock_addr *a); /* host order */
/* Wildcard address and port 0: nothing was bound. */
bool sockaddr_is_none(const union sock_addr *a);

/* GONE if the scope's interface is not there any more. */
struct err *sockaddr_pack(struct arena *a, const union sock_addr *addr,
	Migrate__Kind__SocketAddress **ret) must_check;
/* PEER if it is no address of this family; UNSUPPORTED if this host has no such interface. */
struct err *sockaddr_unpack(
	const Migrate__Kind__SocketAddress *m, int family, union sock_addr *ret) must_check;
