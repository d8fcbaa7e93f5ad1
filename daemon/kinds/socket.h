/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the kind "socket". What the link of a descriptor shows is only "socket:[inode]"; which
 * family it is can be asked when the descriptor has been brought home, so one kind (socket.c) does
 * that, carries what all sockets have (options, owner, flags), and hands the rest to the first
 * implementation that claims it: tcp.c, udp.c, unix.c, journal.c. Each holds capture, check,
 * rebuild, finish side by side, as a kind would, with a message of its own in Socket.state. What
 * nobody claims is refused by the name of its family.
 */
#pragma once

#include <sys/socket.h>

#include "kinds/kind.h"
#include "socket.pb-c.h"

/* Source: what is known of a socket before anybody claims it. */
struct sock_seen {
	int fd; /* ours, shared with the target: never read, never set */
	int domain, type, protocol;
	uint64_t inode;
	bool listening;
};

/* Destination: one object with both messages unpacked. */
struct sock {
	const struct sock_impl *impl;
	const struct object *o;
	const Migrate__Kind__Socket *m;
	const void *state; /* impl->msg */
};

struct sock_impl {
	uint32_t id;      /* on the wire; never reused */
	const char *name; /* "TCP socket" */
	const ProtobufCMessageDescriptor *msg;

	bool (*claims)(const struct sock_seen *s);
	/* *msg: from c->arena. *group: see struct object. */
	struct err *(*capture)(struct capture *c, const struct sock_seen *s, ProtobufCMessage **msg,
		uint64_t *group);
	/* Of the peer's message, before anything else sees it: PEER if it makes no sense. */
	struct err *(*valid)(const struct sock *s);
	struct err *(*check)(struct rebuild *r, const struct sock *s);
	/* *fd: ours, options set. Status flags are set afterwards by socket.c. */
	struct err *(*rebuild)(struct rebuild *r, const struct sock *s, int *fd);
	struct err *(*finish)(struct rebuild *r, const struct sock *s);
	struct err *(*publish)(struct rebuild *r, const struct sock *s);
	/* As in struct kind; also when the object vanished since the rehearsal. */
	void (*discard)(struct rebuild *r, const struct sock *s);
};

struct sock_owner {
	uint32_t uid, gid;
};

extern const struct sock_impl sock_tcp, sock_udp, sock_unix, sock_journal;

/* ---- shared by implementations (socket.c) ---- */

/* Poll bits that are set now; looking changes nothing. */
short sock_poll(int fd, short want);
/* getsockopt of an int; false if the option is not there. */
bool sock_int(int fd, int level, int name, int *ret);
/* Warns if this host would cut the backlog of a listener. */
void sock_check_backlog(struct rebuild *r, uint32_t backlog);
/* The object's first number in the rebuilt process, brought home. */
struct err *sock_home(struct rebuild *r, const struct sock *s, int *fd) must_check;

/* ---- made by the rebuilt process itself (sock_remote.c) ---- */

/* socket() in the process, so that its cgroup, its owner and SO_PEERCRED are those of the process;
 * *fd is ours, the process keeps none. */
struct err *sock_make(struct rebuild *r, const Migrate__Kind__Socket *m, int *fd) must_check;
/* The same by socketpair(): SO_PEERCRED shows `as`. */
struct err *sock_make_pair(struct rebuild *r, const Migrate__Kind__Socket *m,
	const struct sock_owner *as, int fds[2]) must_check;
/* listen() by the process on a descriptor that is in place: SO_PEERCRED of a unix client shows
 * `as` (NULL: whatever the process is now). */
struct err *sock_listen(struct rebuild *r, const struct sock *s, uint32_t backlog,
	const struct sock_owner *as) must_check;
/* sock_make, then connect() by the process. */
struct err *sock_make_connected(struct rebuild *r, const Migrate__Kind__Socket *m,
	const struct sockaddr *addr, socklen_t len, int *fd) must_check;
/* Gives up what an earlier rebuild of this object left in the process, so that its address is
 * free again. */
struct err *sock_drop_old(struct rebuild *r, const struct sock *s) must_check;
