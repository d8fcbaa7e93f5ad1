/* SPDX-License-Identifier: Apache-2.0 */
/* Remote calls for tests, made by a puppet. Include behind puppet.h, once per program. */
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
	uint64_t scratch;
	int lent[SEEDLING_LENT_MAX]; /* numbers there, -1 */
	struct call started[4];
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

__attribute__((weak)) struct err *remote_run_around(struct task *t, struct thread *th,
	struct call *calls, size_t n, const struct remote_between *between)
{
	struct err *e;

	TRY(remote_run(t, th, calls, 1));
	e = between->fn(between->arg, calls);
	if (!e)
		return remote_run(t, th, calls + 1, n - 1);
	err_free(remote_run(t, th, calls + 1, n - 1));
	return e;
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

__attribute__((weak)) raddr remote_scratch(const struct task *t)
{
	return (raddr){ ((const struct puppet_task *)(const void *)t)->scratch };
}

__attribute__((weak)) struct err *remote_put(
	struct task *t, size_t offset, const void *buf, size_t n)
{
	ssize_t w = pwrite(t->mem_fd, buf, n, (off_t)(remote_scratch(t).v + offset));

	return w == (ssize_t)n ? NULL : err_errno(errno, "write a puppet's memory");
}

/* At once: a puppet does nothing on its own. */
__attribute__((weak)) struct err *remote_start(
	struct task *t, struct thread *th, const struct call *calls, size_t n)
{
	struct puppet_task *p = container_of(t, struct puppet_task, t);

	assert_true(n <= ARRAY_LEN(p->started));
	memcpy(p->started, calls, n * sizeof(calls[0]));
	return remote_run(t, th, p->started, n);
}

__attribute__((weak)) struct err *remote_collect(struct task *t, struct call *calls, size_t n)
{
	struct puppet_task *p = container_of(t, struct puppet_task, t);

	memcpy(calls, p->started, n * sizeof(calls[0]));
	return NULL;
}

__attribute__((weak)) struct err *seedling_lend(struct task *t, unsigned which, int fd)
{
	struct puppet_task *p = container_of(t, struct puppet_task, t);
	long pidfd = CALL(&p->puppet, SYS_pidfd_open, getpid(), 0);

	assert_true(which < SEEDLING_LENT_MAX && p->lent[which] < 0);
	p->lent[which] = (int)CALL(&p->puppet, SYS_pidfd_getfd, pidfd, fd, 0);
	CALL(&p->puppet, SYS_close, pidfd);
	assert_true(pidfd >= 0 && p->lent[which] >= 0);
	return NULL;
}

__attribute__((weak)) int seedling_lent(const struct task *t, unsigned which)
{
	return ((const struct puppet_task *)(const void *)t)->lent[which];
}

__attribute__((weak)) struct err *seedling_take_back(struct task *t)
{
	struct puppet_task *p = container_of(t, struct puppet_task, t);

	for (unsigned i = 0; i < SEEDLING_LENT_MAX; i++) {
		if (p->lent[i] >= 0)
			CALL(&p->puppet, SYS_close, p->lent[i]);
		p->lent[i] = -1;
	}
	return NULL;
}

static inline void puppet_task_start(struct puppet_task *p)
{
	char path[64];

	*p = (struct puppet_task){ .t = { .pidfd = -1 },
		.lent = { [0 ... SEEDLING_LENT_MAX - 1] = -1 } };
	puppet_start(&p->puppet);
	p->scratch = map(&p->puppet, 0, P, -1);
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
