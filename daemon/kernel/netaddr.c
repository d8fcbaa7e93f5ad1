// SPDX-License-Identifier: Apache-2.0
/*
 * rtnetlink (rtnetlink(7), <linux/if_addr.h>) over libmnl. Kernel facts: an IPv6 address without
 * IFA_F_NODAD is tentative for a second or more, and nothing can be bound to it; with
 * IFA_CACHEINFO lifetimes of 2^32-1 are for ever; the index of an address counts with its prefix
 * length when it is deleted. With an IPv4 address goes, unless promote_secondaries is set, every
 * secondary one of its network. An IPv6 address can be bound at once, but the route that makes
 * packets to it ours comes from a work queue, up to 20 ms later. A dump during which addresses
 * change is EINTR.
 */
#include "kernel/netaddr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <netinet/icmp6.h>
#include <netinet/ip6.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define ANSWER_BYTES  32768
#define ASK_BYTES     512
#define LIST_TRIES    100
#define LOCAL_US      50000
#define LOCAL_STEP_US 100
/* Newer than the headers of the oldest system that we build on. */
#define ATTR_RT_PRIORITY 9
#define ATTR_PROTO       11
/* What somebody else has set; the rest says how an address is just now. */
#define FLAGS_KEPT \
	(IFA_F_NODAD | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE | \
		IFA_F_MCAUTOJOIN | IFA_F_PERMANENT)

static void closep(struct mnl_socket **nl)
{
	if (*nl)
		(void)mnl_socket_close(*nl);
}

/* Sends one request and gives every answer to cb, to the end; the errno is the kernel's. */
static int ask(struct nlmsghdr *req, mnl_cb_t cb, void *arg)
{
	AUTO(closep) struct mnl_socket *nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	_Alignas(8) char buf[ANSWER_BYTES];
	int left = MNL_CB_OK;

	if (!nl || mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 ||
		mnl_socket_sendto(nl, req, req->nlmsg_len) < 0)
		return errno;
	while (left > MNL_CB_STOP) {
		ssize_t n = mnl_socket_recvfrom(nl, buf, sizeof(buf));

		if (n < 0)
			return errno;
		left = mnl_cb_run(buf, (size_t)n, 0, mnl_socket_get_portid(nl), cb, arg);
		if (left < 0)
			return errno;
		if (!(req->nlmsg_flags & (NLM_F_DUMP | NLM_F_ACK)))
			break;
	}
	return 0;
}

static struct nlmsghdr *head(void *buf, uint16_t type, unsigned flags)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);

	h->nlmsg_type = type;
	h->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	return h;
}

/* ---- what there is ---- */

struct list {
	struct arena *a;
	struct net_address *v;
	size_t n, cap;
};

static void get_ip(const struct nlattr *a, int family, struct net_ip *ret)
{
	size_t len = net_ip_len(family);

	if (mnl_attr_get_payload_len(a) < len)
		return;
	*ret = (struct net_ip){ .family = family };
	memcpy(ret->bytes, mnl_attr_get_payload(a), len);
}

static uint32_t get_u32(const struct nlattr *a)
{
	return mnl_attr_get_payload_len(a) >= 4 ? mnl_attr_get_u32(a) : 0;
}

static void get_times(const struct nlattr *a, struct net_address *v)
{
	const struct ifa_cacheinfo *c = mnl_attr_get_payload(a);

	if (mnl_attr_get_payload_len(a) < sizeof(*c))
		return;
	v->valid = c->ifa_valid;
	v->preferred = c->ifa_prefered;
}

/* IFA_LOCAL is the address itself and IFA_ADDRESS the other end, where both are there. */
static void get_attr(const struct nlattr *a, int family, struct net_address *v, bool *local)
{
	switch (mnl_attr_get_type(a)) {
	case IFA_ADDRESS:
		get_ip(a, family, *local ? &v->peer : &v->ip);
		break;
	case IFA_LOCAL:
		v->peer = v->ip;
		get_ip(a, family, &v->ip);
		*local = true;
		break;
	case IFA_BROADCAST:
		get_ip(a, family, &v->broadcast);
		v->has_broadcast = v->broadcast.family;
		break;
	case IFA_LABEL:
		snprintf(v->label, sizeof(v->label), "%.*s", (int)mnl_attr_get_payload_len(a),
			(char *)mnl_attr_get_payload(a));
		break;
	case IFA_FLAGS:
		v->flags = get_u32(a);
		break;
	case ATTR_RT_PRIORITY:
		v->metric = get_u32(a);
		break;
	case ATTR_PROTO:
		v->proto = mnl_attr_get_payload_len(a) ? mnl_attr_get_u8(a) : 0;
		break;
	case IFA_CACHEINFO:
		get_times(a, v);
		break;
	default: /* attributes are an open set */
		break;
	}
}

