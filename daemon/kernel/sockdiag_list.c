// SPDX-License-Identifier: Apache-2.0
/*
 * All sockets of a sort at once. Kernel facts: a request that asks for SYN_RECV gets the handshakes
 * of all listeners; an IPv6 socket that speaks IPv4 is listed under AF_INET6, with mapped
 * addresses; the queue of a listener counts what nobody has accepted.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>

#include "kernel/sockdiag.h"
#include "kernel/sockdiag_priv.h"

#ifndef SOCK_DESTROY
#define SOCK_DESTROY 21
#endif

static struct net_end end_of(int family, const __be32 *ip, __be16 port)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct net_end e = { .ip.family = family, .port = ntohs(port) };

	if (family == AF_INET6 && memcmp(ip, mapped, sizeof(mapped)) == 0) {
		e.ip.family = AF_INET;
		memcpy(e.ip.bytes, ip + 3, 4);
	} else {
		memcpy(e.ip.bytes, ip, net_ip_len(family));
	}
	return e;
}

static struct net_pair pair_of(const struct inet_diag_msg *m)
{
	const struct inet_diag_sockid *id = &m->id;

	return (struct net_pair){ end_of(m->idiag_family, id->idiag_src, id->idiag_sport),
		end_of(m->idiag_family, id->idiag_dst, id->idiag_dport) };
}

struct list {
	struct arena *a;
	void *v;
	size_t n, cap;
};

static int on_tcp(const struct nlmsghdr *h, void *arg)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
	struct list *l = arg;
	struct diag_tcp *v;

	if (mnl_nlmsg_get_payload_len(h) < sizeof(*m))
		return MNL_CB_OK;
	l->v = v = arena_grow(l->a, l->v, &l->cap, l->n + 1, sizeof(*v));
	v[l->n++] = (struct diag_tcp){ .state = m->idiag_state,
		.pair = pair_of(m),
		.inode = m->idiag_inode,
		.queued_in = m->idiag_rqueue,
		.queued_out = m->idiag_wqueue,
		.cookie = { m->id.idiag_cookie[0], m->id.idiag_cookie[1] },
		.interface = m->id.idiag_if };
	return MNL_CB_OK;
}

static int on_udp(const struct nlmsghdr *h, void *arg)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
	struct list *l = arg;
	struct diag_udp *v;

	if (mnl_nlmsg_get_payload_len(h) < sizeof(*m))
		return MNL_CB_OK;
	l->v = v = arena_grow(l->a, l->v, &l->cap, l->n + 1, sizeof(*v));
	v[l->n++] = (struct diag_udp){
		.pair = pair_of(m), .inode = m->idiag_inode, .queued_in = m->idiag_rqueue
	};
	return MNL_CB_OK;
}

static struct err *dump(int family, int protocol, uint32_t states, mnl_cb_t cb, struct list *l)
{
	_Alignas(8) char buf[256];
	struct nlmsghdr *h = diag_head(buf, NLM_F_DUMP);
	struct inet_diag_req_v2 *q = mnl_nlmsg_put_extra_header(h, sizeof(*q));
	struct err *e;

	memset(q, 0, sizeof(*q));
	q->sdiag_family = (uint8_t)family;
	q->sdiag_protocol = (uint8_t)protocol;
	q->idiag_states = states;
	e = diag_ask(h, cb, l);
	/* A kernel that has not got this family has no such sockets. */
	if (e && err_sysno(e) == ENOENT && family == AF_INET6) {
		err_free(e);
		return NULL;
	}
	return err_in(e, "list the sockets of this host");
}

struct err *diag_tcp_list(
	struct arena *a, int family, uint32_t states, struct diag_tcp **v, size_t *n)
{
	struct list l = { .a = a };

	TRY(dump(family, IPPROTO_TCP, states, on_tcp, &l));
	*v = l.v;
	*n = l.n;
	return NULL;
}

struct err *diag_udp_list(struct arena *a, int family, struct diag_udp **v, size_t *n)
{
	struct list l = { .a = a };

	TRY(dump(family, IPPROTO_UDP, UINT32_MAX, on_udp, &l));
	*v = l.v;
	*n = l.n;
	return NULL;
}

static void put_end(const struct net_end *e, __be32 *ip, __be16 *port)
{
	memcpy(ip, e->ip.bytes, net_ip_len(e->ip.family));
	*port = htons(e->port);
}

/* Found by its addresses, as a packet finds it; the cookie says that it is still that one. */
struct err *diag_tcp_reset(const struct diag_tcp *d)
{
	_Alignas(8) char buf[256];
	struct nlmsghdr *h = diag_head(buf, NLM_F_ACK);
	struct inet_diag_req_v2 *q = mnl_nlmsg_put_extra_header(h, sizeof(*q));
	struct err *e;

	memset(q, 0, sizeof(*q));
	h->nlmsg_type = SOCK_DESTROY;
	q->sdiag_family = (uint8_t)d->pair.local.ip.family;
	q->sdiag_protocol = IPPROTO_TCP;
	q->idiag_states = UINT32_MAX;
	put_end(&d->pair.local, q->id.idiag_src, &q->id.idiag_sport);
	put_end(&d->pair.remote, q->id.idiag_dst, &q->id.idiag_dport);
	q->id.idiag_if = d->interface;
	memcpy(q->id.idiag_cookie, d->cookie, sizeof(q->id.idiag_cookie));
	e = diag_ask(h, NULL, NULL);
	if (e && err_sysno(e) == ENOENT) {
		err_free(e);
		return NULL;
	}
	if (e && err_sysno(e) == EOPNOTSUPP) {
		err_free(e);
		return err_new(ERR_UNSUPPORTED,
			"this kernel cannot reset connections (CONFIG_INET_DIAG_DESTROY)");
	}
	return err_in(e, "reset a connection");
}
