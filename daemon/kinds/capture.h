/* SPDX-License-Identifier: Apache-2.0 */
/* The source's side of a kind: what it may look at, and what it does with what it finds. The
 * functions are the engine's. */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/err.h"
#include "kernel/proc.h"
#include "kernel/remote.h"
#include "kinds/object.h"

struct capture {
	/* Held when `stopped`; else running: no remote calls. KIND_FILE: the process that has the
	 * first of the file's descriptors. */
	struct task *task;
	bool stopped;
	struct thread *thread;   /* KIND_THREAD: this one; KIND_PROCESS: the leader if stopped */
	const struct file *file; /* KIND_FILE */
	const struct file_table *files; /* of this process */
	const struct file_table *all;   /* of all processes that move */
	const struct pids *inside;      /* those; NULL: this one alone */
	const struct proc_stat *stat;
	const struct proc_status *status;
	struct arena *arena;      /* everything that is captured */
	struct kind_cache *cache; /* one per migration (kinds/cache.h); NULL: nothing is kept */
	/* For kinds/thread_facts.c, one per capture: points to NULL at first; NULL: nothing is
	 * kept. */
	struct thread_facts_cache **thread_facts;
	struct capture_priv *priv; /* the engine's: object set, notes */
};

/* Adds one object. KIND_FILE and KIND_THREAD must use file->id or the tid as id. Returns the object
 * so that group and refs can be set. */
struct object *capture_emit(struct capture *c, uint64_t id, const ProtobufCMessage *msg);
/* Whether this process moves too. */
static inline bool capture_inside(const struct capture *c, pid_t pid)
{
	return c->inside ? pids_include(c->inside, pid) : pid == c->task->pid;
}
/* Is it the first of those? For what belongs to all of them, and is told by one. */
static inline bool capture_is_root(const struct capture *c)
{
	return !c->inside || !c->inside->root || c->inside->root == c->task->pid;
}
/* The process of this number, which is one of those; NULL if it is not. */
struct task *capture_task(const struct capture *c, pid_t pid);
/* The object depends on what is behind this descriptor number of the target. */
void capture_ref(struct capture *c, struct object *o, int number);
/* The file description of KIND_FILE as a descriptor of ours; closed by the engine after capture.
 * Never read from it, write to it or seek it: it is shared with the target. */
struct err *capture_home(struct capture *c, int *fd) must_check;
/* A blocker, collected: capture goes on so that all of them are shown at once. Takes e. */
void capture_refuse(struct capture *c, struct err *e);
/* Something that changes by the move and that the user should know (check prints it). */
void capture_warn(struct capture *c, const char *fmt, ...) printf_like(2, 3);
