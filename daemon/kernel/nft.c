// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel facts: a nested attribute holds less than 64 KiB, so long lists of elements are cut into
 * messages; a batch longer than the socket's send buffer is EMSGSIZE. Errors come for every message
 * that was not taken, in order, and an ACK of the last one behind them, so the first answer
 * decides.
 */
#include "kernel/nft.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define MESSAGE_ROOM   (48u << 10) /* no message is longer */
#define ELEMENTS_BYTES (32u << 10) /* of keys with their heads, in one */
#define ELEMENT_HEAD   16
#define ANSWER_BYTES   (32u << 10)
#define TIMEOUT_S      10

struct nft {
	uint8_t *buf;
	size_t len, cap;
	uint32_t seq;
	struct nlmsghdr *rule; /* open */
	struct nlattr *expressions;
	size_t last; /* where the last message begins */
};

struct nft *nft_new(void)
{
	return xcalloc(1, sizeof(struct nft));
}

void nft_free(struct nft *n)
{
	if (n)
		free(n->buf);
	free(n);
}

void nft_freep(struct nft **n)
{
	nft_free(*n);
	*n = NULL;
}

static struct nlmsghdr *begin(struct nft *n, uint16_t type, uint16_t flags, uint8_t family)
{
	struct nlmsghdr *h;
	struct nfgenmsg *g;

	if (n->cap - n->len < MESSAGE_ROOM) {
		n->cap = n->cap * 2 + 2 * (size_t)MESSAGE_ROOM;
		n->buf = xrealloc_array(n->buf, n->cap, 1);
	}
	memset(n->buf + n->len, 0, MESSAGE_ROOM);
	h = mnl_nlmsg_put_header(n->buf + n->len);
	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	h->nlmsg_seq = n->seq++;
	g = mnl_nlmsg_put_extra_header(h, sizeof(*g));
	g->nfgen_family = family;
	g->version = NFNETLINK_V0;
	return h;
}

static struct nlmsghdr *begin_nft(struct nft *n, int type, uint16_t flags, uint8_t family)
{
	/* The first message opens the batch. */
	if (!n->len) {
		struct nlmsghdr *h = begin(n, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC);
		struct nfgenmsg *g = mnl_nlmsg_get_payload(h);

		g->res_id = htons(NFNL_SUBSYS_NFTABLES);
		n->len += h->nlmsg_len;
	}
	n->last = n->len;
	return begin(n, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, family);
}

static void end(struct nft *n, const struct nlmsghdr *h)
{
	n->len += MNL_ALIGN(h->nlmsg_len);
}

static void put_be32(struct nlmsghdr *h, uint16_t type, uint32_t v)
{
	mnl_attr_put_u32(h, type, htonl(v));
}

/* ---- tables, chains, sets ---- */

void nft_table_made(struct nft *n, const struct nft_table *t, bool must_be_new)
{
	struct nlmsghdr *h = begin_nft(
		n, NFT_MSG_NEWTABLE, NLM_F_CREATE | (must_be_new ? NLM_F_EXCL : 0), t->family);

	mnl_attr_put_strz(h, NFTA_TABLE_NAME, t->name);
	end(n, h);
}

void nft_table_gone(struct nft *n, const struct nft_table *t)
{
	struct nlmsghdr *h = begin_nft(n, NFT_MSG_DELTABLE, 0, t->family);

	mnl_attr_put_strz(h, NFTA_TABLE_NAME, t->name);
	end(n, h);
}

void nft_chain(struct nft *n, const struct nft_table *t, const char *chain, uint32_t hook,
	int32_t priority)
{
	struct nlmsghdr *h = begin_nft(n, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL, t->family);
	struct nlattr *nest;

	mnl_attr_put_strz(h, NFTA_CHAIN_TABLE, t->name);
	mnl_attr_put_strz(h, NFTA_CHAIN_NAME, chain);
	nest = mnl_attr_nest_start(h, NFTA_CHAIN_HOOK);
	put_be32(h, NFTA_HOOK_HOOKNUM, hook);
	put_be32(h, NFTA_HOOK_PRIORITY, (uint32_t)priority);
	mnl_attr_nest_end(h, nest);
	put_be32(h, NFTA_CHAIN_POLICY, NF_ACCEPT);
	mnl_attr_put_strz(h, NFTA_CHAIN_TYPE, "filter");
	end(n, h);
}

