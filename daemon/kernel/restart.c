// SPDX-License-Identifier: Apache-2.0
/*
 * Interrupted system calls, one row per call that needs thought. Facts (6.1 to 6.18):
 * - Only futex, nanosleep, clock_nanosleep and poll leave a restart block (-516). The kernel goes
 * on with restart_syscall(2), whose number then stands where the call's own was: at a second stop
 *   the original number is lost, the arguments are not.
 * - ppoll, select and pselect write back what is left of their timeout and return -514.
 * - A futex wait with an absolute timeout (FUTEX_WAIT_BITSET, what C libraries use) can be made
 *   again as it is: the time namespace keeps the clock. FUTEX_WAIT is relative; its callers must
 * bear a wake-up without a reason, so EINTR does no harm.
 * - (clock_)nanosleep wrote what is left behind its remainder pointer when it was interrupted.
 * - What is left of a poll, or of a sleep without such a pointer, only the old kernel knew. They
 * begin anew: both may last longer than asked for, which every caller must bear; none expects EINTR
 * where no signal came.
 */
#include "kernel/restart.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "kernel/trace.h"

/* How much of the code in front of the instruction is looked at. */
#define CODE_BYTES 32

static enum restart decide_futex(const struct interrupted *i)
{
	unsigned op = (unsigned)i->args[1] & FUTEX_CMD_MASK;

	if (op == FUTEX_WAIT && i->args[3] != 0)
		return RESTART_EINTR;
	return RESTART_AGAIN;
}

static enum restart decide_nanosleep(const struct interrupted *i)
{
	return i->args[1] ? RESTART_SLEEP : RESTART_AGAIN;
}

static enum restart decide_clock_nanosleep(const struct interrupted *i)
{
	if (i->args[1] & TIMER_ABSTIME)
		return RESTART_AGAIN;
	return i->args[3] ? RESTART_SLEEP : RESTART_AGAIN;
}

static enum restart decide_poll(const struct interrupted *i unused_arg)
{
	return RESTART_AGAIN;
}

struct rule {
	int64_t nr;
	enum restart (*decide)(const struct interrupted *i);
};

static const struct rule block_rules[] = {
	{ SYS_clock_nanosleep, decide_clock_nanosleep },
	{ SYS_futex, decide_futex },
	{ SYS_nanosleep, decide_nanosleep },
#ifdef SYS_poll /* newer architectures have ppoll alone */
	{ SYS_poll, decide_poll },
#endif
};

enum restart restart_decide(const struct interrupted *i)
{
	if (i->ret != RESTART_BLOCK)
		return RESTART_KEEP;
	for (size_t k = 0; k < ARRAY_LEN(block_rules); k++)
		if (block_rules[k].nr == i->nr)
			return block_rules[k].decide(i);
	return RESTART_EINTR;
}

struct err *restart_look(const struct task *t, const struct arch_state *s, struct interrupted *ret)
{
	struct interrupted i = { .nr = arch_syscall_nr(s) };

	if (i.nr >= 0) {
		i.ret = arch_syscall_ret(s);
		for (unsigned k = 0; k < ARRAY_LEN(i.args); k++)
			i.args[k] = arch_syscall_arg(s, k);
	}
	if (i.nr == SYS_restart_syscall) {
		uint8_t code[CODE_BYTES];
		int64_t numbers[ARRAY_LEN(block_rules)];
		/* The start of a mapping is nearer than that in no real program. */
		autoerr struct err *e = task_read(t, arch_pc(s) - sizeof(code), code, sizeof(code));

		if (e && err_code(e) == ERR_GONE)
			return take(&e);
		for (size_t k = 0; k < ARRAY_LEN(block_rules); k++)
			numbers[k] = block_rules[k].nr;
		i.nr = e ? -1
			 : arch_syscall_number_before(
				   code, sizeof(code), numbers, ARRAY_LEN(numbers));
	}
	*ret = i;
	return NULL;
}

