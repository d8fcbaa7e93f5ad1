// SPDX-License-Identifier: Apache-2.0
#include "wire/handoff.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define FDS 2

union control {
	struct cmsghdr head;
	char bytes[CMSG_SPACE(FDS * sizeof(int))];
};

/* @calls net pages: sendmsg */
struct err *handoff_say(int fd, enum handoff how, const int *fds, size_t n)
{
	char byte = (char)how;
	struct iovec iov = { &byte, 1 };
	union control c = { { 0 } };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n) {
		msg.msg_control = c.bytes;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c.head.cmsg_level = SOL_SOCKET;
		c.head.cmsg_type = SCM_RIGHTS;
		c.head.cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(&c.head), fds, n * sizeof(int));
	}
	if (sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
		return err_errno(errno, "take over the stream");
	return NULL;
}

static void take_fds(struct msghdr *msg, int fds[FDS])
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && n <= FDS)
			memcpy(fds, CMSG_DATA(c), n * sizeof(int));
	}
}

/* @calls net: poll recvmsg */
struct err *handoff_hear(int fd, struct deadline d, enum handoff *how, int fds[FDS])
{
	struct pollfd p = { fd, POLLIN, 0 };
	char byte;
	struct iovec iov = { &byte, 1 };
	union control c;
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = c.bytes,
		.msg_controllen = sizeof(c.bytes) };
	ssize_t n;

	fds[0] = fds[1] = -1;
	while (poll(&p, 1, deadline_poll_ms(d)) <= 0)
		if (deadline_passed(d))
			return err_new(ERR_TIMEOUT, "nobody has taken the stream in time");
	n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n < 0 && errno != ECONNRESET)
		return err_errno(errno, "hear who takes the stream");
	if (n <= 0)
		return err_new(ERR_GONE, "nobody takes the stream");
	take_fds(&msg, fds);
	*how = (enum handoff)byte;
	return NULL;
}
