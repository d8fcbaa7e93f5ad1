/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the site share: the tree (site_tree.c), objects and memory (rebuild.c). */
#pragma once

#include "engine/process_list.h"
#include "engine/rebuild.h"
#include "kernel/freezer.h"

struct bytes_list {
	const uint8_t **v;
	size_t *len;
	size_t n, cap, cap_len;
};

/* One process under construction. */
struct member {
	struct process is; /* as it was told last */
	struct task *task; /* NULL: not made yet */
	struct layout_state *layout;
	struct bytes_list layouts; /* LAYOUT bodies that came before it was made */
	bool emptied;              /* nothing of the seedling's own memory is left */
	bool lived;                /* it was LIVE when it was made */
	bool ended;                /* it was made, and has ended as it should */
};

struct site {
	struct site_spec spec;
	uint64_t kept_bytes; /* of descriptions */
	struct arena *arena;
	struct kind_cache *cache;
	struct member **members; /* the root first, parents before children */
	size_t n_members;
	struct process_list list; /* the same */
	struct object_set objects;
	size_t n_threads; /* of the objects */
	bool *gone;       /* while objects are removed: which of them */
	struct stash *stash;
	size_t n_stash, cap_stash;
	struct space *spaces;
	size_t n_spaces, cap_spaces;
	struct freezer freezer;
	bool checked, building, built, frozen, running;
	struct rebuild_priv {
		struct site *site;
	} priv;
	/* made here, not yet installed */
	struct pending *pending;
	size_t n_pending, cap_pending;
};

static inline struct member *site_root(const struct site *s)
{
	return s->members[0];
}
struct member *site_member(const struct site *s, pid_t pid);

/* ---- site_tree.c ---- */
/* A tree of one. */
void site_tree_init(struct site *s);
/* Refuses what has a number that is taken. */
void site_tree_check(struct site *s);
/* Makes all that are not there yet, in their sessions and groups. */
struct err *site_tree_make(struct site *s) must_check;
/* Those that only were to be there for others end, or become zombies. */
struct err *site_tree_settle(struct site *s) must_check;
/* Ends all of them. */
void site_tree_kill(struct site *s);
void site_tree_free(struct site *s);

/* ---- site_calls.c ---- */
/* Groups are done when all objects of one delta are built. */
void site_calls_done(struct site *s);
void site_calls_fini(struct site *s);
/* That shared memory takes. */
uint64_t site_spaces_bytes(const struct site *s);

/* ---- rebuild.c ---- */
/* So much more of a description is kept. */
struct err *site_keep(struct site *s, size_t len) must_check;
/* A new seedling makes room for the memory that was described for it. */
struct err *site_prepare(struct site *s, struct member *m) must_check;