void restart_apply(struct arch_state *s, const struct interrupted *i, enum restart what)
{
	if (what != RESTART_KEEP && i->nr >= 0)
		arch_syscall_renumber(s, i->nr);
	switch (what) {
	case RESTART_AGAIN:
		arch_syscall_again(s);
		break;
	case RESTART_EINTR:
		arch_syscall_finish(s, -EINTR);
		break;
	case RESTART_KEEP:
	case RESTART_SLEEP:
		break;
	}
}

/* ---- from one hold to the next ---- */

/* As much of a call as the kernel leaves in place. */
struct place {
	uint64_t pc, sp, args[6];
};

struct restart_memory {
	size_t n;
	struct remembered {
		pid_t tid;
		int64_t nr;
		struct place place;
	} v[];
};

static struct place place_of(const struct arch_state *s)
{
	struct place p = { .pc = arch_pc(s), .sp = arch_sp(s) };

	for (unsigned i = 0; i < ARRAY_LEN(p.args); i++)
		p.args[i] = arch_syscall_arg(s, i);
	return p;
}

static bool by_block(const struct arch_state *s)
{
	return arch_syscall_nr(s) >= 0 && arch_syscall_ret(s) == RESTART_BLOCK;
}

void restart_remember(struct task *t)
{
	struct restart_memory *m = NULL;

	for (size_t i = 0; i < t->n_threads; i++) {
		const struct thread *th = t->threads[i];

		if (!by_block(&th->state) || arch_syscall_nr(&th->state) == SYS_restart_syscall)
			continue;
		if (!m)
			m = xcalloc(1, sizeof(*m) + t->n_threads * sizeof(m->v[0]));
		m->v[m->n++] = (struct remembered){ th->tid, arch_syscall_nr(&th->state),
			place_of(&th->state) };
	}
	restart_forget(t);
	t->restarts = m;
}

void restart_recall(const struct task *t, struct thread *th)
{
	struct place now;

	if (!t->restarts || !by_block(&th->state) ||
		arch_syscall_nr(&th->state) != SYS_restart_syscall)
		return;
	now = place_of(&th->state);
	for (size_t i = 0; i < t->restarts->n; i++) {
		const struct remembered *r = &t->restarts->v[i];

		if (r->tid == th->tid && memcmp(&r->place, &now, sizeof(now)) == 0)
			arch_syscall_renumber(&th->state, r->nr);
	}
}

void restart_forget(struct task *t)
{
	free(t->restarts);
	t->restarts = NULL;
}

/* ---- destination ---- */

/* Lets a stopped thread go on with `request` and waits for its next stop. */
static struct err *step(pid_t tid, enum __ptrace_request request, int *ret)
{
	int status;
	pid_t got;

	if (ptrace(request, tid, NULL, NULL) < 0)
		return err_errno(errno, "let thread %d go on", (int)tid);
	do
		got = waitpid(tid, &status, __WALL);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return err_errno(errno, "wait for thread %d", (int)tid);
	if (!WIFSTOPPED(status))
		return err_new(ERR_GONE, "thread %d has ended", (int)tid);
	*ret = WSTOPSIG(status);
	return NULL;
}

/* A SIGCONT from outside stops it before it has got anywhere. */
static struct err *step_into_call(pid_t tid)
{
	int sig;

	do
		TRY(step(tid, PTRACE_SYSCALL, &sig));
	while (sig != TRACE_SYSCALL_STOP);
	return NULL;
}

struct err *restart_block_make(
	pid_t tid, const struct arch_state *s, const struct call *c, int64_t *ret)
{
	struct arch_state at = *s;
	int sig;

	/* A signal that waits for the thread must go on waiting. */
	at.sigmask = MASK_ALL;
	arch_call_regs(&at, arch_syscall_pc(s), c);
	TRY(arch_set_regs(tid, &at));
	/* To the entry of the call first: an interrupt that is pending there lets the call set up
	 * all that it needs and give up at once, without sleeping. */
	TRY(step_into_call(tid));
	if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0)
		return err_errno(errno, "interrupt thread %d", (int)tid);
	TRY(step(tid, PTRACE_CONT, &sig));
	TRY(arch_get_state(tid, &at));
	*ret = arch_syscall_ret(&at);
	return NULL;
}
