/* SPDX-License-Identifier: Apache-2.0 */
/* The source's side, shared by its files: the table (source.c), rounds (rounds.c), its processes
 * (source_tree.c). */
#pragma once

#include "base/ranges.h"
#include "engine/capture.h"
#include "engine/engine.h"
#include "engine/lanes.h"
#include "engine/outgoing.h"
#include "engine/peer.h"
#include "engine/precopy.h"
#include "engine/process_list.h"
#include "engine/source_network.h"
#include "engine/source_tree.h"
#include "engine/spaces.h"
#include "engine/undo.h"
#include "kernel/dirty.h"
#include "kernel/freezer.h"
#include "kinds/memory.h"
#include "pages/pages.h"
#include "session.pb-c.h"

/* How often the rehearsal looks again when the destination says no, and how soon. */
#define LOOKS_MAX     5
#define LOOK_PAUSE_US 20000

struct source {
	const struct engine_io *io;
	const struct send_options *opt;
	struct engine_outcome *out;
	struct peer peer;
	struct peer_clock clock;
	struct tree tree;
	struct task *task;              /* the root */
	struct source_member **members; /* the root first; also those that are gone */
	size_t n_members, cap_members;
	uint32_t generations;       /* of all of them */
	struct source_member *main; /* whose pages go by the fastest way */
	struct process_list told;   /* processes, as the peer has them; in list_of */
	const uint8_t *list;        /* the same, as it went; NULL: it was told of the root alone */
	size_t list_len;
	struct arena *list_of;
	struct kind_cache *cache;
	struct snapshot sent;   /* objects the peer has */
	struct snapshot looks[LOOKS_MAX]; /* it had before, in the rehearsal */
	size_t n_looks;
	struct snapshot frozen; /* objects at the freeze */
	size_t yielded;
	bool gives; /* something is given up that must be taken back */
	const struct dirty_ops *ops;
	const struct page_source_ops *pages_ops;
	struct page_source *pages; /* of `main`, for the engine's own thread */
	unsigned streams;          /* that both sides agree on, for pages */
	struct lanes lanes;
	struct page_source *lane_pages[ENGINE_STREAMS_MAX];
	uint64_t copied_before; /* stats.bytes_copied when the round, or its next process, began */
	uint64_t sent_before;   /* of this round, for the processes that are done */
	struct space_seen *spaces;
	size_t n_spaces;
	struct precopy_round round;
	bool unseen_writers;    /* of shared memory, since the last look */
	struct arena *work_of;  /* of the round that goes on */
	bool untrusted;         /* the last look may have missed writes: everything goes again */
	bool next_untrusted;    /* this one */
	int64_t collect_us;     /* when the last collect began */
	int64_t first_round_us; /* throttle: when sending began, and how much then */
	uint64_t first_round_bytes;
	struct source_network network;
	struct freezer freezer;
	bool group_frozen, stopped; /* how it is held: by its group, else by SIGSTOP */
	int64_t frozen_ns;          /* CLOCK_MONOTONIC when the last thread stood still */
	int64_t first_ns;           /* of the peer: the first instruction there */
	bool remembered;            /* that it was moved */
	size_t known_blockers;
	struct deadline until; /* of the migration up to the freeze, then of the freeze */
	int64_t still_us;      /* when it was about to be frozen; 0: not yet */
};

/* Counters to the caller. */
void source_progress(struct source *s);
/* An error if capturing found new blockers since the last call. */
struct err *source_blocked(struct source *s) must_check;
/* Sends what changed in its layout since the last call. */
struct err *source_layout(struct source *s, struct source_member *m, bool with_flags) must_check;
/* For each process that the peer knows; who has ended is none any more. */
struct err *source_each_told(struct source *s,
	struct err *(*fn)(struct source *s, struct source_member *m)) must_check;
/* source_layout for them. */
struct err *source_layouts(struct source *s) must_check;

/* How many streams for pages this side wants at most; what it makes of the answer; the connections.
 */
uint32_t source_streams_offer(const struct source *s, uint32_t cpus);
struct err *source_streams_agree(
	struct source *s, const Migrate__Begin *mine, const Migrate__Accept *theirs) must_check;
struct err *source_streams_open(struct source *s) must_check;
/* Sent over all of them. */
uint64_t source_bytes(const struct source *s);
/* Chooses a page source that the streams and the process allow, and opens it. */
struct err *source_pages_open(struct source *s) must_check;
void source_pages_close(struct source *s);
/* The last page is sent: nothing of the source stays in the process. */
struct err *source_pages_leave(struct source *s) must_check;
/* One round: collect, send, barrier. Fills s->round. The last one runs while held. */
struct err *source_round(struct source *s, bool last) must_check;

/* Limits of time: the whole migration's, until the process is to stand still; then that of the
 * freeze. */
void source_begin_time(struct source *s);
void source_begin_still(struct source *s);
/* The next wait for the peer begins; how long a silence of it is borne; TIMEOUT when time is up. */
void source_wait(struct source *s);
int64_t source_silence_us(const struct source *s);
struct err *source_in_time(const struct source *s) must_check;
/* What the user has to know of an error. Takes e. */
struct err *source_reason(const struct source *s, struct err *e) must_check;

/* Looks for a moment at what the process writes, and predicts from that. Sends nothing. */
struct err *source_estimate(struct source *s) must_check;
/* What the options allow. */
struct precopy_limits source_limits(const struct source *s);

/* Of the state table: the first states. */
struct err *source_hello(void *source) must_check;
struct err *source_rehearse(void *source) must_check;

/* The state tables, for tests. */
struct state_row;
const struct state_row *source_move_rows(size_t *n);
const struct state_row *source_check_rows(size_t *n);
const struct state_row *destination_rows(size_t *n);

/* source_hold.c */
/* It moves into a group of its own, below the one that it is in. UNSUPPORTED without cgroup v2. */
struct err *source_join_group(struct source *s) must_check;
/* Refuses a tree that cannot be held together, or not be put back as it was. */
void source_check_groups(struct source *s);
/* The same for those that were not there then. Held. UNSUPPORTED for several without cgroup v2. */
struct err *source_join_rest(struct source *s) must_check;
/* Freezes that group, if there is one and the process is still in it. Idempotent. */
struct err *source_hold_group(struct source *s) must_check;
void source_thaw(struct source *s);
/* The process has been ended: so do its groups. */
void source_remove_groups(struct source *s);
/* Takes e, of something that should have made the process run on: nobody else will say it. */
void source_not_undone(struct source *s, struct err *e);
