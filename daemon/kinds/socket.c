// SPDX-License-Identifier: Apache-2.0
/*
 * Sockets: see socket.h. STAGE_LOCK, because finish makes what others can see: listening, UDP
 * ports, abstract names. Nothing here needs a stop; what is only true of a stopped process (empty
 * queues) is asked in the frozen capture.
 */
#include "kinds/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "kinds/cache.h"
#include "kinds/sockopts.h"

#define STATUS_FLAGS (SETFL_FLAGS | O_ASYNC)

static const struct sock_impl *const impls[] = { &sock_tcp, &sock_udp, &sock_journal, &sock_unix };

static const struct {
	int domain;
	const char *name;
} families[] = {
	{ AF_UNIX, "unix" },
	{ AF_INET, "IPv4" },
	{ AF_INET6, "IPv6" },
	{ AF_NETLINK, "netlink" },
	{ AF_PACKET, "packet" },
	{ AF_VSOCK, "vsock" },
	{ AF_ALG, "kernel crypto (AF_ALG)" },
	{ AF_XDP, "XDP" },
	{ AF_BLUETOOTH, "bluetooth" },
	{ AF_CAN, "CAN" },
	{ AF_KEY, "IPsec key" },
	{ AF_TIPC, "TIPC" },
	{ AF_RDS, "RDS" },
	{ AF_SMC, "SMC" },
	{ AF_KCM, "KCM" },
	{ AF_QIPCRTR, "Qualcomm IPC router" },
	{ AF_NFC, "NFC" },
	{ AF_RXRPC, "RxRPC" },
	{ AF_IB, "InfiniBand" },
	{ AF_LLC, "LLC" },
	{ AF_PHONET, "phonet" },
	{ AF_X25, "X.25" },
	{ AF_IEEE802154, "IEEE 802.15.4" },
	{ AF_AX25, "AX.25" },
	{ AF_APPLETALK, "AppleTalk" },
	{ 45, "MCTP" },
};

static const struct {
	int protocol;
	const char *name;
} protocols[] = {
	{ IPPROTO_ICMP, "ICMP echo" },
	{ IPPROTO_ICMPV6, "ICMPv6 echo" },
	{ IPPROTO_SCTP, "SCTP" },
	{ IPPROTO_UDPLITE, "UDP-Lite" },
	{ IPPROTO_DCCP, "DCCP" },
	{ 115, "L2TP" },
	{ 262, "multipath TCP" },
	{ 256, "SMC" },
};

short sock_poll(int fd, short want)
{
	struct pollfd p = { .fd = fd, .events = want };

	return poll(&p, 1, 0) > 0 ? p.revents : 0;
}

bool sock_int(int fd, int level, int name, int *ret)
{
	int v = 0;
	socklen_t len = sizeof(v);

	if (getsockopt(fd, level, name, &v, &len) < 0)
		return false;
	*ret = v;
	return true;
}

void sock_check_backlog(struct rebuild *r, uint32_t backlog)
{
	char *text;
	const char *p;
	uint64_t most;
	autoerr struct err *e =
		io_read_file(r->arena, "/proc/sys/net/core/somaxconn", 64, &text, NULL);

	if (e)
		return;
	p = text;
	if (text_scan_u64(&p, 10, &most) && backlog > most)
		rebuild_warn(r, "net.core.somaxconn cuts the backlog of a listener from %u to %ju",
			backlog, (uintmax_t)most);
}

struct err *sock_home(struct rebuild *r, const struct sock *s, int *fd)
{
	return remote_fd_home(r->task, s->o->slots[0].number, fd);
}

static struct err *refuse_family(const struct sock_seen *s)
{
	const char *family = NULL, *protocol = NULL;

