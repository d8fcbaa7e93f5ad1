/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file that a test shares with all roles of one daemon (fault.h). Whoever changes the layout
 * changes tests/chaos/faults.py, which checks the sizes in the head.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define FAULT_MAGIC      0x544c5546u /* "FULT" */
#define FAULT_SLOTS      16
#define FAULT_SEEN       192
#define FAULT_FILES      64
#define FAULT_NAME_BYTES 48
#define FAULT_PATH_BYTES 128
#define FAULT_FILE_BYTES 16384

enum fault_action { FAULT_NONE, FAULT_PAUSE, FAULT_DIE, FAULT_FAIL };

/* What to do where. Written by the test, `action` last. */
struct fault_slot {
	uint32_t action;
	uint32_t error; /* FAULT_FAIL: the errno */
	uint32_t skip;  /* as many pass first */
	uint32_t times; /* and after as many it is over; 0: never */
	uint32_t hits;
	uint32_t reached; /* FAULT_PAUSE: who waits here, by its number in its own namespace */
	uint32_t go;      /* the test: go on */
	uint32_t unused;
	char name[FAULT_NAME_BYTES]; /* of a point, or of a call */
	char role[16];               /* in this role only; "": in any */
	char path[FAULT_PATH_BYTES]; /* a call: a part of its path; "": any */
};

/* Points and calls that were passed, so that the test knows all there are. */
struct fault_seen {
	char name[FAULT_NAME_BYTES];
	char role[16];
	uint32_t count, used;
};

/* The contents of a file below journal/ when it was last synced: what a power cut leaves. */
struct fault_file {
	char name[FAULT_PATH_BYTES];
	uint64_t inode;
	uint32_t used;
	uint32_t synced; /* the contents are those of a sync */
	uint32_t named;  /* it had this name when its directory was last synced */
	uint32_t size;
	uint8_t bytes[FAULT_FILE_BYTES];
};

struct fault_map {
	uint32_t magic, slot_bytes, seen_bytes, file_bytes;
	uint32_t lock;   /* of seen and files; a process that died holding it: see fault.c */
	uint32_t broken; /* something could not be kept here: the test's results are void */
	uint32_t directory_synced; /* how often */
	uint32_t unused;
	struct fault_slot slots[FAULT_SLOTS];
	struct fault_seen seen[FAULT_SEEN];
	struct fault_file files[FAULT_FILES];
};

/* NULL: nothing is asked of this process. */
struct fault_map *fault_map(void);
/* Whether a slot has this name. */
bool fault_armed(const char *name);
/* Waits, or ends, or returns an errno: what a slot wants of this name and path now. */
int fault_consult(const char *name, const char *path);
void fault_lock(struct fault_map *m);
void fault_unlock(struct fault_map *m);
