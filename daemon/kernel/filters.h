/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters of seccomp(2): which a thread has, and what they would do to it for a call of ours.
 *
 * As long as we trace a thread its filters can be suspended (PTRACE_O_SUSPEND_SECCOMP), so remote
 * calls are not judged. When we die they are in force again at once: calls of a batch that has not
 * ended are judged then. So none is made for which a filter would end the thread, or signal it.
 */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "kernel/arch.h"

/* The kernel's own bounds (MAX_INSNS_PER_PATH, of which each filter takes four more). */
#define SECCOMP_INSNS_MAX        4096
#define SECCOMP_INSNS_PER_THREAD 32768
#define SECCOMP_INSN_BYTES       8

struct seccomp_filter {
	const uint8_t *code; /* struct sock_filter, as it was installed */
	size_t insns;
	bool log; /* SECCOMP_FILTER_FLAG_LOG */
};
struct seccomp_filters {
	struct seccomp_filter *v; /* the oldest first */
	size_t n;
};

/* Those of a thread that we have stopped. n is 0 without any, in strict mode, and where we are not
 * told: without CONFIG_CHECKPOINT_RESTORE or CAP_SYS_ADMIN, or under seccomp ourselves. So compare
 * with "Seccomp:" of its status. */
struct err *seccomp_read(struct arena *a, pid_t tid, struct seccomp_filters *ret) must_check;
/* Suspends those of a stopped thread until we let it go, or end. `options`: its other
 * PTRACE_O_*. */
struct err *seccomp_suspend(pid_t tid, long options) must_check;
/* Whether a filter would let this call, made at pc, neither be made nor fail: it ends the thread or
 * the process, signals it, or asks somebody. */
bool seccomp_harms(const struct seccomp_filters *f, const struct call *c, uint64_t pc);
/* Whether somebody is asked by one of them (SECCOMP_RET_USER_NOTIF), for whatever call. */
bool seccomp_asks(const struct seccomp_filters *f);
/* "prctl", for messages; "a call of number 999" if it has no name. */
const char *seccomp_call_name(struct arena *a, uint64_t nr);
