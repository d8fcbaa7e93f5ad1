/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One TCP connection to a peer, in a process of its own (a child of net): connect or be accepted,
 * TLS, HELLO. Then the kernel goes on with the TLS, and the socket goes up to whoever serves it;
 * or, where the kernel cannot, this process relays until the stream has ended. It tells net what
 * came of it by Connected and Lost.
 */
#pragma once

#include "ipc.pb-c.h"
#include "session/address.h"
#include "session/peers.h"
#include "session/tls.h"

struct connection {
	int report_fd;             /* to net; owned */
	int tcp_fd;                /* accepted; -1 when dialling */
	int stream_fd;             /* dialling: the relay's end; -1 when accepting */
	const Migrate__Dial *dial; /* NULL when accepting */
	const Migrate__NetSetup *setup;
	const struct tls_ctx *tls, *tls_next; /* dialling: tls_next is tried first; or NULL */
	const struct peers *peers;
	struct address_places places; /* dialling: where the peer may be */
	char peer_key[FINGERPRINT_BYTES]; /* who it is */
	char own_key[FINGERPRINT_BYTES];  /* which of ours it took */
	bool cut;                         /* dialling: the other side ended without a word */
	bool own_refused;                 /* dialling: the other side does not know that key */
	bool loud;                        /* accepting: may write a line about a stranger */
};

/* Another child's life: says why nobody serves a connection whose TLS is the kernel's. Takes fd. */
int connection_refuse(int fd, const Migrate__Error *why);
/* The child's life; returns its exit status. Everything in *c is this process's own copy. */
int connection_main(struct connection *c);
