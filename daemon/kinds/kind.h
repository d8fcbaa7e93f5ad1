/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kind of kernel object: how it is captured, checked and rebuilt, side by side in one file.
 *
 * A kind never sends, never logs, never looks at options, never includes another kind. It returns
 * errors; the engine wraps them with the object's name ("descriptor 17 of 4242 (inotify)").
 *
 * Life of an object:
 *   source       capture                          [yield]            release
 *   destination           check, rebuild, link             finish              publish | discard
 *                         \____ rehearsal ____/  \_ frozen (changed: rebuild again) _/  after COMMIT
 *
 * Capture runs twice: in the rehearsal (file kinds while the target runs) and frozen. Only objects
 * whose bytes changed travel the second time. So a message holds state, nothing that changes by
 * itself (no "now"); what does change by itself (remaining time) belongs to objects that are few.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/err.h"
#include "kernel/proc.h"
#include "kernel/remote.h"

enum kind_scope {
	KIND_PROCESS, /* captured once per process; may emit any number of objects */
	KIND_THREAD,  /* captured once per thread; id = tid */
	KIND_FILE,    /* captured once per open file description; id = file_id() */
};

/* The order on the destination, for rebuild as for finish. */
enum stage {
	STAGE_MEMORY, /* address space fields, shared memory objects */
	STAGE_FILE,   /* descriptors */
	STAGE_FS,     /* cwd, root, umask */
	STAGE_SIGNAL, /* actions */
	STAGE_THREAD, /* threads exist */
	STAGE_TIMER,
	STAGE_LIMIT,  /* limits that could hinder what comes before */
	STAGE_LOCK,   /* listen(), file locks: what others can see */
	STAGE_CRED,   /* credentials: from here on the process can do less */
	STAGE_LAST,   /* pending signals, death signal */
	STAGE_COUNT,
};

enum outcome { OUTCOME_MOVED, OUTCOME_KEPT };

struct fd_slot {
	int number;
	bool cloexec;
};

/* One open file description of the target and the descriptors that lead to it. */
struct file {
	uint64_t id;	      /* file_id(lowest number) */
	struct fd_slot *slots; /* ascending */
	size_t n_slots;
	const char *link;     /* readlink of /proc/PID/fd/N */
	const char *fdinfo;   /* text of /proc/PID/fdinfo/N */
	struct stat st;       /* of what the descriptor leads to */
	uint64_t flags, pos;  /* from fdinfo; flags without O_CLOEXEC */
};
static inline uint64_t file_id(int lowest_number)
{
	return (uint64_t)lowest_number + 1;
}

struct file_table {
	struct file *v; /* by lowest number */
	size_t n;
};
const struct file *file_by_number(const struct file_table *t, int number);

struct object {
	const struct kind *kind;
	uint64_t id;
	uint64_t group; /* KIND_FILE: objects that must be rebuilt together (pipe ends), else 0 */
	struct fd_slot *slots; /* KIND_FILE */
	size_t n_slots;
	uint64_t *refs; /* ids of KIND_FILE objects this one refers to: relinked when they change */
	size_t n_refs;
	int32_t owner_type, owner_pid, owner_signal; /* F_SETOWN_EX, F_SETSIG; engine */
	const uint8_t *body; /* packed message */
	size_t body_len;
};

/* ---- source ---- */

struct capture {
	struct task *task;	/* held when `stopped`; else running: no remote calls */
	bool stopped;
	struct thread *thread;	/* KIND_THREAD: this one; KIND_PROCESS: the leader if stopped */
	const struct file *file; /* KIND_FILE */
	const struct file_table *files; /* all of them */
	const struct proc_stat *stat;
	const struct proc_status *status;
	struct arena *arena;	/* everything that is captured */
	struct kind_cache *cache; /* one per migration (kinds/cache.h); NULL: nothing is kept */
	/* For kinds/thread_facts.c, one per capture: points to NULL at first; NULL: nothing is kept. */
	struct thread_facts_cache **thread_facts;
	struct capture_priv *priv; /* the engine's: object set, notes */
};

/* Adds one object. KIND_FILE and KIND_THREAD must use file->id or the tid as id. Returns the object
 * so that group and refs can be set. */
struct object *capture_emit(struct capture *c, uint64_t id, const ProtobufCMessage *msg);
/* The object depends on what is behind this descriptor number of the target. */
void capture_ref(struct capture *c, struct object *o, int number);
/* The file description of KIND_FILE as a descriptor of ours; closed by the engine after capture.
 * Never read from it, write to it or seek it: it is shared with the target. */
