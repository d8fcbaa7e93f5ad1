// SPDX-License-Identifier: Apache-2.0
/*
 * SOCK_DIAG_BY_FAMILY requests over libmnl. Kernel facts: a unix socket is found by its inode alone
 * (cookie -1); an inet socket has no such lookup, so sockets of one local port are dumped with a
 * filter program and compared by inode. Attributes that a kernel does not send are left zero.
 */
#include "kernel/sockdiag.h"
#include "kernel/sockdiag_priv.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define DIAG_BUF_BYTES 32768
/* <netinet/tcp.h> and <linux/tcp.h> do not go together; the state is part of the ABI. */
#define DIAG_LISTEN 10

static void diag_closep(struct mnl_socket **nl)
{
	if (*nl)
		(void)mnl_socket_close(*nl);
}

struct err *diag_ask(struct nlmsghdr *req, mnl_cb_t cb, void *arg)
{
	AUTO(diag_closep) struct mnl_socket *nl = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
	_Alignas(8) char buf[DIAG_BUF_BYTES];
	int left = MNL_CB_OK;

	if (!nl || mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0)
		return err_errno(errno, "open a sock_diag socket");
	if (mnl_socket_sendto(nl, req, req->nlmsg_len) < 0)
		return err_errno(errno, "ask sock_diag");
	while (left > MNL_CB_STOP) {
		ssize_t n = mnl_socket_recvfrom(nl, buf, sizeof(buf));

		if (n < 0)
			return err_errno(errno, "read from sock_diag");
		left = mnl_cb_run(buf, (size_t)n, 0, mnl_socket_get_portid(nl), cb, arg);
		if (left < 0)
			return err_errno(errno, "sock_diag");
		if (!(req->nlmsg_flags & NLM_F_DUMP))
			break;
	}
	return NULL;
}

struct nlmsghdr *diag_head(void *buf, unsigned flags)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);

	h->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	h->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	return h;
}

static void unix_attr(const struct nlattr *a, struct diag_unix *d)
{
	uint16_t len = mnl_attr_get_payload_len(a);

	switch (mnl_attr_get_type(a)) {
	case UNIX_DIAG_PEER:
		if (len >= 4) {
			d->has_peer = true;
			d->peer_inode = mnl_attr_get_u32(a);
		}
		break;
	case UNIX_DIAG_VFS:
		if (len >= sizeof(struct unix_diag_vfs)) {
			const struct unix_diag_vfs *v = mnl_attr_get_payload(a);

			d->has_file = true;
			d->file_inode = v->udiag_vfs_ino;
			d->file_dev = v->udiag_vfs_dev;
		}
		break;
	case UNIX_DIAG_RQLEN:
		if (len >= sizeof(struct unix_diag_rqlen)) {
			const struct unix_diag_rqlen *q = mnl_attr_get_payload(a);

			d->waiting = q->udiag_rqueue;
			d->backlog = d->state == DIAG_LISTEN ? q->udiag_wqueue : 0;
		}
		break;
	case UNIX_DIAG_SHUTDOWN:
		if (len >= 1)
			d->shutdown = mnl_attr_get_u8(a);
		break;
	default: /* attributes are an open set */
		break;
	}
}

static int unix_answer(const struct nlmsghdr *h, void *arg)
{
	const struct unix_diag_msg *m = mnl_nlmsg_get_payload(h);
	struct diag_unix *d = arg;
	struct nlattr *a;

	if (mnl_nlmsg_get_payload_len(h) < sizeof(*m))
		return MNL_CB_OK;
	d->type = m->udiag_type;
	d->state = m->udiag_state;
	mnl_attr_for_each(a, h, sizeof(*m)) unix_attr(a, d);
	return MNL_CB_OK;
}

struct err *diag_unix(uint64_t inode, struct diag_unix *ret)
{
	_Alignas(8) char buf[256];
	struct nlmsghdr *h = diag_head(buf, 0);
	struct unix_diag_req *q = mnl_nlmsg_put_extra_header(h, sizeof(*q));
	struct diag_unix d = { 0 };
	struct err *e;

