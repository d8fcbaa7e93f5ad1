// SPDX-License-Identifier: Apache-2.0
/* Facts about threads: see thread_facts.h. */
#include "kinds/thread_facts.h"

#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif
#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif
/* x86; elsewhere arch_prctl does not exist and the calls are left out. */
#define ARCH_GET_CPUID      0x1011
#define ARCH_GET_XCOMP_PERM 0x1022
#define ARCH_GET_UNTAG_MASK 0x4001 /* Linux 6.4 */
#define ARCH_SHSTK_STATUS   0x5005 /* Linux 6.6 */
#ifndef PR_GET_IO_FLUSHER
#define PR_GET_IO_FLUSHER 58 /* Linux 5.6 */
#endif
#define XCOMP_DYNAMIC (1ULL << 18) /* AMX tile data: on request only */

struct thread_facts_cache {
	size_t n;
	struct {
		pid_t tid;
		const struct thread_facts *facts;
	} v[];
};

/* stack_t of a 64-bit kernel. */
struct kernel_stack {
	uint64_t sp;
	int32_t flags, pad;
	uint64_t bytes;
};

/* What lies in the scratch memory. */
struct scratch {
	uint64_t tid_address, shadow_stack, xcomp, untag_mask;
	struct kernel_stack stack;
	int32_t tsc_mode, death_signal, numa_mode, pad;
	uint8_t ldt[16];
	char comm[16];
};

enum {
	CALL_TID_ADDRESS,
	CALL_STACK,
	CALL_SLACK,
	CALL_SECUREBITS,
	CALL_PERSONALITY,
	CALL_DEATH_SIGNAL,
	CALL_COMM,
	CALL_MUST, /* those above must succeed */
	CALL_TSC = CALL_MUST,
	CALL_MEMORY_FAILURE,
	CALL_IO_FLUSHER,
	CALL_NUMA,
	CALL_SPECULATION,
	CALL_SPECULATION_LAST = CALL_SPECULATION + THREAD_SPECULATIONS - 1,
#ifdef SYS_arch_prctl
	CALL_SHADOW_STACK,
	CALL_CPUID,
	CALL_XCOMP,
	CALL_LDT,
	CALL_UNTAG_MASK,
#endif
	CALLS,
};

static const char *const names[CALL_MUST] = {
	[CALL_TID_ADDRESS] = "ask for the address to clear at the end",
	[CALL_STACK] = "ask for the alternate signal stack",
	[CALL_SLACK] = "ask for the timer slack",
	[CALL_SECUREBITS] = "ask for the securebits",
	[CALL_PERSONALITY] = "ask for the personality",
	[CALL_DEATH_SIGNAL] = "ask for the death signal",
	[CALL_COMM] = "ask for the name",
};

#define AT(field) (at + offsetof(struct scratch, field))

static struct err *ask(
	struct task *t, struct thread *th, struct call calls[CALLS], struct scratch *s)
{
	uint64_t at = remote_scratch(t).v;

	calls[CALL_TID_ADDRESS] =
		(struct call){ .nr = SYS_prctl, .args = { PR_GET_TID_ADDRESS, AT(tid_address) } };
	calls[CALL_STACK] = (struct call){ .nr = SYS_sigaltstack, .args = { 0, AT(stack) } };
	calls[CALL_SLACK] = (struct call){ .nr = SYS_prctl, .args = { PR_GET_TIMERSLACK } };
	calls[CALL_SECUREBITS] = (struct call){ .nr = SYS_prctl, .args = { PR_GET_SECUREBITS } };
	calls[CALL_PERSONALITY] = (struct call){ .nr = SYS_personality, .args = { 0xffffffff } };
	calls[CALL_DEATH_SIGNAL] =
		(struct call){ .nr = SYS_prctl, .args = { PR_GET_PDEATHSIG, AT(death_signal) } };
	calls[CALL_COMM] = (struct call){ .nr = SYS_prctl, .args = { PR_GET_NAME, AT(comm) } };
	calls[CALL_TSC] = (struct call){ .nr = SYS_prctl, .args = { PR_GET_TSC, AT(tsc_mode) } };
	calls[CALL_MEMORY_FAILURE] = (struct call){ .nr = SYS_prctl, .args = { PR_MCE_KILL_GET } };
	/* Without CAP_SYS_RESOURCE one may neither be nor ask (EPERM). */
	calls[CALL_IO_FLUSHER] = (struct call){ .nr = SYS_prctl, .args = { PR_GET_IO_FLUSHER } };
	calls[CALL_NUMA] = (struct call){ .nr = SYS_get_mempolicy, .args = { AT(numa_mode) } };
	for (unsigned i = 0; i < THREAD_SPECULATIONS; i++)
		calls[CALL_SPECULATION + i] =
			(struct call){ .nr = SYS_prctl, .args = { PR_GET_SPECULATION_CTRL, i } };
#ifdef SYS_arch_prctl
	calls[CALL_SHADOW_STACK] = (struct call){ .nr = SYS_arch_prctl,
		.args = { ARCH_SHSTK_STATUS, AT(shadow_stack) } };
	calls[CALL_CPUID] = (struct call){ .nr = SYS_arch_prctl, .args = { ARCH_GET_CPUID } };
	calls[CALL_XCOMP] =
		(struct call){ .nr = SYS_arch_prctl, .args = { ARCH_GET_XCOMP_PERM, AT(xcomp) } };
	calls[CALL_LDT] =
		(struct call){ .nr = SYS_modify_ldt, .args = { 0, AT(ldt), sizeof(s->ldt) } };
	calls[CALL_UNTAG_MASK] = (struct call){ .nr = SYS_arch_prctl,
		.args = { ARCH_GET_UNTAG_MASK, AT(untag_mask) } };
#endif
	memset(s, 0, sizeof(*s));
	TRY(remote_put(t, 0, s, sizeof(*s)));
	TRY(remote_run(t, th, calls, CALLS));
	for (size_t i = 0; i < CALL_MUST; i++)
		if (calls[i].ret < 0 && calls[i].ret > -4096)
			return err_errno((int)-calls[i].ret, "%s", names[i]);
	return remote_get(t, 0, s, sizeof(*s));
}