static int on_address(const struct nlmsghdr *h, void *arg)
{
	const struct ifaddrmsg *m = mnl_nlmsg_get_payload(h);
	struct net_address v = { .valid = UINT32_MAX, .preferred = UINT32_MAX };
	struct list *l = arg;
	const struct nlattr *a;
	bool local = false;

	if (mnl_nlmsg_get_payload_len(h) < sizeof(*m) || !net_ip_len(m->ifa_family))
		return MNL_CB_OK;
	v.prefix = m->ifa_prefixlen;
	v.scope = m->ifa_scope;
	v.flags = m->ifa_flags;
	v.index = m->ifa_index;
	mnl_attr_for_each(a, h, sizeof(*m)) get_attr(a, m->ifa_family, &v, &local);
	v.has_peer = local && v.peer.family && !net_ip_equal(&v.ip, &v.peer);
	if (!v.ip.family || !if_indextoname(v.index, v.interface))
		return MNL_CB_OK;
	l->v = arena_grow(l->a, l->v, &l->cap, l->n + 1, sizeof(*l->v));
	l->v[l->n++] = v;
	return MNL_CB_OK;
}

struct err *netaddr_list(struct arena *a, struct net_address **v, size_t *n)
{
	_Alignas(8) char buf[ASK_BYTES];
	struct nlmsghdr *h = head(buf, RTM_GETADDR, NLM_F_DUMP);
	struct list l = { .a = a };
	int no = EINTR;

	mnl_nlmsg_put_extra_header(h, sizeof(struct ifaddrmsg));
	for (int tries = 0; no == EINTR && tries < LIST_TRIES; tries++) {
		l.n = 0;
		no = ask(h, on_address, &l);
	}
	if (no)
		return err_errno(no, "list this host's addresses");
	*v = l.v;
	*n = l.n;
	return NULL;
}

static int on_route(const struct nlmsghdr *h, void *arg)
{
	const struct rtmsg *m = mnl_nlmsg_get_payload(h);
	bool *local = arg;

	if (mnl_nlmsg_get_payload_len(h) >= sizeof(*m))
		*local = m->rtm_type == RTN_LOCAL;
	return MNL_CB_OK;
}

struct err *netaddr_is_local(const struct net_ip *ip, bool *ret)
{
	_Alignas(8) char buf[ASK_BYTES];
	struct nlmsghdr *h = head(buf, RTM_GETROUTE, 0);
	struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
	int no;

	*ret = false;
	m->rtm_family = (uint8_t)ip->family;
	m->rtm_dst_len = (uint8_t)(net_ip_len(ip->family) * 8);
	mnl_attr_put(h, RTA_DST, net_ip_len(ip->family), ip->bytes);
	no = ask(h, on_route, ret);
	/* No route to it at all. */
	if (no && no != ENETUNREACH && no != EHOSTUNREACH && no != EACCES && no != EINVAL)
		return err_errno(no, "look for the route to an address");
	return NULL;
}

/* ---- where one belongs ---- */

static bool within(const struct net_ip *ip, const struct net_address *a)
{
	const struct net_ip *net = a->has_peer ? &a->peer : &a->ip;
	unsigned whole = a->prefix / 8, rest = a->prefix % 8;

	if (ip->family != net->family || memcmp(ip->bytes, net->bytes, whole) != 0)
		return false;
	return !rest || (ip->bytes[whole] ^ net->bytes[whole]) >> (8 - rest) == 0;
}

static struct err *is_up(const char *name, bool *ret)
{
	autoclose int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = { .ifr_flags = 0 };

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &r) < 0)
		return err_errno(errno, "look at interface %s", name);
	*ret = r.ifr_flags & IFF_UP;
	return NULL;
}

/* The narrowest network that it lies in, of those that are more than one address. */
static const struct net_address *network_of(
	const struct net_ip *ip, const struct net_address *v, size_t n)
{
	const struct net_address *best = NULL;

	for (size_t i = 0; i < n; i++)
		if (v[i].prefix && v[i].prefix < net_ip_len(v[i].ip.family) * 8 &&
			within(ip, &v[i]) && (!best || v[i].prefix > best->prefix))
			best = &v[i];
	return best;
}

struct err *netaddr_place(const struct net_ip *ip, const char *like, struct net_address *ret)
{
	autoarena struct arena *a = arena_new();
	const struct net_address *near;
	struct net_address *v;
	char text[NET_IP_TEXT];
	bool up = false;
	size_t n;

