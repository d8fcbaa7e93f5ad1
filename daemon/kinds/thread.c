// SPDX-License-Identifier: Apache-2.0
/*
 * A thread: its registers, and what the kernel keeps for it at its own request: robust list, the
 * address to clear at its end, rseq area, alternate signal stack, name, timer slack.
 *
 * The rehearsal makes the threads; all the rest is set frozen, with the memory in place
 * (registering rseq writes to it). The registers come last of all, by thread_set_registers(),
 * because remote calls run in the thread until then.
 *
 * An interrupted system call is dealt with at capture as far as the registers can say it
 * (kernel/restart.h). For a relative sleep the rest of the time travels, and the destination makes
 * the kernel's restart block by sleeping and being interrupted.
 *
 * When an original ends after its move, or a copy that was given up, its robust list must not be
 * walked: locks in a shared file would be marked as left by a dead owner, although the owner lives
 * on the other host. (If our process is killed in between, the kernel ends the copy and walks it.)
 */
#include "kinds/thread.h"

#include <errno.h>
#include <linux/prctl.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kernel/restart.h"
#include "kinds/calls.h"
#include "kinds/thread_facts.h"
#include "thread.pb-c.h"

#ifndef PTRACE_GET_RSEQ_CONFIGURATION
#define PTRACE_GET_RSEQ_CONFIGURATION 0x420f /* Linux 5.13 */
#endif

#define COMM_BYTES 16
#define NS_PER_S   1000000000LL

/* struct ptrace_rseq_configuration, which libc may lack or have under the same name. */
struct rseq_configuration {
	uint64_t addr;
	uint32_t bytes, signature, flags, pad;
};

/* stack_t of a 64-bit kernel. */
struct kernel_stack {
	uint64_t sp;
	int32_t flags, pad;
	uint64_t bytes;
};

/* struct robust_list_head */
struct robust_head {
	uint64_t next, futex_offset, pending;
};

/* What lies in the scratch memory during finish. */
struct scratch {
	struct kernel_stack stack;
	char comm[COMM_BYTES];
};

static uint64_t place(const struct task *t, size_t offset)
{
	return remote_scratch(t).v + offset;
}

/* ---- source ---- */

static struct err *capture_rseq(pid_t tid, Migrate__Kind__Thread__Rseq *ret)
{
	struct rseq_configuration conf = { 0 };

	if (ptrace((enum __ptrace_request)PTRACE_GET_RSEQ_CONFIGURATION, tid, (void *)sizeof(conf),
		    &conf) < 0) {
		if (errno == EIO || errno == EINVAL)
			return NULL; /* a kernel without rseq: nothing can be registered */
		return err_errno(errno, "ask for the rseq area");
	}
	ret->addr = conf.addr;
	ret->bytes = conf.bytes;
	ret->signature = conf.signature;
	return NULL;
}

static struct err *capture_robust(pid_t tid, Migrate__Kind__Thread *m)
{
	void *head = NULL;
	size_t bytes = 0;

	if (syscall(SYS_get_robust_list, tid, &head, &bytes) < 0)
		return err_errno(errno, "ask for the robust list");
	m->robust_head = (uint64_t)(uintptr_t)head;
	m->robust_bytes = bytes;
	return NULL;
}

static bool is_cpu_clock(int32_t clock)
{
	return clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID;
}

static struct err *capture_sleep(
	struct capture *c, const struct interrupted *i, Migrate__Kind__Thread__Sleep *sleep)
{
	bool by_clock = i->nr == SYS_clock_nanosleep;
	struct {
		int64_t s, ns;
	} left;

