/* SPDX-License-Identifier: Apache-2.0 */
/* What task.c, remote.c and seedling*.c share and nobody else sees. */
#pragma once

#include <signal.h>

#include "kernel/remote.h"
#include "kernel/filters.h"

/* How a target is traced. */
#define TASK_OPTIONS PTRACE_O_TRACESYSGOOD

/* Bytes of the target under ours: what was there before. */
struct saved_bytes {
	uint64_t at;
	size_t n; /* 0: nothing saved */
	uint8_t *bytes;
};

enum remote_place {
	PLACE_NONE,
	PLACE_GUEST,  /* in dead bytes of a target (source) */
	PLACE_AREA,   /* in a mapped area of ours (seedling) */
	PLACE_SEALED, /* nowhere: one call at a time with the vdso's instruction */
};

/* A batch that runs. */
struct run {
	int sig;     /* ends it; 0: it runs with system call stops */
	size_t left; /* stops until its end: 1 with a signal */
	bool stolen; /* a real signal of that number was taken: */
	siginfo_t info;
};

/* The last ones are for a child that is being made. */
#define SEEDLING_LENT_ALL (SEEDLING_LENT_MAX + 2)

struct remote {
	enum remote_place place;
	struct thread *started; /* remote_start: where a batch runs; NULL: nowhere */
	struct run run;         /* that one */
	/* Where things lie in the task. */
	uint64_t code, calls, scratch, frame;
	pid_t frame_tid; /* the thread whose context is in `frame`, 0 for none */
	int signals[2];  /* that may end a batch, best first */
	bool stop_seen;  /* a SIGSTOP was swallowed and must be sent again */
	struct saved_bytes saved_code, saved_data;
	uint64_t leave_at; /* target: LEAVE_BYTES of the vdso's end that no batch uses: pump.c */
	struct arch_state work; /* registers for the next run */

	/* seedling only */
	bool kill_on_free;           /* not released yet */
	uint64_t area;               /* start of SEEDLING_AREA_BYTES */
	uint64_t private_at;         /* scratch for seedling*.c, SEEDLING_PRIVATE_BYTES of it */
	uint64_t syscall_pc;         /* a system call instruction of the vdso */
	int sock;                    /* our end, -1 */
	int sock_number;             /* its other end's descriptor in the seedling, -1 */
	int lent[SEEDLING_LENT_ALL]; /* of the descriptors that seedling_lend put there, -1 */
};
#define SEEDLING_PRIVATE_BYTES (48u << 10)
#define LEAVE_BYTES            16

struct remote *remote_new(void) must_check;
void remote_free(struct remote *r);
/* Finds room in a target, saves what is there, writes the agent. */
struct err *remote_place(struct task *t) must_check;
/* One of the two codes in the place for it, and nothing behind it. */
struct err *remote_write_code(struct task *t, const void *(*which)(size_t *)) must_check;
/* The thread whose context is in the frame gets its own registers back. */
struct err *remote_clear_frame(struct task *t) must_check;
/* UNSUPPORTED if the thread's own filters let one of these calls end it, should we die meanwhile.
 * Afterwards they are suspended. */
struct err *remote_judge(
	struct task *t, struct thread *th, const struct call *calls, size_t n) must_check;
void remote_forget_filters(struct thread *th);
/* One call without the agent: SYSCALL stops around the vdso's instruction. Needs nothing in the
 * task but that. Seedlings only: if we die in it a target would be lost. */
struct err *remote_single(struct task *t, struct thread *th, struct call *c) must_check;

/* A thread of ours in a target: it begins with this code, in an area that it maps itself. Returns
 * when it needs nothing but that any more. *tid is set as soon as there is a thread, also on an
 * error. If we die meanwhile it goes on by itself. */
struct remote_launch {
	const void *image;
	size_t image_len;
	uint64_t area_bytes;
};
struct err *remote_launch(
	struct task *t, const struct remote_launch *l, pid_t *tid, uint64_t *area) must_check;

/* Start time and /proc/PID/mem of the process behind the pidfd. */
struct err *task_pin(struct task *t) must_check;
/* Adds a thread that is ptrace-stopped and traced by us; reads its state. */
struct err *task_adopt(struct task *t, pid_t tid, bool fresh, struct thread **ret) must_check;
/* Forgets a thread that has ended. */
void task_drop(struct task *t, struct thread *th);
/* The thread with all signals but `open` (0: none) blocked; remembers that it must be restored. */
struct err *task_mask(struct thread *th, int open) must_check;
/* Mask and registers as in th->state again. */
struct err *task_untouch(struct thread *th) must_check;
