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

/* To the first number that is free from there on: others may have come in before. */
static struct err *move_socket(struct task *t, int from)
{
	struct remote *r = t->remote;
	int64_t to;

	if (from == r->sock_number)
		return NULL;
	TRY(err_hint(REMOTE(t, task_leader(t), &to, "move the seedling's socket", SYS_fcntl,
			     (uint64_t)r->sock_number, F_DUPFD_CLOEXEC, (uint64_t)from),
		"raise the limit of open files (LimitNOFILE)"));
	TRY(REMOTE(t, task_leader(t), NULL, "close", SYS_close, (uint64_t)r->sock_number));
	r->sock_number = (int)to;
	return NULL;
}

struct err *seedling_reserve(struct task *t, int above)
{
	if (t->remote->place != PLACE_AREA)
		return err_new(ERR_BUG, "the seedling has no socket");
	return move_socket(t, above + 1);
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

/* Closes the wanted numbers and receives; got[] ascending. */
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

	for (size_t i = 0; i < n; i++)
		c[i] = (struct call){ .nr = SYS_close, .args = { (uint64_t)numbers[i] } };
	c[n] = (struct call){ .nr = SYS_recvmsg,
		.args = {
			(uint64_t)r->sock_number, at + AT_MSG, MSG_DONTWAIT | MSG_CMSG_CLOEXEC } };
	TRY(task_write(t, at + AT_MSG, &m, sizeof(m)));
	TRY(task_write(t, at + AT_IOV, &io, sizeof(io)));
	TRY(remote_run(t, task_leader(t), c, n + 1));
	if (c[n].ret != 1)
		return err_errno(
			c[n].ret < 0 ? (int)-c[n].ret : EIO, "receive descriptors in the seedling");
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
	for (size_t i = 0; i < n; i++)
		if (numbers[i] == t->remote->sock_number)
			TRY(move_socket(t, numbers[n - 1] + 1));
	for (size_t i = 0; i < n; i += FDS_AT_ONCE) {
		size_t part = MIN(n - i, (size_t)FDS_AT_ONCE);

		TRY(send_fds(t->remote, fds + i, part));
		TRY(receive_fds(t, numbers + i, part, got));
		TRY(place_fds(t, got, numbers + i, cloexec + i, part));
	}
	return NULL;
}

struct err *seedling_close(struct task *t, const int *numbers, size_t n)
{
	autofree struct call *calls = xcalloc(n + 1, sizeof(*calls));
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
		if (numbers[i] != t->remote->sock_number)
			calls[k++] = (struct call){ .nr = SYS_close,
				.args = { (uint64_t)numbers[i] } };
	return k ? remote_run(t, task_leader(t), calls, k) : NULL;
}
