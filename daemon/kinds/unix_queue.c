// SPDX-License-Identifier: Apache-2.0
/*
 * What waits in a unix socket, read without taking it. A stream gives everything in one peek
 * (unless senders differ). Datagrams need SO_PEEK_OFF to get behind the first; that is a setting of
 * the socket itself, so it is touched only while the process stands still, only when something
 * waits, and put back at once. Should we die in between, the process's own MSG_PEEK would go on
 * from one datagram to the next; its reads are not affected.
 *
 * Peeking marks an empty datagram as seen, and with SO_PEEK_OFF it is then skipped (net/core/
 * datagram.c): a second migration attempt that meets the same empty datagram at the head of a queue
 * notices and refuses; behind another datagram it cannot be noticed.
 *
 * Descriptors in flight are counted in fdinfo ("scm_fds") and never received here: even a peek
 * would open them in our process.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kinds/unix.h"

#define PIECE_BYTES (64u << 10)

struct peeked {
	uint8_t *data;
	size_t len, cap;
	bool has_sender;
	struct ucred sender;
};

/* One recvmsg(MSG_PEEK) of up to `want` bytes behind p->len. *more: the datagram is longer.
 * -1 with errno as recvmsg. */
static ssize_t peek_piece(struct arena *a, int fd, size_t want, struct peeked *p, int *flags)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct ucred))];
	struct iovec iov;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	int passcred = 0;
	ssize_t n;

	p->data = arena_grow(a, p->data, &p->cap, p->len + want, 1);
	iov = (struct iovec){ p->data + p->len, want };
	/* Room for exactly this, so that nothing else can be put there. */
	if (sock_int(fd, SOL_SOCKET, SO_PASSCRED, &passcred) && passcred) {
		msg.msg_control = control;
		msg.msg_controllen = sizeof(control);
	}
	n = recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return n;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&msg); h; h = CMSG_NXTHDR(&msg, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_CREDENTIALS)
			continue;
		memcpy(&p->sender, CMSG_DATA(h), sizeof(p->sender));
		p->has_sender = true;
	}
	p->len += (size_t)n;
	*flags = msg.msg_flags;
	return n;
}

static struct err *add_chunk(struct capture *c, Migrate__Kind__Unix *m, const struct peeked *p)
{
	Migrate__Kind__UnixChunk *k = arena_alloc(c->arena, sizeof(*k));
	size_t cap = m->n_queue;

	migrate__kind__unix_chunk__init(k);
	if (p->has_sender && p->sender.pid != c->task->pid)
		return err_new(ERR_UNSUPPORTED, "data of another process (pid %d) wait to be read",
			p->sender.pid);
	k->data.data = p->data;
	k->data.len = p->len;
	k->has_sender = p->has_sender;
	k->uid = p->sender.uid;
	k->gid = p->sender.gid;
	/* Powers of two: grown when the count is one. */
	if ((cap & (cap - 1)) == 0)
		m->queue = arena_grow(c->arena, m->queue, &cap, 2 * cap + 1, sizeof(k));
	m->queue[m->n_queue++] = k;
	return NULL;
}

static struct err *too_much(void)
{
	return err_new(ERR_LIMIT, "more than %u MiB or %u datagrams wait to be read",
		UNIX_QUEUE_BYTES >> 20, UNIX_QUEUE_CHUNKS);
}

static struct err *peek_stream(
	struct capture *c, const struct sock_seen *s, size_t bytes, Migrate__Kind__Unix *m)
{
	struct peeked p = { 0 };
	int flags;

	if (bytes == 0)
		return NULL;
	if (peek_piece(c->arena, s->fd, bytes, &p, &flags) < 0)
		return err_errno(errno, "look at waiting data");
	if (p.len != bytes)
		return err_new(ERR_UNSUPPORTED, "data of several senders wait to be read");
	return add_chunk(c, m, &p);
}

/* SO_PEEK_OFF is 0 now and moves on with every peek. */
static struct err *peek_datagrams(
	struct capture *c, const struct sock_seen *s, size_t least, Migrate__Kind__Unix *m)
{
	size_t total = 0;

	for (;;) {
		struct peeked p = { 0 };
		int flags = MSG_TRUNC;
		ssize_t n = 0;

		while (flags & MSG_TRUNC) {
			n = peek_piece(c->arena, s->fd, PIECE_BYTES, &p, &flags);
			if (n < 0 || p.len > UNIX_QUEUE_BYTES)
				break;
		}
		if (n < 0 && errno == EAGAIN)
			return NULL;
		if (n < 0)
			return err_errno(errno, "look at waiting datagrams");
		/* The end of a shut down seqpacket socket looks like an empty packet. */
		if (p.len == 0 && s->type == SOCK_SEQPACKET && total >= least)
			return NULL;
		total += p.len;
		if (total > UNIX_QUEUE_BYTES || m->n_queue >= UNIX_QUEUE_CHUNKS)
			return too_much();
		TRY(add_chunk(c, m, &p));
	}
}

static struct err *peek_with_offset(
	struct capture *c, const struct sock_seen *s, size_t least, Migrate__Kind__Unix *m)
{
	const int zero = 0, off = -1;
	struct err *e;

