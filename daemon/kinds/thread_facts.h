/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What several kinds want to know of each thread, found out once per capture: its status and one
 * batch of calls that only the thread itself can make. A frozen target waits for every one of them.
 */
#pragma once

#include "kinds/kind.h"

/* PR_SPEC_STORE_BYPASS, INDIRECT_BRANCH, L1D_FLUSH: 0, 1, 2. */
#define THREAD_SPECULATIONS 3

struct thread_facts {
	struct proc_status status;
	char comm[16];
	uint64_t clear_child_tid;
	uint64_t stack_sp, stack_bytes; /* alternate signal stack */
	uint32_t stack_flags;           /* SS_DISABLE, SS_AUTODISARM */
	uint64_t timer_slack_ns;
	uint32_t tsc_mode; /* PR_TSC_*, 0 where there is no such thing */
	uint32_t securebits, personality;
	uint32_t speculation[THREAD_SPECULATIONS]; /* PR_SPEC_*, 0 where it cannot be asked */
	uint32_t memory_failure;                   /* PR_MCE_KILL_* */
	bool numa_policy;                          /* another than the default */
	int32_t death_signal;
	const char *refusal; /* something of this thread that cannot be carried; NULL: nothing */
};

/* What an earlier call with this capture found out, NULL if nothing: makes no call. */
const struct thread_facts *thread_facts_known(struct capture *c, const struct thread *th);
/* Lives in c->arena. The task is held. */
struct err *thread_facts(
	struct capture *c, struct thread *th, const struct thread_facts **ret) must_check;