	TRY(netaddr_list(a, &v, &n));
	near = strcmp(like, "lo") == 0 ? NULL : network_of(ip, v, n);
	if (!near && !if_nametoindex(like))
		return err_hint(
			err_new(ERR_MISMATCH,
				"no interface here has a network with %s, and none is called %s",
				net_ip_text(ip, text), like),
			"give this host an address in that network, or move the network by other "
			"means and say --take-address none");
	snprintf(ret->interface, sizeof(ret->interface), "%s", near ? near->interface : like);
	ret->index = if_nametoindex(ret->interface);
	TRY(is_up(ret->interface, &up));
	if (!up)
		return err_new(ERR_MISMATCH, "interface %s, to which %s belongs, is down",
			ret->interface, net_ip_text(ip, text));
	return NULL;
}

/* ---- change ---- */

static void put_ip(struct nlmsghdr *h, uint16_t type, const struct net_ip *ip)
{
	mnl_attr_put(h, type, net_ip_len(ip->family), ip->bytes);
}

static struct nlmsghdr *about(void *buf, uint16_t type, unsigned flags, const struct net_address *v)
{
	struct nlmsghdr *h = head(buf, type, NLM_F_ACK | flags);
	struct ifaddrmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

	m->ifa_family = (uint8_t)v->ip.family;
	m->ifa_prefixlen = v->prefix;
	m->ifa_scope = v->scope;
	m->ifa_index = v->index;
	put_ip(h, IFA_LOCAL, &v->ip);
	put_ip(h, IFA_ADDRESS, v->has_peer ? &v->peer : &v->ip);
	return h;
}

/* Neither the address nor its flags tell that; the route does. */
static struct err *wait_local(const struct net_ip *ip)
{
	const int64_t until = clock_us() + LOCAL_US;
	bool local;

	for (;;) {
		TRY(netaddr_is_local(ip, &local));
		if (local || clock_us() > until)
			return NULL;
		usleep(LOCAL_STEP_US);
	}
}

struct err *netaddr_put(const struct net_address *v, bool *was_there)
{
	_Alignas(8) char buf[ASK_BYTES];
	struct nlmsghdr *h = about(buf, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, v);
	const struct ifa_cacheinfo times = { .ifa_prefered = v->preferred, .ifa_valid = v->valid };
	char text[NET_IP_TEXT];
	int no;

	mnl_attr_put_u32(h, IFA_FLAGS,
		(v->flags & FLAGS_KEPT) | (v->ip.family == AF_INET6 ? IFA_F_NODAD : 0));
	if (v->has_broadcast)
		put_ip(h, IFA_BROADCAST, &v->broadcast);
	if (v->label[0] && strncmp(v->label, v->interface, strlen(v->interface)) == 0)
		mnl_attr_put_strz(h, IFA_LABEL, v->label);
	if (v->metric)
		mnl_attr_put_u32(h, ATTR_RT_PRIORITY, v->metric);
	if (v->proto)
		mnl_attr_put_u8(h, ATTR_PROTO, v->proto);
	/* One that is valid for ever may be deprecated. */
	if (v->valid != UINT32_MAX || v->preferred != UINT32_MAX)
		mnl_attr_put(h, IFA_CACHEINFO, sizeof(times), &times);
	no = ask(h, NULL, NULL);
	*was_there = no == EEXIST;
	if (no && no != EEXIST)
		return err_errno(
			no, "put %s/%u on %s", net_ip_text(&v->ip, text), v->prefix, v->interface);
	return no || v->ip.family != AF_INET6 ? NULL : wait_local(&v->ip);
}

/* What went along without being meant. */
static struct err *put_back(
	const struct net_address *dropped, const struct net_address *v, size_t n)
{
	bool was_there;

	for (size_t i = 0; i < n; i++)
		if (v[i].index == dropped->index && v[i].flags & IFA_F_SECONDARY &&
			v[i].prefix == dropped->prefix && within(&v[i].ip, dropped) &&
			!net_ip_equal(&v[i].ip, &dropped->ip))
			TRY(netaddr_put(&v[i], &was_there));
	return NULL;
}

struct err *netaddr_drop(const struct net_address *v)
{
	autoarena struct arena *a = arena_new();
	_Alignas(8) char buf[ASK_BYTES];
	struct net_address *before = NULL;
	char text[NET_IP_TEXT];
	size_t n = 0;
	int no;

	if (v->ip.family == AF_INET)
		TRY(netaddr_list(a, &before, &n));
	no = ask(about(buf, RTM_DELADDR, 0, v), NULL, NULL);
	if (no && no != EADDRNOTAVAIL && no != ENODEV)
		return err_errno(no, "take %s/%u from %s", net_ip_text(&v->ip, text), v->prefix,
			v->interface);
	return put_back(v, before, n);
}

