// SPDX-License-Identifier: Apache-2.0
/*
 * See ipc.h. A packet is one message; a packet that was cut (MSG_TRUNC) or does not parse ends the
 * connection, as does a message that its receiver has no handler for.
 *
 * Why serving each message is safe, even if its sender is in somebody else's hands. Control reads
 * what local users send, net what anybody sends, a worker what its peer sends; the monitor reads
 * only messages of theirs. tests/lint/messages.py misses a message that is not here.
 *
 * control_setup (monitor to control): only the monitor has the other end of descriptor 3, which no
 *   message can replace. What is in it everybody may know; the listeners are control's work.
 * keys (monitor to net): brings the private keys as files, which net reads and closes with the
 *   message: they are in no message, so in no buffer of the monitor's.
 * net_setup (monitor to net): taken once, and only with a key. The listeners are net's work.
 * ready (control, net to monitor): has no content, and counts once a role; a lie starts nothing
 *   but systemd's notion that we are up.
 * peers (monitor to control, net): text that the monitor has parsed already; it is parsed again, in
 *   a copy, and takes the place of the old list only as a whole.
 * ask (control to monitor): who asks is the kernel's word about the socket beside it, not
 *   control's; the request is checked like one from that user. Control can do no more with it than
 *   the client whose socket it has, at a time of its choice.
 * answer (monitor to control): goes to the client with that cookie, if it is still there; the text
 *   says nothing that the client who asked may not know.
 * left (control to monitor): cancels a migration that a client of control's began, which whoever
 *   has control could do by closing that client's socket. A cancelled migration loses nothing.
 * dial (monitor to net): host and only key come from the list of peers; net can fail to connect, or
 *   connect elsewhere, where the key does not fit; it cannot make the monitor believe in a peer.
 * drop (monitor to net): ends a child of net's that dials and is not connected; nothing else has
 *   such an id and number.
 * connected (net to monitor): name and key are net's word, because net has done the handshake:
 *   whoever has net can speak for every peer and read what passes (SECURITY.md), so what peers may
 *   do is decided by monitor and worker. The descriptor is only read by a worker, as a peer's.
 * lost (net to monitor): explains an end that the worker has seen itself; it is text in an outcome
 *   that does not depend on it.
 * work (monitor to worker): the first and only one; a worker takes no other, so nobody who comes
 *   later can give one. Policy in it is the monitor's, from root's configuration.
 * progress (worker to monitor, monitor to control): id and pid are the worker's own; a lie about
 *   state or owner misleads the recovery of this one migration, whose process the worker holds in
 *   its hands anyway.
 * done (worker to monitor, monitor to control): like progress, but once: what comes after the first
 *   is dropped, and the process is found by the kernel's word (pid and start time) all the same.
 * hook_run (worker to monitor, monitor to hooks): the worker names an event and numbers; which
 *   directory and how long are the monitor's. One at a time; programs and directory must be root's.
 *   Texts reach the programs as JSON and environment, never as a command. The file beside it is
 *   parsed by the process that runs the hooks and by no other; what is in it takes no field's place
 *   that the message has.
 * hook_result (hooks to monitor, monitor to worker): an answer to the one run that waits for it,
 *   and any other is dropped. An error can only stop a move that has not been committed.
 * refuse (monitor to net): an error's text, and a socket that net had before; a child of net's says
 *   it and ends.
 * join_ask (net to monitor): whoever has the peer's key and the token of a migration under way may
 *   join it; both are compared here, in constant time, all refusals of a stranger are the same, and
 *   who waits is counted.
 * join_answer (monitor to net): yes or no to a connection that asked, by a number that net gave; a
 *   number that is not there is ignored.
 * fate_ask (net to monitor): what became of a migration is told only to the peer whose key sent
 *   it, which is net's word as in connected. That one is under way, any peer can hear that guesses
 *   its random id.
 * fate_answer (monitor to net): one of six words, to a connection that asked, by net's number; one
 *   that is not there is ignored.
 * tell (worker to monitor): frames that say "this address is at this interface" leave the host a
 *   few times; the worker could send them itself, and none goes out for what is not here.
 * hook_stop (worker to monitor, monitor to hooks): ends the programs that run for this worker's
 *   migration and nothing else: it names nobody, and the monitor knows whose hooks they are.
 * reserve (worker to monitor): what its peer announced, against limits that are the monitor's; a
 *   worker that announces too little is found out when the process is looked at, before the commit.
 * reserved (monitor to worker): yes or no to the one question that waits for it; what comes when
 *   none does is not read as an answer to the next.
 * unwanted (monitor to net): that connection counts as a stranger's from now on; a number that is
 *   not there is ignored.
 * open (worker to monitor): one more connection of the worker's own migration, to the peer that it
 *   has already; the numbers are bounded, and none is given twice.
 * opened (monitor to worker): the descriptor is read as the peer's bytes, like the first; a number
 *   that nobody waits for is closed.
 */
