// SPDX-License-Identifier: Apache-2.0
/*
 * A TCP connection in the last moment, by TCP_REPAIR (tcp(7) does not tell; kernel net/ipv4/tcp.c).
 * The socket itself, with its options, is there since the rehearsal (tcp.c). Here it becomes
 * connected, without a packet: sequence numbers, what was agreed on, windows; its queues are filled
 * by tcp_data.c, and then it gets its state. A FIN of the peer, or its confirmation of ours, is
 * repeated in the peer's name, because nothing else brings the socket into those states.
 *
 * Kernel facts: in repair mode connect() sends nothing and close() neither; addresses are bound
 * whoever has them; options can be set until the first byte is sent. Sequence numbers can be set
 * while it is closed only. TCP_REPAIR_WINDOW comes last: packets and queues move it.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "kinds/tcp_repair.h"
#include "kinds/tcp_state.h"
#include "tcp_connection.pb-c.h"

#define QUEUE_BYTES_MAX (512u << 20) /* of one connection */
#define SCALE_MAX       14
#define SETTLE_US       5000000 /* for a packet over our own loopback, */
#define AGAIN_US        20000   /* which may be dropped on its way as any other: then again */
/* A buffer counts what the kernel needs for a byte of data, too. */
#define BUFFER_FACTOR 3
#define BUFFER_LEAST  (256u << 10)

static bool connection_claims(const struct file *f)
{
	return strncmp(f->link, "socket:[", 8) == 0 && !(f->flags & O_PATH);
}

/* ---- capture ---- */

static struct err *get(int fd, int name, void *v, socklen_t want, const char *what)
{
	socklen_t len = want;

	if (getsockopt(fd, SOL_TCP, name, v, &len) < 0 || len < want)
		return err_errno(errno, "ask its %s", what);
	return NULL;
}

static struct err *sequence(int fd, int queue, uint32_t *ret)
{
	TRY(tcp_choose_queue(fd, queue));
	TRY(get(fd, TCP_QUEUE_SEQ, ret, sizeof(*ret), "sequence number"));
	return tcp_choose_queue(fd, TCP_NO_QUEUE);
}

static struct err *capture_options(struct capture *c, int fd, Migrate__Kind__TcpConnection *m)
{
	Migrate__Kind__TcpOptions *o = arena_alloc(c->arena, sizeof(*o));
	struct tcp_info info = { .tcpi_state = 0 };
	socklen_t len = sizeof(info);

	migrate__kind__tcp_options__init(o);
	if (getsockopt(fd, SOL_TCP, TCP_INFO, &info, &len) < 0)
		return err_errno(errno, "ask its state");
	o->sack = info.tcpi_options & TCPI_OPT_SACK;
	o->timestamps = info.tcpi_options & TCPI_OPT_TIMESTAMPS;
	o->scaled = info.tcpi_options & TCPI_OPT_WSCALE;
	o->snd_scale = info.tcpi_snd_wscale;
	o->rcv_scale = info.tcpi_rcv_wscale;
	/* In repair mode: what was agreed on, not what fits just now. */
	TRY(get(fd, TCP_MAXSEG, &o->mss, sizeof(o->mss), "segment size"));
	m->options = o;
	return NULL;
}

static struct err *capture_window(struct capture *c, int fd, Migrate__Kind__TcpConnection *m)
{
	Migrate__Kind__TcpWindow *w = arena_alloc(c->arena, sizeof(*w));
	struct tcp_repair_window v;

	migrate__kind__tcp_window__init(w);
	TRY(get(fd, TCP_REPAIR_WINDOW, &v, sizeof(v), "window"));
	w->snd_wl1 = v.snd_wl1;
	w->snd_wnd = v.snd_wnd;
	w->max_window = v.max_window;
	w->rcv_wnd = v.rcv_wnd;
	w->rcv_wup = v.rcv_wup;
	m->window = w;
	return NULL;
}

static struct err *capture_address(struct capture *c, int fd,
	int (*ask)(int, struct sockaddr *, socklen_t *), Migrate__Kind__SocketAddress **ret)
{
	union sock_addr a = { 0 };
	socklen_t len = sizeof(a);

	if (ask(fd, &a.any, &len) < 0)
		return err_errno(errno, "ask its address");
	return sockaddr_pack(c->arena, &a, ret);
}

/* Its FIN that was confirmed takes a number, too: it is made again, and confirmed. */
static struct err *capture_queues(int fd, Migrate__Kind__TcpConnection *m)
{
	struct tcp_sizes sizes;
	uint32_t written, received;

