/* SPDX-License-Identifier: Apache-2.0 */
/* The destination's side, shared by its files: the table (destination.c), its first state. */
#pragma once

#include "engine/engine.h"
#include "engine/lanes.h"
#include "engine/network_site.h"
#include "engine/notes.h"
#include "engine/peer.h"
#include "engine/rebuild.h"
#include "engine/sinks.h"
#include "session.pb-c.h"

struct destination {
	const struct engine_io *io;
	const struct receive_options *opt;
	struct engine_outcome *out;
	struct peer peer;
	struct arena *arena;
	Migrate__Begin *begin;
	char scratch[256];
	int scratch_fd; /* holds the lock; -1: none */
	struct site *site;
	struct network_site network;
	bool network_ready;
	struct sinks sinks;
	unsigned streams; /* agreed on at most */
	struct lanes lanes;
	uint64_t lanes_seen; /* bytes, when it was last told that they move */
	struct lane_end {
		struct destination *d;
		struct placer *placer;
	} ends[ENGINE_STREAMS_MAX];
	/* A header of the control stream that came while the page streams were at work. */
	struct frame_head ahead;
	bool is_ahead;
	int64_t frozen_at_ns; /* when FINAL came: the freeze is a little older */
	int64_t first_ns;
	struct notes notes; /* what this side found; sent to the source */
	uint64_t told_bytes;
};

static inline void destination_wait(struct destination *d, int64_t us)
{
	channel_wait(&d->peer.ch, us, DEADLINE_NEVER);
}

/* Of the state table. */
struct err *destination_hello(void *destination) must_check;
