// SPDX-License-Identifier: Apache-2.0
/* Seccomp filters for a seedling: in place early, and suspended until it is let go. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "kernel/seedling_priv.h"

/* In the private bytes. */
#define AT_CODE 16
_Static_assert(sizeof(struct sock_fprog) <= AT_CODE, "struct sock_fprog");
_Static_assert(AT_CODE + SECCOMP_INSNS_MAX * SECCOMP_INSN_BYTES <= SEEDLING_PRIVATE_BYTES, "code");

struct err *seedling_suspend_filters(struct task *t)
{
	for (size_t i = 0; i < t->n_threads; i++)
		TRY(seccomp_suspend(t->threads[i]->tid, SEEDLING_OPTIONS));
	return NULL;
}

/* What it does to speculation is the thread's own setting, which is carried as such. */
static uint64_t flags(const struct seccomp_filter *f, bool all)
{
	return SECCOMP_FILTER_FLAG_SPEC_ALLOW | (f->log ? SECCOMP_FILTER_FLAG_LOG : 0) |
	       (all ? SECCOMP_FILTER_FLAG_TSYNC : 0);
}

struct err *seedling_filter(
	struct task *t, struct thread *th, const struct seccomp_filter *f, bool all)
{
	const uint64_t at = t->remote->private_at;
	struct sock_fprog prog = { (unsigned short)f->insns, (void *)(at + AT_CODE) };
	int64_t other;

	if (t->remote->place != PLACE_AREA || !f->insns || f->insns > SECCOMP_INSNS_MAX)
		return err_new(ERR_BUG, "a seccomp filter of %zu instructions", f->insns);
	TRY(task_write(t, at, &prog, sizeof(prog)));
	TRY(task_write(t, at + AT_CODE, f->code, f->insns * SECCOMP_INSN_BYTES));
	TRY(REMOTE(t, th, &other, "install a seccomp filter", SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		flags(f, all), at));
	if (other)
		return err_new(ERR_BUG, "thread %d has other seccomp filters already", (int)other);
	return NULL;
}
