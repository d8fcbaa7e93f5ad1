// SPDX-License-Identifier: Apache-2.0
#include "kernel/trace.h"

#include <errno.h>
#include <sched.h>
#include <sys/wait.h>
#include <time.h>

#define SPIN_US     300
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

/* Most stops come within microseconds: a nap would cost more than it saves. */
static void wait_a_little(int64_t since_us, struct timespec *nap)
{
	if (clock_us() - since_us < SPIN_US) {
		sched_yield();
		return;
	}
	nanosleep(nap, NULL);
	nap->tv_nsec = MIN(nap->tv_nsec * 2, NAP_NS_MAX);
}

struct err *trace_wait(pid_t tid, struct deadline d, int *status)
{
	struct timespec nap = { 0, NAP_NS_MIN };
	int64_t since = 0;

	for (;;) {
		pid_t got = waitpid(tid, status, __WALL | WNOHANG);

		if (got == tid)
			return NULL;
		if (got < 0 && errno == ECHILD)
			return err_new(ERR_GONE, "thread %d has ended", (int)tid);
		if (got < 0 && errno != EINTR)
			return err_errno(errno, "wait for thread %d", (int)tid);
		if (!since)
			since = clock_us();
		if (deadline_passed(d))
			return err_new(ERR_TIMEOUT, "thread %d does not stop", (int)tid);
		wait_a_little(since, &nap);
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
