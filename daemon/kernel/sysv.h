/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System V IPC of our namespace: shared memory, semaphore sets, message queues, each by its id.
 *
 * An id is a slot of a table and a running number. CHECKPOINT_RESTORE kernels let one choose the id
 * of the next object that is made (kernel.shm_next_id and so on): of whoever makes it, so the
 * result must be looked at.
 */
#pragma once

#include "base/arena.h"
#include "base/err.h"

enum sysv { SYSV_SHM, SYSV_SEM, SYSV_MSG, SYSV_SORTS };
/* "System V shared memory", "semaphore set", "message queue": an id follows. */
extern const char *const sysv_names[SYSV_SORTS];
/* In mode, of shared memory: it goes with its last attachment; its pages are locked. */
#define SYSV_SHM_DEST   01000
#define SYSV_SHM_LOCKED 02000

struct sysv_object {
	int id;
	int slot; /* only in a list */
	uint32_t key, uid, gid, cuid, cgid, mode;
	uint64_t bytes; /* shared memory: its size; queue: bytes that it may hold */
	uint64_t held;  /* queue: bytes that are in it */
	uint64_t n;     /* attachments; semaphores; messages */
	/* Shared memory: who made it, who attached or detached last. Queue: who sent last, who
	 * received last. 0: nobody, or somebody outside of our pid namespace. */
	pid_t first, last;
	/* Shared memory: of the last attachment and detachment. Semaphores: of the last operation,
	 * 0. Seconds; 0: never. */
	int64_t in_s, out_s;
};

/* *found false: there is none. */
struct err *sysv_get(enum sysv sort, int id, struct sysv_object *ret, bool *found) must_check;
/* All that there are, by slot. */
struct err *sysv_list(
	struct arena *a, enum sysv sort, struct sysv_object **ret, size_t *n) must_check;
/* One that is in the way of an object with this id and key: has its slot, or its key (0: none). */
struct err *sysv_taken(
	enum sysv sort, int id, uint32_t key, struct sysv_object *by, bool *taken) must_check;
/* The next object of this sort that anybody makes gets this id, if its slot is free. */
struct err *sysv_next_id(enum sysv sort, int id) must_check;
struct err *sysv_set_owner(
	enum sysv sort, int id, uint32_t uid, uint32_t gid, uint32_t mode) must_check;
/* One that is gone is gone. */
struct err *sysv_remove(enum sysv sort, int id) must_check;

/* Who used a semaphore last; 0: nobody that can be named. */
struct err *sysv_sem_pid(int id, uint32_t n, pid_t *ret) must_check;
/* The values of all n of a set. */
struct err *sysv_sem_values(int id, uint16_t *v) must_check;
/* How many bytes a queue may hold. */
struct err *sysv_msg_room(int id, uint64_t bytes) must_check;
