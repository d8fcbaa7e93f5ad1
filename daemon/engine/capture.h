/* SPDX-License-Identifier: Apache-2.0 */
/* Walks a process and lets the kinds fill an object set. */
#pragma once

#include "engine/engine.h"
#include "engine/objects.h"
#include "kinds/memory.h"

/* One capture: everything in it lives in its arena. */
struct snapshot {
	struct arena *arena;
	struct object_set objects;
	struct file_table files;
	struct proc_stat stat;
	struct proc_status status;
	struct notes *notes;                     /* borrowed: blockers go here */
	struct kind_cache *cache;                /* borrowed: one per migration */
	struct thread_facts_cache *thread_facts; /* in the arena; NULL: nothing yet */
};

void snapshot_init(struct snapshot *s, struct notes *notes, struct kind_cache *cache);
void snapshot_fini(struct snapshot *s);

/* What can be captured while the target runs: descriptors. */
struct err *capture_running(struct task *t, struct snapshot *s) must_check;
/* What needs a held task: the process and its threads. */
struct err *capture_stopped(struct task *t, struct snapshot *s) must_check;
/* Both, for a held task. */
struct err *capture_all(struct task *t, struct snapshot *s) must_check;

/* Late kinds, of a held task whose descriptors are those of `of`, which lives longer than s. Makes
 * no remote call. The first error ends it. */
struct err *capture_late(struct task *t, const struct snapshot *of, struct snapshot *s) must_check;

/* Calls yield for all objects, in order; *yielded counts them also when it fails. */
struct err *capture_yield(struct task *t, struct snapshot *s, size_t *yielded) must_check;
/* Calls release for the first n objects, last first. */
void capture_release(struct task *t, struct snapshot *s, size_t n, enum outcome out);
/* A context for the parts of kinds that the engine calls by itself (memory). */
struct capture_priv {
	struct snapshot *snapshot;
	const struct kind *kind;
	int home; /* KIND_FILE: the descriptor brought home, -1 not yet */
};
void capture_context(struct capture *c, struct capture_priv *p, struct task *t, struct snapshot *s);
