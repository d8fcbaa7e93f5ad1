// SPDX-License-Identifier: Apache-2.0
/*
 * An option is carried when it differs from that of a fresh socket on the source: what was never
 * set follows the destination's own defaults (sysctls), as it would after a restart there.
 *
 * The table's order is the order of setting. It matters in a few places: buffers before the locks
 * that say who chose them, IP_TOS before SO_PRIORITY (it sets the priority too), and everything
 * before bind (freebind, transparent, reuse, device).
 *
 * Not readable, so not carried and not noticed: IP_XFRM_POLICY, IPV6_PKTINFO when sticky, IPV6_MTU,
 * IP_MULTICAST_IF by index on IPv4, programs of SO_ATTACH_REUSEPORT_*.
 */
#include "kinds/sockopts.h"

#include <errno.h>
#include <linux/filter.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "kinds/cache.h"
#include "kinds/sockaddr.h"

/* Newer than the headers of the oldest system that we build on; numbers are part of the ABI. */
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#define OPT_SO_RCVPRIORITY      82
#define OPT_SO_PASSRIGHTS       83
#define OPT_SO_INQ              84
#define OPT_SO_MAX_PACING_RATE  47
#define OPT_IP_LOCAL_PORT_RANGE 51
#define OPT_TCP_AO_INFO         40
#define OPT_TCP_RTO_MAX_MS      44
#define OPT_TCP_RTO_MIN_US      45
#define OPT_TCP_DELACK_MAX_US   46
#define OPT_TCP_TX_DELAY        37
#define OPT_TCP_FASTOPEN_NO_CK  34
#define OPT_UDP_CORK            1
#define OPT_UDP_ENCAP           100
#define OPT_UDP_NO_CHECK6_TX    101
#define OPT_UDP_NO_CHECK6_RX    102
#define OPT_UDP_SEGMENT         103
#define OPT_UDP_GRO             104
#define OPT_SOL_UDP             17
#define OPT_SOF_OPT_ID          (1U << 7) /* SOF_TIMESTAMPING_OPT_ID */
#define OPT_LOCK_SNDBUF         1         /* SOCK_SNDBUF_LOCK of SO_BUF_LOCK */
#define OPT_LOCK_RCVBUF         2
#define OPT_VALUE_MAX           256
#define OPT_COUNT_MAX           256

enum opt_type {
	OPT_INT,
	OPT_BYTES,      /* as it comes, up to `size` bytes; may be shorter or empty */
	OPT_TEXT,       /* a name, NUL-terminated */
	OPT_LINGER,     /* without l_onoff the time means nothing and cannot be set */
	OPT_BUFFER,     /* twice of what was set; `arg`: its lock, without which it is a default */
	OPT_INDEX,      /* an interface index; `arg`: in network byte order */
	OPT_UNCONNECTED /* an int that is something else, or changes by itself, once it is connected
			 */
};

struct opt {
	int level, name;
	const char *text;
	enum opt_type type;
	unsigned size; /* of the largest value */
	int arg;
	bool always; /* carried also when it is the source's default */
};

#define INT(level, name) \
	{ \
		level, name, #name, OPT_INT, sizeof(int), 0, false \
	}
#define INT_AS(level, name, txt) \
	{ \
		level, name, txt, OPT_INT, sizeof(int), 0, false \
	}
#define RAW(level, name, bytes) \
	{ \
		level, name, #name, OPT_BYTES, bytes, 0, false \
	}

