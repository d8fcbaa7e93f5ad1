// SPDX-License-Identifier: Apache-2.0
#include "kernel/trace.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#define SPIN_US     50
#define NAP_NS_MIN  20000
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

/* How a wait goes on that has lasted a while. */
struct patience {
	int64_t since_us;
	struct timespec nap;
	bool blocked; /* SIGCHLD is; before that, the mask was: */
	sigset_t mask;
};

/* Most stops come within microseconds: a nap would cost more than it saves. Each stop sends
 * SIGCHLD, which is kept for us only while it is blocked, and which another thread, or somebody who
 * ignores it, may make us miss: so the naps end by themselves, too. */
static void wait_a_little(struct patience *p)
{
	sigset_t chld;

	if (clock_us() - p->since_us < SPIN_US) {
		sched_yield();
		return;
	}
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	if (!p->blocked) { /* then looks once more */
		p->blocked = pthread_sigmask(SIG_BLOCK, &chld, &p->mask) == 0;
		return;
	}
	(void)sigtimedwait(&chld, NULL, &p->nap);
	p->nap.tv_nsec = MIN(p->nap.tv_nsec * 2, NAP_NS_MAX);
}

static struct err *wait_for(pid_t tid, struct deadline d, int *status, struct patience *p)
{
	for (;;) {
		pid_t got = waitpid(tid, status, __WALL | WNOHANG);

		if (got == tid)
			return NULL;
		if (got < 0 && errno == ECHILD)
			return err_new(ERR_GONE, "thread %d has ended", (int)tid);
		if (got < 0 && errno != EINTR)
			return err_errno(errno, "wait for thread %d", (int)tid);
		if (!p->since_us)
			p->since_us = clock_us();
		if (deadline_passed(d))
			return err_new(ERR_TIMEOUT, "thread %d does not stop", (int)tid);
		wait_a_little(p);
	}
}

static struct err *wait_with(pid_t tid, struct deadline d, int *status, struct patience *p)
{
	struct err *e = wait_for(tid, d, status, p);

	if (p->blocked)
		pthread_sigmask(SIG_SETMASK, &p->mask, NULL);
	return e;
}

struct err *trace_wait(pid_t tid, struct deadline d, int *status)
{
	return wait_with(tid, d, status, &(struct patience){ .nap = { 0, NAP_NS_MIN } });
}

struct err *trace_wait_long(pid_t tid, struct deadline d, int *status)
{
	/* It has lasted for ever. */
	return wait_with(
		tid, d, status, &(struct patience){ .since_us = 1, .nap = { 0, NAP_NS_MIN } });
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
