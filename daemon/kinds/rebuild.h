/* SPDX-License-Identifier: Apache-2.0 */
/* The destination's side of a kind: where it builds. The functions are the engine's. */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "kernel/netend.h"
#include "kernel/remote.h"
#include "kinds/object.h"

struct rebuild {
	/* The seedling, held. KIND_FILE: that which has the first of the file's descriptors. */
	struct task *task;
	struct thread *thread; /* KIND_THREAD: the rebuilt thread (NULL in rebuild, which makes it);
				* else the leader */
	struct arena *arena;
	struct kind_cache *cache; /* one per migration (kinds/cache.h); NULL: nothing is kept */
	const char *scratch_dir; /* an empty directory of ours on the destination, e.g. for names */
	int64_t elapsed_ns;      /* finish: since the source's last thread stopped; 0 before */
	int64_t clock_offset_ns; /* the process's CLOCK_MONOTONIC minus ours */
	struct rebuild_priv *priv; /* the engine's */
};

/* Descriptors that objects of one group share while they are rebuilt (both ends of a pipe): kept
 * by the engine until the group is done, then closed. Returns -1 if there is none. */
int rebuild_stash_get(struct rebuild *r, uint64_t group, unsigned slot);
/* Takes fd. slot < 4. */
void rebuild_stash_put(struct rebuild *r, uint64_t group, unsigned slot, int fd);
/* A shared memory object by its id (kinds/shm puts it, kinds/memory and pages get it). The
 * descriptor stays the engine's. -1 if unknown. */
int rebuild_space_get(struct rebuild *r, uint64_t space);
void rebuild_space_put(struct rebuild *r, uint64_t space, int fd);
/* Is it one of the connections that the source has announced, and whose packets are dropped here?
 * No other may be rebuilt. */
bool rebuild_locked(struct rebuild *r, const struct net_pair *pair);
/* The process of this number, which is one of those that are built; NULL: it is not, or not yet. */
struct task *rebuild_task(struct rebuild *r, pid_t pid);
/* A blocker or a warning found at the destination: both are shown with those of the source. */
void rebuild_refuse(struct rebuild *r, struct err *e);
void rebuild_warn(struct rebuild *r, const char *fmt, ...) printf_like(2, 3);