	TRY(tcp_sizes(fd, m->state, &sizes));
	TRY(sequence(fd, TCP_SEND_QUEUE, &written));
	TRY(sequence(fd, TCP_RECV_QUEUE, &received));
	m->unread_bytes = sizes.unread;
	m->sent_bytes = sizes.sent;
	m->unsent_bytes = sizes.unsent;
	m->fin_unsent = sizes.fin_unsent;
	m->unread = received - sizes.unread - tcp_fin_theirs(m->state);
	m->unacked = written - sizes.sent - sizes.unsent - tcp_fin_ours(m->state);
	return NULL;
}

static struct err *capture_buffers(int fd, Migrate__Kind__TcpConnection *m)
{
	int rcv, snd, lock = 0, quick = 0, clamp = 0;

	if (!sock_int(fd, SOL_SOCKET, SO_RCVBUF, &rcv) ||
		!sock_int(fd, SOL_SOCKET, SO_SNDBUF, &snd))
		return err_errno(errno, "ask the size of its buffers");
	(void)sock_int(fd, SOL_SOCKET, SO_BUF_LOCK, &lock);
	(void)sock_int(fd, SOL_TCP, TCP_QUICKACK, &quick);
	(void)sock_int(fd, SOL_TCP, TCP_WINDOW_CLAMP, &clamp);
	m->window_clamp = (uint32_t)clamp;
	m->rcvbuf = (uint32_t)rcv;
	m->sndbuf = (uint32_t)snd;
	m->buf_lock = (uint32_t)lock;
	m->quick_ack = quick;
	return NULL;
}

static struct err *connection_capture(struct capture *c)
{
	Migrate__Kind__TcpConnection m = MIGRATE__KIND__TCP_CONNECTION__INIT;
	int fd;

	TRY(capture_home(c, &fd));
	m.state = tcp_connected(fd);
	if (!m.state)
		return NULL;
	if (m.state == TCP_SYN_SENT || m.state == TCP_SYN_RECV)
		return err_new(ERR_LIMIT, "it is being connected just now");
	m.read_shut = !tcp_fin_theirs(m.state) && (sock_poll(fd, POLLRDHUP) & POLLRDHUP);
	TRY(capture_buffers(fd, &m));
	TRY(tcp_repair_set(fd, true));
	TRY(capture_address(c, fd, getsockname, &m.local));
	TRY(capture_address(c, fd, getpeername, &m.peer));
	TRY(capture_queues(fd, &m));
	TRY(capture_options(c, fd, &m));
	TRY(capture_window(c, fd, &m));
	TRY(get(fd, TCP_TIMESTAMP, &m.timestamp, sizeof(m.timestamp), "timestamp"));
	capture_emit(c, c->file->id, &m.base);
	return NULL;
}

/* ---- rebuild: connected, queues empty ---- */

static struct err *set(int fd, int name, const void *v, socklen_t len, const char *what)
{
	return setsockopt(fd, SOL_TCP, name, v, len) < 0 ? err_errno(errno, "set its %s", what)
							 : NULL;
}

static struct err *valid(const Migrate__Kind__TcpConnection *m)
{
	uint64_t bytes = (uint64_t)m->unread_bytes + m->sent_bytes + m->unsent_bytes;

	if (!m->local || !m->peer || !m->options || !m->window)
		return err_new(ERR_PEER, "half of a connection");
	if (m->state != TCP_ESTABLISHED && !tcp_fin_ours(m->state) && !tcp_fin_theirs(m->state))
		return err_new(ERR_PEER, "a connection in state %u", m->state);
	if (bytes > QUEUE_BYTES_MAX)
		return err_new(
			ERR_PEER, "a connection with %ju bytes in its queues", (uintmax_t)bytes);
	if (m->options->snd_scale > SCALE_MAX || m->options->rcv_scale > SCALE_MAX)
		return err_new(ERR_PEER, "window scales of %u and %u", m->options->snd_scale,
			m->options->rcv_scale);
	if (m->rcvbuf > INT32_MAX || m->sndbuf > INT32_MAX)
		return err_new(ERR_PEER, "buffers of %u and %u bytes", m->rcvbuf, m->sndbuf);
	return NULL;
}

static struct err *ends(const Migrate__Kind__TcpConnection *m, int domain, union sock_addr *local,
	union sock_addr *peer, struct net_pair *pair)
{
	TRY(sockaddr_unpack(m->local, domain, local));
	TRY(sockaddr_unpack(m->peer, domain, peer));
	tcp_end(local, &pair->local);
	tcp_end(peer, &pair->remote);
	if (pair->local.ip.family != pair->remote.ip.family)
		return err_new(ERR_PEER, "a connection between two families");
	return NULL;
}

