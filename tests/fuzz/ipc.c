// SPDX-License-Identifier: Apache-2.0
/*
 * roles/ipc: packets of another role (each behind its length, 16 bits), with a descriptor where the
 * length is odd, as the monitor takes them.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "roles/ipc.h"

const char *(*const fuzz_prepare)(void) = fuzz_nothing;

static void send_packet(int to, const struct feed *body)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .room = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)body->p, body->n };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (body->n & 1) {
		h.msg_control = control.room;
		h.msg_controllen = sizeof(control.room);
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.align), &to, sizeof(to));
	}
	(void)sendmsg(to, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void receive(int from)
{
	autoipc struct ipc_msg msg = { .m = NULL };
	struct err *e = ipc_recv(from, deadline_in(0), &msg);

	if (!e)
		MUST(msg.m && msg.n_fds <= IPC_FDS_MAX && msg.m->body_case < IPC_CASES);
	err_free(e);
}

int fuzz_one(const uint8_t *data, size_t n)
{
	struct feed f = { data, n }, body;
	int ends[2];
	struct err *e = ipc_pair(ends);

	MUST(!e);
	while (feed_piece(&f, &body)) {
		send_packet(ends[0], &body);
		receive(ends[1]);
	}
	close(ends[0]);
	close(ends[1]);
	return 0;
}