static const struct opt opts[] = {
	{ SOL_SOCKET, SO_SNDBUF, "SO_SNDBUF", OPT_BUFFER, sizeof(int), OPT_LOCK_SNDBUF, false },
	{ SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF", OPT_BUFFER, sizeof(int), OPT_LOCK_RCVBUF, false },
	INT(SOL_SOCKET, SO_BUF_LOCK),
	INT(SOL_SOCKET, SO_DEBUG),
	INT(SOL_SOCKET, SO_REUSEADDR),
	INT(SOL_SOCKET, SO_REUSEPORT),
	INT(SOL_SOCKET, SO_DONTROUTE),
	INT(SOL_SOCKET, SO_BROADCAST),
	INT(SOL_SOCKET, SO_KEEPALIVE),
	INT(SOL_SOCKET, SO_OOBINLINE),
	INT(SOL_SOCKET, SO_NO_CHECK),
	{ SOL_SOCKET, SO_LINGER, "SO_LINGER", OPT_LINGER, sizeof(struct linger), 0, false },
	INT(SOL_SOCKET, SO_PASSCRED),
	INT(SOL_SOCKET, SO_PASSPIDFD),
	INT(SOL_SOCKET, SO_PASSSEC),
	INT_AS(SOL_SOCKET, OPT_SO_PASSRIGHTS, "SO_PASSRIGHTS"),
	INT_AS(SOL_SOCKET, OPT_SO_INQ, "SO_INQ"),
	INT(SOL_SOCKET, SO_RCVLOWAT),
	RAW(SOL_SOCKET, SO_RCVTIMEO, sizeof(struct timeval)),
	RAW(SOL_SOCKET, SO_SNDTIMEO, sizeof(struct timeval)),
	{ SOL_SOCKET, SO_BINDTODEVICE, "SO_BINDTODEVICE", OPT_TEXT, IF_NAMESIZE, 0, false },
	INT(SOL_SOCKET, SO_MARK),
	INT(SOL_SOCKET, SO_TIMESTAMP_OLD),
	INT(SOL_SOCKET, SO_TIMESTAMPNS_OLD),
	INT(SOL_SOCKET, SO_TIMESTAMP_NEW),
	INT(SOL_SOCKET, SO_TIMESTAMPNS_NEW),
	RAW(SOL_SOCKET, SO_TIMESTAMPING_OLD, 8),
	RAW(SOL_SOCKET, SO_TIMESTAMPING_NEW, 8),
	INT(SOL_SOCKET, SO_RXQ_OVFL),
	INT(SOL_SOCKET, SO_WIFI_STATUS),
	INT(SOL_SOCKET, SO_PEEK_OFF),
	INT(SOL_SOCKET, SO_NOFCS),
	INT(SOL_SOCKET, SO_SELECT_ERR_QUEUE),
	INT(SOL_SOCKET, SO_BUSY_POLL),
	INT(SOL_SOCKET, SO_PREFER_BUSY_POLL),
	INT(SOL_SOCKET, SO_BUSY_POLL_BUDGET),
	{ SOL_SOCKET, SO_INCOMING_CPU, "SO_INCOMING_CPU", OPT_UNCONNECTED, sizeof(int), 0, false },
	INT(SOL_SOCKET, SO_ZEROCOPY),
	RAW(SOL_SOCKET, SO_TXTIME, 8),
	RAW(SOL_SOCKET, OPT_SO_MAX_PACING_RATE, 8),
	INT(SOL_SOCKET, SO_RESERVE_MEM),
	INT(SOL_SOCKET, SO_TXREHASH),
	INT(SOL_SOCKET, SO_RCVMARK),
	INT_AS(SOL_SOCKET, OPT_SO_RCVPRIORITY, "SO_RCVPRIORITY"),
	INT(SOL_SOCKET, SO_LOCK_FILTER),

	INT(SOL_IP, IP_TOS),
	INT(SOL_SOCKET, SO_PRIORITY),
	INT(SOL_IP, IP_TTL),
	RAW(SOL_IP, IP_OPTIONS, 40),
	INT(SOL_IP, IP_RECVOPTS),
	INT(SOL_IP, IP_RETOPTS),
	INT(SOL_IP, IP_PKTINFO),
	INT(SOL_IP, IP_MTU_DISCOVER),
	INT(SOL_IP, IP_RECVERR),
	INT(SOL_IP, IP_RECVTTL),
	INT(SOL_IP, IP_RECVTOS),
	INT(SOL_IP, IP_FREEBIND),
	INT(SOL_IP, IP_PASSSEC),
	INT(SOL_IP, IP_TRANSPARENT),
	INT(SOL_IP, IP_RECVORIGDSTADDR),
	INT(SOL_IP, IP_MINTTL),
	INT(SOL_IP, IP_CHECKSUM),
	INT(SOL_IP, IP_BIND_ADDRESS_NO_PORT),
	INT(SOL_IP, IP_RECVFRAGSIZE),
	INT(SOL_IP, IP_RECVERR_RFC4884),
	RAW(SOL_IP, IP_MULTICAST_IF, 4),
	INT(SOL_IP, IP_MULTICAST_TTL),
	INT(SOL_IP, IP_MULTICAST_LOOP),
	INT(SOL_IP, IP_MULTICAST_ALL),
	{ SOL_IP, IP_UNICAST_IF, "IP_UNICAST_IF", OPT_INDEX, IF_NAMESIZE, 1, false },
	INT_AS(SOL_IP, OPT_IP_LOCAL_PORT_RANGE, "IP_LOCAL_PORT_RANGE"),

	/* The default is a sysctl, and what the socket listens to depends on it. */
	{ SOL_IPV6, IPV6_V6ONLY, "IPV6_V6ONLY", OPT_INT, sizeof(int), 0, true },
	INT(SOL_IPV6, IPV6_UNICAST_HOPS),
	{ SOL_IPV6, IPV6_MULTICAST_IF, "IPV6_MULTICAST_IF", OPT_INDEX, IF_NAMESIZE, 0, false },
	INT(SOL_IPV6, IPV6_MULTICAST_HOPS),
	INT(SOL_IPV6, IPV6_MULTICAST_LOOP),
	INT(SOL_IPV6, IPV6_MULTICAST_ALL),
	INT(SOL_IPV6, IPV6_MTU_DISCOVER),
	INT(SOL_IPV6, IPV6_RECVERR),
	INT(SOL_IPV6, IPV6_RECVERR_RFC4884),
	INT_AS(SOL_IPV6, 11, "IPV6_FLOWINFO"),
	INT_AS(SOL_IPV6, 33, "IPV6_FLOWINFO_SEND"),
	INT(SOL_IPV6, IPV6_RECVPKTINFO),
	INT(SOL_IPV6, IPV6_RECVHOPLIMIT),
	INT(SOL_IPV6, IPV6_RECVHOPOPTS),
	INT(SOL_IPV6, IPV6_RECVRTHDR),
	INT(SOL_IPV6, IPV6_RECVDSTOPTS),
	INT(SOL_IPV6, IPV6_2292PKTINFO),
	INT(SOL_IPV6, IPV6_2292HOPLIMIT),
	INT(SOL_IPV6, IPV6_2292HOPOPTS),
	INT(SOL_IPV6, IPV6_2292RTHDR),
	INT(SOL_IPV6, IPV6_2292DSTOPTS),
	INT(SOL_IPV6, IPV6_RECVPATHMTU),
	INT(SOL_IPV6, IPV6_DONTFRAG),
	INT(SOL_IPV6, IPV6_RECVTCLASS),
	INT(SOL_IPV6, IPV6_TCLASS),
	INT(SOL_IPV6, IPV6_AUTOFLOWLABEL),
	INT(SOL_IPV6, IPV6_ADDR_PREFERENCES),
	INT(SOL_IPV6, IPV6_MINHOPCOUNT),
	INT(SOL_IPV6, IPV6_RECVORIGDSTADDR),
	INT(SOL_IPV6, IPV6_TRANSPARENT),
	{ SOL_IPV6, IPV6_UNICAST_IF, "IPV6_UNICAST_IF", OPT_INDEX, IF_NAMESIZE, 1, false },
	INT(SOL_IPV6, IPV6_RECVFRAGSIZE),
	INT(SOL_IPV6, IPV6_FREEBIND),
	RAW(SOL_IPV6, IPV6_HOPOPTS, 248),
	RAW(SOL_IPV6, IPV6_RTHDRDSTOPTS, 248),
	RAW(SOL_IPV6, IPV6_RTHDR, 248),
	RAW(SOL_IPV6, IPV6_DSTOPTS, 248),

	{ SOL_TCP, TCP_CONGESTION, "TCP_CONGESTION", OPT_TEXT, 16, 0, false },
	INT(SOL_TCP, TCP_NODELAY),
	INT(SOL_TCP, TCP_CORK),
	{ SOL_TCP, TCP_MAXSEG, "TCP_MAXSEG", OPT_UNCONNECTED, sizeof(int), 0, false },
	INT(SOL_TCP, TCP_KEEPIDLE),
	INT(SOL_TCP, TCP_KEEPINTVL),
	INT(SOL_TCP, TCP_KEEPCNT),
	INT(SOL_TCP, TCP_SYNCNT),
	INT(SOL_TCP, TCP_LINGER2),
	INT(SOL_TCP, TCP_DEFER_ACCEPT),
	{ SOL_TCP, TCP_WINDOW_CLAMP, "TCP_WINDOW_CLAMP", OPT_UNCONNECTED, sizeof(int), 0, false },
	{ SOL_TCP, TCP_QUICKACK, "TCP_QUICKACK", OPT_UNCONNECTED, sizeof(int), 0, false },
	INT(SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS),
	INT(SOL_TCP, TCP_USER_TIMEOUT),
	INT(SOL_TCP, TCP_FASTOPEN),
	RAW(SOL_TCP, TCP_FASTOPEN_KEY, 32),
	INT(SOL_TCP, TCP_FASTOPEN_CONNECT),
	INT_AS(SOL_TCP, OPT_TCP_FASTOPEN_NO_CK, "TCP_FASTOPEN_NO_COOKIE"),
	INT(SOL_TCP, TCP_NOTSENT_LOWAT),
	INT(SOL_TCP, TCP_SAVE_SYN),
	INT(SOL_TCP, TCP_INQ),
	INT_AS(SOL_TCP, OPT_TCP_TX_DELAY, "TCP_TX_DELAY"),
	INT_AS(SOL_TCP, OPT_TCP_RTO_MAX_MS, "TCP_RTO_MAX_MS"),
	INT_AS(SOL_TCP, OPT_TCP_RTO_MIN_US, "TCP_RTO_MIN_US"),
	INT_AS(SOL_TCP, OPT_TCP_DELACK_MAX_US, "TCP_DELACK_MAX_US"),

	INT_AS(OPT_SOL_UDP, OPT_UDP_CORK, "UDP_CORK"),
	INT_AS(OPT_SOL_UDP, OPT_UDP_NO_CHECK6_TX, "UDP_NO_CHECK6_TX"),
	INT_AS(OPT_SOL_UDP, OPT_UDP_NO_CHECK6_RX, "UDP_NO_CHECK6_RX"),
	INT_AS(OPT_SOL_UDP, OPT_UDP_SEGMENT, "UDP_SEGMENT"),
	INT_AS(OPT_SOL_UDP, OPT_UDP_GRO, "UDP_GRO"),
};

struct value {
	_Alignas(8) uint8_t b[OPT_VALUE_MAX];
	socklen_t len;
};

static bool level_applies(int level, int domain, int protocol)
{
	switch (level) {
	case SOL_SOCKET:
		return true;
	case SOL_IP:
		return domain == AF_INET || domain == AF_INET6;
	case SOL_IPV6:
		return domain == AF_INET6;
	case SOL_TCP:
		return domain != AF_UNIX && protocol == IPPROTO_TCP;
	default:
		return domain != AF_UNIX && protocol == IPPROTO_UDP;
	}
}

/* False if this kernel or this socket does not have it. */
static bool value_get(int fd, const struct opt *o, struct value *v)
{
	v->len = o->type == OPT_INDEX ? sizeof(int) : o->size;
	memset(v->b, 0, v->len);
	if (getsockopt(fd, o->level, o->name, v->b, &v->len) < 0 || v->len > OPT_VALUE_MAX)
		return false;
	if (o->type == OPT_TEXT)
		v->len = (socklen_t)strnlen((const char *)v->b, v->len);
	if (o->type == OPT_LINGER && ((struct linger *)(void *)v->b)->l_onoff == 0)
		memset(v->b, 0, v->len);
	return true;
}

static bool value_equal(const struct value *a, const struct value *b)
{
	return a->len == b->len && memcmp(a->b, b->b, a->len) == 0;
}

static int value_int(const struct value *v)
{
	int n;

	memcpy(&n, v->b, sizeof(n));
	return n;
}

/* An accepted connection keeps there what its first packet had; nobody can set or use it. */
static bool opt_of_multicast(const struct opt *o)
{
	return (o->level == SOL_IP && (o->name == IP_MULTICAST_IF || o->name == IP_MULTICAST_TTL ||
					      o->name == IP_MULTICAST_LOOP)) ||
	       (o->level == SOL_IPV6 &&
		       (o->name == IPV6_MULTICAST_IF || o->name == IPV6_MULTICAST_HOPS ||
			       o->name == IPV6_MULTICAST_LOOP));
}

static bool opt_wanted(const struct opt *o, const struct sock_seen *s, const struct value *mine,
	const struct value *fresh)
{
	int locks = 0;
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	if (o->always)
		return true;
	if (o->type == OPT_BUFFER)
		return sock_int(s->fd, SOL_SOCKET, SO_BUF_LOCK, &locks) && (locks & o->arg);
	if (value_equal(mine, fresh) || (s->type == SOCK_STREAM && opt_of_multicast(o)))
		return false;
	return o->type != OPT_UNCONNECTED || getpeername(s->fd, (void *)&peer, &len) < 0;
}

static struct err *opt_pack(struct arena *a, const struct opt *o, const struct value *v,
	Migrate__Kind__SocketOption **ret)
{
	Migrate__Kind__SocketOption *m = arena_alloc(a, sizeof(*m));
	char name[IF_NAMESIZE];
	unsigned index;

	migrate__kind__socket_option__init(m);
	m->level = o->level;
	m->name = o->name;
	if (o->type == OPT_INDEX) {
		index = (unsigned)value_int(v);
		if (o->arg)
			index = ntohl(index);
		if (!if_indextoname(index, name))
			return err_errno(errno, "interface %u of %s", index, o->text);
		m->interface = arena_strdup(a, name);
	} else {
		m->value.len = v->len;
		m->value.data = arena_dup(a, v->b, v->len);
	}
	*ret = m;
	return NULL;
}

/* What a fresh socket of that sort has: the same for all of a migration. */
struct defaults {
	bool has[ARRAY_LEN(opts)];
	struct value v[ARRAY_LEN(opts)];
};

static struct err *defaults_of(
	struct capture *c, const struct sock_seen *s, const struct defaults **ret)
{
	const uint64_t id = (uint64_t)(uint16_t)s->domain << 48 |
			    (uint64_t)(uint16_t)s->type << 32 | (uint32_t)s->protocol;
	autoclose int fresh = -1;
	struct defaults *d;

	*ret = kind_cache_common(c->cache, KIND_CACHE_SOCKET_DEFAULTS, id);
	if (*ret)
		return NULL;
	fresh = socket(s->domain, s->type | SOCK_CLOEXEC, s->protocol);
	if (fresh < 0)
		return err_errno(errno, "make a socket to compare with");
	d = arena_alloc(c->arena, sizeof(*d));
	for (size_t i = 0; i < ARRAY_LEN(opts); i++)
		d->has[i] = level_applies(opts[i].level, s->domain, s->protocol) &&
			    value_get(fresh, &opts[i], &d->v[i]);
	*ret = kind_cache_keep(c->cache, KIND_CACHE_SOCKET_DEFAULTS, id, d, sizeof(*d));
	if (!*ret)
		*ret = d;
	return NULL;
}

/* A classic packet filter, as it was attached. Here the length counts instructions. */
static struct err *filter_capture(struct capture *c, int fd, Migrate__Kind__Socket *m)
{
	socklen_t len = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &len) < 0 || !len)
		return NULL;
	m->filter.data = arena_array(c->arena, len, sizeof(struct sock_filter));
	if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, m->filter.data, &len) < 0)
		return err_errno(errno, "read its packet filter");
	m->filter.len = len * sizeof(struct sock_filter);
	return NULL;
}