/* What is the whole process's is said once. */
static const char *refusal(const struct call calls[CALLS], const struct scratch *s, bool leader)
{
#ifdef SYS_arch_prctl
	if (calls[CALL_SHADOW_STACK].ret == 0 && s->shadow_stack)
		return "it has a shadow stack";
	if (calls[CALL_CPUID].ret == 0)
		return "it has the CPUID instruction switched off";
	if (leader && calls[CALL_XCOMP].ret == 0 && s->xcomp & XCOMP_DYNAMIC)
		return "it may use AMX tiles";
	if (leader && calls[CALL_LDT].ret > 0)
		return "it has a local descriptor table (LDT)";
	if (leader && calls[CALL_UNTAG_MASK].ret == 0 && s->untag_mask != UINT64_MAX)
		return "it uses tagged addresses (LAM)";
#endif
	if (calls[CALL_IO_FLUSHER].ret > 0)
		return "it is an I/O flusher (PR_SET_IO_FLUSHER)";
	return NULL;
}

static struct err *find_out(struct capture *c, struct thread *th, struct thread_facts *f)
{
	const struct seccomp_filters *filters;
	autoerr struct err *e = NULL;
	struct call calls[CALLS];
	struct scratch s;

	TRY(proc_status(c->arena, c->task->pid, th->tid, &f->status));
	if (f->status.seccomp == SECCOMP_MODE_STRICT) {
		f->refusal = "it is in the strict mode of seccomp";
		return NULL;
	}
	TRY(remote_filters(th, &filters));
	if (f->status.seccomp && !filters->n) {
		f->refusal = "the kernel does not tell its seccomp filters";
		return NULL;
	}
	e = remote_judge_usual(th);
	if (e) {
		autofree char *text = err_line(e);

		f->refusal = arena_strdup(c->arena, text);
		return NULL;
	}
	TRY(ask(c->task, th, calls, &s));
	memcpy(f->comm, s.comm, sizeof(f->comm));
	f->clear_child_tid = s.tid_address;
	f->stack_sp = s.stack.sp;
	f->stack_bytes = s.stack.bytes;
	f->stack_flags = (uint32_t)s.stack.flags & (SS_DISABLE | SS_AUTODISARM);
	f->timer_slack_ns = (uint64_t)calls[CALL_SLACK].ret;
	f->tsc_mode = (uint32_t)s.tsc_mode;
	f->securebits = (uint32_t)calls[CALL_SECUREBITS].ret;
	f->personality = (uint32_t)calls[CALL_PERSONALITY].ret;
	f->death_signal = s.death_signal;
	f->numa_policy = s.numa_mode != 0;
	f->memory_failure = (uint32_t)MAX(calls[CALL_MEMORY_FAILURE].ret, 0);
	for (unsigned i = 0; i < THREAD_SPECULATIONS; i++)
		f->speculation[i] = (uint32_t)MAX(calls[CALL_SPECULATION + i].ret, 0);
	f->refusal = refusal(calls, &s, th->tid == c->task->pid);
	return NULL;
}

static struct thread_facts_cache *cache_of(struct capture *c)
{
	struct thread_facts_cache *k;

	if (!c->thread_facts)
		return NULL;
	if (!*c->thread_facts) {
		k = arena_alloc(c->arena, sizeof(*k) + c->task->n_threads * sizeof(k->v[0]));
		k->n = c->task->n_threads;
		*c->thread_facts = k;
	}
	return *c->thread_facts;
}

const struct thread_facts *thread_facts_known(struct capture *c, const struct thread *th)
{
	const struct thread_facts_cache *k = c->thread_facts ? *c->thread_facts : NULL;

	for (size_t i = 0; k && i < k->n; i++)
		if (k->v[i].tid == th->tid)
			return k->v[i].facts;
	return NULL;
}

struct err *thread_facts(struct capture *c, struct thread *th, const struct thread_facts **ret)
{
	struct thread_facts_cache *k = cache_of(c);
	struct thread_facts *f;
	size_t i = 0;

	/* Threads of a held task stay where they are in its list. */
	while (i < c->task->n_threads && c->task->threads[i] != th)
		i++;
	if (k && i < k->n && k->v[i].tid == th->tid) {
		*ret = k->v[i].facts;
		return NULL;
	}
	f = arena_alloc(c->arena, sizeof(*f));
	TRY(find_out(c, th, f));
	if (k && i < k->n) {
		k->v[i].tid = th->tid;
		k->v[i].facts = f;
	}
	*ret = f;
	return NULL;
}
