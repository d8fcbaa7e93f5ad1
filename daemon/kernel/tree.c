// SPDX-License-Identifier: Apache-2.0
#include "kernel/tree.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The first try to hold all of it; each takes twice as long as the one before. Who does not stop by
 * then runs on for a moment, with all others: a vfork(2) ends only when the child runs. */
#define TRY_US   50000
#define PAUSE_US 2000

struct err *tree_open(pid_t pid, struct tree *ret)
{
	struct task *root;

	*ret = (struct tree){ .n = 0 };
	TRY(task_open(pid, &root));
	ret->cap = ret->cap_parents = 16;
	ret->v = xcalloc(ret->cap, sizeof(*ret->v));
	ret->parents = xcalloc(ret->cap, sizeof(*ret->parents));
	ret->v[ret->n++] = root;
	return NULL;
}

void tree_fini(struct tree *t)
{
	for (size_t i = 0; i < t->n; i++)
		task_free(t->v[i]);
	for (size_t i = 0; i < t->n_gone; i++)
		task_free(t->gone[i]);
	free(t->v);
	free(t->parents);
	free(t->zombies);
	free(t->gone);
	*t = (struct tree){ .n = 0 };
}

struct task *tree_task(const struct tree *t, pid_t pid)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->v[i]->pid == pid)
			return t->v[i];
	return NULL;
}

struct pids tree_pids(struct arena *a, const struct tree *t, bool zombies)
{
	size_t n = t->n + (zombies ? t->n_zombies : 0);
	pid_t *v = arena_array(a, n, sizeof(*v));
	struct pids ret;

	for (size_t i = 0; i < t->n; i++)
		v[i] = t->v[i]->pid;
	for (size_t i = t->n; i < n; i++)
		v[i] = t->zombies[i - t->n].pid;
	ret = pids_sort(v, n);
	ret.root = t->v[0]->pid;
	return ret;
}

/* ---- looking ---- */

/* One pass over the tree, anew from its root. */
struct look {
	struct tree *t;
	struct arena *arena;
	struct task **v; /* found, in their new order */
	pid_t *parents;
	size_t n, cap, cap_parents;
	size_t added; /* of them, that were not known, or were ending just then */
	struct tree_zombie *zombies;
	size_t n_zombies, cap_zombies;
};

static void found(struct look *l, struct task *task, pid_t parent)
{
	l->v = arena_grow(l->arena, l->v, &l->cap, l->n + 1, sizeof(*l->v));
	l->parents =
		arena_grow(l->arena, l->parents, &l->cap_parents, l->n + 1, sizeof(*l->parents));
	l->parents[l->n] = parent;
	l->v[l->n++] = task;
}

static bool has(const struct look *l, pid_t pid)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i]->pid == pid)
			return true;
	return false;
}

static bool is_zombie(const struct look *l, pid_t pid)
{
	for (size_t i = 0; i < l->n_zombies; i++)
		if (l->zombies[i].pid == pid)
			return true;
	return false;
}

static void found_zombie(struct look *l, pid_t pid, const struct proc_stat *st)
{
	if (is_zombie(l, pid))
		return;
	l->zombies = arena_grow(
		l->arena, l->zombies, &l->cap_zombies, l->n_zombies + 1, sizeof(*l->zombies));
	l->zombies[l->n_zombies++] = (struct tree_zombie){ pid, *st };
}

/* A process that has ended, or is just ending, is no error: the next look finds a zombie, or
 * nothing. */
static struct err *found_child(struct look *l, pid_t pid, pid_t parent)
{
	struct proc_stat st;
	struct task *known = tree_task(l->t, pid), *fresh;
	struct err *e = proc_stat(l->arena, pid, 0, &st);

	if (e && err_code(e) == ERR_GONE) {
		err_free(e);
		l->added++;
		return NULL;
	}
	TRY(e);
	if ((st.state == 'Z' || st.state == 'X') && st.num_threads <= 1) {
		found_zombie(l, pid, &st);
		return NULL;
	}
	if (has(l, pid))
		return NULL;
	if (pid == getpid())
		return err_new(ERR_UNSUPPORTED, "migrated itself descends from process %d",
			(int)l->v[0]->pid);
	if (known && known->start_time == st.start_time) {
		found(l, known, parent);
		return NULL;
	}
	if (l->n >= TREE_MAX)
		return err_new(ERR_LIMIT, "a tree of more than %d processes", TREE_MAX);
	l->added++;
	e = task_open(pid, &fresh);
	if (e && err_code(e) == ERR_GONE) {
		err_free(e);
		return NULL;
	}
	TRY(e);
	found(l, fresh, parent);
	return NULL;
}