static struct err *filter_apply(int fd, const Migrate__Kind__Socket *m)
{
	const struct sock_fprog f = { .len = (unsigned short)(m->filter.len /
							      sizeof(struct sock_filter)),
		.filter = (struct sock_filter *)(void *)m->filter.data };

	if (f.len && setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &f, sizeof(f)) < 0)
		return err_errno(errno, "attach its packet filter");
	return NULL;
}

struct err *sockopts_capture(struct capture *c, const struct sock_seen *s, Migrate__Kind__Socket *m)
{
	Migrate__Kind__SocketOption *found[ARRAY_LEN(opts)];
	const struct defaults *d;
	struct value mine;

	TRY(filter_capture(c, s->fd, m));
	TRY(defaults_of(c, s, &d));
	for (size_t i = 0; i < ARRAY_LEN(opts); i++) {
		const struct opt *o = &opts[i];

		if (d->has[i] && value_get(s->fd, o, &mine) && opt_wanted(o, s, &mine, &d->v[i]))
			TRY(opt_pack(c->arena, o, &mine, &found[m->n_options++]));
	}
	m->options = arena_array(c->arena, m->n_options + 1, sizeof(*m->options));
	memcpy(m->options, found, m->n_options * sizeof(*found));
	return NULL;
}

static const struct opt *opt_find(int level, int name)
{
	for (size_t i = 0; i < ARRAY_LEN(opts); i++)
		if (opts[i].level == level && opts[i].name == name)
			return &opts[i];
	return NULL;
}