void nft_set(
	struct nft *n, const struct nft_table *t, const char *set, uint32_t id, uint32_t key_bytes)
{
	struct nlmsghdr *h = begin_nft(n, NFT_MSG_NEWSET, NLM_F_CREATE | NLM_F_EXCL, t->family);

	mnl_attr_put_strz(h, NFTA_SET_TABLE, t->name);
	mnl_attr_put_strz(h, NFTA_SET_NAME, set);
	put_be32(h, NFTA_SET_FLAGS, 0);
	put_be32(h, NFTA_SET_KEY_TYPE, 0);
	put_be32(h, NFTA_SET_KEY_LEN, key_bytes);
	put_be32(h, NFTA_SET_ID, id);
	end(n, h);
}

static void put_element(struct nlmsghdr *h, const void *key, size_t bytes)
{
	struct nlattr *element = mnl_attr_nest_start(h, NFTA_LIST_ELEM);
	struct nlattr *value = mnl_attr_nest_start(h, NFTA_SET_ELEM_KEY);

	mnl_attr_put(h, NFTA_DATA_VALUE, bytes, key);
	mnl_attr_nest_end(h, value);
	mnl_attr_nest_end(h, element);
}

void nft_elements(
	struct nft *n, const struct nft_table *t, const char *set, const struct nft_keys *keys)
{
	const size_t most = ELEMENTS_BYTES / (keys->bytes + ELEMENT_HEAD);
	const uint8_t *key = keys->v;
	size_t left = keys->count;

	while (left) {
		struct nlmsghdr *h = begin_nft(n, NFT_MSG_NEWSETELEM, NLM_F_CREATE, t->family);
		size_t now = MIN(left, most);
		struct nlattr *nest;

		mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_TABLE, t->name);
		mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_SET, set);
		nest = mnl_attr_nest_start(h, NFTA_SET_ELEM_LIST_ELEMENTS);
		for (size_t i = 0; i < now; i++, key += keys->bytes)
			put_element(h, key, keys->bytes);
		mnl_attr_nest_end(h, nest);
		end(n, h);
		left -= now;
	}
}

/* ---- rules ---- */

static void begin_rule(struct nft *n, const struct nft_table *t, const char *chain, uint16_t where)
{
	n->rule = begin_nft(n, NFT_MSG_NEWRULE, NLM_F_CREATE | where, t->family);
	mnl_attr_put_strz(n->rule, NFTA_RULE_TABLE, t->name);
	mnl_attr_put_strz(n->rule, NFTA_RULE_CHAIN, chain);
	n->expressions = mnl_attr_nest_start(n->rule, NFTA_RULE_EXPRESSIONS);
}

void nft_rule(struct nft *n, const struct nft_table *t, const char *chain)
{
	begin_rule(n, t, chain, NLM_F_APPEND);
}

void nft_rule_first(struct nft *n, const struct nft_table *t, const char *chain)
{
	begin_rule(n, t, chain, 0);
}

struct expression {
	struct nlattr *element, *data;
};

static struct expression open_expression(struct nft *n, const char *name)
{
	struct expression e = { .element = mnl_attr_nest_start(n->rule, NFTA_LIST_ELEM) };

	mnl_attr_put_strz(n->rule, NFTA_EXPR_NAME, name);
	e.data = mnl_attr_nest_start(n->rule, NFTA_EXPR_DATA);
	return e;
}

static void close_expression(struct nft *n, const struct expression *e)
{
	mnl_attr_nest_end(n->rule, e->data);
	mnl_attr_nest_end(n->rule, e->element);
}

static void put_value(struct nft *n, uint16_t type, const void *value, size_t len)
{
	struct nlattr *nest = mnl_attr_nest_start(n->rule, type);

	mnl_attr_put(n->rule, NFTA_DATA_VALUE, len, value);
	mnl_attr_nest_end(n->rule, nest);
}

