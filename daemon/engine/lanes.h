/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page streams: connections beside the control stream that carry the pages of a round, each served
 * by a thread of its own at either end (crew.h), and nothing else: proto/wire.md, "Page streams".
 *
 * What keeps the order: the control stream says SPREAD n when everything is in place on which the
 * pages of round n rely, before that no stream's thread reads; and goes on when all streams have
 * come to their ROUND n. Within a round no page is sent twice.
 */
#pragma once

#include <stdatomic.h>

#include "engine/crew.h"
#include "engine/engine.h"
#include "wire/channel.h"

struct lane {
	struct stream *stream;
	struct channel ch;      /* of its thread, while that is at work */
	_Atomic uint64_t bytes; /* in and out, up to the last piece */
};

struct lanes {
	unsigned n; /* 0: pages go over the control stream */
	struct lane v[ENGINE_STREAMS_MAX];
	struct crew *crew;
};

/* How many streams for pages suit a host with so many processors; 1: the control stream alone. */
unsigned lanes_auto(unsigned cpus);

/* Connections 1 to n; `l` is zero before. On an error none is left. `more`: for those that replace
 * them. */
struct err *lanes_open(struct lanes *l, const struct engine_io *io, unsigned n,
	const struct channel_more *more) must_check;
/* Ends the threads; the connections stay. */
void lanes_stop(struct lanes *l);
void lanes_close(struct lanes *l);
/* All streams, up to their last lanes_count, which their threads call. */
uint64_t lanes_bytes(const struct lanes *l);
void lanes_count(struct lane *lane);

/* When a stream has ended, the other side may be about to say why on the control stream. Should
 * neither know, one must speak first. */
#define LANES_SOURCE_LISTENS_US      1000000
#define LANES_DESTINATION_LISTENS_US 200000

/* One round over all streams. */
struct lanes_round {
	uint64_t number;
	int64_t timeout_us;    /* of one wait for the peer */
	struct deadline until; /* of all of them */
	int interrupt_fd;
	struct channel *control;
	void *arg;
	/* In a stream's thread. The source sends some, *any false: there is nothing left. The
	 * destination takes a PAGES frame. */
	struct err *(*send)(void *arg, unsigned lane, struct channel *ch, bool *any);
	struct err *(*place)(
		void *arg, unsigned lane, struct channel *ch, const struct frame_head *h);
	/* In the engine's thread. Some time has passed. The peer has said something on the control
	 * stream (asked once). */
	void (*progress)(void *arg);
	struct err *(*spoken)(void *arg);
};
/* Source and destination: returns when the round is over on all streams, at this end. */
struct err *lanes_send(struct lanes *l, const struct lanes_round *r) must_check;
struct err *lanes_take(struct lanes *l, const struct lanes_round *r) must_check;
