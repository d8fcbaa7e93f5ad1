// SPDX-License-Identifier: Apache-2.0
/*
 * Descriptors into the seedling: SCM_RIGHTS over a socket, then dup3 to their numbers.
 *
 * The kernel gives out the lowest free numbers. The wanted ones are closed first, so the i-th
 * received number is never above the i-th wanted one (both ascending), and moving from the highest
 * down never overwrites one that waits.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "kernel/seedling_priv.h"

/* SCM_MAX_FD is 253. */
#define FDS_AT_ONCE 128

/* In the private scratch of the seedling. */
#define AT_MSG     0
#define AT_IOV     64
#define AT_BYTE    96
#define AT_CONTROL 128

/* struct cmsghdr and its data, whose size must be known here. */
struct passed {
	struct {
		size_t len;
		int level, type;
	} head;
	int fds[FDS_AT_ONCE];
};
_Static_assert(offsetof(struct passed, fds) == CMSG_LEN(0), "CMSG_DATA");

/* One of our own descriptors there, to a free number that is not below `least`. */
static struct err *move_own(struct task *t, int *number, int least)
{
	struct call c = { .nr = SYS_fcntl,
		.args = { (uint64_t)*number, F_DUPFD_CLOEXEC, (uint64_t)least } };
	struct call end = { .nr = SYS_close, .args = { (uint64_t)*number } };

	TRY(remote_run(t, task_leader(t), &c, 1));
	if (c.ret < 0)
		return err_hint(err_errno((int)-c.ret, "use descriptor %d in the seedling", least),
			"raise the limit of open files (LimitNOFILE)");
	TRY(remote_run(t, task_leader(t), &end, 1));
	*number = (int)c.ret;
	return NULL;
}

struct err *seedling_reserve(struct task *t, int above)
{
	struct remote *r = t->remote;

	if (r->place != PLACE_AREA)
		return err_new(ERR_BUG, "the seedling has no socket");
	if (r->sock_number <= above)
		TRY(move_own(t, &r->sock_number, above + 1));
	for (size_t i = 0; i < SEEDLING_LENT_ALL; i++)
		if (r->lent[i] >= 0 && r->lent[i] <= above)
			TRY(move_own(t, &r->lent[i], above + 1));
	return NULL;
}

static struct err *leave_number(struct task *t, int *own, const int *numbers, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (numbers[i] == *own)
			return move_own(t, own, numbers[n - 1] + 1);
	return NULL;
}

/* What is ours leaves the numbers that are wanted, and goes above all of them. */
static struct err *make_way(struct task *t, const int *numbers, size_t n)
{
	struct remote *r = t->remote;

	TRY(leave_number(t, &r->sock_number, numbers, n));
	for (size_t i = 0; i < SEEDLING_LENT_ALL; i++)
		TRY(leave_number(t, &r->lent[i], numbers, n));
	return NULL;
}

static struct err *send_fds(const struct remote *r, const int *fds, size_t n)
{
	struct passed p = { .head = { .len = CMSG_LEN(n * sizeof(int)),
				    .level = SOL_SOCKET,
				    .type = SCM_RIGHTS } };
	char byte = 0;
	struct iovec io = { &byte, 1 };
	struct msghdr m = { .msg_iov = &io,
		.msg_iovlen = 1,
		.msg_control = &p,
		.msg_controllen = CMSG_SPACE(n * sizeof(int)) };

	memcpy(p.fds, fds, n * sizeof(int));
	if (sendmsg(r->sock, &m, MSG_NOSIGNAL) != 1)
		return err_errno(errno, "send %zu descriptors to the seedling", n);
	return NULL;
}

/* Closes the wanted numbers, if any are given, and receives; got[] ascending. */
static struct err *receive_fds(struct task *t, const int *numbers, size_t n, int *got)
{
	struct remote *r = t->remote;
	const uint64_t at = r->private_at;
	struct iovec io = { (void *)(uintptr_t)(at + AT_BYTE), 1 };
	struct msghdr m = { .msg_iov = (void *)(uintptr_t)(at + AT_IOV),
		.msg_iovlen = 1,
		.msg_control = (void *)(uintptr_t)(at + AT_CONTROL),
		.msg_controllen = CMSG_SPACE(n * sizeof(int)) };
	struct call c[FDS_AT_ONCE + 1];
	struct passed p;
	size_t k = 0;