struct err *sockopts_valid(const Migrate__Kind__Socket *m)
{
	if (m->filter.len % sizeof(struct sock_filter) ||
		m->filter.len / sizeof(struct sock_filter) > BPF_MAXINSNS)
		return err_new(ERR_PEER, "a packet filter of %zu bytes", m->filter.len);
	if (m->n_options > OPT_COUNT_MAX)
		return err_new(ERR_PEER, "%zu socket options", m->n_options);
	for (size_t i = 0; i < m->n_options; i++) {
		const Migrate__Kind__SocketOption *v = m->options[i];
		const struct opt *o = opt_find(v->level, v->name);
		bool exact = o && o->type != OPT_BYTES && o->type != OPT_TEXT;

		if (!o || !level_applies(o->level, m->domain, m->protocol))
			return err_new(ERR_PEER, "socket option %d of level %d", v->name, v->level);
		if (o->type == OPT_INDEX
				? v->value.len != 0 || !v->interface[0]
				: v->value.len > o->size || (exact && v->value.len != o->size))
			return err_new(ERR_PEER, "%s of %zu bytes", o->text, v->value.len);
	}
	return NULL;
}

/* The value in the form that setsockopt wants. */
static struct err *value_to_set(
	const struct opt *o, const Migrate__Kind__SocketOption *m, struct value *v)
{
	unsigned index;
	int n;

	memset(v, 0, sizeof(*v));
	if (o->type != OPT_INDEX) {
		v->len = (socklen_t)m->value.len;
		if (v->len)
			memcpy(v->b, m->value.data, v->len);
		return NULL;
	}
	index = if_nametoindex(m->interface);
	if (!index)
		return err_hint(err_new(ERR_UNSUPPORTED, "no interface %s here", m->interface),
			"%s names it; give the destination an interface of that name", o->text);
	n = (int)(o->arg ? htonl(index) : index);
	memcpy(v->b, &n, sizeof(n));
	v->len = sizeof(n);
	return NULL;
}

