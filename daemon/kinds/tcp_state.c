// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel facts: SIOCOUTQ and SIOCOUTQNSD count a FIN of ours as a byte, SIOCINQ does not count the
 * peer's. Linux takes segments without a timestamp also on connections that have agreed on them.
 */
#include "kinds/tcp_state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "kernel/netlock.h"

#ifndef IPV6_HDRINCL
#define IPV6_HDRINCL 36
#endif

void tcp_end(const union sock_addr *a, struct net_end *ret)
{
	*ret = (struct net_end){ .port = sockaddr_port(a) };
	ret->ip.family = a->any.sa_family;
	if (a->any.sa_family == AF_INET) {
		memcpy(ret->ip.bytes, &a->in.sin_addr, 4);
	} else if (IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr)) {
		ret->ip.family = AF_INET;
		memcpy(ret->ip.bytes, a->in6.sin6_addr.s6_addr + 12, 4);
	} else {
		memcpy(ret->ip.bytes, &a->in6.sin6_addr, 16);
	}
}

unsigned tcp_connected(int fd)
{
	struct tcp_info info = { .tcpi_state = TCP_CLOSE };
	socklen_t len = sizeof(info);
	int domain, protocol;

	if (!sock_int(fd, SOL_SOCKET, SO_PROTOCOL, &protocol) || protocol != IPPROTO_TCP ||
		!sock_int(fd, SOL_SOCKET, SO_DOMAIN, &domain) ||
		(domain != AF_INET && domain != AF_INET6) ||
		getsockopt(fd, SOL_TCP, TCP_INFO, &info, &len) < 0)
		return 0;
	return info.tcpi_state == TCP_CLOSE || info.tcpi_state == TCP_LISTEN ? 0 : info.tcpi_state;
}

bool tcp_fin_ours(unsigned state)
{
	return state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING ||
	       state == TCP_LAST_ACK;
}

bool tcp_fin_theirs(unsigned state)
{
	return state == TCP_CLOSE_WAIT || state == TCP_CLOSING || state == TCP_LAST_ACK;
}

struct err *tcp_sizes(int fd, unsigned state, struct tcp_sizes *ret)
{
	int in = 0, out = 0, unsent = 0;

	*ret = (struct tcp_sizes){ .fin_unacked = tcp_fin_ours(state) && state != TCP_FIN_WAIT2 };
	if (ioctl(fd, SIOCINQ, &in) < 0 || ioctl(fd, SIOCOUTQ, &out) < 0 ||
		ioctl(fd, SIOCOUTQNSD, &unsent) < 0)
		return err_errno(errno, "ask how much is in its queues");
	ret->fin_unsent = ret->fin_unacked && unsent > 0;
	out -= ret->fin_unacked;
	unsent -= ret->fin_unsent;
	if (in < 0 || unsent < 0 || out < unsent)
		return err_new(ERR_BUG, "queues of %d, %d and %d bytes", in, out, unsent);
	ret->unread = (uint32_t)in;
	ret->unsent = (uint32_t)unsent;
	ret->sent = (uint32_t)(out - unsent);
	return NULL;
}

struct err *tcp_choose_queue(int fd, int queue)
{
	if (setsockopt(fd, SOL_TCP, TCP_REPAIR_QUEUE, &queue, sizeof(queue)) < 0)
		return err_errno(errno, "choose a queue");
	return NULL;
}

/* ---- in the peer's name ---- */

struct headers {
	union {
		struct iphdr four;
		struct ip6_hdr six;
	} ip;
	struct tcphdr tcp;
};

static uint32_t add_up(uint32_t sum, const void *data, size_t n)
{
	const uint8_t *b = data;

	for (size_t i = 0; i < n; i += 2)
		sum += (uint32_t)(b[i] << 8 | b[i + 1]);
	return sum;
}

/* With source, target, length and protocol in front, in both families. */
static uint16_t checksum(const struct tcp_packet *p, const struct tcphdr *tcp)
{
	size_t len = net_ip_len(p->pair.local.ip.family);
	uint32_t sum = IPPROTO_TCP + (uint32_t)sizeof(*tcp);

	sum = add_up(sum, p->pair.local.ip.bytes, len);
	sum = add_up(sum, p->pair.remote.ip.bytes, len);
	sum = add_up(sum, tcp, sizeof(*tcp));
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static struct tcphdr tcp_header(const struct tcp_packet *p)
{
	struct tcphdr t = { .source = htons(p->pair.remote.port),
		.dest = htons(p->pair.local.port),
		.seq = htonl(p->seq),
		.ack_seq = htonl(p->ack),
		.doff = sizeof(t) / 4,
		.ack = 1,
		.fin = p->fin,
		.window = htons(p->window) };

	t.check = checksum(p, &t);
	return t;
}

/* Returns its length; the kernel fills in IPv4's checksum. */
static size_t fill(const struct tcp_packet *p, uint8_t buf[sizeof(struct headers)])
{
	const struct net_pair *w = &p->pair;
	const struct tcphdr tcp = tcp_header(p);
	struct iphdr four = { .version = 4,
		.ihl = sizeof(four) / 4,
		.ttl = 64,
		.protocol = IPPROTO_TCP,
		.tot_len = htons(sizeof(four) + sizeof(tcp)) };
	struct ip6_hdr six = { .ip6_hlim = 64, .ip6_nxt = IPPROTO_TCP };
	size_t len;

	if (w->local.ip.family == AF_INET) {
		memcpy(&four.saddr, w->remote.ip.bytes, 4);
		memcpy(&four.daddr, w->local.ip.bytes, 4);
		memcpy(buf, &four, len = sizeof(four));
	} else {
		six.ip6_vfc = 6 << 4;
		six.ip6_plen = htons(sizeof(tcp));
		memcpy(&six.ip6_src, w->remote.ip.bytes, 16);
		memcpy(&six.ip6_dst, w->local.ip.bytes, 16);
		memcpy(buf, &six, len = sizeof(six));
	}
	memcpy(buf + len, &tcp, sizeof(tcp));
	return len + sizeof(tcp);
}

struct err *tcp_spoof(const struct tcp_packet *p)
{
	int family = p->pair.local.ip.family, on = 1, mark = NETLOCK_MARK;
	autoclose int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	uint8_t buf[sizeof(struct headers)];
	size_t len = fill(p, buf);
	union sock_addr to = { .any = { .sa_family = (sa_family_t)family } };

	if (family == AF_INET)
		memcpy(&to.in.sin_addr, p->pair.local.ip.bytes, 4);
	else
		memcpy(&to.in6.sin6_addr, p->pair.local.ip.bytes, 16);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0 ||
		(family == AF_INET6 &&
			setsockopt(fd, SOL_IPV6, IPV6_HDRINCL, &on, sizeof(on)) < 0) ||
		sendto(fd, buf, len, 0, &to.any, sockaddr_len(&to)) < 0)
		return err_errno(errno, "repeat a packet of its peer");
	return NULL;
}
