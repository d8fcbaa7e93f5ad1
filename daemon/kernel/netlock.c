// SPDX-License-Identifier: Apache-2.0
/*
 * Where: prerouting and output at priority -300, before connection tracking and before a socket is
 * looked up. Kernel facts: a packet that is dropped on its way out is EPERM to TCP, which then does
 * not count new data as sent; nothing is answered for one that is dropped on its way in. Loopback
 * traffic passes both. Keys of sets are padded to 4 bytes per field, in the order of the registers.
 * A kernel without tables of a family (CONFIG_NF_TABLES_ARP) says EOPNOTSUPP when one is made; an
 * expression that it lacks is ENOENT.
 */
#include "kernel/netlock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter_arp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernel/nft.h"

#define PRIORITY   (-300)
#define TABLE_MAX  128
#define PROBE_NAME "probe-"
#define LIST_TRIES 100 /* while others change the rules of this namespace */
/* Offsets in headers. */
#define IP4_SOURCE   12
#define IP4_TARGET   16
#define IP6_SOURCE   8
#define IP6_TARGET   24
#define PORT_SOURCE  0
#define PORT_TARGET  2
#define TCP_FLAGS    13
#define ICMP6_TYPE   0
#define ND_TARGET    8
#define ARP_SENDER   14 /* Ethernet's, as all of 6 byte link addresses */
#define ARP_TARGET   24
#define SYN          0x02
#define SYN_ACK_MASK 0x12
#define ND_FIRST     135 /* neighbour solicitation; 136 is the advertisement */
#define ND_LAST      136

enum set {
	SET_PAIRS4,
	SET_PAIRS6,
	SET_DOORS4, /* listeners: address and port, */
	SET_DOORS6,
	SET_ANY4, /* or port only */
	SET_ANY6,
	SET_QUIET6,
	SET_QUIET4, /* of the ARP table */
	SET_COUNT,
};

/* A field of a key: 4 bytes, or the 16 of an IPv6 address. */
static const struct {
	const char *name;
	uint32_t key_bytes;
} sets[SET_COUNT] = {
	[SET_PAIRS4] = { "pairs4", 16 },
	[SET_PAIRS6] = { "pairs6", 40 },
	[SET_DOORS4] = { "doors4", 8 },
	[SET_DOORS6] = { "doors6", 20 },
	[SET_ANY4] = { "any4", 4 },
	[SET_ANY6] = { "any6", 4 },
	[SET_QUIET6] = { "quiet6", 16 },
	[SET_QUIET4] = { "quiet4", 4 },
};

/* Both tables of a lock have one name. */
struct tables {
	struct nft_table ip, arp;
	char name[TABLE_MAX];
};

static void name_tables(const char *id, struct tables *ret)
{
	snprintf(ret->name, sizeof(ret->name), NETLOCK_PREFIX "%s", id);
	ret->ip = (struct nft_table){ NFPROTO_INET, ret->name };
	ret->arp = (struct nft_table){ NFPROTO_ARP, ret->name };
}

/* ---- rules ---- */

static void load_port(struct nft *n, uint32_t reg, uint32_t offset)
{
	nft_load(n, reg, NFT_PAYLOAD_TRANSPORT_HEADER, offset, 2);
}

static void is(struct nft *n, uint32_t meta, uint8_t value)
{
	nft_load_meta(n, 0, meta);
	nft_compare(n, 0, NFT_CMP_EQ, &value, 1);
}

static void begin_rule(struct nft *n, const struct nft_table *t, const char *chain, uint8_t family,
	uint8_t protocol)
{
	nft_rule(n, t, chain);
	is(n, NFT_META_NFPROTO, family);
	is(n, NFT_META_L4PROTO, protocol);
}

static void end_rule(struct nft *n, enum set s)
{
	nft_lookup(n, 0, sets[s].name, s);
	nft_verdict(n, NF_DROP);
}

/* Keys are (remote, remote port, local, local port), so one set serves both directions. */
static void pairs(struct nft *n, const struct nft_table *t, bool out)
{
	const char *chain = out ? "out" : "in";

	begin_rule(n, t, chain, NFPROTO_IPV4, IPPROTO_TCP);
	nft_load(n, 0, NFT_PAYLOAD_NETWORK_HEADER, out ? IP4_TARGET : IP4_SOURCE, 4);
	load_port(n, 1, out ? PORT_TARGET : PORT_SOURCE);
	nft_load(n, 2, NFT_PAYLOAD_NETWORK_HEADER, out ? IP4_SOURCE : IP4_TARGET, 4);
	load_port(n, 3, out ? PORT_SOURCE : PORT_TARGET);
	end_rule(n, SET_PAIRS4);
	begin_rule(n, t, chain, NFPROTO_IPV6, IPPROTO_TCP);
	nft_load(n, 0, NFT_PAYLOAD_NETWORK_HEADER, out ? IP6_TARGET : IP6_SOURCE, 16);
	load_port(n, 4, out ? PORT_TARGET : PORT_SOURCE);
	nft_load(n, 5, NFT_PAYLOAD_NETWORK_HEADER, out ? IP6_SOURCE : IP6_TARGET, 16);
	load_port(n, 9, out ? PORT_SOURCE : PORT_TARGET);
	end_rule(n, SET_PAIRS6);
}