/* The kernel doubles what it is told. */
static struct err *set_buffers(int fd, uint32_t rcv, uint32_t snd)
{
	int half_rcv = (int)MIN(rcv / 2, (uint32_t)INT32_MAX / 2);
	int half_snd = (int)MIN(snd / 2, (uint32_t)INT32_MAX / 2);

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &half_rcv, sizeof(half_rcv)) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &half_snd, sizeof(half_snd)) < 0)
		return err_errno(errno, "set the size of its buffers");
	return NULL;
}

/* Room for what is to be put there, whatever it will have in the end. */
static struct err *make_room(int fd, const Migrate__Kind__TcpConnection *m)
{
	uint32_t in = m->unread_bytes * BUFFER_FACTOR + BUFFER_LEAST;
	uint32_t out = (m->sent_bytes + m->unsent_bytes) * BUFFER_FACTOR + BUFFER_LEAST;

	return set_buffers(fd, MAX(in, m->rcvbuf), MAX(out, m->sndbuf));
}

static struct err *set_sequence(int fd, int queue, uint32_t v)
{
	TRY(tcp_choose_queue(fd, queue));
	TRY(set(fd, TCP_QUEUE_SEQ, &v, sizeof(v), "sequence number"));
	return tcp_choose_queue(fd, TCP_NO_QUEUE);
}

static struct err *set_options(int fd, const Migrate__Kind__TcpOptions *o)
{
	struct tcp_repair_opt v[4];
	socklen_t n = 0;

	v[n++] = (struct tcp_repair_opt){ TCPOPT_MAXSEG, o->mss };
	if (o->sack)
		v[n++] = (struct tcp_repair_opt){ TCPOPT_SACK_PERMITTED, 0 };
	if (o->scaled)
		v[n++] =
			(struct tcp_repair_opt){ TCPOPT_WINDOW, o->snd_scale | o->rcv_scale << 16 };
	if (o->timestamps)
		v[n++] = (struct tcp_repair_opt){ TCPOPT_TIMESTAMP, 0 };
	return set(fd, TCP_REPAIR_OPTIONS, v, n * sizeof(*v), "options");
}

static struct err *connect_silently(
	int fd, const union sock_addr *local, const union sock_addr *peer)
{
	char text[SOCKADDR_TEXT];

	if (bind(fd, &local->any, sockaddr_len(local)) < 0)
		return err_hint(err_errno(errno, "bind %s", sockaddr_text(local, text)),
			"an address that does not come along can be brought by a hook (address)");
	if (connect(fd, &peer->any, sockaddr_len(peer)) < 0)
		return err_errno(errno, "connect to %s", sockaddr_text(peer, text));
	return NULL;
}

static struct err *connection_rebuild(
	struct rebuild *r, const struct object *o, const void *msg, int *ret unused_arg)
{
	const Migrate__Kind__TcpConnection *m = msg;
	union sock_addr local, peer;
	autoclose int fd = -1;
	struct net_pair pair;
	int domain = 0;

	TRY(valid(m));
	TRY(remote_fd_home(r->task, o->slots[0].number, &fd));
	(void)sock_int(fd, SOL_SOCKET, SO_DOMAIN, &domain);
	TRY(ends(m, domain, &local, &peer, &pair));
	if (!rebuild_locked(r, &pair))
		return err_new(ERR_PEER, "a connection that was not announced");
	TRY(tcp_repair_set(fd, true));
	TRY(make_room(fd, m));
	TRY(set_sequence(fd, TCP_SEND_QUEUE, m->unacked));
	TRY(set_sequence(fd, TCP_RECV_QUEUE, m->unread));
	TRY(connect_silently(fd, &local, &peer));
	TRY(set_options(fd, m->options));
	return set(fd, TCP_TIMESTAMP, &m->timestamp, sizeof(m->timestamp), "timestamp");
}

/* ---- finish: its state ---- */

static bool comes_to(int fd, unsigned want, int64_t us)
{
	struct deadline d = deadline_in(us);

	while (tcp_connected(fd) != want) {
		if (deadline_passed(d))
			return false;
		usleep(50);
	}
	return true;
}

static struct err *spoof_until(int fd, const struct tcp_packet *p, unsigned want)
{
	struct deadline d = deadline_in(SETTLE_US);

	do {
		TRY(tcp_spoof(p));
		if (comes_to(fd, want, AGAIN_US))
			return NULL;
	} while (!deadline_passed(d));
	return err_new(ERR_BUG, "the connection is in state %u, not %u", tcp_connected(fd), want);
}

static struct err *end_ours(int fd, bool unsent)
{
	TRY(tcp_choose_queue(fd, unsent ? TCP_NO_QUEUE : TCP_SEND_QUEUE));
	if (shutdown(fd, SHUT_WR) < 0)
		return err_errno(errno, "end its sending");
	return tcp_choose_queue(fd, TCP_NO_QUEUE);
}