static struct err *opt_set(int fd, const struct opt *o, const struct value *want)
{
	struct value now;
	int name = o->name, half;
	const void *data = want->b;

	if (value_get(fd, o, &now) && value_equal(&now, want) && o->type != OPT_BUFFER)
		return NULL;
	/* The kernel doubles what it is told, and only the FORCE variants go above the sysctls. */
	if (o->type == OPT_BUFFER) {
		half = value_int(want) / 2;
		data = &half;
		name = o->name == SO_SNDBUF ? SO_SNDBUFFORCE : SO_RCVBUFFORCE;
	}
	if (setsockopt(fd, o->level, name, data, want->len) == 0)
		return NULL;
	if (want->len == sizeof(int) && o->type != OPT_TEXT)
		return err_errno(errno, "set %s to %d", o->text, value_int(want));
	if (o->type == OPT_TEXT)
		return err_errno(errno, "set %s to %s", o->text, (const char *)want->b);
	return err_errno(errno, "set %s", o->text);
}

struct err *sockopts_apply(int fd, const Migrate__Kind__Socket *m)
{
	struct value v;

	TRY(filter_apply(fd, m)); /* SO_LOCK_FILTER is among the others */
	for (size_t i = 0; i < ARRAY_LEN(opts); i++)
		for (size_t k = 0; k < m->n_options; k++) {
			if (m->options[k]->level != opts[i].level ||
				m->options[k]->name != opts[i].name)
				continue;
			TRY(value_to_set(&opts[i], m->options[k], &v));
			TRY(opt_set(fd, &opts[i], &v));
		}
	return NULL;
}