	sleep->number = (uint32_t)i->nr;
	sleep->clock = by_clock ? (int32_t)i->args[0] : CLOCK_MONOTONIC;
	sleep->cpu_clock = is_cpu_clock(sleep->clock);
	sleep->remainder_addr = i->args[by_clock ? 3 : 1];
	TRY_IN(task_read(c->task, sleep->remainder_addr, &left, sizeof(left)),
		"what is left of its sleep");
	if (left.s < 0 || left.s > INT64_MAX / NS_PER_S - 1 || left.ns < 0 || left.ns >= NS_PER_S)
		return err_new(ERR_UNSUPPORTED, "what is left of its sleep makes no sense");
	sleep->left_ns = left.s * NS_PER_S + left.ns;
	return NULL;
}

static struct err *capture_restart(struct capture *c, struct arch_state *s,
	Migrate__Kind__Thread *m, Migrate__Kind__Thread__Sleep *sleep)
{
	struct interrupted i;
	enum restart what;

	TRY(restart_look(c->task, s, &i));
	what = restart_decide(&i);
	restart_apply(s, &i, what);
	if (what == RESTART_SLEEP) {
		TRY(capture_sleep(c, &i, sleep));
		m->sleep = sleep;
	}
	return NULL;
}

/* Most components are unused in most threads, and 1,000 threads travel while they stand still. */
static size_t without_zeros(const uint8_t *bytes, size_t n)
{
	while (n && bytes[n - 1] == 0)
		n--;
	return n;
}

static struct err *thread_capture(struct capture *c)
{
	Migrate__Kind__Thread m = MIGRATE__KIND__THREAD__INIT;
	Migrate__Kind__Thread__Rseq rseq = MIGRATE__KIND__THREAD__RSEQ__INIT;
	Migrate__Kind__Thread__AltStack altstack = MIGRATE__KIND__THREAD__ALT_STACK__INIT;
	Migrate__Kind__Thread__Sleep sleep = MIGRATE__KIND__THREAD__SLEEP__INIT;
	struct arch_state state = c->thread->state;
	uint32_t speculation[THREAD_SPECULATIONS];
	const struct thread_facts *facts;

	TRY(arch_check_state(&state));
	m.tid = c->thread->tid;
	m.rseq = &rseq;
	m.altstack = &altstack;
	TRY(capture_rseq(m.tid, &rseq));
	TRY(capture_robust(m.tid, &m));
	TRY(thread_facts(c, c->thread, &facts));
	m.comm.data = (uint8_t *)facts->comm;
	m.comm.len = strnlen(facts->comm, sizeof(facts->comm));
	m.clear_child_tid = facts->clear_child_tid;
	altstack.sp = facts->stack_sp;
	altstack.bytes = facts->stack_bytes;
	altstack.flags = facts->stack_flags;
	m.timer_slack_ns = facts->timer_slack_ns;
	m.tsc_mode = facts->tsc_mode;
	m.speculation = speculation;
	m.n_speculation = ARRAY_LEN(speculation);
	memcpy(speculation, facts->speculation, sizeof(speculation));
	m.memory_failure = facts->memory_failure;
	if (facts->numa_policy)
		capture_warn(c, "the NUMA memory policy of thread %d is not carried", m.tid);
	TRY(capture_restart(c, &state, &m, &sleep));
	m.sigmask = state.sigmask;
	m.regs.data = state.regs;
	m.regs.len = state.regs_len;
	m.xstate.data = state.xstate;
	m.xstate.len = without_zeros(state.xstate, state.xstate_len);
	m.xstate_bytes = (uint32_t)state.xstate_len;
	capture_emit(c, (uint64_t)m.tid, &m.base);
	return NULL;
}

/* Puts an empty list in place of the robust list, in memory that is about to go. */
static void empty_robust_list(const struct task *t, const Migrate__Kind__Thread *m)
{
	struct robust_head head;
	struct err *e;

	if (m->robust_head == 0 || m->robust_bytes != sizeof(head))
		return;
	e = task_read(t, m->robust_head, &head, sizeof(head));
	if (!e) {
		head.next = m->robust_head;
		head.pending = 0;
		e = task_write(t, m->robust_head, &head, sizeof(head));
	}
	/* It has ended already, or never had its memory: then nobody walks the list. */
	err_free(e);
}