static void begin_syn(struct nft *n, const struct nft_table *t, uint8_t family)
{
	static const uint8_t mask = SYN_ACK_MASK, syn = SYN;

	begin_rule(n, t, "in", family, IPPROTO_TCP);
	nft_load(n, 0, NFT_PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS, 1);
	nft_mask(n, 0, &mask, 1);
	nft_compare(n, 0, NFT_CMP_EQ, &syn, 1);
}

static void doors(struct nft *n, const struct nft_table *t)
{
	begin_syn(n, t, NFPROTO_IPV4);
	nft_load(n, 0, NFT_PAYLOAD_NETWORK_HEADER, IP4_TARGET, 4);
	load_port(n, 1, PORT_TARGET);
	end_rule(n, SET_DOORS4);
	begin_syn(n, t, NFPROTO_IPV6);
	nft_load(n, 0, NFT_PAYLOAD_NETWORK_HEADER, IP6_TARGET, 16);
	load_port(n, 4, PORT_TARGET);
	end_rule(n, SET_DOORS6);
	begin_syn(n, t, NFPROTO_IPV4);
	load_port(n, 0, PORT_TARGET);
	end_rule(n, SET_ANY4);
	begin_syn(n, t, NFPROTO_IPV6);
	load_port(n, 0, PORT_TARGET);
	end_rule(n, SET_ANY6);
}

static void quiet6(struct nft *n, const struct nft_table *t, uint32_t base, uint32_t offset)
{
	static const uint8_t first = ND_FIRST, last = ND_LAST;

	begin_rule(n, t, "out", NFPROTO_IPV6, IPPROTO_ICMPV6);
	nft_load(n, 0, NFT_PAYLOAD_TRANSPORT_HEADER, ICMP6_TYPE, 1);
	nft_compare(n, 0, NFT_CMP_GTE, &first, 1);
	nft_compare(n, 0, NFT_CMP_LTE, &last, 1);
	nft_load(n, 0, base, offset, 16);
	end_rule(n, SET_QUIET6);
}

static void ours_pass(struct nft *n, const struct nft_table *t, const char *chain)
{
	static const uint32_t mark = NETLOCK_MARK;

	nft_rule(n, t, chain);
	nft_load_meta(n, 0, NFT_META_MARK);
	nft_compare(n, 0, NFT_CMP_EQ, &mark, sizeof(mark));
	nft_verdict(n, NF_ACCEPT);
}

static void whole_table(struct nft *n, const struct nft_table *t)
{
	nft_table_made(n, t, true);
	nft_chain(n, t, "in", NF_INET_PRE_ROUTING, PRIORITY);
	nft_chain(n, t, "out", NF_INET_LOCAL_OUT, PRIORITY);
	for (enum set s = 0; s < SET_QUIET4; s++)
		nft_set(n, t, sets[s].name, s, sets[s].key_bytes);
	ours_pass(n, t, "in");
	ours_pass(n, t, "out");
	pairs(n, t, false);
	pairs(n, t, true);
	doors(n, t);
	quiet6(n, t, NFT_PAYLOAD_TRANSPORT_HEADER, ND_TARGET);
	quiet6(n, t, NFT_PAYLOAD_NETWORK_HEADER, IP6_SOURCE);
}

static void quiet4(struct nft *n, const struct nft_table *t, uint32_t offset)
{
	nft_rule(n, t, "out");
	nft_load(n, 0, NFT_PAYLOAD_NETWORK_HEADER, offset, 4);
	end_rule(n, SET_QUIET4);
}

static void arp_table(struct nft *n, const struct nft_table *t)
{
	nft_table_made(n, t, true);
	nft_chain(n, t, "out", NF_ARP_OUT, PRIORITY);
	nft_set(n, t, sets[SET_QUIET4].name, SET_QUIET4, sets[SET_QUIET4].key_bytes);
	quiet4(n, t, ARP_SENDER);
	quiet4(n, t, ARP_TARGET);
}

/* ---- probe, make, remove ---- */