/* ---- what hangs on a socket and cannot be carried ---- */

static void refuse_filter(struct capture *c, const struct sock_seen *s)
{
	socklen_t len = 0;

	/* An eBPF program has no text to give. */
	if (getsockopt(s->fd, SOL_SOCKET, SO_GET_FILTER, NULL, &len) < 0 && errno == EACCES)
		capture_refuse(c, err_new(ERR_UNSUPPORTED, "an eBPF filter is attached"));
}

/* The kernel lists a host's groups, not a socket's; but a socket tells the filter of a group that
 * it is in. */
static void refuse_member(
	struct capture *c, const struct sock_seen *s, unsigned index, const union sock_addr *group)
{
	struct group_filter f = { .gf_interface = index };
	socklen_t len = GROUP_FILTER_SIZE(0);
	char text[SOCKADDR_TEXT];

	memcpy(&f.gf_group, group, sizeof(*group));
	if (getsockopt(s->fd, group->any.sa_family == AF_INET ? SOL_IP : SOL_IPV6, MCAST_MSFILTER,
		    &f, &len) < 0)
		return;
	capture_refuse(c, err_new(ERR_UNSUPPORTED, "member of multicast group %s",
				  sockaddr_text(group, text)));
}

/* "1\tlo : 1 V3" heads an interface, "\t\t\t\t010000E0 ..." is a group of it. */
static void refuse_groups4(struct capture *c, const struct sock_seen *s, const char *text)
{
	unsigned index = 0;

	for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
		union sock_addr g = { .in = { .sin_family = AF_INET } };
		unsigned v;

		if (*p != '\t' && sscanf(p, "%u", &v) == 1) {
			index = v;
		} else if (*p == '\t' && sscanf(p, " %x", &v) == 1) {
			g.in.sin_addr.s_addr = v;
			refuse_member(c, s, index, &g);
		}
	}
}