	if (setsockopt(s->fd, SOL_SOCKET, SO_PEEK_OFF, &zero, sizeof(zero)) < 0)
		return err_errno(errno, "look behind the first datagram");
	e = peek_datagrams(c, s, least, m);
	if (setsockopt(s->fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)) < 0 && !e)
		e = err_errno(errno, "set SO_PEEK_OFF back");
	return e;
}

struct err *unix_queue_capture(struct capture *c, const struct sock_seen *s, Migrate__Kind__Unix *m)
{
	const bool ended = m->peer_closed || (m->shutdown & 1);
	uint64_t in_flight = 0;
	int bytes = 0, peek_off = -1;

	if (fdinfo_has(c->file->fdinfo, "scm_fds"))
		TRY(fdinfo_u64(c->file->fdinfo, "scm_fds", 10, &in_flight));
	if (in_flight > 0)
		return err_new(ERR_UNSUPPORTED,
			"%ju descriptors are on their way in it (SCM_RIGHTS)",
			(uintmax_t)in_flight);
	if (!(sock_poll(s->fd, POLLIN) & POLLIN))
		return NULL;
	if (ioctl(s->fd, FIONREAD, &bytes) < 0)
		return err_errno(errno, "count waiting bytes");
	if ((size_t)bytes > UNIX_QUEUE_BYTES)
		return too_much();
	if (bytes == 0 && (s->type == SOCK_STREAM || (ended && s->type == SOCK_SEQPACKET)))
		return NULL; /* readable, because it has ended */
	if (sock_int(s->fd, SOL_SOCKET, SO_PEEK_OFF, &peek_off) && peek_off >= 0)
		return err_new(ERR_UNSUPPORTED, "SO_PEEK_OFF is in use and data wait to be read");
	if (s->type == SOCK_STREAM)
		return peek_stream(c, s, (size_t)bytes, m);
	TRY(peek_with_offset(c, s, (size_t)bytes, m));
	if (m->n_queue == 0 && !ended)
		return err_new(
			ERR_UNSUPPORTED, "an empty datagram that was looked at before waits");
	return NULL;
}

/* ---- destination ---- */

/* Settings of the sender that would hinder or mark what it sends. */
struct quiet {
	int sndbuf, locks, passcred;
};

static struct err *set_int(int fd, int name, int v)
{
	if (setsockopt(fd, SOL_SOCKET, name, &v, sizeof(v)) < 0)
		return err_errno(errno, "set option %d of a pair's other end", name);
	return NULL;
}

static struct err *quiet_begin(int fd, size_t bytes, struct quiet *q)
{
	if (!sock_int(fd, SOL_SOCKET, SO_SNDBUF, &q->sndbuf) ||
		!sock_int(fd, SOL_SOCKET, SO_BUF_LOCK, &q->locks) ||
		!sock_int(fd, SOL_SOCKET, SO_PASSCRED, &q->passcred))
		return err_errno(errno, "read options of a pair's other end");
	/* With SO_PASSCRED sending would give the sender a name. */
	TRY(set_int(fd, SO_PASSCRED, 0));
	return set_int(fd, SO_SNDBUFFORCE, (int)MIN(bytes, (size_t)256 << 20));
}

static struct err *quiet_end(int fd, const struct quiet *q)
{
	TRY(set_int(fd, SO_SNDBUFFORCE, q->sndbuf / 2));
	TRY(set_int(fd, SO_BUF_LOCK, q->locks));
	return set_int(fd, SO_PASSCRED, q->passcred);
}

static struct err *send_chunk(struct rebuild *r, const Migrate__Kind__UnixChunk *k, int fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct ucred))] = { 0 };
	const struct ucred sender = { .pid = r->task->pid, .uid = k->uid, .gid = k->gid };
	size_t sent = 0;

	do {
		struct iovec iov = { sent ? k->data.data + sent : k->data.data,
			k->data.len - sent };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
		ssize_t n;

		if (k->has_sender) {
			struct cmsghdr *h;

			msg.msg_control = control;
			msg.msg_controllen = sizeof(control);
			h = CMSG_FIRSTHDR(&msg);
			h->cmsg_level = SOL_SOCKET;
			h->cmsg_type = SCM_CREDENTIALS;
			h->cmsg_len = CMSG_LEN(sizeof(sender));
			memcpy(CMSG_DATA(h), &sender, sizeof(sender));
		}
		n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return err_errno(errno, "put back %zu waiting bytes", k->data.len);
		sent += (size_t)n;
	} while (sent < k->data.len);
	return NULL;
}

struct err *unix_queue_fill(struct rebuild *r, const Migrate__Kind__Unix *m, int other)
{
	/* The kernel's own overhead per datagram is a few hundred bytes, and it rounds up. */
	size_t bytes = 1 << 20;
	struct quiet q;
	struct err *e = NULL;

	if (m->n_queue == 0)
		return NULL;
	for (size_t i = 0; i < m->n_queue; i++)
		bytes += 2 * m->queue[i]->data.len + 4096;
	TRY(quiet_begin(other, bytes, &q));
	for (size_t i = 0; i < m->n_queue && !e; i++)
		e = send_chunk(r, m->queue[i], other);
	if (e)
		return e;
	return quiet_end(other, &q);
}
