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
 *                         \____ rehearsal ____/  \_ frozen (changed: rebuild again) _/  after
 * COMMIT
 *
 * Capture runs twice: in the rehearsal (file kinds while the target runs) and frozen. Only objects
 * whose bytes changed travel the second time. So a message holds state, nothing that changes by
 * itself (no "now"); what does change by itself (remaining time) belongs to objects that are few.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "kinds/capture.h"
#include "kinds/object.h"
#include "kinds/rebuild.h"

enum kind_scope {
	KIND_PROCESS, /* captured once per process; may emit any number of objects */
	KIND_THREAD,  /* captured once per thread; id = tid */
	KIND_FILE,    /* captured once per open file description; id = file_id() */
	/* As KIND_FILE, beside the kind that the description belongs to, and only in the last
	 * moment: frozen, all memory sent, no remote call any more, the network lock in place. */
	KIND_LATE,
};

/* The order on the destination, for rebuild as for finish. */
enum stage {
	STAGE_MEMORY, /* address space fields, shared memory objects */
	STAGE_FILE,   /* descriptors */
	STAGE_FS,     /* cwd, root, umask */
	STAGE_SIGNAL, /* actions */
	STAGE_THREAD, /* threads exist */
	STAGE_TIMER,
	STAGE_LIMIT, /* limits that could hinder what comes before */
	STAGE_LOCK,  /* listen(), file locks: what others can see */
	STAGE_CRED,  /* credentials: from here on the process can do less */
	STAGE_LAST,  /* pending signals, death signal */
	STAGE_COUNT,
};

enum outcome { OUTCOME_MOVED, OUTCOME_KEPT };

struct kind {
	uint32_t id;      /* on the wire; never reused */
	const char *name; /* as the user reads it: "eventfd", "TCP listener" */
	enum kind_scope scope;
	enum stage stage;
	const ProtobufCMessageDescriptor *msg;

	/* KIND_FILE: is it mine? Asked in the order of kinds.def; cheap. */
	bool (*claims)(const struct file *f);
	/* One object (or, KIND_PROCESS, any number) by capture_emit. An error refuses the object.
	 */
	struct err *(*capture)(struct capture *c);
	/* KIND_FILE, held: is something in it that only the program can take (events, messages)?
	 * Then it runs on for a moment. Optional. */
	bool (*waits)(struct capture *c);
	/* Before anything is built: can this host have it? Uses rebuild_refuse for more than one
	 * reason. Optional. */
	struct err *(*check)(struct rebuild *r, const struct object *o, const void *msg);
	/* Makes it, or makes it again because its bytes changed (KIND_FILE is made anew; others
	 * must accept what an earlier call did). KIND_FILE returns a descriptor of ours in *fd,
	 * which the engine installs at the object's numbers and closes. */
	struct err *(*rebuild)(struct rebuild *r, const struct object *o, const void *msg, int *fd);
	/* KIND_FILE: what it needs may have gone since check, with its name or process, or be about
	 * to come: then rebuild is MISMATCH in the rehearsal, and made in the last moment. */
	bool rebuilt_late;
	/* It vanished between rehearsal and freeze. KIND_FILE: the engine has closed the numbers.
	 * Optional. */
	struct err *(*remove)(struct rebuild *r, const struct object *o, const void *msg);
	/* KIND_FILE: all descriptors are in place; connect to others. Repeatable. Optional. */
	struct err *(*link)(struct rebuild *r, const struct object *o, const void *msg);
	/* The last state, frozen, all memory in place, in stage order, for every object. Optional.
	 */
	struct err *(*finish)(struct rebuild *r, const struct object *o, const void *msg);
	/* After COMMIT, outside of the frozen stretch as far as it can be: what would have been
	 * visible to others too early (renaming names into place). An error is a warning. Optional.
	 */
	struct err *(*publish)(struct rebuild *r, const struct object *o, const void *msg);
	/* Destination: the migration was given up before COMMIT. Takes away what the object left
	 * outside of the process (names in directories); the task may be gone. Called for every
	 * object that was rebuilt, also when finish was not reached. Optional. */
	void (*discard)(struct rebuild *r, const struct object *o, const void *msg);
	/* Source, frozen, everything sent: give up what the peer must take (file locks). Objects of
	 * a kind that has it are in the list that outlives us, and released even then. Optional.
	 */
	struct err *(*yield)(struct capture *c, const struct object *o, const void *msg);
	/* Source: undo yield and capture's side effects (KEPT; task held), or forget (MOVED; the
	 * task is held, or has ended). Optional. Called for all objects of the last capture. */
	void (*release)(
		struct capture *c, const struct object *o, const void *msg, enum outcome out);
};

/* ---- registry (registry.c, generated from kinds.def) ---- */
const struct kind *const *kinds_all(size_t *n);
/* NULL if unknown. */
const struct kind *kind_by_id(uint32_t id);
/* The first KIND_FILE kind that claims it, or NULL. */
const struct kind *kind_for_file(const struct file *f);

/* A peer's message, into the arena; NULL if it does not parse, or would take more memory than so
 * many times its own length: an element of a list can be two bytes there and a hundred here. Honest
 * ones take up to 15 times. */
#define UNPACK_BYTES_FACTOR 32
#define UNPACK_BYTES_MIN    65536
ProtobufCMessage *message_unpack(struct arena *a, const ProtobufCMessageDescriptor *desc,
	const uint8_t *body, size_t len) must_check;
/* Packs into the arena. */
void kind_pack(struct arena *a, const ProtobufCMessage *msg, const uint8_t **body, size_t *len);
/* Unpacks o->body as its kind's message, allocated in the arena; PEER if it does not parse. */
struct err *kind_unpack(struct arena *a, const struct object *o, void **msg) must_check;
/* ProtobufCAllocator over an arena; frees nothing. */
ProtobufCAllocator arena_allocator(struct arena *a);
