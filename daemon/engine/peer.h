/* SPDX-License-Identifier: Apache-2.0 */
/* What both sides do with the stream: typed messages, errors from the other side, clocks. */
#pragma once

#include "engine/engine.h"
#include "wire/channel.h"

/* The other side's error, marked so that the outcome can name the side. */
struct peer {
	struct channel ch;
	const struct engine_io *io;
	const struct network *network; /* for hooks; NULL: nothing is known */
	_Atomic unsigned next_number;  /* of connections that replace others */
	bool failed_there;             /* the last error came from the other side */
	bool closed;                   /* nothing can be sent any more */
	int64_t alive_us;              /* when peer_alive last said something */
};

/* `dials`: this side can open connections when it wants to. p must stay where it is. */
void peer_init(struct peer *p, const struct engine_io *io, bool dials);
/* Connections that replace others have these numbers; those below are for whoever opens one. Any
 * channel of this migration can have the same channel_more. */
#define PEER_REPLACES_FROM 64
struct channel_more peer_more(struct peer *p, bool dials);
/* Packs and sends a message. */
struct err *peer_send(struct peer *p, uint16_t type, const ProtobufCMessage *msg) must_check;
/* The next frame must be of this type; FRAME_ERROR and FRAME_ABORT become the peer's error.
 * desc NULL: no body wanted. *msg lives in the arena. */
struct err *peer_expect(struct peer *p, struct arena *a, uint16_t type,
	const ProtobufCMessageDescriptor *desc, void **msg) must_check;
/* Takes a frame where none is expected. */
struct err *peer_next(struct peer *p, struct arena *a) must_check;
/* Takes a frame that is no expected one: the peer's error, or PEER. */
struct err *peer_unexpected(struct peer *p, struct arena *a, const struct frame_head *h) must_check;
/* A send failed with `e`: if the peer said why before it closed, that is returned instead. */
struct err *peer_reason(struct peer *p, struct err *e) must_check;
/* The same where it was another stream than this one that failed, which may still work: the peer
 * gets wait_us to say why on this one. */
struct err *peer_reason_of(struct peer *p, struct err *e, int64_t wait_us) must_check;
/* Tells the peer that it is over (ABORT or ERROR), as far as that is possible. */
void peer_give_up(
	struct peer *p, uint16_t type, const struct err *e, const char *side, const char *state);

/* Says that this side is at work, if it has not just said so: for whoever waits for its next frame.
 * Between two frames only. */
void peer_alive(struct peer *p);

struct peer_clock {
	int64_t offset_ns; /* the peer's CLOCK_MONOTONIC minus ours */
	int64_t boottime_offset_ns, realtime_offset_ns;
	int64_t rtt_ns; /* of the best exchange: the error is at most half of it */
};
/* A few exchanges of PING and PONG; the fastest counts. */
struct err *peer_sync_clock(struct peer *p, struct peer_clock *ret) must_check;
struct err *peer_pong(struct peer *p) must_check;
