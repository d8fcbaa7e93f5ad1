/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

enum owner { OWNER_NOBODY, OWNER_SOURCE, OWNER_DESTINATION, OWNER_UNKNOWN };
const char *owner_name(enum owner o);

/* Numbers of a migration, filled while it goes on; read by on_progress. All microseconds/bytes. */
struct engine_stats {
	const char *state; /* the present row of the table */
	enum owner owner;
	uint32_t round;
	uint64_t resident_bytes;
	uint64_t bytes_sent, bytes_sent_frozen;
	uint64_t round_dirty_bytes; /* what this round has to send */
	uint64_t round_sent_bytes;
	uint64_t dirty_rate_bytes_s; /* measured over the last round */
	uint64_t bandwidth_bytes_s;
	int64_t started_us, total_us;
	int64_t downtime_us; /* last thread stopped to first instruction there */
	int64_t predicted_downtime_us;
	const char *stop_rule; /* what ended the rounds (precopy.h); NULL: nothing yet */
	int64_t stall_us;      /* longest stop before the freeze */
	uint64_t objects;
	const char *tracker;        /* "wp", "soft", "none" */
	const char *source;         /* of pages: "copy", "pump"; NULL: none yet */
	const char *sink;           /* of pages: "copy", "splice"; NULL: none yet */
	uint64_t bytes_copied;      /* of pages that went through memory of ours, on this side */
	uint32_t source_fds;        /* what the source has: descriptors, */
	uint64_t source_pipe_bytes; /* and room in pipes */
	uint32_t streams;           /* that carry pages; 0: none yet */
	uint64_t connections;       /* TCP, that come along */
};
