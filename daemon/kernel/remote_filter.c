// SPDX-License-Identifier: Apache-2.0
/*
 * A target's own seccomp filters and our calls in it. They are suspended while we hold a thread,
 * from its first batch on. (Not from the beginning: between PTRACE_SEIZE and its stop a thread
 * runs.) But when we die, what is left of a batch is judged by them; so each call must be one that
 * they let pass or fail, and so must the return from the batch.
 */
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "kernel/remote_priv.h"

struct thread_filters {
	struct arena *arena;
	struct seccomp_filters f;
};

void remote_forget_filters(struct thread *th)
{
	if (!th->filters)
		return;
	arena_free(th->filters->arena);
	free(th->filters);
	th->filters = NULL;
}

static struct err *know(struct thread *th)
{
	struct thread_filters *k = xcalloc(1, sizeof(*k));

	k->arena = arena_new();
	th->filters = k;
	TRY(seccomp_read(k->arena, th->tid, &k->f));
	return k->f.n ? seccomp_suspend(th->tid, TASK_OPTIONS) : NULL;
}

struct err *remote_filters(struct thread *th, const struct seccomp_filters **ret)
{
	if (!th->filters) {
		struct err *e = know(th);

		if (e) {
			remote_forget_filters(th);
			return e;
		}
	}
	*ret = &th->filters->f;
	return NULL;
}

static struct err *judge(const struct thread *th, const struct seccomp_filters *f,
	const struct call *c, uint64_t pc)
{
	autoarena struct arena *a = NULL;

	if (!seccomp_harms(f, c, pc))
		return NULL;
	a = arena_new();
	return err_hint(err_new(ERR_UNSUPPORTED,
				"a seccomp filter of thread %d would end it for %s, which migrated "
				"must call in it: it might die in the middle",
				(int)th->tid, seccomp_call_name(a, c->nr)),
		"filters that let calls fail (SECCOMP_RET_ERRNO) are no hindrance");
}

struct err *remote_judge(struct task *t, struct thread *th, const struct call *calls, size_t n)
{
	const struct call back = { .nr = SYS_rt_sigreturn };
	const struct seccomp_filters *f;
	uint64_t pc = arch_agent_pc(t->remote->code);

	if (t->remote->place != PLACE_GUEST)
		return NULL; /* it ends with us */
	TRY(remote_filters(th, &f));
	for (size_t i = 0; f->n && i < n; i++)
		TRY(judge(th, f, &calls[i], pc));
	return f->n ? judge(th, f, &back, pc) : NULL;
}

struct err *remote_judge_usual(struct thread *th)
{
	static const uint16_t usual[] = { SYS_prctl, SYS_arch_prctl, SYS_get_mempolicy,
		SYS_modify_ldt, SYS_sigaltstack, SYS_personality, SYS_set_tid_address, SYS_tgkill,
		SYS_rt_sigreturn };
	const struct seccomp_filters *f;

	TRY(remote_filters(th, &f));
	for (size_t i = 0; f->n && i < ARRAY_LEN(usual); i++)
		TRY(judge(th, f, &(struct call){ .nr = usual[i] }, 0));
	return NULL;
}
