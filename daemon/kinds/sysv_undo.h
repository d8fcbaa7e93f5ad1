/* SPDX-License-Identifier: Apache-2.0 */
/* What is added to semaphores when a process ends (SEM_UNDO), found out and set. */
#pragma once

#include "kinds/kind.h"

/* Has this thread a list of undo values at all? Threads that pthread_create makes share one, mostly
 * empty. */
struct err *undo_list_there(pid_t tid, bool *ret) must_check;
/* Do they share it? */
struct err *undo_list_shared(pid_t a, pid_t b, bool *ret) must_check;
/* A set, whose semaphores do not change meanwhile, and the thread whose undo values it is about. */
struct undo_of {
	struct task *task;
	struct thread *thread;
	int id;
	const uint16_t *values; /* of all n semaphores */
	size_t n;
};
/* *may false: the thread may not change this set, so nobody can tell. */
struct err *undo_read(const struct undo_of *u, int32_t *ret, bool *may) must_check;
/* Sets that of one semaphore, which has none yet. */
struct err *undo_set(const struct undo_of *u, size_t number, int32_t undo) must_check;
