// SPDX-License-Identifier: Apache-2.0
#include "kernel/trace.h"

#include <errno.h>
#include <sched.h>
#include <sys/wait.h>
#include <time.h>

#define SPINS       50
#define NAP_NS_MAX  1000000
#define PEEK_AT_ONE 16

struct err *trace_get_mask(pid_t tid, uint64_t *mask)
{
	uint64_t got;

	if (ptrace(PTRACE_GETSIGMASK, tid, sizeof(got), &got) < 0)
		return err_errno(errno, "read signal mask of thread %d", (int)tid);
	*mask = got;
	return NULL;
}

struct err *trace_set_mask(pid_t tid, uint64_t mask)
{
	if (ptrace(PTRACE_SETSIGMASK, tid, sizeof(mask), &mask) < 0)
		return err_errno(errno, "set signal mask of thread %d", (int)tid);
	return NULL;
}

struct err *trace_resume(pid_t tid, int request, int sig)
{
	if (ptrace((enum __ptrace_request)request, tid, NULL, (void *)(intptr_t)sig) < 0)
		return err_errno(errno, "resume thread %d", (int)tid);
	return NULL;
}

struct err *trace_wait(pid_t tid, struct deadline d, int *status)
{
	bool block = d.at_us == DEADLINE_NEVER.at_us;
	struct timespec nap = { 0, 20000 };

	for (unsigned tries = 0;; tries++) {
		pid_t got = waitpid(tid, status, __WALL | (block ? 0 : WNOHANG));

		if (got == tid)
			return NULL;
		if (got < 0 && errno == ECHILD)
			return err_new(ERR_GONE, "thread %d has ended", (int)tid);
		if (got < 0 && errno != EINTR)
			return err_errno(errno, "wait for thread %d", (int)tid);
		if (block)
			continue;
		if (deadline_passed(d))
			return err_new(ERR_TIMEOUT, "thread %d does not stop", (int)tid);
		if (tries < SPINS) {
			sched_yield();
			continue;
		}
		nanosleep(&nap, NULL);
		nap.tv_nsec = MIN(nap.tv_nsec * 2, NAP_NS_MAX);
	}
}

static struct err *pending_in(pid_t tid, uint32_t flags, uint64_t *mask)
{
	struct __ptrace_peeksiginfo_args args = { .flags = flags, .nr = PEEK_AT_ONE };
	siginfo_t found[PEEK_AT_ONE];
	long n = ptrace(PTRACE_PEEKSIGINFO, tid, &args, found);

	if (n < 0)
		return err_errno(errno, "read pending signals of thread %d", (int)tid);
	if (n == PEEK_AT_ONE) /* perhaps more: all may be there */
		*mask = MASK_ALL;
	for (long i = 0; i < n; i++)
		*mask |= MASK_BIT(found[i].si_signo);
	return NULL;
}

struct err *trace_pending(pid_t tid, uint64_t *mask)
{
	uint64_t got = 0;

	TRY(pending_in(tid, 0, &got));
	TRY(pending_in(tid, PTRACE_PEEKSIGINFO_SHARED, &got));
	*mask = got;
	return NULL;
}
