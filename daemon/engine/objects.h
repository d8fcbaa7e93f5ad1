/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of objects: what was captured, what the peer has, and the difference, which is all that
 * travels. Keys are (kind, process, id); of what belongs to no one process the second is 0.
 */
#pragma once

#include "kinds/kind.h"
#include "wire/channel.h"

/* Objects in one set; more is refused by name. */
#define OBJECTS_MAX 1000000
/* A frame is closed when it holds this much. */
#define OBJECTS_FRAME_BYTES (1u << 20)

struct object_set {
	struct object **v; /* arena; sorted by key after objects_sort */
	size_t n, cap;
	bool sorted;
};

struct object *objects_add(
	struct arena *a, struct object_set *s, const struct kind *k, pid_t pid, uint64_t id);
/* An object that is there already, borrowed. */
void objects_push(struct arena *a, struct object_set *s, struct object *o);
void objects_sort(struct object_set *s);
/* That with the same key; NULL if there is none, s->n for its index; the set must be sorted. */
struct object *objects_find(const struct object_set *s, const struct object *key);
size_t objects_index(const struct object_set *s, const struct object *key);
/* Does it belong to descriptors, and so to no one process? */
static inline bool object_is_file(const struct object *o)
{
	return o->kind->scope == KIND_FILE || o->kind->scope == KIND_LATE;
}
/* PEER if a key is there twice; the set must be sorted. */
struct err *objects_unique(const struct object_set *s) must_check;
/* The file object with this id, whatever its kind. */
struct object *objects_file(const struct object_set *s, uint64_t id);

/* Sends removals and changes from `old` (may be empty) to `now`, both sorted, in OBJECTS frames.
 * Sends nothing when they are equal. *changed counts both. */
struct err *objects_send_diff(struct channel *ch, const struct object_set *old,
	const struct object_set *now, uint64_t *changed) must_check;

/* What belongs to this process, and descriptors that it has: equal bytes are not the same any more.
 */
void objects_stale(struct object_set *s, pid_t pid);

/* All of the set as the body of one OBJECTS frame, in the arena. */
void objects_pack(struct arena *a, const struct object_set *s, const uint8_t **bytes, size_t *len);

/* One OBJECTS frame, taken apart and checked: known kinds, each key once, slots ascending, thread
 * ids that are some, limits; where no process is named it is `root`. What changes is sorted. */
struct objects_delta {
	struct object **changed;
	size_t n_changed;
	struct object *removed; /* kind and id only */
	size_t n_removed;
};
struct err *objects_parse(struct arena *a, pid_t root, const uint8_t *body, size_t len,
	struct objects_delta *ret) must_check;

/* Which objects are to be built now, and which to be linked: a flag per object of the set. */
struct objects_plan {
	bool *build, *link;
};
/* n_build are to be built: adds what shares a group with one of them, then what refers to it. */
void objects_plan_close(const struct object_set *s, struct objects_plan *p, size_t n_build);
