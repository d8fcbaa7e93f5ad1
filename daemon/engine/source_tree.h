/* SPDX-License-Identifier: Apache-2.0 */
/* The source's processes (source_tree.c). */
#pragma once

#include "base/ranges.h"
#include "engine/capture.h"
#include "kernel/dirty.h"
#include "kernel/tree.h"
#include "kinds/memory.h"

struct source;

/* One process of the tree. */
struct source_member {
	struct task *task;         /* the tree's */
	bool gone;                 /* it has ended, or is in the tree no more */
	bool told;                 /* the peer has its objects and its layout; else it came later */
	int mm_fd;                 /* of /proc/PID/mem when it was told, -1: not yet */
	uint64_t start_stack;      /* another program has another one */
	uint32_t generation;       /* each has another one */
	struct snapshot layout_of; /* holds `layout` */
	struct layout *layout;     /* what the peer has */
	struct ranges fresh;       /* what the peer has mapped anew by the last LAYOUT */
	struct dirty *dirty;       /* NULL: it came later, and all of it goes */
	struct dirty *everything;  /* of dirty_none: all pages that exist */
	uint64_t child_faults;     /* of children that it has waited for (unseen.h) */
	bool looked_at;            /* by its tracker, when shared memory was looked at last */
	bool direct_io;            /* has had a descriptor with O_DIRECT: it is looked at stopped */
};

/* The root, pinned. */
struct err *source_tree_open(struct source *s) must_check;
void source_tree_fini(struct source *s);
/* Nobody is tracked any more. */
void source_untrack(struct source *s);
/* Freezes all of it. */
struct err *source_hold(struct source *s) must_check;
/* After a look at the tree: who is new, who is gone. What is still alive and in it no more is an
 * error, if the peer knows of it. */
struct err *source_tree_sync(struct source *s) must_check;
/* True, and it counts as gone, if an error of it is due to its end. Never of the root. */
bool source_member_ended(struct source *s, struct source_member *m);
/* Whether it is likely to stay, and so is rehearsed. One of many that come and go is not. */
bool source_has_settled(void *source, const struct task *t);
/* Of those that the peer is to know: the largest, if it is likely to stay. */
void source_choose_main(struct source *s);
/* Held: tells the peer who there is, if that is not what it knows. With `late`: those too that came
 * after the rehearsal. */
struct err *source_tree_tell(struct source *s, bool late) must_check;
/* Not held: tells the peer that some of those have ended meanwhile. */
struct err *source_tree_tell_ended(struct source *s) must_check;
/* Held, before source_tree_tell: those that have become other programs begin anew. */
struct err *source_tree_renew(struct source *s) must_check;
/* As its memory is called on the wire. */
uint64_t source_space(const struct source *s, const struct source_member *m);
/* Those that are there: for (...; m; m = source_next(s, m)); NULL: the first. */
struct source_member *source_next(const struct source *s, const struct source_member *m);
