// SPDX-License-Identifier: Apache-2.0
/*
 * Unix sockets: unbound, bound (pathname, abstract), listening, and pairs whose two ends are both
 * in the process, or whose other end has been closed. Connections to other processes are refused,
 * with the name or the pid of the other end.
 *
 * sock_diag names the other end by inode. Inode 0 is an end that nobody holds: closed, or a
 * connection that the listener has not accepted yet; of a stream that has been closed both
 * directions are shut down. Both ends of a pair are one group: whoever comes first makes the pair,
 * by socketpair() in the rebuilt process, so that SO_PEERCRED shows it. A connection that the
 * process made to itself by a name comes back as a pair, whose ends are given their names
 * afterwards.
 */
#include "kinds/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kinds/sockopts.h"

#define STATE_LISTEN 10
#define SHUT_BOTH    3U

static bool unix_claims(const struct sock_seen *s)
{
	return s->domain == AF_UNIX &&
	       (s->type == SOCK_STREAM || s->type == SOCK_SEQPACKET || s->type == SOCK_DGRAM);
}

/* "@name" for abstract names, as tools show them. */
static const char *name_text(struct arena *a, const uint8_t *name, size_t len)
{
	char *s = arena_alloc(a, len + 1);

	for (size_t i = 0; i < len; i++)
		s[i] = name[i] == 0 ? '@' : name[i] < ' ' ? '?' : (char)name[i];
	return s;
}

/* From getsockname or getpeername: sun_path without the NUL of a pathname. */
static size_t name_len(const struct sockaddr_un *a, socklen_t len)
{
	size_t n = len > offsetof(struct sockaddr_un, sun_path)
			   ? len - offsetof(struct sockaddr_un, sun_path)
			   : 0;

	n = MIN(n, sizeof(a->sun_path));
	return n > 0 && a->sun_path[0] != 0 ? strnlen(a->sun_path, n) : n;
}

static struct err *local_name(struct capture *c, const struct sock_seen *s, Migrate__Kind__Unix *m)
{
	struct sockaddr_un a = { 0 };
	socklen_t len = sizeof(a);

	if (getsockname(s->fd, (struct sockaddr *)&a, &len) < 0)
		return err_errno(errno, "its name");
	m->address.len = name_len(&a, len);
	m->address.data = arena_dup(c->arena, a.sun_path, m->address.len + 1);
	return NULL;
}

/* Name of the other end, "" when it has none. */
static const char *peer_name(struct capture *c, const struct sock_seen *s)
{
	struct sockaddr_un a = { 0 };
	socklen_t len = sizeof(a);

	if (getpeername(s->fd, (struct sockaddr *)&a, &len) < 0)
		return "";
	return name_text(c->arena, (const uint8_t *)a.sun_path, name_len(&a, len));
}

