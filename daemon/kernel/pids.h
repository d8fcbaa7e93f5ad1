/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of processes. */
#pragma once

#include <sys/types.h>

#include "base/base.h"

/* Pids, ascending; borrowed. */
struct pids {
	const pid_t *v;
	size_t n;
	pid_t root; /* 0: none; else whoever descends from it counts as well: it may be younger */
};
/* In the list itself. */
bool pids_have(const struct pids *p, pid_t pid);
/* In the list, or a descendant of its root. */
bool pids_include(const struct pids *p, pid_t pid);
/* Sorts them, and borrows v. */
struct pids pids_sort(pid_t *v, size_t n);
/* p->n if it is not there. */
size_t pids_index(const struct pids *p, pid_t pid);
