/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processes of a tree as they travel (TREE): who is whose child, in which group and session.
 * Numbers of groups and sessions are always those of a process in the list: what is outside of the
 * tree at the source has become the root's, and a leader that has ended is in the list as GONE.
 */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "kernel/pids.h"
#include "session.pb-c.h"

/* More are refused, by either side. */
#define PROCESSES_MAX 4096

struct process {
	pid_t pid, parent, group, session; /* parent 0: the root */
	bool subreaper;
	Migrate__Life life;
	int status; /* ZOMBIE */
	int fd_max;
	uint64_t resident_bytes;
	uint32_t generation;
	uint32_t uid;
	char comm[16];
	pid_t *tids; /* LIVE: all of them */
	size_t n_tids;
};

struct process_list {
	struct process *v; /* the root first, every parent before its children */
	size_t n;
	pid_t main; /* whose pages may come over the page streams */
};

/* PEER if what BEGIN says of the root makes no sense. */
struct err *begin_check(const Migrate__Begin *m) must_check;

/* Whether what was there of it is of no use for what it is now. One that was not to live is as good
 * as a new one, and one that is not to live any more can be what it was. */
static inline bool process_is_another(const struct process *was, const struct process *is)
{
	return was->life == MIGRATE__LIFE__LIVE && is->life == MIGRATE__LIFE__LIVE &&
	       was->generation != is->generation;
}
const struct process *process_find(const struct process_list *l, pid_t pid);
/* Who has to make it, for its session to be right: its parent, or else the leader of its session,
 * which then is a child of the same parent. NULL: nobody can. */
const struct process *process_maker(const struct process_list *l, const struct process *p);

/* Those that live, ascending. */
struct pids processes_living(struct arena *a, const struct process_list *l);
/* Of those, the real uids, in no order. */
const uint32_t *processes_uids(struct arena *a, const struct process_list *l);

void processes_pack(
	struct arena *a, const struct process_list *l, const uint8_t **bytes, size_t *len);
/* PEER if it is no tree of `root`. */
struct err *processes_parse(struct arena *a, pid_t root, const uint8_t *bytes, size_t len,
	struct process_list *ret) must_check;
