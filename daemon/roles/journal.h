/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What survives every process of ours: one small file per migration and side, STATE_DIR/journal/
 * ID.source or ID.destination. The worker writes it, so that a record takes no round trip while the
 * process stands still, and holds a lock on it as long as it lives; whoever has the lock afterwards
 * (the monitor, or the next one) reads the last record and makes it true.
 *
 * Records have a fixed size and a checksum, and are never overwritten. A plain write survives the
 * death of all of us, because the page cache is the kernel's; journal_sync makes it survive a power
 * cut. The file has its full size from the beginning, so that a full disk does not matter later.
 */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "engine/mark.h"

#define JOURNAL_RECORD_BYTES 1024
#define JOURNAL_RECORDS_MAX  8 /* a side writes three */
#define JOURNAL_ID_BYTES     (ENGINE_ID_MAX + 1)
#define JOURNAL_BOOT_BYTES   40
#define JOURNAL_HOST_BYTES   256

/* As it lies in the file, in this host's byte order: no other host reads it. Texts end with 0. */
struct journal_record {
	char magic[8];
	uint32_t seq;         /* from 1 */
	uint32_t mark;        /* enum engine_mark */
	uint32_t destination; /* which side: 0 or 1 */
	int32_t pid;          /* of the original, or of what was built from it */
	uint64_t start_time;  /* of pid, clock ticks */
	int64_t written_s;    /* CLOCK_REALTIME */
	uint32_t asker;       /* uid; source */
	uint32_t port;        /* of the peer; source */
	char id[JOURNAL_ID_BYTES];
	char boot_id[JOURNAL_BOOT_BYTES];      /* of this host then */
	char peer_boot_id[JOURNAL_BOOT_BYTES]; /* "" if unknown */
	char comm[JOURNAL_ID_BYTES];
	char peer[JOURNAL_ID_BYTES]; /* its name here */
	char key[JOURNAL_ID_BYTES];  /* its fingerprint */
	char host[JOURNAL_HOST_BYTES];
	int64_t written_up_s; /* CLOCK_BOOTTIME */
	char unused[368];
	uint64_t checksum; /* of all that lies before it */
};
_Static_assert(sizeof(struct journal_record) == JOURNAL_RECORD_BYTES, "records have no gaps");

struct journal {
	int fd; /* -1: none. Its lock says that somebody is at it */
	char *path;
	struct journal_record last;
};
#define JOURNAL_NONE ((struct journal){ .fd = -1 })

/* Makes the file with its first record (mark, texts and numbers are the caller's) and has it on the
 * disk when it returns. INVALID: this host knows a migration of that id on that side already. */
struct err *journal_create(
	const char *state_dir, const struct journal_record *first, struct journal *ret) must_check;
/* The next record: as the last one, with another mark. */
struct err *journal_add(struct journal *j, enum engine_mark mark) must_check;
/* How old a record is, in seconds: at least and at most, because a clock may have been set.
 * boot_id: of this host now. */
int64_t journal_age_least_s(const struct journal_record *r, const char *boot_id);
int64_t journal_age_most_s(const struct journal_record *r, const char *boot_id);
/* What was added is on the disk afterwards. */
struct err *journal_sync(const struct journal *j) must_check;

/* *ret has the lock. fd -1: there is no such file. LIMIT: somebody has the lock. INVALID: nothing
 * in it can be read. A file has its name only when its first record is on the disk, so that is
 * damage: the file stays, and what it was about is not known. */
struct err *journal_open(
	const char *state_dir, const char *id, bool destination, struct journal *ret) must_check;
/* The last record, whoever has the lock; false: there is no such file, or no record in it. */
bool journal_peek(
	const char *state_dir, const char *id, bool destination, struct journal_record *ret);
/* The last record of a file's bytes that is whole; false: none is. */
bool journal_last(const uint8_t *bytes, size_t len, struct journal_record *ret);
/* Names (id and side) of all files; in the arena. */
struct journal_name {
	char id[JOURNAL_ID_BYTES];
	bool destination;
};
struct err *journal_names(
	struct arena *a, const char *state_dir, struct journal_name **ret, size_t *n) must_check;
/* What else must be known to who comes later: files of their own beside the journal, gone with it.
 */
enum journal_aside {
	ASIDE_UNDO,    /* source: what is to be taken back in its process (engine/undo.h) */
	ASIDE_NETWORK, /* either side: addresses and connections (engine/network.h) */
	ASIDE_COUNT,
};
struct err *journal_put_aside(const struct journal *j, enum journal_aside what, const uint8_t *list,
	size_t len) must_check;
/* Both NULL and 0: there is none. */
struct journal_list {
	const uint8_t *v;
	size_t len;
};
struct err *journal_get_aside(struct arena *a, const char *state_dir, const struct journal_name *of,
	enum journal_aside what, struct journal_list *ret) must_check;
bool journal_has_aside(const struct journal *j, enum journal_aside what);
void journal_drop_aside(
	const char *state_dir, const char *id, bool destination, enum journal_aside what);
/* Closes it and forgets the migration. */
void journal_remove(struct journal *j);
void journal_close(struct journal *j);