/* "1    lo              ff020000000000000000000000000001     1 0000000C 0" */
static void refuse_groups6(struct capture *c, const struct sock_seen *s, const char *text)
{
	for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
		union sock_addr g = { .in6 = { .sin6_family = AF_INET6 } };
		unsigned index, byte;
		char hex[33];
		size_t i = 0;

		if (sscanf(p, "%u %*s %32s", &index, hex) != 2 || strlen(hex) != 32)
			continue;
		for (; i < 16 && sscanf(hex + 2 * i, "%2x", &byte) == 1; i++)
			g.in6.sin6_addr.s6_addr[i] = (uint8_t)byte;
		if (i == 16)
			refuse_member(c, s, index, &g);
	}
}

static struct err *refuse_groups(struct capture *c, const struct sock_seen *s)
{
	char *text;

	TRY(io_read_file(c->arena, "/proc/net/igmp", 1 << 20, &text, NULL));
	refuse_groups4(c, s, text);
	if (s->domain != AF_INET6 || access("/proc/net/igmp6", R_OK) < 0)
		return NULL;
	TRY(io_read_file(c->arena, "/proc/net/igmp6", 1 << 20, &text, NULL));
	refuse_groups6(c, s, text);
	return NULL;
}

static void refuse_tcp(struct capture *c, const struct sock_seen *s)
{
	char ulp[64] = "";
	_Alignas(8) uint8_t ao[128] = { 0 };
	socklen_t len = sizeof(ulp) - 1;
	int v = 0;

	if (getsockopt(s->fd, SOL_TCP, TCP_ULP, ulp, &len) == 0 && ulp[0])
		capture_refuse(c, err_new(ERR_UNSUPPORTED, "upper layer \"%s\" on TCP", ulp));
	len = sizeof(ao);
	if (getsockopt(s->fd, SOL_TCP, OPT_TCP_AO_INFO, ao, &len) == 0)
		capture_refuse(c, err_new(ERR_UNSUPPORTED, "TCP authentication option keys"));
	if (sock_int(s->fd, SOL_TCP, TCP_REPAIR, &v) && v)
		capture_refuse(c, err_new(ERR_UNSUPPORTED, "TCP socket in repair mode"));
}

static void refuse_udp(struct capture *c, const struct sock_seen *s)
{
	int v = 0;

	if (sock_int(s->fd, OPT_SOL_UDP, OPT_UDP_ENCAP, &v) && v)
		capture_refuse(c, err_new(ERR_UNSUPPORTED, "UDP encapsulation %d", v));
	if (sock_int(s->fd, OPT_SOL_UDP, OPT_UDP_CORK, &v) && v)
		capture_refuse(c, err_new(ERR_UNSUPPORTED, "UDP_CORK is on"));
	if (sock_int(s->fd, SOL_SOCKET, SO_TIMESTAMPING_OLD, &v) && ((unsigned)v & OPT_SOF_OPT_ID))
		capture_warn(c, "the counter of SOF_TIMESTAMPING_OPT_ID starts again at 0");
}

struct err *sockopts_refuse(struct capture *c, const struct sock_seen *s)
{
	refuse_filter(c, s);
	if (s->domain == AF_UNIX)
		return NULL;
	if (s->protocol == IPPROTO_TCP) {
		refuse_tcp(c, s);
		return NULL;
	}
	refuse_udp(c, s);
	return refuse_groups(c, s);
}
