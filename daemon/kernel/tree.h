/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process and all that descend from it. Held as one: a process that stands still starts no other,
 * so listing the children of those that are held comes to an end.
 *
 * What loses its parent becomes a child of the nearest subreaper above it, or of init: then it is
 * in the tree no more, though it was.
 */
#pragma once

#include "kernel/proc.h"
#include "kernel/task.h"

/* More processes than that are refused by name. */
#define TREE_MAX 4096

/* An ended process that its parent has not waited for. */
struct tree_zombie {
	pid_t pid;
	struct proc_stat stat;
};

struct tree {
	struct task **v; /* the root first, every parent before its children */
	pid_t *parents;  /* of each, as it was found; of the root: 0 */
	size_t n, cap, cap_parents;
	struct tree_zombie *zombies; /* as of the last look while held */
	size_t n_zombies, cap_zombies;
	struct task **gone; /* in the tree at some time, and not any more: kept until tree_fini */
	size_t n_gone, cap_gone;
};

/* Finds the root and pins it, nothing else. */
struct err *tree_open(pid_t pid, struct tree *ret) must_check;
void tree_fini(struct tree *t);
/* Looks for who else belongs to it. While they run it is a guess. */
struct err *tree_look(struct tree *t) must_check;
/* Holds all of it, until no listing shows another process. What cannot stand still yet, such as the
 * parent in the middle of a vfork(2), is waited for until the deadline, and all of it runs on
 * meanwhile. On an error nothing is held, as with task_hold. */
struct err *tree_hold(struct tree *t, struct deadline d) must_check;
/* All of it runs on; the first error. Who has ended is no error but for the root. */
struct err *tree_let_go(struct tree *t) must_check;
struct task *tree_task(const struct tree *t, pid_t pid);
/* All pids, ascending, with those of zombies or without; `root` is that of the tree. */
struct pids tree_pids(struct arena *a, const struct tree *t, bool zombies);
