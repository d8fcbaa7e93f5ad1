/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of remote calls that are made together and must all succeed, each with a name for the
 * error. For lists whose results matter one by one use remote_run() directly.
 */
#pragma once

#include "kernel/remote.h"

#define CALLS_MAX 128

struct calls {
	struct call v[CALLS_MAX];
	const char *what[CALLS_MAX]; /* borrowed */
	bool may_fail[CALLS_MAX];
	size_t n;
	bool overflow;
};

/* Appends one. CALL(&list, "set umask", SYS_umask, mask); CALL_MAY_FAIL ignores its result. */
void calls_add(struct calls *l, const char *what, const struct call *c, bool may_fail);
#define CALL(list, what, number, ...) \
	calls_add((list), (what), &(struct call){ .nr = (number), .args = { __VA_ARGS__ } }, false)
#define CALL_MAY_FAIL(list, what, number, ...) \
	calls_add((list), (what), &(struct call){ .nr = (number), .args = { __VA_ARGS__ } }, true)

/* Makes them all in order (a failed one does not stop those behind it: they run in one go in the
 * task); the error is the first that failed. */
struct err *calls_run(struct calls *l, struct task *t, struct thread *th) must_check;