static void thread_release(
	struct capture *c, const struct object *o unused_arg, const void *msg, enum outcome out)
{
	if (out == OUTCOME_MOVED)
		empty_robust_list(c->task, msg);
}

/* ---- destination ---- */

/* What comes from the peer; every changed object goes through rebuild. */
static bool makes_sense(const struct object *o, const Migrate__Kind__Thread *m)
{
	return m->tid > 1 && (uint64_t)m->tid == o->id && m->comm.len < COMM_BYTES && m->rseq &&
	       m->altstack && m->regs.len && m->regs.len <= ARCH_REGS_MAX &&
	       m->xstate.len <= m->xstate_bytes && m->xstate_bytes <= ARCH_XSTATE_MAX &&
	       (!m->sleep || m->sleep->left_ns >= 0);
}

static void unpack_state(const Migrate__Kind__Thread *m, struct arch_state *s)
{
	memset(s, 0, sizeof(*s));
	s->regs_len = m->regs.len;
	memcpy(s->regs, m->regs.data, m->regs.len);
	s->xstate_len = m->xstate_bytes;
	if (m->xstate.len)
		memcpy(s->xstate, m->xstate.data, m->xstate.len);
	s->sigmask = m->sigmask;
}

static struct err *thread_check(
	struct rebuild *r unused_arg, const struct object *o, const void *msg)
{
	struct arch_state s;

	if (!makes_sense(o, msg))
		return err_new(ERR_PEER, "it makes no sense");
	unpack_state(msg, &s);
	return arch_check_xstate(s.xstate, s.xstate_len);
}

static struct err *thread_rebuild(
	struct rebuild *r, const struct object *o, const void *msg, int *fd unused_arg)
{
	const Migrate__Kind__Thread *m = msg;
	struct thread *made;

	if (!makes_sense(o, m))
		return err_new(ERR_PEER, "it makes no sense");
	if (task_thread(r->task, m->tid))
		return NULL;
	return seedling_thread(r->task, m->tid, &made);
}

static struct err *thread_remove(
	struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Thread *m = msg;

	if (m->tid == r->task->pid)
		return err_new(ERR_PEER, "the leading thread %d cannot be removed", m->tid);
	return seedling_thread_end(r->task, m->tid);
}

/* What the thread asked for (PR_SPEC_PRCTL: it could) and a new one has not. Where the processor
 * has no such weakness setting it fails, and nothing is lost. */
static void call_speculation(struct calls *calls, const Migrate__Kind__Thread *m)
{
	static const uint32_t usual[THREAD_SPECULATIONS] = { PR_SPEC_ENABLE, PR_SPEC_ENABLE,
		PR_SPEC_DISABLE };

	for (size_t i = 0; i < m->n_speculation && i < THREAD_SPECULATIONS; i++) {
		uint32_t how = m->speculation[i] & ~(uint32_t)PR_SPEC_PRCTL;

		if (m->speculation[i] & PR_SPEC_PRCTL && how != usual[i])
			CALL_MAY_FAIL(calls, "control speculation", SYS_prctl,
				PR_SET_SPECULATION_CTRL, i, how);
	}
}