	for (size_t i = 0; i < n && numbers; i++)
		c[k++] = (struct call){ .nr = SYS_close, .args = { (uint64_t)numbers[i] } };
	c[k] = (struct call){ .nr = SYS_recvmsg,
		.args = {
			(uint64_t)r->sock_number, at + AT_MSG, MSG_DONTWAIT | MSG_CMSG_CLOEXEC } };
	TRY(task_write(t, at + AT_MSG, &m, sizeof(m)));
	TRY(task_write(t, at + AT_IOV, &io, sizeof(io)));
	TRY(remote_run(t, task_leader(t), c, k + 1));
	if (c[k].ret != 1)
		return err_errno(
			c[k].ret < 0 ? (int)-c[k].ret : EIO, "receive descriptors in the seedling");
	TRY(task_read(t, at + AT_CONTROL, &p, CMSG_LEN(n * sizeof(int))));
	if (p.head.len != CMSG_LEN(n * sizeof(int)))
		return err_hint(err_new(ERR_LIMIT,
					"the seedling received only %zu of %zu "
					"descriptors",
					(size_t)(p.head.len - CMSG_LEN(0)) / sizeof(int), n),
			"raise the limit of open files (LimitNOFILE)");
	memcpy(got, p.fds, n * sizeof(int));
	return NULL;
}

static struct err *place_fds(
	struct task *t, const int *got, const int *numbers, const bool *cloexec, size_t n)
{
	struct call c[2 * FDS_AT_ONCE];
	size_t k = 0;

	for (size_t i = n; i-- > 0;) {
		uint64_t from = (uint64_t)got[i], to = (uint64_t)numbers[i];

		if (from == to) {
			c[k++] = (struct call){ .nr = SYS_fcntl,
				.args = { to, F_SETFD, cloexec[i] ? FD_CLOEXEC : 0 } };
			continue;
		}
		c[k++] = (struct call){ .nr = SYS_dup3,
			.args = { from, to, cloexec[i] ? O_CLOEXEC : 0 } };
		c[k++] = (struct call){ .nr = SYS_close, .args = { from } };
	}
	TRY(remote_run(t, task_leader(t), c, k));
	for (size_t i = 0; i < k; i++)
		if (c[i].ret < 0)
			return err_hint(err_errno((int)-c[i].ret, "place descriptor %d",
						(int)c[i].args[c[i].nr == SYS_dup3]),
				"raise the limit of open files (LimitNOFILE)");
	return NULL;
}

struct err *seedling_install(
	struct task *t, const int *fds, const int *numbers, const bool *cloexec, size_t n)
{
	int got[FDS_AT_ONCE];

	if (t->remote->place != PLACE_AREA)
		return err_new(ERR_BUG, "the seedling has no socket");
	TRY(make_way(t, numbers, n));
	for (size_t i = 0; i < n; i += FDS_AT_ONCE) {
		size_t part = MIN(n - i, (size_t)FDS_AT_ONCE);

		TRY(send_fds(t->remote, fds + i, part));
		TRY(receive_fds(t, numbers + i, part, got));
		TRY(place_fds(t, got, numbers + i, cloexec + i, part));
	}
	return NULL;
}

static bool is_own(const struct task *t, int number)
{
	for (size_t i = 0; i < SEEDLING_LENT_ALL; i++)
		if (number == t->remote->lent[i])
			return true;
	return number == t->remote->sock_number;
}

struct err *seedling_close(struct task *t, const int *numbers, size_t n)
{
	autofree struct call *calls = xcalloc(n + 1, sizeof(*calls));
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
		if (!is_own(t, numbers[i]))
			calls[k++] =
				(struct call){ .nr = SYS_close, .args = { (uint64_t)numbers[i] } };
	return k ? remote_run(t, task_leader(t), calls, k) : NULL;
}

struct err *seedling_lend(struct task *t, unsigned which, int fd)
{
	if (which >= SEEDLING_LENT_MAX)
		return err_new(ERR_BUG, "descriptor %u to be lent to the seedling", which);
	return seedling_lend_any(t, which, fd);
}

struct err *seedling_lend_any(struct task *t, unsigned which, int fd)
{
	struct remote *r = t->remote;
	int *lent = which < SEEDLING_LENT_ALL ? &r->lent[which] : NULL;

	if (r->place != PLACE_AREA || !lent || *lent >= 0)
		return err_new(ERR_BUG, "descriptor %u to be lent to the seedling", which);
	TRY(send_fds(r, &fd, 1));
	TRY(receive_fds(t, NULL, 1, lent));
	return move_own(t, lent, r->sock_number + 1);
}

int seedling_lent(const struct task *t, unsigned which)
{
	return t->remote->lent[which];
}

struct err *seedling_take_back(struct task *t)
{
	struct remote *r = t->remote;

	for (size_t i = 0; i < SEEDLING_LENT_ALL; i++) {
		if (r->lent[i] < 0)
			continue;
		TRY(REMOTE(t, task_leader(t), NULL, "close what was lent to it", SYS_close,
			(uint64_t)r->lent[i]));
		r->lent[i] = -1;
	}
	return NULL;
}
