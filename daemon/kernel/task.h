/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that we look at (source) or build (destination), and holding it: every thread stopped
 * by ptrace. A hold leaves no trace: no signal, no group stop, interrupted system calls go on as
 * the kernel would continue them. When our process dies, the kernel lets the threads run on.
 *
 * Signals go through the pidfd only: a failed call's -1 must never reach kill(2).
 */
#pragma once

#include "base/clock.h"
#include "base/err.h"
#include "kernel/arch.h"

/*
 * Source: `state` is the thread as it was when it was stopped (as the kernel would continue it: an
 * rseq critical section is left through its abort address), and task_let_go brings it back.
 * Destination (fresh): whoever rebuilds the thread fills `state` in, and task_let_go loads all of
 * it, mask and extended state included.
 */
struct thread {
	pid_t tid;
	struct arch_state state; /* valid while held */
	bool fresh;              /* destination: made by us, never ran */
	bool stopped;            /* private: it is in a ptrace stop */
	int stop_signal;         /* private: of the task, as this thread shows it */
	bool touched;            /* private: the kernel's registers are not those of `state` */
	bool masked;             /* private: the kernel's mask is not that of `state` but this */
	uint64_t mask;
	struct thread_filters *filters; /* private to remote_filter.c */
};

/* A thread of ours in the process and its memory (pump.h): no part of what is held or captured. */
struct task_pump {
	pid_t tid;           /* 0: there is none */
	uint64_t start_time; /* with it, the thread is told from a later one of the same number */
	uint64_t start, end; /* addresses */
};

struct task {
	pid_t pid;
	int pidfd;  /* -1 only before task_open */
	int mem_fd; /* /proc/PID/mem, read and write; survives changes of credentials, not exec */
	bool held;
	int stop_signal;         /* while held: what job control has stopped it by; 0: it runs */
	struct thread **threads; /* only while held; the leader (tid == pid) first */
	size_t n_threads;
	uint64_t start_time;   /* see proc_stat */
	struct remote *remote; /* private to remote.c and seedling*.c: where batches lie */
	struct restart_memory
		*restarts; /* private to restart.c: interrupted calls of the last hold */
	struct task_pump pump;
};

/* Whether memory at addr is ours and not the process's. */
static inline bool task_pump_has(const struct task *t, uint64_t addr)
{
	return t->pump.tid && addr >= t->pump.start && addr < t->pump.end;
}
/* Whether the thread that has this number now is ours. */
bool task_pump_is(const struct task *t, pid_t tid);

/* Finds the process and pins it (pidfd + start time). GONE if there is none. */
struct err *task_open(pid_t pid, struct task **ret) must_check;
/* Lets go if held, and forgets it. The process is not touched otherwise, but a seedling that was
 * not released is killed. */
void task_free(struct task *t);
void task_freep(struct task **t);
#define autotask AUTO(task_freep)

/* Stops every thread but the pump, also those that start meanwhile (lists until two passes agree).
 * Refuses (DENIED/UNSUPPORTED) when another tracer has it, or when the leader has exited. Whom job
 * control has stopped is held as well, and goes back to that stop when it is let go. On an error
 * nothing stays held, but for a thread that did not react until the deadline (TIMEOUT; it sleeps in
 * the kernel): that one goes on when our thread ends. All calls for a held task must come from the
 * thread that held it (ptrace). Idempotent. */
struct err *task_hold(struct task *t, struct deadline d) must_check;
/* All threads run on. Restores registers and bytes that remote calls changed. Idempotent. GONE if
 * the process died. */
struct err *task_let_go(struct task *t) must_check;
/* GONE unless it is still the process that was opened and alive. */
struct err *task_check_alive(const struct task *t) must_check;
struct thread *task_thread(const struct task *t, pid_t tid);
static inline struct thread *task_leader(const struct task *t)
{
	return t->threads[0];
}
/* SIGKILL by pidfd. */
struct err *task_kill(struct task *t) must_check;
/* Waits until the process is a zombie or gone. */
struct err *task_wait_end(struct task *t, struct deadline d) must_check;

/* Memory from outside, held or not. Exact length or an error (KERNEL, EFAULT). Goes by
 * /proc/PID/mem, which also reads PROT_NONE and writes read-only private memory. */
struct err *task_read(const struct task *t, uint64_t addr, void *buf, size_t n) must_check;
struct err *task_write(const struct task *t, uint64_t addr, const void *buf, size_t n) must_check;
