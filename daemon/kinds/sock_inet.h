/* SPDX-License-Identifier: Apache-2.0 */
/* What TCP and UDP sockets share: addresses of a socket, binding them, saying why not. */
#pragma once

#include "kinds/sockaddr.h"
#include "kinds/socket.h"

bool inet_claims(const struct sock_seen *s, int type, int protocol);
/* PEER if domain, type and protocol do not belong together. */
struct err *inet_valid(const struct sock *s, int type, int protocol) must_check;
/* getsockname; *m is NULL when nothing is bound. */
struct err *inet_local(struct arena *a, int fd, union sock_addr *addr,
	Migrate__Kind__SocketAddress **m) must_check;
/* getpeername; *m is NULL when it is not connected. */
struct err *inet_peer(struct arena *a, int fd, union sock_addr *addr,
	Migrate__Kind__SocketAddress **m) must_check;
/* Can this host have a socket like this one? Makes one of our own, with options and address, and
 * forgets it. */
struct err *inet_check(const struct sock *s, const Migrate__Kind__SocketAddress *local) must_check;
struct err *inet_bind(
	const struct sock *s, int fd, const Migrate__Kind__SocketAddress *local) must_check;