#include "roles/ipc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKET_BUFFER (2 * IPC_BYTES_MAX)

static void drop_descriptors(struct ipc_msg *msg)
{
	while (msg->n_fds)
		fd_closep(&msg->fds[--msg->n_fds]);
	msg->no_room = true;
}

struct err *ipc_no_room(const struct ipc_msg *msg)
{
	if (!msg->no_room)
		return NULL;
	return err_hint(err_new(ERR_LIMIT, "no room for a descriptor that was sent"),
		"allow migrated more open files");
}

void ipc_msg_fini(struct ipc_msg *msg)
{
	for (size_t i = 0; i < msg->n_fds; i++)
		fd_closep(&msg->fds[i]);
	msg->n_fds = 0;
	if (msg->m)
		migrate__ipc__free_unpacked(msg->m, NULL);
	msg->m = NULL;
}

void *ipc_copy(const ProtobufCMessage *m)
{
	size_t len = protobuf_c_message_get_packed_size(m);
	autofree uint8_t *buf = xcalloc(1, len + 1);
	void *copy;

	protobuf_c_message_pack(m, buf);
	copy = protobuf_c_message_unpack(m->descriptor, NULL, len, buf);
	if (!copy)
		abort();
	return copy;
}

/* Net may not raise its buffers above the limit for all, and tries.
 * @calls net: socketpair[0=AF_UNIX] setsockopt[1=SOL_SOCKET,2=SO_SNDBUFFORCE]
 * @calls net: setsockopt[1=SOL_SOCKET,2=SO_SNDBUF] */
struct err *ipc_pair(int fds[2])
{
	int size = SOCKET_BUFFER;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(errno, "make a socket pair");
	for (int i = 0; i < 2; i++)
		if (setsockopt(fds[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
			(void)setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return NULL;
}

/* One sendmsg: 0 or errno. @calls control net pages: sendmsg */
static int send_packet(int fd, const uint8_t *buf, size_t len, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(IPC_FDS_MAX * sizeof(int))];
	} control = { .room = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)buf, len };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds) {
		struct cmsghdr *c = &control.align;

		h.msg_control = control.room;
		h.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	return sendmsg(fd, &h, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? errno : 0;
}

static void take_descriptors(struct msghdr *h, struct ipc_msg *ret)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(ret->fds, CMSG_DATA(c), n * sizeof(int));
		ret->n_fds = n;
	}
}

