/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pump: a thread of ours in the running target that puts its pages into pipes, by reference
 * (vmsplice, SPLICE_F_GIFT). The target is stopped once, for a moment, to start it; it is never
 * stopped for an order, and while the target is held the pump goes on.
 *
 * It blocks all signals, has a descriptor table of its own with nothing in it but its pipes, and a
 * mapping of its own that the process's children do not inherit; task->pump tells who it is. It
 * ends with our end of its order pipe, so also with our death at any moment, and takes its mapping
 * away by itself.
 *
 * What is in a pipe are the target's pages: if it writes to them before they have been sent, the
 * peer gets what it wrote.
 *
 * While it lives: unshare(CLONE_NEWUSER) fails in the target (EINVAL), it counts as one thread, and
 * a process whose main thread alone ends (pthread_exit) stays until the pump goes.
 */
#pragma once

#include <sys/uio.h>

#include "kernel/task.h"

#define PUMP_PIPES 2
/* Pieces of memory per order: what a pipe takes in one go (PIPE_BUF). */
#define PUMP_VECTOR_MAX 255

struct pump;

/* Not held, or held: then it is not let go in between. UNSUPPORTED or another error where it cannot
 * be (seccomp, no room, no more threads or memory allowed): nothing is left there then. */
struct err *pump_open(struct task *t, struct pump **ret) must_check;

struct pump_facts {
	int64_t stop_us;    /* how long the target stood still */
	unsigned fds;       /* descriptors of ours */
	size_t pipe_bytes;  /* of all its pipes for pages */
	bool leaves_traces; /* should we be killed, some bytes behind the vdso stay */
};
void pump_facts(const struct pump *p, struct pump_facts *ret);
/* Where the pages of orders for this pipe come out, and how many it holds. */
int pump_pipe(const struct pump *p, unsigned pipe);
size_t pump_room(const struct pump *p);

/* Whole pages into an empty pipe: n <= PUMP_VECTOR_MAX pieces, no more than there is room. One
 * order at a time: pump_result comes before the next. */
struct err *pump_order(struct pump *p, unsigned pipe, const struct iovec *v, size_t n) must_check;
/* How many bytes of it are in the pipe now. Less than all: the page behind cannot be read by the
 * process itself. GONE when the pump has ended (with the process, or because it executed another
 * program). */
struct err *pump_result(struct pump *p, struct deadline d, size_t *bytes) must_check;

/* Ends it and waits until nothing of it is left; pipes keep what is in them until pump_free. NULL
 * too when the process has ended. Idempotent. */
struct err *pump_end(struct pump *p) must_check;
/* Ends it if need be. */
void pump_free(struct pump *p);