struct err *capture_home(struct capture *c, int *fd) must_check;
/* A blocker, collected: capture goes on so that all of them are shown at once. Takes e. */
void capture_refuse(struct capture *c, struct err *e);
/* Something that changes by the move and that the user should know (check prints it). */
void capture_warn(struct capture *c, const char *fmt, ...) printf_like(2, 3);

/* ---- destination ---- */

struct rebuild {
	struct task *task;	/* the seedling, held */
	struct thread *thread;	/* KIND_THREAD: the rebuilt thread (NULL in rebuild, which makes it);
				 * else the leader */
	struct arena *arena;
	struct kind_cache *cache; /* one per migration (kinds/cache.h); NULL: nothing is kept */
	const char *scratch_dir; /* an empty directory of ours on the destination, e.g. for names */
	int64_t elapsed_ns;	/* finish: since the source's last thread stopped; 0 before */
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
/* A blocker or a warning found at the destination: both are shown with those of the source. */
void rebuild_refuse(struct rebuild *r, struct err *e);
void rebuild_warn(struct rebuild *r, const char *fmt, ...) printf_like(2, 3);

struct kind {
	uint32_t id;	  /* on the wire; never reused */
	const char *name; /* as the user reads it: "eventfd", "TCP listener" */
	enum kind_scope scope;
	enum stage stage;
	bool needs_stop; /* capture makes remote calls: never called on a running target */
	const ProtobufCMessageDescriptor *msg;

	/* KIND_FILE: is it mine? Asked in the order of kinds.def; cheap. */
	bool (*claims)(const struct file *f);
	/* One object (or, KIND_PROCESS, any number) by capture_emit. An error refuses the object. */
	struct err *(*capture)(struct capture *c);
	/* Before anything is built: can this host have it? Uses rebuild_refuse for more than one
	 * reason. Optional. */
	struct err *(*check)(struct rebuild *r, const struct object *o, const void *msg);
	/* Makes it, or makes it again because its bytes changed (KIND_FILE is made anew; others must
	 * accept what an earlier call did). KIND_FILE returns a descriptor of ours in *fd, which the
	 * engine installs at the object's numbers and closes. */
	struct err *(*rebuild)(struct rebuild *r, const struct object *o, const void *msg, int *fd);
	/* It vanished between rehearsal and freeze. KIND_FILE: the engine has closed the numbers.
	 * Optional. */
	struct err *(*remove)(struct rebuild *r, const struct object *o, const void *msg);
	/* KIND_FILE: all descriptors are in place; connect to others. Repeatable. Optional. */
	struct err *(*link)(struct rebuild *r, const struct object *o, const void *msg);
	/* The last state, frozen, all memory in place, in stage order, for every object. Optional. */
	struct err *(*finish)(struct rebuild *r, const struct object *o, const void *msg);
	/* After COMMIT, outside of the frozen stretch as far as it can be: what would have been visible
	 * to others too early (renaming names into place). An error is a warning. Optional. */
	struct err *(*publish)(struct rebuild *r, const struct object *o, const void *msg);
	/* Destination: the migration was given up before COMMIT. Takes away what the object left
	 * outside of the process (names in directories); the task may be gone. Called for every
	 * object that was rebuilt, also when finish was not reached. Optional. */
	void (*discard)(struct rebuild *r, const struct object *o, const void *msg);
	/* Source, frozen, everything sent: give up what the peer must take (file locks). Optional. */
	struct err *(*yield)(struct capture *c, const struct object *o, const void *msg);
	/* Source: undo yield and capture's side effects (KEPT; task held), or forget (MOVED). Optional.
	 * Called for all objects of the last capture. */
	void (*release)(struct capture *c, const struct object *o, const void *msg, enum outcome out);
};

/* ---- registry (registry.c, generated from kinds.def) ---- */
const struct kind *const *kinds_all(size_t *n);
/* NULL if unknown. */
const struct kind *kind_by_id(uint32_t id);
/* The first KIND_FILE kind that claims it, or NULL. */
const struct kind *kind_for_file(const struct file *f);

/* Packs into the arena. */
void kind_pack(struct arena *a, const ProtobufCMessage *msg, const uint8_t **body, size_t *len);
/* Unpacks o->body as its kind's message, allocated in the arena; PEER if it does not parse. */
struct err *kind_unpack(struct arena *a, const struct object *o, void **msg) must_check;
/* ProtobufCAllocator over an arena; frees nothing. */
ProtobufCAllocator arena_allocator(struct arena *a);
