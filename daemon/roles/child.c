// SPDX-License-Identifier: Apache-2.0
#include "roles/child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define END_MS 2000

struct child {
	const struct child_ops *ops;
	void *arg;
	struct ipc_handlers handlers;
	struct ipc *ipc; /* NULL once it is closed */
	bool cut;
	pid_t pid;
	int pidfd;
	struct event *ended;
};

/* It has ended, or was cut off because it sent nonsense or does not read: no use for it then. */
static void on_closed(void *arg, struct ipc *from)
{
	struct child *c = arg;

	c->ipc = NULL;
	c->cut = ipc_was_cut(from);
	ipc_free(from);
	child_kill(c);
}

static void on_ended(evutil_socket_t fd unused_arg, short what unused_arg, void *arg)
{
	struct child *c = arg;
	int status = 0;

	if (c->ipc)
		ipc_drain(c->ipc); /* ends with on_closed */
	while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
		;
	c->ops->ended(c->arg, status, !c->cut);
	child_free(c);
}

static void dispatch(void *arg, struct ipc *from unused_arg, struct ipc_msg *msg)
{
	struct child *c = arg;

	c->ops->by_case[msg->m->body_case](c->arg, msg);
}

static struct err *watch(struct child *c, struct event_base *base, int fd)
{
	c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	if (c->pidfd < 0)
		return err_errno(errno, "watch a process of our own");
	c->ended = event_new(base, c->pidfd, EV_READ, on_ended, c);
	if (!c->ended || event_add(c->ended, NULL) < 0)
		return err_new(ERR_BUG, "no event for a process of our own");
	for (size_t i = 0; i < ARRAY_LEN(c->handlers.by_case); i++)
		c->handlers.by_case[i] = c->ops->by_case[i] ? dispatch : NULL;
	c->handlers.closed = on_closed;
	c->ipc = ipc_new(base, fd, &c->handlers, c);
	return NULL;
}

struct err *child_start(
	struct event_base *base, struct child_spec spec, void *arg, struct child **ret)
{
	struct child *c = xcalloc(1, sizeof(*c));
	struct err *e;
	int fd = -1;

	*c = (struct child){ .ops = spec.ops, .arg = arg, .pidfd = -1 };
	e = role_spawn(spec.kind, spec.debug, &c->pid, &fd);
	if (!e)
		e = watch(c, base, fd);
	if (e) {
		if (!c->ipc)
			fd_closep(&fd); /* it will see that and end */
		child_free(c);
		return e;
	}
	*ret = c;
	return NULL;
}

void child_post(struct child *c, const Migrate__Ipc *m, const int *fds, size_t n_fds)
{
	if (c->ipc)
		ipc_post(c->ipc, m, fds, n_fds);
}

void child_kill(struct child *c)
{
	(void)syscall(SYS_pidfd_send_signal, c->pidfd, SIGKILL, NULL, 0);
}

/* What it holds (a port) is free when this returns: another daemon may begin at once. */
void child_end(struct child *c)
{
	struct pollfd p = { c ? c->pidfd : -1, POLLIN, 0 };
	int n;

	if (!c)
		return;
	ipc_free(take(&c->ipc));
	do
		n = poll(&p, 1, END_MS);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		child_kill(c);
	while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
		;
	child_free(c);
}

void child_free(struct child *c)
{
	if (!c)
		return;
	ipc_free(c->ipc);
	if (c->ended)
		event_free(c->ended);
	fd_closep(&c->pidfd);
	free(c);
}
