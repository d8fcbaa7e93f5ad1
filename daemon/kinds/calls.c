// SPDX-License-Identifier: Apache-2.0
/* Named lists of remote calls: see calls.h. */
#include "kinds/calls.h"

void calls_add(struct calls *l, const char *what, const struct call *c, bool may_fail)
{
	if (l->n == CALLS_MAX) {
		l->overflow = true;
		return;
	}
	l->v[l->n] = *c;
	l->what[l->n] = what;
	l->may_fail[l->n] = may_fail;
	l->n++;
}

struct err *calls_run(struct calls *l, struct task *t, struct thread *th)
{
	if (l->overflow)
		return err_new(ERR_BUG, "more than %d remote calls in one list", CALLS_MAX);
	if (l->n == 0)
		return NULL;
	TRY(remote_run(t, th, l->v, l->n));
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].ret < 0 && !l->may_fail[i])
			return err_errno((int)-l->v[i].ret, "%s", l->what[i]);
	return NULL;
}