static uint32_t reg32(uint32_t reg)
{
	return NFT_REG32_00 + reg;
}

void nft_load(struct nft *n, uint32_t reg, uint32_t base, uint32_t offset, uint32_t len)
{
	struct expression e = open_expression(n, "payload");

	put_be32(n->rule, NFTA_PAYLOAD_DREG, reg32(reg));
	put_be32(n->rule, NFTA_PAYLOAD_BASE, base);
	put_be32(n->rule, NFTA_PAYLOAD_OFFSET, offset);
	put_be32(n->rule, NFTA_PAYLOAD_LEN, len);
	close_expression(n, &e);
}

void nft_load_meta(struct nft *n, uint32_t reg, uint32_t key)
{
	struct expression e = open_expression(n, "meta");

	put_be32(n->rule, NFTA_META_DREG, reg32(reg));
	put_be32(n->rule, NFTA_META_KEY, key);
	close_expression(n, &e);
}

void nft_mask(struct nft *n, uint32_t reg, const void *mask, size_t len)
{
	static const uint8_t none[16];
	struct expression e = open_expression(n, "bitwise");

	put_be32(n->rule, NFTA_BITWISE_SREG, reg32(reg));
	put_be32(n->rule, NFTA_BITWISE_DREG, reg32(reg));
	put_be32(n->rule, NFTA_BITWISE_LEN, (uint32_t)len);
	put_value(n, NFTA_BITWISE_MASK, mask, len);
	put_value(n, NFTA_BITWISE_XOR, none, len);
	close_expression(n, &e);
}

void nft_compare(struct nft *n, uint32_t reg, uint32_t op, const void *value, size_t len)
{
	struct expression e = open_expression(n, "cmp");

	put_be32(n->rule, NFTA_CMP_SREG, reg32(reg));
	put_be32(n->rule, NFTA_CMP_OP, op);
	put_value(n, NFTA_CMP_DATA, value, len);
	close_expression(n, &e);
}

void nft_lookup(struct nft *n, uint32_t reg, const char *set, uint32_t set_id)
{
	struct expression e = open_expression(n, "lookup");

	put_be32(n->rule, NFTA_LOOKUP_SREG, reg32(reg));
	mnl_attr_put_strz(n->rule, NFTA_LOOKUP_SET, set);
	put_be32(n->rule, NFTA_LOOKUP_SET_ID, set_id);
	close_expression(n, &e);
}