static struct err *thread_finish(
	struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Thread *m = msg;
	struct thread *th = task_thread(r->task, m->tid);
	struct calls calls = { 0 };
	struct scratch s = { .stack = { .sp = m->altstack->sp,
				     .bytes = m->altstack->bytes,
				     .flags = (int32_t)m->altstack->flags } };

	if (!th)
		return err_new(ERR_BUG, "thread %d was not made", m->tid);
	if (m->comm.len)
		memcpy(s.comm, m->comm.data, m->comm.len);
	TRY(remote_put(r->task, 0, &s, sizeof(s)));
	CALL(&calls, "set the thread's name", SYS_prctl, PR_SET_NAME,
		place(r->task, offsetof(struct scratch, comm)));
	if (m->robust_bytes)
		CALL(&calls, "set the robust list", SYS_set_robust_list, m->robust_head,
			m->robust_bytes);
	CALL(&calls, "set the address to clear at the end", SYS_set_tid_address,
		m->clear_child_tid);
	if (m->rseq->addr)
		CALL(&calls, "register the rseq area", SYS_rseq, m->rseq->addr, m->rseq->bytes, 0,
			m->rseq->signature);
	CALL(&calls, "set the alternate signal stack", SYS_sigaltstack,
		place(r->task, offsetof(struct scratch, stack)), 0);
	/* 0 is what a real-time thread shows, and would mean "the default" here. */
	if (m->timer_slack_ns)
		CALL(&calls, "set the timer slack", SYS_prctl, PR_SET_TIMERSLACK,
			m->timer_slack_ns);
	if (m->tsc_mode == PR_TSC_SIGSEGV)
		CALL(&calls, "set the TSC mode", SYS_prctl, PR_SET_TSC, m->tsc_mode);
	if (m->memory_failure <= PR_MCE_KILL_EARLY)
		CALL(&calls, "set what a memory failure does", SYS_prctl, PR_MCE_KILL,
			PR_MCE_KILL_SET, m->memory_failure);
	call_speculation(&calls, m);
	return calls_run(&calls, r->task, th);
}

static int64_t sleep_left(const struct rebuild *r, const Migrate__Kind__Thread__Sleep *sleep)
{
	int64_t left = sleep->left_ns - (sleep->cpu_clock ? 0 : r->elapsed_ns);

	return MAX(left, 0);
}

/* The remainder pointer is read as the time to sleep and written as what is left, so the call needs
 * no memory but the thread's own. */
static struct err *make_sleep(struct rebuild *r, const Migrate__Kind__Thread__Sleep *sleep,
	pid_t tid, struct arch_state *state)
{
	uint64_t at = sleep->remainder_addr;
	int64_t left = sleep_left(r, sleep), ret;
	int64_t span[2] = { left / NS_PER_S, left % NS_PER_S };
	struct call call = { .nr = sleep->number, .args = { at, at } };

	if (sleep->number != SYS_nanosleep && sleep->number != SYS_clock_nanosleep)
		return err_new(ERR_PEER, "system call %u is no sleep", sleep->number);
	if (sleep->number == SYS_clock_nanosleep) {
		call.args[0] = (uint64_t)(int64_t)sleep->clock;
		call.args[1] = 0;
		call.args[2] = call.args[3] = at;
	}
	if (left == 0) {
		arch_syscall_finish(state, 0);
		return NULL;
	}
	TRY(task_write(r->task, at, span, sizeof(span)));
	TRY(restart_block_make(tid, state, &call, &ret));
	if (ret != RESTART_BLOCK)
		arch_syscall_finish(state, ret);
	return NULL;
}

struct err *thread_set_registers(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__Thread *m = msg;
	struct thread *th = task_thread(r->task, m->tid);
	struct arch_state s;

	if (!makes_sense(o, m) || !th)
		return err_new(ERR_BUG, "thread %d was not made", m->tid);
	unpack_state(m, &s);
	if (m->sleep)
		TRY_IN(make_sleep(r, m->sleep, m->tid, &s), "let thread %d sleep on", m->tid);
	TRY(arch_set_state(m->tid, &s));
	th->state = s;
	return NULL;
}

static void thread_discard(struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	if (r->task)
		empty_robust_list(r->task, msg);
}

const struct kind kind_thread = {
	.id = 2,
	.name = "thread",
	.scope = KIND_THREAD,
	.stage = STAGE_THREAD,
	.msg = &migrate__kind__thread__descriptor,
	.capture = thread_capture,
	.check = thread_check,
	.rebuild = thread_rebuild,
	.remove = thread_remove,
	.finish = thread_finish,
	.discard = thread_discard,
	.release = thread_release,
};