/* ---- tell ---- */

#define MAC_BYTES ETH_ALEN

struct arp_frame {
	struct arphdr head;
	uint8_t sender_mac[MAC_BYTES], sender[4], target_mac[MAC_BYTES], target[4];
} __attribute__((packed));

struct advert_frame {
	struct ip6_hdr ip;
	struct nd_neighbor_advert advert;
	struct nd_opt_hdr option;
	uint8_t mac[MAC_BYTES];
} __attribute__((packed));

static struct err *send_frame(int fd, const struct sockaddr_ll *to, const void *frame, size_t len)
{
	return sendto(fd, frame, len, 0, (const struct sockaddr *)to, sizeof(*to)) < 0
		       ? err_errno(errno, "announce an address")
		       : NULL;
}

static struct err *announce4(
	int fd, unsigned index, const struct net_ip *ip, const uint8_t mac[MAC_BYTES])
{
	const struct sockaddr_ll all = { .sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ARP),
		.sll_ifindex = (int)index,
		.sll_halen = MAC_BYTES,
		.sll_addr = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff } };
	static const uint16_t ways[] = { ARPOP_REQUEST, ARPOP_REPLY };
	struct arp_frame f = { .head = { .ar_hrd = htons(ARPHRD_ETHER),
				       .ar_pro = htons(ETH_P_IP),
				       .ar_hln = MAC_BYTES,
				       .ar_pln = 4 } };

	memcpy(f.sender_mac, mac, MAC_BYTES);
	memcpy(f.sender, ip->bytes, 4);
	memcpy(f.target, ip->bytes, 4);
	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		f.head.ar_op = htons(ways[i]);
		TRY(send_frame(fd, &all, &f, sizeof(f)));
	}
	return NULL;
}

/* RFC 2460, 8.1: with source, target, length and next header in front. */
static uint16_t checksum6(const struct advert_frame *f)
{
	const uint16_t len = htons(sizeof(*f) - sizeof(f->ip));
	const uint8_t *bytes = (const uint8_t *)&f->ip.ip6_src;
	uint32_t sum = (uint32_t)ntohs(len) + IPPROTO_ICMPV6;

	for (size_t i = 0; i < 2 * sizeof(f->ip.ip6_src) + sizeof(*f) - sizeof(f->ip); i += 2)
		sum += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static struct err *announce6(
	int fd, unsigned index, const struct net_ip *ip, const uint8_t mac[MAC_BYTES])
{
	const struct sockaddr_ll all_nodes = { .sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_IPV6),
		.sll_ifindex = (int)index,
		.sll_halen = MAC_BYTES,
		.sll_addr = { 0x33, 0x33, 0, 0, 0, 1 } };
	struct advert_frame f = { .ip = { .ip6_hlim = 255, .ip6_nxt = IPPROTO_ICMPV6 } };

	f.ip.ip6_vfc = 6 << 4;
	f.ip.ip6_plen = htons(sizeof(f) - sizeof(f.ip));
	memcpy(&f.ip.ip6_src, ip->bytes, 16);
	f.ip.ip6_dst = (struct in6_addr){ .s6_addr = { 0xff, 2, [15] = 1 } };
	f.advert.nd_na_type = ND_NEIGHBOR_ADVERT;
	f.advert.nd_na_flags_reserved = ND_NA_FLAG_OVERRIDE;
	memcpy(&f.advert.nd_na_target, ip->bytes, 16);
	f.option.nd_opt_type = ND_OPT_TARGET_LINKADDR;
	f.option.nd_opt_len = 1;
	memcpy(f.mac, mac, MAC_BYTES);
	f.advert.nd_na_cksum = checksum6(&f);
	return send_frame(fd, &all_nodes, &f, sizeof(f));
}

struct err *netaddr_teller(int *fd)
{
	*fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return *fd < 0 ? err_errno(errno, "open a packet socket") : NULL;
}

struct err *netaddr_announce(int teller, const struct net_ip *ip, unsigned index)
{
	struct ifreq r = { .ifr_flags = 0 };
	const uint8_t *mac = (const uint8_t *)r.ifr_hwaddr.sa_data;

	if (!if_indextoname(index, r.ifr_name))
		return err_errno(errno, "find interface %u", index);
	if (ioctl(teller, SIOCGIFHWADDR, &r) < 0)
		return err_errno(errno, "link address of %s", r.ifr_name);
	if (r.ifr_hwaddr.sa_family != ARPHRD_ETHER)
		return NULL;
	return ip->family == AF_INET ? announce4(teller, index, ip, mac)
				     : announce6(teller, index, ip, mac);
}
