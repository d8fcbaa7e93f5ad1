/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup v2: a group of our own that can be frozen. A frozen tree runs no instruction even when its
 * tracer dies or somebody sends SIGCONT (measured on 6.18, 150 of 150); remote calls do not run in
 * it either, so freezing is the last step. Without cgroup v2 freezer_make is UNSUPPORTED.
 */
#pragma once

#include "base/err.h"
#include "kernel/proc.h"

struct freezer {
	char *dir;  /* our group, below parent */
	char *home; /* where the process was before (source), NULL on the destination */
};

/* The process's present v2 group as a directory under the mounted hierarchy. */
struct err *freezer_current(pid_t pid, char **dir) must_check;
/* The v2 mount point, e.g. /sys/fs/cgroup or /sys/fs/cgroup/unified. */
struct err *freezer_root(char **dir) must_check;
/* A group of this name anywhere below it; *dir NULL: there is none. */
struct err *freezer_find(const char *name, char **dir) must_check;
/* Makes `parent`/`name`. */
struct err *freezer_make(const char *parent, const char *name, struct freezer *ret) must_check;
/* Moves a whole process in. */
struct err *freezer_join(struct freezer *f, pid_t pid) must_check;
/* Freezes or thaws; freezing waits (at most 1 s) until cgroup.events says so unless !wait. */
struct err *freezer_set(struct freezer *f, bool frozen, bool wait) must_check;
/* An error unless these processes are in it, and nobody else: somebody may have moved one
 * meanwhile, and what it has started is born where it is. */
struct err *freezer_check(const struct freezer *f, const struct pids *pids) must_check;
/* Who is in it; what our pid namespace does not see is 0. */
struct err *freezer_members(struct arena *a, const struct freezer *f, struct pids *ret) must_check;
/* Whether it was told to be frozen. */
struct err *freezer_get(const struct freezer *f, bool *frozen) must_check;
/* Ends all processes in it. */
struct err *freezer_kill(const struct freezer *f) must_check;
/* Removes the group; waits at most 1 s for processes that are ending. No error if there is none. */
struct err *freezer_remove(const struct freezer *f) must_check;
/* Moves this process (0: it has ended; else it must be there) and whoever else is in it to f->home
 * and removes the group. On failure they are thawed where they are. */
struct err *freezer_undo(struct freezer *f, pid_t pid) must_check;
void freezer_fini(struct freezer *f);
