/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls that a stop interrupted, and how a rebuilt thread goes on with them.
 *
 * What the kernel left in the thread's registers (include/linux/errno.h):
 *   -512 -513 -514   it makes the call again from the registers alone: they are kept as they are.
 *   -516             it goes on by a restart block in its own memory, which a rebuilt thread lacks.
 * Calls that give up with EINTR at every stop are dealt with when the thread is held (task.c).
 */
#pragma once

#include "kernel/task.h"

enum restart {
	RESTART_KEEP,  /* registers as they are */
	RESTART_AGAIN, /* make the call again with the same arguments, unless a handler runs */
	RESTART_EINTR, /* what is left of its time is not known: the call ends with EINTR */
	RESTART_SLEEP, /* make a new restart block with the time that is left (nanosleep) */
};

struct interrupted {
	int64_t nr;  /* the call, -1 when there is none or it is not known which */
	int64_t ret; /* what it returned so far */
	uint64_t args[6];
};

/* Pure: what to do about it. */
enum restart restart_decide(const struct interrupted *i);

/* Reads it out of the state of a held thread. A thread that somebody stopped before shows
 * restart_syscall instead of its call: then the number is found in the code in front of the system
 * call instruction, and is -1 if it is not there. */
struct err *restart_look(
	const struct task *t, const struct arch_state *s, struct interrupted *ret) must_check;
/* Changes the state so that the thread will do that (RESTART_SLEEP also needs restart_block_make),
 * and puts the call's own number there again. */
void restart_apply(struct arch_state *s, const struct interrupted *i, enum restart what);

/* For task.c. A hold makes the kernel go on by restart_syscall, so the next hold would not see the
 * call's own number: task_let_go remembers it, and the next stop puts it back where the thread is
 * still in that call. */
void restart_remember(struct task *t);
void restart_recall(const struct task *t, struct thread *th);
void restart_forget(struct task *t);

/* Destination: makes a call in a stopped thread, by the instruction at which `s` was interrupted,
 * and interrupts it at once, so that the kernel's restart block is that of this call. *ret is what
 * the kernel left (-516, or the call's result when it was over already). The thread's registers are
 * garbage afterwards. */
struct err *restart_block_make(
	pid_t tid, const struct arch_state *s, const struct call *c, int64_t *ret) must_check;

#define RESTART_BLOCK (-516)