	for (size_t i = 0; i < ARRAY_LEN(families); i++)
		if (families[i].domain == s->domain)
			family = families[i].name;
	if (!family)
		return err_new(ERR_UNSUPPORTED, "socket of address family %d", s->domain);
	if (s->domain == AF_NETLINK)
		return err_new(ERR_UNSUPPORTED, "netlink socket of protocol %d%s", s->protocol,
			s->protocol == NETLINK_ROUTE ? " (route)" : "");
	if (s->domain != AF_INET && s->domain != AF_INET6)
		return err_new(ERR_UNSUPPORTED, "%s socket", family);
	for (size_t i = 0; i < ARRAY_LEN(protocols); i++)
		if (protocols[i].protocol == s->protocol)
			protocol = protocols[i].name;
	if (s->type == SOCK_RAW)
		return err_new(
			ERR_UNSUPPORTED, "raw %s socket of protocol %d", family, s->protocol);
	if (protocol)
		return err_new(ERR_UNSUPPORTED, "%s socket (%s)", protocol, family);
	return err_new(
		ERR_UNSUPPORTED, "%s socket of type %d, protocol %d", family, s->type, s->protocol);
}

/* A socket stays in the network namespace it was made in, wherever its owner goes. */
static struct err *same_netns(const struct sock_seen *s)
{
	struct stat ours, theirs;
	autoclose int ns = ioctl(s->fd, SIOCGSKNS);

	if (ns < 0)
		return err_errno(errno, "network namespace of a socket");
	if (fstat(ns, &theirs) < 0 || stat("/proc/self/ns/net", &ours) < 0)
		return err_errno(errno, "compare network namespaces");
	if (ours.st_ino != theirs.st_ino || ours.st_dev != theirs.st_dev)
		return err_new(ERR_UNSUPPORTED, "it belongs to another network namespace");
	return NULL;
}

static struct err *socket_seen(struct capture *c, struct sock_seen *s)
{
	int listening = 0;

	memset(s, 0, sizeof(*s));
	TRY(capture_home(c, &s->fd));
	if (!sock_int(s->fd, SOL_SOCKET, SO_DOMAIN, &s->domain) ||
		!sock_int(s->fd, SOL_SOCKET, SO_TYPE, &s->type) ||
		!sock_int(s->fd, SOL_SOCKET, SO_PROTOCOL, &s->protocol))
		return err_errno(errno, "family of a socket");
	(void)sock_int(s->fd, SOL_SOCKET, SO_ACCEPTCONN, &listening);
	s->listening = listening != 0;
	s->inode = c->file->st.st_ino;
	return NULL;
}

/* A second holder would go on using the socket of the source; a log connection is made anew anyway.
 */
static void refuse_shared(struct capture *c, const struct sock_impl *impl)
{
	struct holder_name by;

	if (impl != &sock_journal &&
		kind_cache_held_outside(c->cache, c->inside, c->stopped, c->file->link, &by))
		capture_refuse(c, err_hint(err_new(ERR_UNSUPPORTED, "%s is shared with %s",
						   impl->name, by.text),
					  "move a program whose sockets are its own"));
}

static bool socket_claims(const struct file *f)
{
	return strncmp(f->link, "socket:[", 8) == 0 && !(f->flags & O_PATH);
}

static struct err *socket_capture(struct capture *c)
{
	Migrate__Kind__Socket *m = arena_alloc(c->arena, sizeof(*m));
	const struct sock_impl *impl = NULL;
	ProtobufCMessage *state;
	struct sock_seen s;
	struct object *o;
	const uint8_t *body;
	uint64_t group = 0;

	TRY(socket_seen(c, &s));
	for (size_t i = 0; i < ARRAY_LEN(impls) && !impl; i++)
		if (impls[i]->claims(&s))
			impl = impls[i];
	if (!impl)
		return refuse_family(&s);
	TRY_IN(same_netns(&s), "%s", impl->name);

	refuse_shared(c, impl);
	migrate__kind__socket__init(m);
	m->impl = impl->id;
	m->domain = s.domain;
	m->type = s.type;
	m->protocol = s.protocol;
	m->uid = c->file->st.st_uid;
	m->gid = c->file->st.st_gid;
	m->mode = c->file->st.st_mode & 07777;
	m->status_flags = (uint32_t)c->file->flags & STATUS_FLAGS;
	TRY_IN(sockopts_refuse(c, &s), "%s", impl->name);
	TRY_IN(sockopts_capture(c, &s, m), "%s", impl->name);
	TRY_IN(impl->capture(c, &s, &state, &group), "%s", impl->name);
	kind_pack(c->arena, state, &body, &m->state.len);
	m->state.data = arena_dup(c->arena, body, m->state.len);
	o = capture_emit(c, c->file->id, &m->base);
	o->group = group;
	return NULL;
}

