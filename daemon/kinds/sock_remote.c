// SPDX-License-Identifier: Apache-2.0
/*
 * Sockets that the rebuilt process makes itself. Kernel facts: a socket remembers the cgroup of its
 * maker and (unix: at socketpair, connect and listen) the pid, euid and egid that SO_PEERCRED shows
 * to the other side for ever. A seedling is root until the credentials are set, so the effective
 * ids change around the call and back: real and saved ids stay 0, which keeps the permitted
 * capabilities, and returning to euid 0 makes them effective again (capabilities(7)).
 */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kinds/socket.h"

#define KEEP       ((uint64_t)-1)
#define CALLS_MAX  4
#define SCRATCH_AT 0

static struct err *call_failed(const struct call *c, const char *what)
{
	return c->ret < 0 ? err_errno((int)-c->ret, "%s in the new process", what) : NULL;
}

/* Makes the calls with these effective ids. Results of the calls are the caller's to look at. */
static struct err *run_as(
	struct rebuild *r, const struct sock_owner *as, struct call *calls, size_t n)
{
	struct call ids[2] = { { .nr = SYS_geteuid }, { .nr = SYS_getegid } };
	struct call all[CALLS_MAX + 4] = { 0 };

	if (as)
		TRY(remote_run(r->task, r->thread, ids, ARRAY_LEN(ids)));
	if (!as || (ids[0].ret == as->uid && ids[1].ret == as->gid))
		return remote_run(r->task, r->thread, calls, n);
	if (n > CALLS_MAX)
		return err_new(ERR_BUG, "%zu calls under other ids", n);
	all[0] = (struct call){ .nr = SYS_setresgid, .args = { KEEP, as->gid, KEEP } };
	all[1] = (struct call){ .nr = SYS_setresuid, .args = { KEEP, as->uid, KEEP } };
	memcpy(all + 2, calls, n * sizeof(*calls));
	all[n + 2] =
		(struct call){ .nr = SYS_setresuid, .args = { KEEP, (uint64_t)ids[0].ret, KEEP } };
	all[n + 3] =
		(struct call){ .nr = SYS_setresgid, .args = { KEEP, (uint64_t)ids[1].ret, KEEP } };
	TRY(remote_run(r->task, r->thread, all, n + 4));
	memcpy(calls, all + 2, n * sizeof(*calls));
	TRY(call_failed(&all[0], "set effective group"));
	TRY(call_failed(&all[1], "set effective user"));
	TRY(call_failed(&all[n + 2], "set effective user back"));
	return call_failed(&all[n + 3], "set effective group back");
}

/* Brings n descriptors of the process home and closes them there, also when that fails. */
static struct err *fetch(struct rebuild *r, const int *numbers, size_t n, int *fds)
{
	struct call close_all[2] = { 0 };
	struct err *e = NULL;

	for (size_t i = 0; i < n; i++) {
		fds[i] = -1;
		close_all[i] = (struct call){ .nr = SYS_close, .args = { (uint64_t)numbers[i] } };
	}
	for (size_t i = 0; i < n && !e; i++)
		e = remote_fd_home(r->task, numbers[i], &fds[i]);
	if (!e)
		e = remote_run(r->task, r->thread, close_all, n);
	for (size_t i = 0; e && i < n; i++)
		fd_closep(&fds[i]);
	return e;
}

static struct call call_socket(const Migrate__Kind__Socket *m)
{
	return (struct call){ .nr = SYS_socket,
		.args = { (uint64_t)m->domain, (uint64_t)(m->type | SOCK_CLOEXEC),
			(uint64_t)m->protocol } };
}

struct err *sock_make(struct rebuild *r, const Migrate__Kind__Socket *m, int *fd)
{
	const struct sock_owner as = { m->uid, m->gid };
	struct call c = call_socket(m);
	int number;

	TRY(run_as(r, &as, &c, 1));
	TRY(call_failed(&c, "make a socket"));
	number = (int)c.ret;
	return fetch(r, &number, 1, fd);
}

struct err *sock_make_pair(
	struct rebuild *r, const Migrate__Kind__Socket *m, const struct sock_owner *as, int fds[2])
{
	int numbers[2];
	struct call c = { .nr = SYS_socketpair,
		.args = { (uint64_t)m->domain, (uint64_t)(m->type | SOCK_CLOEXEC),
			(uint64_t)m->protocol, remote_scratch(r->task).v + SCRATCH_AT } };

	TRY(run_as(r, as, &c, 1));
	TRY(call_failed(&c, "make a pair of sockets"));
	TRY(remote_get(r->task, SCRATCH_AT, numbers, sizeof(numbers)));
	return fetch(r, numbers, 2, fds);
}

struct err *sock_make_connected(struct rebuild *r, const Migrate__Kind__Socket *m,
	const struct sockaddr *addr, socklen_t len, int *fd)
{
	const struct sock_owner as = { m->uid, m->gid };
	struct call c = call_socket(m), connect = { .nr = SYS_connect };
	autoerr struct err *e = NULL;
	int number;

	TRY(remote_put(r->task, SCRATCH_AT, addr, len));
	TRY(run_as(r, &as, &c, 1));
	TRY(call_failed(&c, "make a socket"));
	number = (int)c.ret;
	connect.args[0] = (uint64_t)number;
	connect.args[1] = remote_scratch(r->task).v + SCRATCH_AT;
	connect.args[2] = len;
	e = run_as(r, &as, &connect, 1);
	if (!e)
		e = call_failed(&connect, "connect a socket");
	TRY(fetch(r, &number, 1, fd));
	if (e)
		fd_closep(fd);
	return take(&e);
}

struct err *sock_listen(
	struct rebuild *r, const struct sock *s, uint32_t backlog, const struct sock_owner *as)
{
	struct call c = { .nr = SYS_listen,
		.args = { (uint64_t)s->o->slots[0].number, MIN(backlog, (uint32_t)INT32_MAX) } };

	TRY(run_as(r, as, &c, 1));
	return call_failed(&c, "listen");
}

struct err *sock_drop_old(struct rebuild *r, const struct sock *s)
{
	for (size_t i = 0; i < s->o->n_slots; i++) {
		int number = s->o->slots[i].number, domain = -1, type = -1;
		autoclose int fd = -1;
		autoerr struct err *e = NULL;

		if (s->o->slots[i].pid != r->task->pid)
			continue;
		e = remote_fd_home(r->task, number, &fd);
		if (e || !sock_int(fd, SOL_SOCKET, SO_DOMAIN, &domain) ||
			!sock_int(fd, SOL_SOCKET, SO_TYPE, &type))
			continue; /* nothing there, or no socket */
		if (domain != s->m->domain || type != s->m->type)
			continue;
		TRY(REMOTE(r->task, r->thread, NULL, "close the socket of an earlier round",
			SYS_close, (uint64_t)number));
	}
	return NULL;
}
