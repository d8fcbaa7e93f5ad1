/* SPDX-License-Identifier: Apache-2.0 */
/* Walks the processes of a tree and lets the kinds fill an object set. */
#pragma once

#include "engine/engine.h"
#include "engine/objects.h"
#include "kernel/tree.h"
#include "kinds/memory.h"

/* One process in a capture. */
struct view {
	struct task *task;
	struct file_table files;
	struct proc_stat stat;
	struct proc_status status;
	struct thread_facts_cache *thread_facts; /* in the arena; NULL: nothing yet */
};

/* One capture: everything in it lives in its arena. */
struct snapshot {
	struct arena *arena;
	struct object_set objects;
	struct view *views;       /* of those in `seen`, in this order */
	struct pids seen;         /* those that are captured */
	struct pids inside;       /* and all that move */
	struct file_table files;  /* of all of them */
	struct notes *notes;      /* borrowed: blockers go here */
	struct kind_cache *cache; /* borrowed: one per migration */
};

void snapshot_init(struct snapshot *s, struct notes *notes, struct kind_cache *cache);
void snapshot_fini(struct snapshot *s);

/* Borrows what `of`, which lives longer than s, knows of its processes. */
void snapshot_see(struct snapshot *s, const struct snapshot *of);

/* Whether it is captured now; NULL: all are. */
struct capture_choice {
	bool (*fn)(void *arg, const struct task *t);
	void *arg;
};
/* What can be captured while the targets run: descriptors. Looks who they are. */
struct err *capture_running(
	struct tree *t, const struct capture_choice *which, struct snapshot *s) must_check;
/* What needs held tasks: processes and their threads. */
struct err *capture_stopped(const struct tree *t, struct snapshot *s) must_check;
/* Both, for held tasks. */
struct err *capture_all(const struct tree *t, struct snapshot *s) must_check;
/* The descriptors alone, of a tree that runs and may change. */
struct err *capture_look(struct tree *t, struct snapshot *s) must_check;

/* The first description of `s`, as they were then, that has something in it that only the program
 * can take (kind.waits); NULL: none. Held. */
const struct file *capture_waits(struct snapshot *s);

/* Late kinds, of held tasks whose descriptors are those of `of`, which lives longer than s. Makes
 * no remote call. The first error ends it. */
struct err *capture_late(const struct snapshot *of, struct snapshot *s) must_check;

/* Calls yield for all objects, in order; *yielded counts them also when it fails. */
struct err *capture_yield(struct snapshot *s, size_t *yielded) must_check;
/* Calls release for the first n objects, last first. */
void capture_release(struct snapshot *s, size_t n, enum outcome out);
/* A context for the parts of kinds that the engine calls by itself (memory). */
struct capture_priv {
	struct snapshot *snapshot;
	const struct kind *kind;
	int home; /* KIND_FILE: the descriptor brought home, -1 not yet */
};
/* t: one of the processes in it, or none of them, then nothing of its descriptors is known. */
void capture_context(struct capture *c, struct capture_priv *p, struct task *t, struct snapshot *s);