/* Who made the listener or the pair. Another process's pid cannot be had again. */
static void peer_owner(struct capture *c, const struct sock_seen *s, Migrate__Kind__Unix *m)
{
	struct ucred cred = { 0 };
	socklen_t len = sizeof(cred);

	if (getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return;
	m->peer_uid = cred.uid;
	m->peer_gid = cred.gid;
	if (cred.pid != c->task->pid)
		capture_warn(c,
			"SO_PEERCRED of a unix socket shows pid %d now, and %d after the move",
			cred.pid, c->task->pid);
}

static struct err *refuse_outside(struct capture *c, const struct sock_seen *s)
{
	const char *name = peer_name(c, s);
	struct ucred cred = { 0 };
	socklen_t len = sizeof(cred);
	char pid[48] = "";

	if (getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.pid > 0)
		(void)snprintf(pid, sizeof(pid), ", of pid %d", cred.pid);
	return err_new(ERR_UNSUPPORTED, "connected to a socket of another process (%s%s)",
		name[0] ? name : "without a name", pid);
}

static const struct file *file_by_inode(const struct file_table *t, uint32_t inode)
{
	for (size_t i = 0; i < t->n; i++)
		if ((uint32_t)t->v[i].st.st_ino == inode && S_ISSOCK(t->v[i].st.st_mode))
			return &t->v[i];
	return NULL;
}

/* The other end is a descriptor of the same process. */
static struct err *capture_pair(struct capture *c, const struct sock_seen *s,
	const struct diag_unix *d, Migrate__Kind__Unix *m, const struct file *other)
{
	struct diag_unix back;

	if (other->st.st_ino == s->inode)
		return err_new(ERR_UNSUPPORTED, "connected to itself");
	TRY(diag_unix(d->peer_inode, &back));
	if (!back.has_peer || back.peer_inode != (uint32_t)s->inode)
		return err_new(ERR_UNSUPPORTED,
			"connected one way to descriptor %d of the same process",
			other->slots[0].number);
	m->paired = true;
	m->second = other->id < c->file->id;
	return NULL;
}

static struct err *capture_connected(struct capture *c, const struct sock_seen *s,
	const struct diag_unix *d, Migrate__Kind__Unix *m, uint64_t *group)
{
	const struct file *other = d->peer_inode ? file_by_inode(c->all, d->peer_inode) : NULL;
	short now = sock_poll(s->fd, POLLPRI);

	if (d->peer_inode == 0 && (s->type == SOCK_DGRAM || d->shutdown == SHUT_BOTH)) {
		m->peer_closed = true;
		if (peer_name(c, s)[0])
			capture_warn(c, "a closed connection forgets the name of its other end, %s",
				peer_name(c, s));
	} else if (other) {
		TRY(capture_pair(c, s, d, m, other));
		*group = MIN(s->inode, (uint64_t)d->peer_inode);
	} else {
		return refuse_outside(c, s);
	}
	if (m->address.len > 0)
		TRY(unix_text_capture(c, m));
	if (now & POLLPRI)
		return err_new(ERR_UNSUPPORTED, "an urgent byte (MSG_OOB) waits to be read");
	m->reset = (now & POLLERR) != 0;
	if (m->reset && !(m->peer_closed && s->type != SOCK_DGRAM))
		return err_new(ERR_UNSUPPORTED, "an error waits to be read");
	/* Of a stream the closing of the other end has shut down both ways already. */
	m->shutdown = m->peer_closed && s->type != SOCK_DGRAM ? 0 : d->shutdown;
	peer_owner(c, s, m);
	/* What waits changes while the process runs: only the stopped one has a queue to send. */
	return c->stopped ? unix_queue_capture(c, s, m) : NULL;
}

static struct err *capture_single(struct capture *c, const struct sock_seen *s,
	const struct diag_unix *d, Migrate__Kind__Unix *m)
{
	m->shutdown = d->shutdown;
	if (m->address.len > 0 && m->address.data[0] != 0)
		TRY(unix_file_capture(c, d, m));
	if (d->state == STATE_LISTEN) {
		m->listening = true;
		m->backlog = d->backlog;
		peer_owner(c, s, m);
	}
	if (!c->stopped)
		return NULL;
	if (sock_poll(s->fd, 0) & POLLERR)
		return err_new(ERR_UNSUPPORTED, "an error waits to be read");
	if (m->listening && d->waiting > 0)
		return err_hint(
			err_new(ERR_UNSUPPORTED, "%u connections wait to be accepted", d->waiting),
			"try again when fewer clients connect");
	if (s->type == SOCK_DGRAM && !(d->shutdown & 1) && (sock_poll(s->fd, POLLIN) & POLLIN))
		return err_hint(err_new(ERR_UNSUPPORTED, "datagrams wait to be read"),
			"try again when less arrives");
	return NULL;
}

static struct err *unix_capture(
	struct capture *c, const struct sock_seen *s, ProtobufCMessage **msg, uint64_t *group)
{
	Migrate__Kind__Unix *m = arena_alloc(c->arena, sizeof(*m));
	struct diag_unix d;
	struct err *e;

	migrate__kind__unix__init(m);
	TRY(diag_unix(s->inode, &d));
	TRY(local_name(c, s, m));
	e = d.has_peer ? capture_connected(c, s, &d, m, group) : capture_single(c, s, &d, m);
	if (e && m->address.len > 0)
		return err_in(e, "%s", name_text(c->arena, m->address.data, m->address.len));
	*msg = &m->base;
	return e;
}

/* ---- destination ---- */

static bool is_pathname(const Migrate__Kind__Unix *m)
{
	return m->address.len > 0 && m->address.data[0] != 0;
}

static bool is_abstract(const Migrate__Kind__Unix *m)
{
	return m->address.len > 0 && m->address.data[0] == 0;
}

static struct err *valid_file(const Migrate__Kind__Unix *m)
{
	if (!is_pathname(m))
		return m->file ? err_new(ERR_PEER, "a file without a name") : NULL;
	if (memchr(m->address.data, 0, m->address.len))
		return err_new(ERR_PEER, "a name with a NUL byte");
	if (!m->file)
		return err_new(ERR_PEER, "a name without a file");
	if (m->file->mode > 07777)
		return err_new(ERR_PEER, "file mode %o", m->file->mode);
	if (m->file->path[0] && (m->file->path[0] != '/' || strlen(m->file->path) >= 4096 ||
					strrchr(m->file->path, '/')[1] == 0))
		return err_new(ERR_PEER, "socket file %s", m->file->path);
	return NULL;
}

static struct err *unix_valid(const struct sock *s)
{
	const Migrate__Kind__Unix *m = s->state;
	const struct sock_seen seen = { .domain = s->m->domain, .type = s->m->type };
	const bool connected = m->paired || m->peer_closed;

	if (!unix_claims(&seen) || s->m->protocol != 0)
		return err_new(ERR_PEER, "family %d, type %d, protocol %d", s->m->domain,
			s->m->type, s->m->protocol);
	if (m->address.len > sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return err_new(ERR_PEER, "a name of %zu bytes", m->address.len);
	if (connected && (m->listening || (m->file && m->file->path[0])))
		return err_new(ERR_PEER, "an end of a pair that listens or has a file");
	if ((m->paired && m->peer_closed) || (m->paired && s->o->group == 0))
		return err_new(ERR_PEER, "a pair without another end");
	if ((m->n_queue > 0 || m->reset) && !connected)
		return err_new(ERR_PEER, "data without another end");
	if (m->shutdown > SHUT_BOTH || m->n_queue > UNIX_QUEUE_CHUNKS)
		return err_new(
			ERR_PEER, "shutdown state %u, %zu datagrams", m->shutdown, m->n_queue);
	return valid_file(m);
}

static struct err *unix_check(struct rebuild *r, const struct sock *s)
{
	const Migrate__Kind__Unix *m = s->state;
	autoclose int fd = socket(AF_UNIX, s->m->type | SOCK_CLOEXEC, 0);
	struct sockaddr_un a;
	socklen_t len;

	if (fd < 0)
		return err_errno(errno, "make a socket");
	TRY(sockopts_apply(fd, s->m));
	if (m->listening)
		sock_check_backlog(r, m->backlog);
	if (is_pathname(m))
		return unix_file_check(m);
	if (!is_abstract(m))
		return NULL;
	len = unix_sockaddr(m, &a);
	if (bind(fd, (struct sockaddr *)&a, len) == 0)
		return NULL;
	if (errno == EADDRINUSE)
		return err_hint(err_new(ERR_MISMATCH, "the name %s is in use here",
					name_text(r->arena, m->address.data, m->address.len)),
			"find who has it with `ss -xlp`, and stop it");
	return err_errno(errno, "bind %s", name_text(r->arena, m->address.data, m->address.len));
}

static struct sock_owner pair_owner(const Migrate__Kind__Unix *m)
{
	return (struct sock_owner){ m->peer_uid, m->peer_gid };
}

/* Both ends stay in the stash until the group is done. */
static struct err *rebuild_pair(struct rebuild *r, const struct sock *s, int *ret)
{
	const Migrate__Kind__Unix *m = s->state;
	const struct sock_owner as = pair_owner(m);
	const unsigned slot = m->second ? 1 : 0;
	autoclose int fd = -1;
	int ends[2];

	if (rebuild_stash_get(r, s->o->group, slot) < 0) {
		TRY(sock_make_pair(r, s->m, &as, ends));
		rebuild_stash_put(r, s->o->group, 0, ends[0]);
		rebuild_stash_put(r, s->o->group, 1, ends[1]);
	}
	fd = fcntl(rebuild_stash_get(r, s->o->group, slot), F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(errno, "duplicate an end of a pair");
	TRY(sockopts_apply(fd, s->m));
	TRY(unix_queue_fill(r, m, rebuild_stash_get(r, s->o->group, 1 - slot)));
	*ret = take_fd(&fd);
	return NULL;
}

/* An end whose other end has been closed. With data of ours unread over there the kernel leaves
 * ECONNRESET behind; one byte is enough for that. */
static struct err *rebuild_widow(struct rebuild *r, const struct sock *s, int *ret)
{
	const Migrate__Kind__Unix *m = s->state;
	const struct sock_owner as = pair_owner(m);
	autoclose int fd = -1, other = -1;
	int ends[2];

	TRY(sock_make_pair(r, s->m, &as, ends));
	fd = ends[0];
	other = ends[1];
	TRY(unix_queue_fill(r, m, other));
	if (m->reset && send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1)
		return err_errno(errno, "leave a byte unread");
	fd_closep(&other);
	TRY(sockopts_apply(fd, s->m));
	*ret = take_fd(&fd);
	return NULL;
}

static struct err *make_single(struct rebuild *r, const struct sock *s, int *ret)
{
	autoclose int fd = -1;

	TRY(sock_make(r, s->m, &fd));
	TRY(sockopts_apply(fd, s->m));
	*ret = take_fd(&fd);
	return NULL;
}

static struct err *unix_rebuild(struct rebuild *r, const struct sock *s, int *ret)
{
	const Migrate__Kind__Unix *m = s->state;
	autoclose int fd = -1;

	if (m->paired)
		TRY(rebuild_pair(r, s, &fd));
	else if (m->peer_closed)
		TRY(rebuild_widow(r, s, &fd));
	else
		TRY(make_single(r, s, &fd));
	if (is_pathname(m))
		TRY(unix_file_bind(r, s, fd));
	*ret = take_fd(&fd);
	return NULL;
}

static struct err *bind_abstract(struct rebuild *r, const Migrate__Kind__Unix *m, int fd)
{
	struct sockaddr_un a;
	const socklen_t len = unix_sockaddr(m, &a);

	if (bind(fd, (struct sockaddr *)&a, len) < 0)
		return err_errno(
			errno, "bind %s", name_text(r->arena, m->address.data, m->address.len));
	return NULL;
}

static struct err *unix_finish(struct rebuild *r, const struct sock *s)
{
	static const int how[] = { -1, SHUT_RD, SHUT_WR, SHUT_RDWR };
	const Migrate__Kind__Unix *m = s->state;
	const struct sock_owner as = pair_owner(m);
	autoclose int fd = -1;

	if (is_abstract(m) || m->shutdown)
		TRY(sock_home(r, s, &fd));
	if (is_abstract(m))
		TRY(bind_abstract(r, m, fd));
	if (m->listening)
		TRY(sock_listen(r, s, m->backlog, &as));
	if (m->shutdown && shutdown(fd, how[m->shutdown]) < 0 && errno != ENOTCONN)
		return err_errno(errno, "shut down");
	return NULL;
}

static struct err *unix_publish(struct rebuild *r, const struct sock *s)
{
	const Migrate__Kind__Unix *m = s->state;

	return m->file && m->file->path[0] ? unix_file_publish(r, s) : NULL;
}

const struct sock_impl sock_unix = {
	.id = 3,
	.name = "unix socket",
	.msg = &migrate__kind__unix__descriptor,
	.claims = unix_claims,
	.capture = unix_capture,
	.valid = unix_valid,
	.check = unix_check,
	.rebuild = unix_rebuild,
	.finish = unix_finish,
	.publish = unix_publish,
	.discard = unix_file_discard,
};