static bool lacks_family(int no)
{
	return no == EOPNOTSUPP || no == EAFNOSUPPORT || no == EPROTONOSUPPORT;
}

/* Of a transaction that makes all that it names; takes e. */
static struct err *explain(struct err *e, const char *what, const char *hint)
{
	autofree char *line = NULL;
	int no = e ? err_sysno(e) : 0;

	if (!e)
		return NULL;
	if (!lacks_family(no) && no != ENOENT)
		return err_hint(err_in(e, "%s", what), "%s", hint);
	line = err_line(e);
	err_free(e);
	return err_hint(
		err_new(ERR_UNSUPPORTED, "%s: not with this kernel: %s", what, line), "%s", hint);
}

static struct err *explain_lock(struct err *e)
{
	return explain(e, "lock the network",
		"connections need nf_tables (modprobe nf_tables) and CAP_NET_ADMIN");
}

static struct err *explain_silence(struct err *e)
{
	return explain(e, "silence IPv4 addresses",
		"this needs nf_tables of family arp (CONFIG_NF_TABLES_ARP) and CAP_NET_ADMIN");
}

/* Apart, so that what is missing has its own name. */
static struct err *probe_silence4(const struct tables *v)
{
	AUTO(nft_freep) struct nft *n = nft_new();

	arp_table(n, &v->arp);
	nft_table_gone(n, &v->arp);
	return explain_silence(nft_commit(n));
}

struct err *netlock_probe(bool silence4)
{
	AUTO(nft_freep) struct nft *n = nft_new();
	struct tables v;
	char id[64];

	snprintf(id, sizeof(id), PROBE_NAME "%d", getpid());
	name_tables(id, &v);
	whole_table(n, &v.ip);
	nft_table_gone(n, &v.ip);
	TRY(explain_lock(nft_commit(n)));
	return silence4 ? probe_silence4(&v) : NULL;
}

struct err *netlock_make(const char *id)
{
	AUTO(nft_freep) struct nft *n = nft_new();
	struct tables v;
	struct err *e;

	name_tables(id, &v);
	whole_table(n, &v.ip);
	e = nft_commit(n);
	if (e && err_sysno(e) == EEXIST) {
		err_free(e);
		return err_new(ERR_INVALID, "the network is locked for migration %s already", id);
	}
	return explain_lock(e);
}

/* A rule in front of all others, because that is fast: 30 us, where emptying the sets or removing
 * the table waits for the kernel to be done with them, 7 to 30 ms. */
static void let_pass(struct nft *n, const struct nft_table *t, const char *chain)
{
	nft_rule_first(n, t, chain);
	nft_verdict(n, NF_ACCEPT);
}

static struct err *commit_if_there(struct nft *n)
{
	struct err *e = nft_commit(n);

	if (!e || err_sysno(e) != ENOENT)
		return err_in(e, "unlock the network");
	err_free(e);
	return NULL;
}

struct err *netlock_open(const char *id, bool silenced4)
{
	AUTO(nft_freep) struct nft *ip = nft_new();
	AUTO(nft_freep) struct nft *arp = nft_new();
	struct tables v;

	name_tables(id, &v);
	let_pass(ip, &v.ip, "in");
	let_pass(ip, &v.ip, "out");
	let_pass(arp, &v.arp, "out");
	TRY(commit_if_there(ip));
	return silenced4 ? commit_if_there(arp) : NULL;
}

/* Made if it is not there, so that it can be removed in any case. */
static void remove_table(struct nft *n, const struct nft_table *t)
{
	nft_table_made(n, t, false);
	nft_table_gone(n, t);
}

struct err *netlock_remove(const char *id)
{
	AUTO(nft_freep) struct nft *both = nft_new();
	AUTO(nft_freep) struct nft *one = nft_new();
	struct tables v;
	struct err *e;

	name_tables(id, &v);
	remove_table(both, &v.ip);
	remove_table(both, &v.arp);
	e = nft_commit(both);
	/* A kernel that has no tables of family arp has none of this lock. */
	if (e && lacks_family(err_sysno(e))) {
		err_free(e);
		remove_table(one, &v.ip);
		e = nft_commit(one);
	}
	return err_in(e, "unlock the network");
}

/* ---- what is in it ---- */

static size_t put_ip(uint8_t *key, const struct net_ip *ip)
{
	size_t len = net_ip_len(ip->family);

	memcpy(key, ip->bytes, len);
	return len;
}

static size_t put_port(uint8_t *key, uint16_t port)
{
	const uint16_t be = htons(port);

	memset(key, 0, 4);
	memcpy(key, &be, sizeof(be));
	return 4;
}

