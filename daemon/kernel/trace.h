/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ptrace(2) as functions that return an err. A tracer is a thread in Linux: all calls for one task
 * must come from the thread that held it.
 */
#pragma once

#include <signal.h>
#include <sys/ptrace.h>

#include "base/clock.h"
#include "base/err.h"

#define MASK_ALL      (~0ULL)
#define MASK_BIT(sig) (1ULL << ((sig)-1))
/* The stop of a system call, with PTRACE_O_TRACESYSGOOD. */
#define TRACE_SYSCALL_STOP (SIGTRAP | 0x80)

struct err *trace_get_mask(pid_t tid, uint64_t *mask) must_check;
/* Like rt_sigprocmask in the thread; SIGKILL and SIGSTOP are never blocked. */
struct err *trace_set_mask(pid_t tid, uint64_t mask) must_check;
/* PTRACE_CONT, PTRACE_SYSCALL, PTRACE_DETACH with a signal (0: none). */
struct err *trace_resume(pid_t tid, int request, int sig) must_check;
/* The thread's next stop or end; GONE if there is nothing to wait for, TIMEOUT at the deadline. */
struct err *trace_wait(pid_t tid, struct deadline d, int *status) must_check;
/* The same where it will take its time: leaves the processor at once. */
struct err *trace_wait_long(pid_t tid, struct deadline d, int *status) must_check;
/* PTRACE_EVENT_* of a stop, 0 for none. */
static inline int trace_event(int status)
{
	return status >> 16;
}
/* Whether sig is queued for the thread or its process; true also when there are too many to tell.
 */
struct err *trace_pending(pid_t tid, uint64_t *mask) must_check;