static struct tcp_packet from_peer(const Migrate__Kind__TcpConnection *m, const struct net_pair *p)
{
	uint32_t scale = m->options->scaled ? m->options->snd_scale : 0;

	return (struct tcp_packet){ .pair = *p,
		.seq = m->unread + m->unread_bytes,
		.ack = m->unacked,
		.window = (uint16_t)MIN(m->window->snd_wnd >> scale, (uint32_t)UINT16_MAX) };
}

static struct err *end_theirs(
	int fd, const Migrate__Kind__TcpConnection *m, const struct net_pair *p, unsigned then)
{
	struct tcp_packet packet = from_peer(m, p);

	packet.fin = true;
	return spoof_until(fd, &packet, then);
}

static struct err *confirm_ours(
	int fd, const Migrate__Kind__TcpConnection *m, const struct net_pair *p)
{
	struct tcp_packet packet = from_peer(m, p);

	packet.ack = m->unacked + 1;
	return spoof_until(fd, &packet, TCP_FIN_WAIT2);
}

/* In the order in which it came there. */
static struct err *set_state(
	int fd, const Migrate__Kind__TcpConnection *m, const struct net_pair *p)
{
	bool theirs_first = m->state == TCP_CLOSE_WAIT || m->state == TCP_LAST_ACK;

	if (theirs_first)
		TRY(end_theirs(fd, m, p, TCP_CLOSE_WAIT));
	if (tcp_fin_ours(m->state))
		TRY(end_ours(fd, m->fin_unsent));
	if (m->state == TCP_FIN_WAIT2)
		TRY(confirm_ours(fd, m, p));
	if (m->state == TCP_CLOSING)
		TRY(end_theirs(fd, m, p, TCP_CLOSING));
	if (m->read_shut && shutdown(fd, SHUT_RD) < 0)
		return err_errno(errno, "end its reading");
	if (tcp_connected(fd) != m->state)
		return err_new(ERR_BUG, "the connection is in state %u, not %u", tcp_connected(fd),
			m->state);
	return NULL;
}

static struct err *set_window(int fd, const Migrate__Kind__TcpWindow *w)
{
	const struct tcp_repair_window v = { .snd_wl1 = w->snd_wl1,
		.snd_wnd = w->snd_wnd,
		.max_window = w->max_window,
		.rcv_wnd = w->rcv_wnd,
		.rcv_wup = w->rcv_wup };

	return set(fd, TCP_REPAIR_WINDOW, &v, sizeof(v), "window");
}

/* What the kernel has found out for itself, or was told to keep to. */
static struct err *set_tuning(int fd, const Migrate__Kind__TcpConnection *m)
{
	int quick = m->quick_ack, lock = (int)m->buf_lock, clamp = (int)m->window_clamp;

	TRY(set_buffers(fd, m->rcvbuf, m->sndbuf));
	/* Older kernels do not have it: then the sizes stay as they are now. */
	(void)setsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &lock, sizeof(lock));
	if (clamp > 0)
		TRY(set(fd, TCP_WINDOW_CLAMP, &clamp, sizeof(clamp), "window clamp"));
	return set(fd, TCP_QUICKACK, &quick, sizeof(quick), "TCP_QUICKACK");
}

static struct err *connection_finish(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__TcpConnection *m = msg;
	int domain = 0;
	union sock_addr local, peer;
	autoclose int fd = -1;
	struct net_pair pair;
	struct tcp_sizes sizes;

	TRY(remote_fd_home(r->task, o->slots[0].number, &fd));
	(void)sock_int(fd, SOL_SOCKET, SO_DOMAIN, &domain);
	TRY(ends(m, domain, &local, &peer, &pair));
	TRY(set_state(fd, m, &pair));
	TRY(tcp_sizes(fd, m->state, &sizes));
	if (sizes.unread != m->unread_bytes || sizes.sent != m->sent_bytes ||
		sizes.unsent != m->unsent_bytes)
		return err_new(ERR_PEER, "queues of %u, %u and %u bytes instead of %u, %u and %u",
			sizes.unread, sizes.sent, sizes.unsent, m->unread_bytes, m->sent_bytes,
			m->unsent_bytes);
	TRY(set_tuning(fd, m));
	return set_window(fd, m->window);
}

const struct kind kind_tcp_connection = {
	.id = 43,
	.name = "TCP connection",
	.scope = KIND_LATE,
	.stage = STAGE_LOCK,
	.msg = &migrate__kind__tcp_connection__descriptor,
	.claims = connection_claims,
	.capture = connection_capture,
	.rebuild = connection_rebuild,
	.finish = connection_finish,
};