/* One packet; EAGAIN is returned as *again. @calls control net pages: recvmsg */
static struct err *recv_packet(int fd, int flags, struct ipc_msg *ret, bool *again)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(IPC_FDS_MAX * sizeof(int))];
	} control;
	autofree uint8_t *buf = xcalloc(1, IPC_BYTES_MAX);
	struct iovec iov = { buf, IPC_BYTES_MAX };
	struct msghdr h = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control) };
	autoipc struct ipc_msg msg = { .m = NULL };
	int resets = 0;
	ssize_t n;

	*again = false;
	/* Who ends with a message of ours unread is told as a reset, once, before its last words.
	 */
	do
		n = recvmsg(fd, &h, flags | MSG_CMSG_CLOEXEC);
	while (n < 0 && (errno == EINTR || (errno == ECONNRESET && !resets++)));
	if (n < 0 && errno == EAGAIN) {
		*again = true;
		return NULL;
	}
	if (n < 0 && errno != ECONNRESET)
		return err_errno(errno, "receive a message");
	if (n <= 0)
		return err_new(ERR_GONE, "the other process has ended");
	take_descriptors(&h, &msg);
	if (h.msg_flags & MSG_CTRUNC) /* what the kernel does when there is no number for them */
		drop_descriptors(&msg);
	if (h.msg_flags & MSG_TRUNC)
		return err_new(ERR_BUG, "a message was cut");
	msg.m = migrate__ipc__unpack(NULL, (size_t)n, buf);
	if (!msg.m)
		return err_new(ERR_BUG, "a message does not parse");
	*ret = msg;
	msg = (struct ipc_msg){ .m = NULL };
	return NULL;
}

/* @calls net pages: poll */
struct err *ipc_send(int fd, const Migrate__Ipc *m, const int *fds, size_t n_fds, struct deadline d)
{
	size_t len = migrate__ipc__get_packed_size(m);
	autofree uint8_t *buf = xcalloc(1, len + 1);
	struct pollfd p = { fd, POLLOUT, 0 };

	if (len > IPC_BYTES_MAX || n_fds > IPC_FDS_MAX)
		return err_new(ERR_BUG, "message of %zu bytes and %zu descriptors", len, n_fds);
	migrate__ipc__pack(m, buf);
	for (;;) {
		int no = send_packet(fd, buf, len, fds, n_fds);

		if (no == 0)
			return NULL;
		if (no == EPIPE || no == ECONNRESET)
			return err_new(ERR_GONE, "the other process has ended");
		if (no != EAGAIN && no != EINTR)
			return err_errno(no, "send a message");
		if (deadline_passed(d))
			return err_new(ERR_TIMEOUT, "the other process does not read");
		if (poll(&p, 1, deadline_poll_ms(d)) < 0 && errno != EINTR)
			return err_errno(errno, "send a message");
	}
}

struct err *ipc_recv(int fd, struct deadline d, struct ipc_msg *ret)
{
	struct pollfd p = { fd, POLLIN, 0 };
	bool again;

	for (;;) {
		TRY(recv_packet(fd, MSG_DONTWAIT, ret, &again));
		if (!again)
			return NULL;
		if (deadline_passed(d))
			return err_new(ERR_TIMEOUT, "no answer from another process of migrated");
		(void)poll(&p, 1, deadline_poll_ms(d));
	}
}

struct packet {
	struct packet *next;
	size_t len, n_fds;
	int fds[IPC_FDS_MAX];
	uint8_t data[];
};

struct ipc {
	int fd;
	struct event *readable, *writable;
	const struct ipc_handlers *handlers;
	void *arg;
	struct packet *first, **last;
	size_t queued;
	bool cut;    /* nothing more is sent or read; `closed` will be called from the loop */
	bool *freed; /* set by ipc_free while a handler runs */
};

static void packet_free(struct packet *k)
{
	for (size_t i = 0; i < k->n_fds; i++)
		fd_closep(&k->fds[i]);
	free(k);
}

static void queue_pop(struct ipc *p)
{
	struct packet *k = p->first;

	p->first = k->next;
	if (!p->first)
		p->last = &p->first;
	p->queued -= k->len;
	packet_free(k);
}

/* From inside ipc_post nobody expects `closed`: let the loop call it. */
static void cut_off(struct ipc *p)
{
	p->cut = true;
	event_active(p->readable, EV_READ, 0);
}

static void on_writable(evutil_socket_t fd unused_arg, short what unused_arg, void *arg)
{
	struct ipc *p = arg;

	while (p->first && !p->cut) {
		struct packet *k = p->first;
		int no = send_packet(p->fd, k->data, k->len, k->fds, k->n_fds);

		if (no == EAGAIN || no == EINTR)
			break;
		if (no && no != EPIPE && no != ECONNRESET) {
			cut_off(p);
			return;
		}
		/* A receiver that is gone may have left last words: reading finds out. */
		queue_pop(p);
	}
	if (p->first)
		event_add(p->writable, NULL);
}

