/* SPDX-License-Identifier: Apache-2.0 */
/* Remote calls for tests: a puppet makes them on request. Include behind puppet.h, once per
 * program. */
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernel/remote.h"

struct puppet_task {
	struct task t; /* first: found again by its address */
	struct puppet puppet;
	struct thread thread, *threads[1];
	size_t calls; /* remote calls so far */
};

__attribute__((weak)) struct err *remote_run(
	struct task *t, unused_arg struct thread *th, struct call *calls, size_t n)
{
	struct puppet_task *p = container_of(t, struct puppet_task, t);

	for (size_t i = 0; i < n; i++, p->calls++) {
		const uint64_t *a = calls[i].args;

		calls[i].ret = CALL(&p->puppet, (long)calls[i].nr, (long)a[0], (long)a[1],
			(long)a[2], (long)a[3], (long)a[4], (long)a[5]);
	}
	return NULL;
}

__attribute__((weak)) struct err *remote_call(
	struct task *t, struct thread *th, const struct call *c, const char *what, int64_t *ret)
{
	struct call copy = *c;

	TRY(remote_run(t, th, &copy, 1));
	if (copy.ret < 0)
		return err_errno((int)-copy.ret, "%s", what);
	if (ret)
		*ret = copy.ret;
	return NULL;
}

__attribute__((weak)) struct err *remote_fd_home(struct task *t, int number, int *fd)
{
	*fd = take_from(&container_of(t, struct puppet_task, t)->puppet, number);
	return NULL;
}

static inline void puppet_task_start(struct puppet_task *p)
{
	char path[64];

	*p = (struct puppet_task){ .t = { .pidfd = -1 } };
	puppet_start(&p->puppet);
	snprintf(path, sizeof(path), "/proc/%d/mem", p->puppet.pid);
	p->t.pid = p->thread.tid = p->puppet.pid;
	p->t.mem_fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(p->t.mem_fd >= 0);
	p->threads[0] = &p->thread;
	p->t.threads = p->threads;
	p->t.n_threads = 1;
	p->t.held = true;
}

static inline void puppet_task_stop(struct puppet_task *p)
{
	close(p->t.mem_fd);
	puppet_stop(&p->puppet);
}
