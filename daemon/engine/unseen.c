// SPDX-License-Identifier: Apache-2.0
/*
 * Whoever has a part of the tree's shared memory has it from a parent. So one that is not tracked
 * is there and a child of somebody in the tree (or of another such one), or its parent has waited
 * for it, and the kernel has added its page faults to the parent's, or SIGCHLD is ignored and
 * nothing is added.
 */
#include "engine/unseen.h"

#include <signal.h>

#include "engine/source.h"

/* Children that nobody waits for are counted nowhere. */
static bool ignores_children(const struct proc_status *status)
{
	return status->sig_ignored >> (SIGCHLD - 1) & 1;
}

static bool is_tracked(const struct source_member *m)
{
	return m->layout && (m->dirty || m->everything);
}

static bool children_ended(struct source_member *m)
{
	autoarena struct arena *a = arena_new();
	struct proc_stat st;
	struct proc_status status;
	autoerr struct err *e = proc_stat(a, m->task->pid, 0, &st);
	autoerr struct err *e2 = proc_status(a, m->task->pid, 0, &status);
	bool ended;

	if (e || e2)
		return true; /* it may be gone itself */
	ended = st.child_faults != m->child_faults || ignores_children(&status);
	m->child_faults = st.child_faults;
	return ended;
}

/* Zombies count: they may have written a moment ago. */
static bool has_others(const struct source_member *m, const struct pids *known)
{
	autoarena struct arena *a = arena_new();
	pid_t *children;
	size_t n;
	autoerr struct err *e = proc_children(a, m->task->pid, &children, &n);

	for (size_t i = 0; !e && i < n; i++)
		if (!pids_have(known, children[i]))
			return true;
	return e != NULL;
}

static struct pids members(struct arena *a, const struct source *s)
{
	pid_t *v = arena_array(a, s->n_members, sizeof(*v));
	size_t n = 0;

	for (struct source_member *m = NULL; (m = source_next(s, m));)
		v[n++] = m->task->pid;
	return pids_sort(v, n);
}

struct unseen unseen_look(struct source *s)
{
	autoarena struct arena *a = arena_new();
	const struct pids known = members(a, s);
	const bool held = s->task->held; /* the tree is what it was when it was held */
	struct unseen u = { held && s->tree.n_zombies, false };

	for (struct source_member *m = NULL; (m = source_next(s, m));) {
		u.writers |= !m->looked_at || (!held && has_others(m, &known));
		u.ended |= children_ended(m);
		m->looked_at = is_tracked(m);
	}
	u.writers |= u.ended;
	return u;
}
