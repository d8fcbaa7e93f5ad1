/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One migration, from either side. The engine is driven: it gets a stream, says what happens
 * through callbacks, and returns when it is over. It knows nothing of TLS, options parsing, users.
 */
#pragma once

#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "engine/mark.h"
#include "engine/notes.h"
#include "engine/stats.h"
#include "kernel/netend.h"
#include "kernel/pids.h"
#include "kinds/kind.h"
#include "wire/stream.h"

enum engine_result {
	RESULT_MOVED,    /* it runs at the destination */
	RESULT_KEPT,     /* it runs at the source */
	RESULT_IN_DOUBT, /* it stands still here; the peer may run it */
};
const char *engine_result_name(enum engine_result r); /* "moved", "kept", "in_doubt" */

struct engine_hook;
struct network;

struct engine_io {
	struct stream *stream; /* frames; NULL for a check without a host */
	int interrupt_fd;      /* readable: cancel; -1 for none */
	/* Says why, in place of an error: takes and returns one. May be NULL. */
	struct err *(*why)(void *arg, struct err *cancelled);
	void *arg;
	/* A state was entered, a round ended, or some time passed. */
	void (*on_progress)(void *arg, const struct engine_stats *s);
	/* Which processes it is about: the root alone at first. May be NULL. */
	void (*on_tree)(void *arg, const struct pids *pids);
	/* A hook event (engine/hook.h): an error vetoes before COMMIT. May be NULL. */
	struct err *(*on_hook)(
		void *arg, const struct engine_hook *h, const struct engine_stats *s);
	/* Remembers the mark so that it survives us; an error vetoes, up to MARK_COMMIT and
	 * MARK_COMMITTED, which go with FRAME_COMMIT. MARK_INTENT and MARK_BUILDING survive a power
	 * cut as well when it returns; the others have no time for that. May be NULL. */
	struct err *(*on_mark)(void *arg, enum engine_mark mark);
	/* Source: it has ended here. On an error (MARK_MOVED is not on the disk) no BYE is said. */
	struct err *(*on_ended)(void *arg);
	/* Source, behind MARK_INTENT: keeps this list (undo.h) for who comes later; NULL: none */
	struct err *(*on_undo)(void *arg, const uint8_t *list, size_t len);
	/* Keeps this list (network.h), for who comes later: the source behind MARK_INTENT, the
	 * destination behind MARK_BUILDING; NULL: none any more. May be NULL. */
	struct err *(*on_network)(void *arg, const uint8_t *list, size_t len);
	/* These addresses are on this host, and were told once; when there is time. May be NULL. */
	void (*on_told)(void *arg, const struct network *n);
	/* One more connection to the same peer: number n, from 1, each once. The source dials, the
	 * destination waits for it, both until d at most. NULL (the member): there can be none. The
	 * stream is the engine's to close (stream_close), unless it leaves that to the caller; its
	 * memory is the caller's. May be called from any thread. */
	struct err *(*open_stream)(void *arg, unsigned n, struct deadline d, struct stream **ret);
	/* In each thread for pages, first of all: it gives up rights. NULL: it keeps them. */
	struct err *(*page_thread)(void);
};

enum take_address { TAKE_AUTO, TAKE_NONE, TAKE_GIVEN };

struct send_options {
	pid_t pid;
	uint64_t start_time; /* pinned by the caller; 0: whatever has the pid now */
	const char *id;
	int64_t downtime_us; /* freeze when the prediction is below; default 50,000 */
	bool force_switch;   /* freeze after max_rounds even so */
	uint32_t max_rounds; /* 0: default */
	int64_t timeout_us;  /* whole migration until the freeze; 0: none */
	int64_t spent_us;    /* of that, before the engine had it */
	int64_t frozen_us;   /* how long it may stand still; 0: default (patience.h) */
	uint64_t bandwidth;  /* bytes/s, 0: no limit */
	bool dry_run;        /* check */
	const char *unit;    /* systemd unit around it, "" for none */
	const char *tracker; /* NULL: the best that works */
	const char *pages;   /* "copy", "pump"; NULL: what suits the stream */
	uint32_t streams;    /* for pages; 1: the control stream; 0: what suits both hosts */
	enum take_address take;
	bool may_take;                   /* whoever asks may change this host's addresses */
	const struct net_ip *take_given; /* TAKE_GIVEN */
	size_t n_take_given;
	struct net_ip own;     /* of this end of the connection, never taken; family 0: unknown */
	bool reset_unaccepted; /* what nobody has accepted; else the process stays */
	uint64_t spread_bytes; /* less in a round goes over the control stream; 0: default */
};
/* More page streams than this are not agreed on. */
#define ENGINE_STREAMS_MAX         8
#define ENGINE_DOWNTIME_US_DEFAULT 50000
#define ENGINE_ROUNDS_DEFAULT      30

struct engine_outcome {
	enum engine_result result;
	struct err *error; /* why not moved; NULL when moved or when a dry run found no blocker */
	const char *side;  /* where the error happened: "source", "destination" */
	char state[16];    /* in which state */
	struct engine_stats stats;
	struct notes notes;
};
void engine_outcome_fini(struct engine_outcome *o);

/* The source's whole life of a migration. */
void engine_send(
	const struct engine_io *io, const struct send_options *opt, struct engine_outcome *out);

/* What the source says it is going to send. Texts of the peer: not checked for what they hold. */
struct incoming {
	const char *id, *comm;
	pid_t pid;
	uint32_t uid;
	uint64_t bytes; /* resident and swapped */
};

struct receive_options {
	const char *state_dir;  /* scratch directories below it */
	const char *cgroup_dir; /* v2, below it the process's own is made; NULL: none */
	const char *sink;       /* "copy", "splice"; NULL: what suits the stream */
	uint64_t max_memory;    /* bytes that it may take here, whatever was announced; 0: any */
	/* Asked once with what the source says it will send; an error refuses. May be NULL. */
	struct err *(*on_begin)(void *arg, const struct incoming *what);
	/* The living processes of a tree, by their real uids, whenever it has changed; an error
	 * refuses. Not asked for one that has no descendants. May be NULL. */
	struct err *(*on_processes)(void *arg, const uint32_t *uids, size_t n);
	/* An address that is to come here, or that connections stand on; an error refuses. May be
	 * NULL. */
	struct err *(*on_address)(void *arg, const struct net_ip *ip);
};
/* The destination's whole life of a migration. RESULT_MOVED: it runs here. */
void engine_receive(
	const struct engine_io *io, const struct receive_options *opt, struct engine_outcome *out);