/* Unpacks and checks what came from the peer. */
static struct err *socket_open(
	struct rebuild *r, const struct object *o, const void *msg, struct sock *s)
{
	memset(s, 0, sizeof(*s));
	s->o = o;
	s->m = msg;
	for (size_t i = 0; i < ARRAY_LEN(impls); i++)
		if (impls[i]->id == s->m->impl)
			s->impl = impls[i];
	if (!s->impl)
		return err_hint(err_new(ERR_PEER, "unknown sort of socket %u", s->m->impl),
			"install the same version of migrated on both hosts");
	if (o->n_slots == 0 || o->group >> 32)
		return err_new(ERR_PEER, "%s without a descriptor, or of the group %#jx",
			s->impl->name, (uintmax_t)o->group);
	s->state = message_unpack(r->arena, s->impl->msg, s->m->state.data, s->m->state.len);
	if (!s->state)
		return err_new(ERR_PEER, "message of a %s does not parse", s->impl->name);
	TRY_IN(sockopts_valid(s->m), "%s", s->impl->name);
	TRY_IN(s->impl->valid(s), "%s", s->impl->name);
	return NULL;
}

static struct err *socket_check(struct rebuild *r, const struct object *o, const void *msg)
{
	struct sock s;

	TRY(socket_open(r, o, msg, &s));
	if (s.impl->check)
		TRY_IN(s.impl->check(r, &s), "%s", s.impl->name);
	return NULL;
}

static struct err *socket_make(struct rebuild *r, const struct sock *s, int *ret)
{
	autoclose int fd = -1;

	TRY(s->impl->rebuild(r, s, &fd));
	if (fcntl(fd, F_SETFL, (int)s->m->status_flags & SETFL_FLAGS) < 0)
		return err_errno(errno, "set its flags");
	/* What /proc/net and owner matches show; sock_make chose it already where it could. */
	if (fchown(fd, s->m->uid, s->m->gid) < 0 || fchmod(fd, s->m->mode & 07777) < 0)
		return err_errno(errno, "set its owner");
	*ret = take_fd(&fd);
	return NULL;
}

static struct err *socket_rebuild(
	struct rebuild *r, const struct object *o, const void *msg, int *fd)
{
	struct sock s;

	TRY(socket_open(r, o, msg, &s));
	TRY_IN(socket_make(r, &s, fd), "%s", s.impl->name);
	return NULL;
}

static struct err *socket_finish(struct rebuild *r, const struct object *o, const void *msg)
{
	struct sock s;

	TRY(socket_open(r, o, msg, &s));
	if (s.impl->finish)
		TRY_IN(s.impl->finish(r, &s), "%s", s.impl->name);
	/* By the process itself: the kernel remembers the descriptor's number for the signal. */
	if (s.m->status_flags & O_ASYNC)
		return REMOTE(r->task, r->thread, NULL, "set O_ASYNC", SYS_fcntl,
			(uint64_t)o->slots[0].number, F_SETFL, s.m->status_flags & STATUS_FLAGS);
	return NULL;
}

static struct err *socket_publish(struct rebuild *r, const struct object *o, const void *msg)
{
	struct sock s;

	TRY(socket_open(r, o, msg, &s));
	if (s.impl->publish)
		TRY_IN(s.impl->publish(r, &s), "%s", s.impl->name);
	return NULL;
}

static void socket_discard(struct rebuild *r, const struct object *o, const void *msg)
{
	struct sock s;
	autoerr struct err *e = socket_open(r, o, msg, &s);

	if (!e && s.impl->discard)
		s.impl->discard(r, &s);
}

static struct err *socket_remove(struct rebuild *r, const struct object *o, const void *msg)
{
	socket_discard(r, o, msg);
	return NULL;
}

const struct kind kind_socket = {
	.id = 40,
	.name = "socket",
	.scope = KIND_FILE,
	.stage = STAGE_LOCK,
	.msg = &migrate__kind__socket__descriptor,
	.claims = socket_claims,
	.capture = socket_capture,
	.check = socket_check,
	.rebuild = socket_rebuild,
	.remove = socket_remove,
	.finish = socket_finish,
	.publish = socket_publish,
	.discard = socket_discard,
};