static struct err *found_children(struct look *l, size_t i)
{
	struct task *task = l->v[i];
	size_t n = 0;
	pid_t *pids = NULL;
	struct err *e = proc_children(l->arena, task->pid, &pids, &n);

	if (e && err_code(e) == ERR_GONE && i) {
		err_free(e);
		return NULL;
	}
	TRY(e);
	for (size_t k = 0; k < n; k++)
		TRY(found_child(l, pids[k], task->pid));
	return NULL;
}

static void retire(struct tree *t, struct task *task)
{
	if (t->n_gone == t->cap_gone) {
		t->cap_gone = t->cap_gone * 2 + 16;
		t->gone = xrealloc_array(t->gone, t->cap_gone, sizeof(*t->gone));
	}
	t->gone[t->n_gone++] = task;
}

/* Who is in the tree no more runs on, if it is still there. */
static void retire_lost(struct look *l)
{
	for (size_t i = 0; i < l->t->n; i++) {
		struct task *task = l->t->v[i];
		bool there = false;

		for (size_t k = 0; k < l->n && !there; k++)
			there = l->v[k] == task;
		if (there)
			continue;
		err_free(task_let_go(task));
		retire(l->t, task);
	}
}

static void *keep(void *old, const void *from, size_t n, size_t size)
{
	void *v = xcalloc(MAX(n, (size_t)1), size);

	if (n)
		memcpy(v, from, n * size);
	free(old);
	return v;
}

static void take_look(struct look *l)
{
	struct tree *t = l->t;

	retire_lost(l);
	t->v = keep(t->v, l->v, l->n, sizeof(*t->v));
	t->parents = keep(t->parents, l->parents, l->n, sizeof(*t->parents));
	t->zombies = keep(t->zombies, l->zombies, l->n_zombies, sizeof(*t->zombies));
	t->n = t->cap = t->cap_parents = l->n;
	t->n_zombies = t->cap_zombies = l->n_zombies;
}

static void drop_look(struct look *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (tree_task(l->t, l->v[i]->pid) != l->v[i])
			task_free(l->v[i]);
}

static struct err *look(struct tree *t, size_t *added)
{
	autoarena struct arena *a = arena_new();
	struct look l = { .t = t, .arena = a };
	struct err *e = NULL;

	found(&l, t->v[0], 0);
	for (size_t i = 0; i < l.n && !e; i++)
		e = found_children(&l, i);
	if (e)
		drop_look(&l);
	else
		take_look(&l);
	*added = l.added;
	return e;
}

struct err *tree_look(struct tree *t)
{
	size_t added;

	return look(t, &added);
}

/* ---- holding ---- */

/* Everybody who is known; *more: somebody was not held before. */
static struct err *hold_known(struct tree *t, struct deadline d, bool *more)
{
	*more = false;
	for (size_t i = 0; i < t->n; i++) {
		struct err *e;

		if (t->v[i]->held)
			continue;
		*more = true;
		e = task_hold(t->v[i], d);
		if (e && err_code(e) == ERR_GONE && i) {
			err_free(e); /* the next look does not find it */
			continue;
		}
		TRY(e);
	}
	return NULL;
}

static bool held(const struct tree *t)
{
	for (size_t i = 0; i < t->n; i++)
		if (!t->v[i]->held)
			return false;
	return true;
}

/* A look that finds nobody new while all are held finds nobody ever. */
static struct err *hold_once(struct tree *t, struct deadline d)
{
	for (;;) {
		size_t added;
		bool more;

		TRY(hold_known(t, d, &more));
		TRY(look(t, &added));
		if (!more && !added && held(t))
			return NULL;
		if (deadline_passed(d))
			return err_new(
				ERR_TIMEOUT, "processes come faster than they can be stopped");
	}
}

struct err *tree_hold(struct tree *t, struct deadline d)
{
	if (held(t))
		return NULL;
	for (int64_t us = TRY_US;; us *= 2) {
		struct err *e = hold_once(t, deadline_min(d, deadline_in(us)));

		if (!e)
			return NULL;
		err_free(tree_let_go(t));
		if (err_code(e) != ERR_TIMEOUT || deadline_passed(d))
			return e;
		err_free(e);
		usleep(PAUSE_US);
	}
}

struct err *tree_let_go(struct tree *t)
{
	struct err *first = NULL;

	for (size_t i = t->n; i-- > 0;) {
		struct err *e = task_let_go(t->v[i]);

		if (e && !first && (i == 0 || err_code(e) != ERR_GONE))
			first = e;
		else
			err_free(e);
	}
	return first;
}