void nft_verdict(struct nft *n, uint32_t verdict)
{
	struct expression e = open_expression(n, "immediate");
	struct nlattr *data, *nest;

	put_be32(n->rule, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	data = mnl_attr_nest_start(n->rule, NFTA_IMMEDIATE_DATA);
	nest = mnl_attr_nest_start(n->rule, NFTA_DATA_VERDICT);
	put_be32(n->rule, NFTA_VERDICT_CODE, verdict);
	mnl_attr_nest_end(n->rule, nest);
	mnl_attr_nest_end(n->rule, data);
	close_expression(n, &e);
	mnl_attr_nest_end(n->rule, n->expressions);
	end(n, n->rule);
}

/* ---- to the kernel and back ---- */

static void closep(struct mnl_socket **nl)
{
	if (*nl)
		(void)mnl_socket_close(*nl);
}

static struct err *open_socket(struct mnl_socket **ret, size_t bytes)
{
	const struct timeval limit = { .tv_sec = TIMEOUT_S };
	int on = 1, room = (int)MIN(bytes * 2 + (64u << 10), (size_t)INT32_MAX);

	*ret = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	if (!*ret || mnl_socket_bind(*ret, 0, MNL_SOCKET_AUTOPID) < 0)
		return err_hint(err_errno(errno, "open a netfilter socket"),
			"this kernel needs nf_tables: modprobe nf_tables");
	(void)mnl_socket_setsockopt(*ret, NETLINK_EXT_ACK, &on, sizeof(on));
	(void)setsockopt(mnl_socket_get_fd(*ret), SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	(void)setsockopt(mnl_socket_get_fd(*ret), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	if (setsockopt(mnl_socket_get_fd(*ret), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
		return err_errno(errno, "limit a netfilter socket");
	return NULL;
}

/* The kernel's own words, behind the message that it is about (which may be left out). */
static const char *reason(const struct nlmsghdr *h)
{
	const struct nlmsgerr *m = mnl_nlmsg_get_payload(h);
	size_t skip = sizeof(*m);
	const struct nlattr *a;

	if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
		return NULL;
	if (!(h->nlmsg_flags & NLM_F_CAPPED))
		skip += MNL_ALIGN(m->msg.nlmsg_len) - sizeof(m->msg);
	if (skip > mnl_nlmsg_get_payload_len(h))
		return NULL;
	mnl_attr_for_each(a, h,
		skip) if (mnl_attr_get_type(a) == NLMSGERR_ATTR_MSG) return mnl_attr_get_str(a);
	return NULL;
}

static struct err *read_answer(struct mnl_socket *nl)
{
	_Alignas(8) char buf[ANSWER_BYTES];
	ssize_t n = mnl_socket_recvfrom(nl, buf, sizeof(buf));
	const struct nlmsghdr *h = (const void *)buf;
	const struct nlmsgerr *m;
	const char *why;

	if (n < 0)
		return err_errno(errno, "read the answer of nf_tables");
	if (!mnl_nlmsg_ok(h, (int)n) || h->nlmsg_type != NLMSG_ERROR ||
		mnl_nlmsg_get_payload_len(h) < sizeof(*m))
		return err_new(ERR_BUG, "an answer of nf_tables that is none");
	m = mnl_nlmsg_get_payload(h);
	if (!m->error)
		return NULL;
	why = reason(h);
	return why ? err_errno(-m->error, "change nf_tables (%s)", why)
		   : err_errno(-m->error, "change nf_tables");
}

struct err *nft_commit(struct nft *n)
{
	AUTO(closep) struct mnl_socket *nl = NULL;
	struct nlmsghdr *h, *last;
	struct nfgenmsg *g;

	if (!n->len)
		return NULL;
	h = begin(n, NFNL_MSG_BATCH_END, 0, AF_UNSPEC);
	g = mnl_nlmsg_get_payload(h);
	g->res_id = htons(NFNL_SUBSYS_NFTABLES);
	n->len += h->nlmsg_len;
	last = (void *)(n->buf + n->last);
	last->nlmsg_flags |= NLM_F_ACK;
	TRY(open_socket(&nl, n->len));
	if (mnl_socket_sendto(nl, n->buf, n->len) < 0)
		return err_errno(errno, "send to nf_tables");
	return read_answer(nl);
}

struct visit {
	void (*fn)(void *arg, const char *table);
	void *arg;
};

static int on_table(const struct nlmsghdr *h, void *arg)
{
	const struct visit *v = arg;
	const struct nlattr *a;

	mnl_attr_for_each(
		a, h, sizeof(struct nfgenmsg)) if (mnl_attr_get_type(a) == NFTA_TABLE_NAME &&
						   mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
		v->fn(v->arg, mnl_attr_get_str(a));
	return MNL_CB_OK;
}

struct err *nft_tables(uint8_t family, void (*fn)(void *arg, const char *table), void *arg)
{
	AUTO(closep) struct mnl_socket *nl = NULL;
	struct visit v = { fn, arg };
	_Alignas(8) char buf[ANSWER_BYTES];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *g = mnl_nlmsg_put_extra_header(h, sizeof(*g));
	int left = MNL_CB_OK;

	h->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	g->nfgen_family = family;
	TRY(open_socket(&nl, 0));
	if (mnl_socket_sendto(nl, h, h->nlmsg_len) < 0)
		return err_errno(errno, "ask nf_tables");
	while (left > MNL_CB_STOP) {
		ssize_t got = mnl_socket_recvfrom(nl, buf, sizeof(buf));

		if (got < 0)
			return err_errno(errno, "read from nf_tables");
		left = mnl_cb_run(buf, (size_t)got, 0, mnl_socket_get_portid(nl), on_table, &v);
		if (left < 0)
			return err_errno(errno, "list the tables of nf_tables");
	}
	return NULL;
}
