// SPDX-License-Identifier: Apache-2.0
/*
 * Seedlings that job control has stopped. The kernel keeps that beside ptrace: remote calls run on
 * all the same, and a thread that is let go stops instead of running (ptrace(2), "Group-stop").
 */
#include <errno.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kernel/seedling_priv.h"
#include "kernel/trace.h"

/* Its next stop, of the sort that is expected before it runs a single instruction. */
static struct err *next_stop(const struct thread *th, int send, int *event, int *sig)
{
	int status;

	TRY(trace_resume(th->tid, PTRACE_CONT, send));
	TRY(trace_wait(th->tid, deadline_in(SEEDLING_MAKE_US), &status));
	if (!WIFSTOPPED(status))
		return err_new(ERR_GONE, "thread %d died", (int)th->tid);
	*event = trace_event(status);
	*sig = WSTOPSIG(status);
	return NULL;
}

static struct err *interrupt(const struct thread *th)
{
	if (ptrace(PTRACE_INTERRUPT, th->tid, NULL, NULL) < 0)
		return err_errno(errno, "interrupt thread %d", (int)th->tid);
	return NULL;
}

/* The signal comes to the first thread, which has nothing else that is not blocked; the stop that
 * is asked for besides comes if the signal does nothing. */
static struct err *begin_stop(struct task *t, int sig, int *got)
{
	struct thread *th = task_leader(t);
	int event = 0;

	TRY(task_mask(th, sig));
	if (pidfd_send_signal(t->pidfd, sig, NULL, 0) < 0)
		return err_errno(errno, "stop process %d", (int)t->pid);
	do {
		TRY(next_stop(th, 0, &event, got));
	} while (event);
	if (*got != sig)
		return err_new(ERR_BUG, "signal %d in thread %d, which is to be stopped by %d",
			*got, (int)th->tid, sig);
	TRY(interrupt(th));
	return next_stop(th, sig, &event, got);
}

static struct err *join_stop(struct thread *th)
{
	int event, sig;

	TRY(task_mask(th, 0));
	TRY(interrupt(th));
	TRY(next_stop(th, 0, &event, &sig));
	if (event != PTRACE_EVENT_STOP || sig == SIGTRAP)
		return err_new(ERR_BUG, "thread %d does not stop with the others", (int)th->tid);
	return NULL;
}

static struct err *forget(struct task *t, struct task *parent, bool waited)
{
	struct call wait = { .nr = SYS_waitid,
		.args = { P_PID, (uint64_t)t->pid, 0, WSTOPPED | WNOHANG | __WALL } };

	if (waited)
		TRY(remote_run(parent, task_leader(parent), &wait, 1));
	if (waited && wait.ret < 0)
		return err_errno((int)-wait.ret, "wait for the stop of %d", (int)t->pid);
	return seedling_forget_child(parent);
}

struct err *seedling_stop(struct task *t, int sig, struct task *parent, bool waited)
{
	int got;

	TRY(begin_stop(t, sig, &got));
	if (got == SIGTRAP && sig != SIGSTOP)
		TRY(begin_stop(t, SIGSTOP, &got));
	if (got == SIGTRAP)
		return err_new(ERR_BUG, "process %d is not stopped by SIGSTOP", (int)t->pid);
	for (size_t i = 1; i < t->n_threads; i++)
		TRY(join_stop(t->threads[i]));
	return parent ? forget(t, parent, waited) : NULL;
}