/* False: it has to wait. Mostly it need not, and then descriptors are not duplicated either, of
 * which there may be no more. */
static bool sent_at_once(struct ipc *p, const struct packet *k, const int *fds, size_t n_fds)
{
	int no;

	if (p->first)
		return false;
	no = send_packet(p->fd, k->data, k->len, fds, n_fds);
	if (no == EAGAIN || no == EINTR)
		return false;
	if (no && no != EPIPE && no != ECONNRESET)
		cut_off(p);
	return true;
}

/* @calls control net: fcntl[1=F_DUPFD_CLOEXEC] close */
void ipc_post(struct ipc *p, const Migrate__Ipc *m, const int *fds, size_t n_fds)
{
	size_t len = migrate__ipc__get_packed_size(m);
	struct packet *k;

	if (p->cut)
		return;
	if (len > IPC_BYTES_MAX || n_fds > IPC_FDS_MAX || p->queued + len > IPC_QUEUE_MAX) {
		cut_off(p);
		return;
	}
	k = xcalloc(1, sizeof(*k) + len);
	k->len = migrate__ipc__pack(m, k->data);
	if (sent_at_once(p, k, fds, n_fds)) {
		packet_free(k);
		return;
	}
	for (; k->n_fds < n_fds; k->n_fds++) {
		k->fds[k->n_fds] = fcntl(fds[k->n_fds], F_DUPFD_CLOEXEC, 0);
		if (k->fds[k->n_fds] < 0) {
			packet_free(k);
			cut_off(p);
			return;
		}
	}
	*p->last = k;
	p->last = &k->next;
	p->queued += len;
	event_add(p->writable, NULL);
}

bool ipc_was_cut(const struct ipc *p)
{
	return p->cut;
}

bool ipc_pending(const struct ipc *p)
{
	return p->first != NULL;
}

/* Handles one message; false when there is none, or p is no more. */
static bool handle_one(struct ipc *p)
{
	autoipc struct ipc_msg msg = { .m = NULL };
	bool again = false, freed = false;
	struct err *e = NULL;
	ipc_handler handler;

	if (!p->cut)
		e = recv_packet(p->fd, MSG_DONTWAIT, &msg, &again);
	if (again)
		return false;
	if (e || p->cut) {
		bool end = e && err_code(e) == ERR_GONE;

		err_free(e);
		event_del(p->readable);
		p->cut = !end;
		p->handlers->closed(p->arg, p);
		return false;
	}
	handler = msg.m->body_case < ARRAY_LEN(p->handlers->by_case)
			  ? p->handlers->by_case[msg.m->body_case]
			  : NULL;
	if (!handler) {
		cut_off(p);
		return true;
	}
	p->freed = &freed;
	handler(p->arg, p, &msg);
	if (freed)
		return false;
	p->freed = NULL;
	return true;
}

/* One message per turn of the loop: no sender starves the others. */
static void on_readable(evutil_socket_t fd unused_arg, short what unused_arg, void *arg)
{
	(void)handle_one(arg);
}

void ipc_drain(struct ipc *p)
{
	while (handle_one(p))
		;
}

struct ipc *ipc_new(struct event_base *base, int fd, const struct ipc_handlers *handlers, void *arg)
{
	struct ipc *p = xcalloc(1, sizeof(*p));

	*p = (struct ipc){ .fd = fd, .handlers = handlers, .arg = arg };
	p->last = &p->first;
	p->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, p);
	p->writable = event_new(base, fd, EV_WRITE, on_writable, p);
	if (!p->readable || !p->writable || event_add(p->readable, NULL) < 0)
		abort();
	return p;
}

void ipc_free(struct ipc *p)
{
	if (!p)
		return;
	if (p->freed)
		*p->freed = true;
	while (p->first)
		queue_pop(p);
	event_free(p->readable);
	event_free(p->writable);
	fd_closep(&p->fd);
	free(p);
}
