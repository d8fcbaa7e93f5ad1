/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What several kinds want to know of each thread, found out once per capture: its status and one
 * batch of calls that only the thread itself can make. A frozen target waits for every one of them.
 */
#pragma once

#include "kinds/kind.h"

struct thread_facts {
	struct proc_status status;
	char comm[16];
	uint64_t clear_child_tid;
	uint64_t stack_sp, stack_bytes; /* alternate signal stack */
	uint32_t stack_flags;           /* SS_DISABLE, SS_AUTODISARM */
	uint64_t timer_slack_ns;
	uint32_t tsc_mode; /* PR_TSC_*, 0 where there is no such thing */
	uint32_t securebits, personality;
	int32_t death_signal;
	const char *refusal; /* something of this thread that cannot be carried; NULL: nothing */
};

/* Lives in c->arena. The task is held. */
struct err *thread_facts(
	struct capture *c, struct thread *th, const struct thread_facts **ret) must_check;