static size_t put_end(uint8_t *key, const struct net_end *e)
{
	size_t len = put_ip(key, &e->ip);

	return len + put_port(key + len, e->port);
}

/* Keys for one set, from all elements that belong there. */
struct keys {
	enum set set;
	uint8_t *v;
	size_t n;
};

static void add_keys(struct nft *n, const struct tables *v, const struct keys *k)
{
	const struct nft_keys keys = { k->v, sets[k->set].key_bytes, k->n };

	nft_elements(n, k->set == SET_QUIET4 ? &v->arp : &v->ip, sets[k->set].name, &keys);
}

static struct keys keys_new(struct arena *a, enum set set, size_t most)
{
	return (struct keys){ set, arena_array(a, most + 1, sets[set].key_bytes), 0 };
}

static uint8_t *next_key(struct keys *k)
{
	return k->v + k->n++ * sets[k->set].key_bytes;
}

struct err *netlock_connections(const char *id, const struct net_pair *v, size_t n)
{
	autoarena struct arena *a = arena_new();
	AUTO(nft_freep) struct nft *nft = nft_new();
	struct keys four = keys_new(a, SET_PAIRS4, n), six = keys_new(a, SET_PAIRS6, n);
	struct tables names;

	name_tables(id, &names);
	for (size_t i = 0; i < n; i++) {
		uint8_t *key = next_key(v[i].local.ip.family == AF_INET ? &four : &six);

		key += put_end(key, &v[i].remote);
		put_end(key, &v[i].local);
	}
	add_keys(nft, &names, &four);
	add_keys(nft, &names, &six);
	return err_in(nft_commit(nft), "lock %zu connections", n);
}

struct err *netlock_listeners(const char *id, const struct net_end *v, size_t n)
{
	autoarena struct arena *a = arena_new();
	AUTO(nft_freep) struct nft *nft = nft_new();
	struct keys four = keys_new(a, SET_DOORS4, n), six = keys_new(a, SET_DOORS6, n);
	struct keys any4 = keys_new(a, SET_ANY4, n), any6 = keys_new(a, SET_ANY6, n);
	struct tables names;

	name_tables(id, &names);
	for (size_t i = 0; i < n; i++) {
		bool is4 = v[i].ip.family == AF_INET;

		if (!net_ip_is_any(&v[i].ip)) {
			put_end(next_key(is4 ? &four : &six), &v[i]);
			continue;
		}
		put_port(next_key(&any4), v[i].port);
		if (!is4)
			put_port(next_key(&any6), v[i].port);
	}
	add_keys(nft, &names, &four);
	add_keys(nft, &names, &six);
	add_keys(nft, &names, &any4);
	add_keys(nft, &names, &any6);
	return err_in(nft_commit(nft), "lock %zu listening sockets", n);
}

struct err *netlock_silence(const char *id, const struct net_ip *v, size_t n)
{
	autoarena struct arena *a = arena_new();
	AUTO(nft_freep) struct nft *nft = nft_new();
	struct keys four = keys_new(a, SET_QUIET4, n), six = keys_new(a, SET_QUIET6, n);
	struct tables names;
	struct err *e;

	name_tables(id, &names);
	for (size_t i = 0; i < n; i++)
		put_ip(next_key(v[i].family == AF_INET ? &four : &six), &v[i]);
	if (four.n)
		arp_table(nft, &names.arp);
	add_keys(nft, &names, &four);
	add_keys(nft, &names, &six);
	e = nft_commit(nft);
	return four.n && e && lacks_family(err_sysno(e)) ? explain_silence(e)
							 : err_in(e, "silence %zu addresses", n);
}

/* ---- who is there ---- */

struct list {
	struct arena *a;
	char **v;
	size_t n, cap;
};

static void on_table(void *arg, const char *table)
{
	struct list *l = arg;
	const size_t prefix = strlen(NETLOCK_PREFIX);

	if (strncmp(table, NETLOCK_PREFIX, prefix) != 0 ||
		strncmp(table + prefix, PROBE_NAME, strlen(PROBE_NAME)) == 0)
		return;
	l->v = arena_grow(l->a, l->v, &l->cap, l->n + 1, sizeof(*l->v));
	l->v[l->n++] = arena_strdup(l->a, table + prefix);
}

struct err *netlock_list(struct arena *a, char ***ids, size_t *n)
{
	struct list l = { .a = a };
	struct err *e = NULL;

	for (int tries = 0; tries < LIST_TRIES; tries++) {
		err_free(e);
		l.n = 0;
		e = nft_tables(NFPROTO_INET, on_table, &l);
		if (!e || err_sysno(e) != EINTR)
			break;
	}
	TRY(e);
	*ids = l.v;
	*n = l.n;
	return NULL;
}
