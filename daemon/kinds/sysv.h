/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kinds of System V IPC have in common. Nothing in such an object says which processes use
 * it, so there is a rule: an object goes along with a process that is the last to have used it, as
 * far as the kernel says who was. Should a process that stays have used it last too, the move is
 * refused; nobody else can be told to use it. It leaves the source when it has arrived.
 *
 * An object is made in the rehearsal already, which reserves its id and key; until the process
 * stands still nobody but root may use it there. Objects outlive whoever made them: so a note in
 * the scratch directory says what to remove should the migration come to nothing, and us with it.
 */
#pragma once

#include "kernel/sysv.h"
#include "kinds/kind.h"
#include "sysv.pb-c.h"

/* ---- source ---- */
enum sysv_user {
	SYSV_NOBODY, /* never used, or by processes that have ended */
	SYSV_MOVES,  /* a process that is moved */
	SYSV_STAYS,  /* another one that lives */
};
enum sysv_user sysv_user(const struct capture *c, pid_t pid);
/* Both together: who stays wins. */
enum sysv_user sysv_users(enum sysv_user a, enum sysv_user b);
/* "System V semaphore set 3 (key 0x0052e2c1)" in the arena. */
const char *sysv_say(struct arena *a, enum sysv sort, int id, uint32_t key);
/* UNSUPPORTED: it is used by `pid`, which stays behind, too. */
struct err *sysv_shared(
	struct capture *c, enum sysv sort, const struct sysv_object *o, pid_t pid) must_check;
/* It may take along only what it could remove itself. */
struct err *sysv_may_take(
	struct capture *c, enum sysv sort, const struct sysv_object *o) must_check;
/* Objects of the process's user that it may use, and nothing tells: remembered, then warned of in
 * one sentence. */
struct sysv_unknown {
	char text[128];
	size_t n;
};
void sysv_unknown_add(struct capture *c, struct sysv_unknown *u, const struct sysv_object *o);
void sysv_unknown_warn(struct capture *c, enum sysv sort, const struct sysv_unknown *u);
Migrate__Kind__SysvIdentity *sysv_identity(struct arena *a, const struct sysv_object *o);
/* Is this still the object that was captured? *o is what it is now. */
struct err *sysv_still(enum sysv sort, const Migrate__Kind__SysvIdentity *m, struct sysv_object *o,
	bool *still) must_check;

/* ---- destination ---- */
/* Refuses an id, or a key, that is taken here. */
struct err *sysv_check(
	struct rebuild *r, enum sysv sort, const Migrate__Kind__SysvIdentity *m) must_check;
/* Makes it by `get`, a remote call of shmget, semget or msgget whose flags (in args[flags]) are
 * completed here; with a key but not the one of m if `key` is another one. Its owner is root, and
 * nobody may use it. */
struct sysv_making {
	enum sysv sort;
	const Migrate__Kind__SysvIdentity *identity;
	uint32_t key;
	struct call get;
	unsigned flags;
};
struct err *sysv_make(struct rebuild *r, const struct sysv_making *what) must_check;
/* Has sysv_make made it in this migration? */
bool sysv_made(const struct rebuild *r, enum sysv sort, int id);
/* Its own owner and mode, at last. */
struct err *sysv_own(
	struct rebuild *r, enum sysv sort, const Migrate__Kind__SysvIdentity *m) must_check;
/* Removes it, if sysv_make has made it. */
void sysv_discard(const struct rebuild *r, enum sysv sort, int id);
/* Gives up nothing: what leaves the source in the end must be in the list that outlives us. */
struct err *sysv_yield(struct capture *c, const struct object *o, const void *msg) must_check;