	memset(q, 0, sizeof(*q));
	q->sdiag_family = AF_UNIX;
	q->udiag_states = UINT32_MAX;
	q->udiag_ino = (uint32_t)inode;
	q->udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN;
	q->udiag_cookie[0] = q->udiag_cookie[1] = UINT32_MAX;
	e = diag_ask(h, unix_answer, &d);
	if (e && err_sysno(e) == ENOENT) {
		err_free(e);
		return err_new(ERR_GONE, "no unix socket with inode %ju in this network namespace",
			(uintmax_t)inode);
	}
	if (e)
		return err_in(e, "look at the unix socket with inode %ju", (uintmax_t)inode);
	*ret = d;
	return NULL;
}

struct file_query {
	uint32_t inode;
	bool used;
};

static int file_answer(const struct nlmsghdr *h, void *arg)
{
	struct file_query *f = arg;
	struct diag_unix d = { 0 };

	(void)unix_answer(h, &d);
	if (d.has_file && d.file_inode == f->inode)
		f->used = true;
	return MNL_CB_OK;
}

struct err *diag_unix_file_used(uint64_t file_inode, bool *ret)
{
	_Alignas(8) char buf[256];
	struct nlmsghdr *h = diag_head(buf, NLM_F_DUMP);
	struct unix_diag_req *q = mnl_nlmsg_put_extra_header(h, sizeof(*q));
	struct file_query f = { .inode = (uint32_t)file_inode };

	memset(q, 0, sizeof(*q));
	q->sdiag_family = AF_UNIX;
	q->udiag_states = UINT32_MAX;
	q->udiag_show = UDIAG_SHOW_VFS;
	TRY_IN(diag_ask(h, file_answer, &f), "list unix sockets");
	*ret = f.used;
	return NULL;
}

struct inet_search {
	uint32_t inode;
	struct diag_inet *d;
};

static int inet_answer(const struct nlmsghdr *h, void *arg)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
	struct inet_search *s = arg;
	struct nlattr *a;

	if (mnl_nlmsg_get_payload_len(h) < sizeof(*m) || m->idiag_inode != s->inode)
		return MNL_CB_OK;
	s->d->found = true;
	mnl_attr_for_each(a, h, sizeof(*m))
	{
		if (mnl_attr_get_type(a) == INET_DIAG_SHUTDOWN && mnl_attr_get_payload_len(a) >= 1)
			s->d->shutdown = mnl_attr_get_u8(a);
		if (mnl_attr_get_type(a) == INET_DIAG_MD5SIG && mnl_attr_get_payload_len(a) > 0)
			s->d->has_md5 = true;
	}
	return MNL_CB_OK;
}

struct err *diag_inet(const struct diag_inet_query *want, struct diag_inet *ret)
{
	_Alignas(8) char buf[256];
	struct nlmsghdr *h = diag_head(buf, NLM_F_DUMP);
	struct inet_diag_req_v2 *q = mnl_nlmsg_put_extra_header(h, sizeof(*q));
	/* Each condition is two ops, the second holds the port. "no" jumps behind the program:
	 * reject. */
	struct inet_diag_bc_op filter[4] = {
		{ .code = INET_DIAG_BC_S_GE, .yes = 8, .no = 20 },
		{ .no = want->port },
		{ .code = INET_DIAG_BC_S_LE, .yes = 8, .no = 12 },
		{ .no = want->port },
	};
	struct diag_inet d = { 0 };
	struct inet_search s = { .inode = (uint32_t)want->inode, .d = &d };

	memset(q, 0, sizeof(*q));
	q->sdiag_family = (uint8_t)want->family;
	q->sdiag_protocol = (uint8_t)want->protocol;
	q->idiag_ext = 1U << (INET_DIAG_INFO - 1); /* keys come with the statistics only */
	q->idiag_states = want->protocol == IPPROTO_TCP ? 1U << DIAG_LISTEN : UINT32_MAX;
	mnl_attr_put(h, INET_DIAG_REQ_BYTECODE, sizeof(filter), filter);
	TRY_IN(diag_ask(h, inet_answer, &s), "list sockets of port %u", want->port);
	*ret = d;
	return NULL;
}
