/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pipes and sockets other processes hold: a pipe end or a socket that somebody outside of the
 * moved process shares cannot be moved. One scan over /proc/PID/fd of all processes costs about
 * 1 us per descriptor of the host, so it belongs into the rehearsal, never into the frozen stretch.
 */
#pragma once

#include "base/err.h"
#include "kernel/proc.h"

/* Calls fn for every descriptor of every process that we can see, but for `except` and ourselves. A
 * process that ends meanwhile, or that we may not look at, is left out. */
typedef void (*outside_fn)(void *arg, pid_t pid, int number, const char *link);
struct err *outside_walk(const struct pids *except, outside_fn fn, void *arg) must_check;

struct outside;

struct outside_holder {
	uint64_t ino;
	bool socket; /* else a pipe; the two count their inodes separately */
	pid_t pid;
};

/* All pipes and sockets (by inode) of all processes that we can see, but for `except` and
 * ourselves. What a process passes along in a message or keeps in io_uring is not seen. */
struct err *outside_scan(const struct pids *except, struct outside **ret) must_check;
void outside_free(struct outside *o);
/* Somebody who holds what has this link ("pipe:[4711]", "socket:[4712]"); NULL for nobody. Owned by
 * o. */
const struct outside_holder *outside_find(const struct outside *o, const char *link);
/* Is the link one that outside_find knows? */
bool outside_parse(const char *link, struct outside_holder *ret);
