/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the memory layout (kinds/memory*.c, kinds/mm.c, kinds/shm.c): regions, their
 * attributes, and the pure functions that compare two layouts. Nobody else includes this.
 */
#pragma once

#include "base/ranges.h"
#include "identity.pb-c.h"
#include "kinds/memory.h"
#include "kinds/shm_priv.h"
#include "memory.pb-c.h"

/* Values are on the wire. */
enum backing {
	BACKING_ANON = 0, /* private anonymous: heap, stack, mmap */
	BACKING_FILE = 1,
	BACKING_SHM = 2, /* memfd or anonymous shared memory, also mapped privately; segment */
};

/* What the kernel keeps per mapping besides its protection. Values are on the wire. */
enum region_attr {
	ATTR_GROWSDOWN = 1 << 0,
	ATTR_LOCKED = 1 << 1,
	ATTR_LOCKONFAULT = 1 << 2,
	ATTR_SEQ_READ = 1 << 3,
	ATTR_RAND_READ = 1 << 4,
	ATTR_DONTFORK = 1 << 5,
	ATTR_NORESERVE = 1 << 6,
	ATTR_ACCOUNT = 1 << 7, /* counts as committed memory */
	ATTR_SYNC = 1 << 8,
	ATTR_WIPEONFORK = 1 << 9,
	ATTR_DONTDUMP = 1 << 10,
	ATTR_HUGEPAGE = 1 << 11,
	ATTR_NOHUGEPAGE = 1 << 12,
	ATTR_MERGEABLE = 1 << 13,
	ATTR_SEALED = 1 << 14,
	ATTR_DROPPABLE = 1 << 15,
	ATTR_NOWRITE = 1 << 16, /* shared memory object: mprotect cannot make it writable */
	ATTR_ALL = (1 << 17) - 1,
};
/* Fixed when a mapping is made; a difference needs a new mapping. */
#define ATTR_BACKING (ATTR_GROWSDOWN | ATTR_NORESERVE | ATTR_SYNC | ATTR_DROPPABLE | ATTR_NOWRITE)
/* Set by layout_finish, when all contents are there. */
#define ATTR_LATE (ATTR_LOCKED | ATTR_LOCKONFAULT | ATTR_ACCOUNT | ATTR_SEALED)

/* One file as it is mapped, by one or many regions. */
struct layout_file {
	const char *path;
	Migrate__Kind__FileIdentity *id;
	bool writable;
	uint32_t number;          /* source: index in layout.files */
	struct layout_file *copy; /* destination: while a state is copied */
	/* source: as /proc/PID/maps names it, to recognise it without asking again */
	uint32_t dev_major, dev_minor;
	uint64_t inode;
};

struct region {
	uint64_t start, end, offset;
	uint64_t space;           /* BACKING_SHM */
	const char *space_path;   /* BACKING_SHM: see shm_make */
	uint64_t space_bytes;     /* of a System V segment: its size */
	struct layout_file *file; /* BACKING_FILE */
	const char *name;         /* "" without */
	uint32_t attrs;
	uint8_t prot, backing;
	bool shared;
	bool settled; /* destination: layout_settle has seen it */
	bool loose;   /* attrs are a guess: nobody has read the flags of this mapping yet */
};

struct region_list {
	struct region *v; /* ascending, not overlapping */
	size_t n, cap;
};

struct special {
	const char *name;
	uint64_t start, end;
};
#define SPECIALS_MAX 8
#define NAME_MAX_VMA 80 /* with the NUL, ANON_VMA_NAME_MAX_LEN */

struct layout {
	struct vma_list raw;
	struct region_list regions;
	struct layout_file **files;
	size_t n_files, cap_files;
	struct special special[SPECIALS_MAX];
	size_t n_special;
	struct range *guards;
	size_t n_guards;
};

/* ---- memory.c ---- */
/* Attributes of VmFlags, and how madvise sets and clears them. */
#define NO_ADVICE (-1)
struct attr_info {
	uint64_t vmf;
	uint32_t attr;
	int advise_set, advise_clear;
	bool hint; /* a kernel without it may leave it out */
	const char *name;
};
extern const struct attr_info attr_table[];
extern const size_t attr_table_n;
uint32_t attrs_of_flags(uint64_t vmf);
uint64_t flags_of_attrs(uint32_t attrs);

/* A mapping that the kernel itself makes. */
bool path_special(const char *path);
struct layout_file *layout_file_dup(struct arena *a, const struct layout_file *f);
bool file_equal(const struct layout_file *a, const struct layout_file *b);
/* The same memory behind both where they overlap: what the destination has may stay. */
bool region_same_backing(const struct region *a, const struct region *b);
/* The destination can make `want` out of `have` without losing contents. */
bool region_keeps(const struct region *have, const struct region *want);
/* An attachment of a System V segment. */
bool region_sysv(const struct region *r);
/* All else, too. */
bool region_same(const struct region *a, const struct region *b);
struct region region_clip(const struct region *r, uint64_t start, uint64_t end);
/* Appends behind the last one and joins them when they are equal neighbours. */
void region_push(struct arena *a, struct region_list *l, const struct region *r);
/* The largest hole below `top` that no range covers: an address in its middle with `bytes` room. */
struct err *hole_find(
	const struct ranges *used, uint64_t top, uint64_t bytes, uint64_t *at) must_check;

/* The first of n numbers that are no descriptors of the seedling now. What is handed over there for
 * a moment must be closed again: the target's own descriptors may come later. */
struct err *free_numbers(const struct task *t, size_t n, int *first) must_check;

/* ---- memory_capture.c ---- */
/* layout_capture with a bound of one's own for reading smaps of a process with new mappings. */
struct err *layout_capture_within(struct capture *c, bool with_flags, const struct layout *before,
	uint64_t smaps_rss_max, struct layout **ret) must_check;

/* ---- memory_guard.c ---- */
#define MADVISE_GUARD_INSTALL 102
bool guards_supported(void);
/* Fills l->guards: of all its regions, or (fast) of those that `before` had and of loose ones. */
struct err *guards_read(
	struct capture *c, bool all, const struct layout *before, struct layout *l) must_check;
