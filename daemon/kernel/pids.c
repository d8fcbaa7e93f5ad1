// SPDX-License-Identifier: Apache-2.0
#include "kernel/pids.h"

#include <stdlib.h>

#include "kernel/proc.h"

/* Deeper trees there are not. */
#define DEPTH_MAX 1000

static int by_number(const void *a, const void *b)
{
	const pid_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

struct pids pids_sort(pid_t *v, size_t n)
{
	if (n)
		qsort(v, n, sizeof(*v), by_number);
	return (struct pids){ .v = v, .n = n };
}

size_t pids_index(const struct pids *p, pid_t pid)
{
	const pid_t *at = p->n ? bsearch(&pid, p->v, p->n, sizeof(*p->v), by_number) : NULL;

	return at ? (size_t)(at - p->v) : p->n;
}

bool pids_have(const struct pids *p, pid_t pid)
{
	return pids_index(p, pid) < p->n;
}

static pid_t parent_of(pid_t pid)
{
	autoarena struct arena *a = arena_new();
	struct proc_stat st;
	autoerr struct err *e = proc_stat(a, pid, 0, &st);

	return e ? 0 : st.ppid;
}

bool pids_include(const struct pids *p, pid_t pid)
{
	if (pids_have(p, pid))
		return true;
	for (int i = 0; p->root && i < DEPTH_MAX && pid > 1; i++) {
		pid = parent_of(pid);
		if (pid == p->root || pids_have(p, pid))
			return true;
	}
	return false;
}
