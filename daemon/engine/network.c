// SPDX-License-Identifier: Apache-2.0
#include "engine/network.h"

#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/proc.h"
#include "kinds/tcp_repair.h"

void network_init(struct network *n, const char *id)
{
	*n = (struct network){ .id = id, .teller = -1 };
}

void network_fini(struct network *n)
{
	fd_closep(&n->teller);
}

/* ---- messages ---- */

void network_pack_ip(struct arena *a, const struct net_ip *ip, ProtobufCBinaryData *ret)
{
	ret->len = net_ip_len(ip->family);
	ret->data = arena_dup(a, ip->bytes, ret->len);
}

struct err *network_unpack_ip(const ProtobufCBinaryData *m, struct net_ip *ret)
{
	*ret = (struct net_ip){ .family = m->len == 4 ? AF_INET : AF_INET6 };
	if (m->len != 4 && m->len != sizeof(ret->bytes))
		return err_new(ERR_PEER, "an address of %zu bytes", m->len);
	memcpy(ret->bytes, m->data, m->len);
	return NULL;
}

Migrate__NetAddress *network_pack_address(struct arena *a, const struct net_address *v)
{
	Migrate__NetAddress *m = arena_alloc(a, sizeof(*m));

	migrate__net_address__init(m);
	network_pack_ip(a, &v->ip, &m->ip);
	m->prefix = v->prefix;
	m->scope = v->scope;
	m->flags = v->flags;
	m->interface = arena_strdup(a, v->interface);
	m->label = arena_strdup(a, v->label);
	if (v->has_peer)
		network_pack_ip(a, &v->peer, &m->peer);
	if (v->has_broadcast)
		network_pack_ip(a, &v->broadcast, &m->broadcast);
	m->metric = v->metric;
	m->valid = v->valid;
	m->preferred = v->preferred;
	return m;
}

static struct err *unpack_name(const char *name, char ret[IF_NAMESIZE])
{
	if (strlen(name) >= IF_NAMESIZE)
		return err_new(ERR_PEER, "an interface name of %zu bytes", strlen(name));
	strcpy(ret, name);
	return NULL;
}

/* Which family an optional address has, is the address's own. */
static struct err *unpack_other(
	const ProtobufCBinaryData *m, const struct net_ip *own, bool *has, struct net_ip *ret)
{
	*has = m->len > 0;
	if (!*has)
		return NULL;
	TRY(network_unpack_ip(m, ret));
	return ret->family == own->family ? NULL
					  : err_new(ERR_PEER, "addresses of two families in one");
}

struct err *network_unpack_address(const Migrate__NetAddress *m, struct net_address *ret)
{
	*ret = (struct net_address){ .scope = (uint8_t)m->scope,
		.flags = m->flags,
		.metric = m->metric,
		.valid = m->valid,
		.preferred = m->preferred };
	TRY(network_unpack_ip(&m->ip, &ret->ip));
	if (m->prefix > net_ip_len(ret->ip.family) * 8 || m->scope > UINT8_MAX)
		return err_new(ERR_PEER, "an address of prefix %u, scope %u", m->prefix, m->scope);
	ret->prefix = (uint8_t)m->prefix;
	TRY(unpack_name(m->interface, ret->interface));
	TRY(unpack_name(m->label, ret->label));
	TRY(unpack_other(&m->peer, &ret->ip, &ret->has_peer, &ret->peer));
	return unpack_other(&m->broadcast, &ret->ip, &ret->has_broadcast, &ret->broadcast);
}

static Migrate__NetEnd *pack_end(struct arena *a, const struct net_end *e)
{
	Migrate__NetEnd *m = arena_alloc(a, sizeof(*m));

	migrate__net_end__init(m);
	network_pack_ip(a, &e->ip, &m->ip);
	m->port = e->port;
	return m;
}

Migrate__NetConnection **network_pack_connections(struct arena *a, const struct network *n)
{
	Migrate__NetConnection **v = arena_array(a, n->n_connections + 1, sizeof(*v));

	for (size_t i = 0; i < n->n_connections; i++) {
		v[i] = arena_alloc(a, sizeof(**v));
		migrate__net_connection__init(v[i]);
		v[i]->local = pack_end(a, &n->connections[i].pair.local);
		v[i]->remote = pack_end(a, &n->connections[i].pair.remote);
		v[i]->pid = n->connections[i].pid;
		v[i]->number = n->connections[i].number;
		v[i]->reuse = n->connections[i].reuse;
	}
	return v;
}

static struct err *unpack_end(const Migrate__NetEnd *m, struct net_end *ret)
{
	if (!m || m->port > UINT16_MAX)
		return err_new(ERR_PEER, "a connection without an end");
	ret->port = (uint16_t)m->port;
	return network_unpack_ip(&m->ip, &ret->ip);
}

static struct err *unpack_connection(
	const Migrate__NetConnection *m, struct network_connection *ret)
{
	TRY(unpack_end(m->local, &ret->pair.local));
	TRY(unpack_end(m->remote, &ret->pair.remote));
	if (ret->pair.local.ip.family != ret->pair.remote.ip.family)
		return err_new(ERR_PEER, "a connection between two families");
	if (m->number < 0 || m->number >= PROC_FDS_MAX)
		return err_new(ERR_PEER, "a connection with descriptor %d", m->number);
	if (m->pid <= 1)
		return err_new(ERR_PEER, "a connection of process %d", m->pid);
	ret->pid = m->pid;
	ret->number = m->number;
	ret->reuse = m->reuse;
	return NULL;
}

struct err *network_unpack_connections(
	struct arena *a, Migrate__NetConnection *const *v, size_t n, struct network *ret)
{
	if (n > NETWORK_CONNECTIONS_MAX)
		return err_new(ERR_LIMIT, "%zu connections, at most %d can be moved", n,
			NETWORK_CONNECTIONS_MAX);
	ret->connections = arena_array(a, n + 1, sizeof(*ret->connections));
	ret->n_connections = n;
	for (size_t i = 0; i < n; i++)
		TRY(unpack_connection(v[i], &ret->connections[i]));
	return NULL;
}

/* ---- the list on the disk ---- */

struct err *network_note(const struct engine_io *io, const struct network *n)
{
	autoarena struct arena *a = arena_new();
	Migrate__NetworkState m = MIGRATE__NETWORK_STATE__INIT;
	const uint8_t *bytes;
	size_t len;

	if (!io->on_network)
		return NULL;
	if (!n)
		return io->on_network(io->arg, NULL, 0);
	m.n_addresses = n->n_addresses;
	m.addresses = arena_array(a, n->n_addresses + 1, sizeof(*m.addresses));
	for (size_t i = 0; i < n->n_addresses; i++)
		m.addresses[i] = network_pack_address(a, &n->addresses[i]);
	m.n_connections = n->n_connections;
	m.connections = network_pack_connections(a, n);
	kind_pack(a, &m.base, &bytes, &len);
	return io->on_network(io->arg, bytes, len);
}

static struct err *read_list(struct arena *a, const struct network_settle *spec, struct network *n)
{
	const Migrate__NetworkState *m = (const Migrate__NetworkState *)message_unpack(
		a, &migrate__network_state__descriptor, spec->list, spec->len);

	if (!m)
		return err_new(ERR_INVALID, "the list of addresses and connections is damaged");
	n->addresses = arena_array(a, m->n_addresses + 1, sizeof(*n->addresses));
	n->n_addresses = m->n_addresses;
	for (size_t i = 0; i < m->n_addresses; i++) {
		TRY(network_unpack_address(m->addresses[i], &n->addresses[i]));
		/* It was this host that has written it. */
		n->addresses[i].index = if_nametoindex(n->addresses[i].interface);
	}
	return network_unpack_connections(a, m->connections, m->n_connections, n);
}

/* ---- what is done ---- */

struct err *network_lock(const struct network *n)
{
	autoarena struct arena *a = arena_new();
	struct net_pair *v = arena_array(a, n->n_connections + 1, sizeof(*v));

	for (size_t i = 0; i < n->n_connections; i++)
		v[i] = n->connections[i].pair;
	return n->n_connections ? netlock_connections(n->id, v, n->n_connections) : NULL;
}

/* Takes e. */
static bool done(struct notes *notes, struct err *e)
{
	autofree char *line = e ? err_line(e) : NULL;

	if (line)
		notes_warn(notes, line);
	err_free(e);
	return !line;
}

static bool put_addresses(const struct network *n, struct notes *notes)
{
	char text[NET_IP_TEXT];
	bool was_there, all = true;

	for (size_t i = 0; i < n->n_addresses; i++) {
		const struct net_address *a = &n->addresses[i];
		struct err *e = netaddr_put(a, &was_there);

		if (e)
			e = err_hint(err_in(e, "address %s is not here", net_ip_text(&a->ip, text)),
				"ip address add %s/%u dev %s", text, a->prefix, a->interface);
		all = done(notes, e) && all;
	}
	return all;
}

void network_announce(struct network *n)
{
	if (n->n_addresses && n->teller < 0)
		err_free(netaddr_teller(&n->teller));
	for (size_t i = 0; i < n->n_addresses; i++)
		err_free(netaddr_announce(n->teller, &n->addresses[i].ip, n->addresses[i].index));
}

/* Each says at once to its peer that somebody is there. */
static bool let_go_on(const struct network *n, struct notes *notes)
{
	autoclose int pidfd = -1;
	pid_t of = 0;
	bool all = true;

	for (size_t i = 0; i < n->n_connections; i++) {
		const struct network_connection *c = &n->connections[i];
		struct err *e;

		if (c->pid != of) {
			fd_closep(&pidfd);
			pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
			of = c->pid;
		}
		if (pidfd < 0)
			continue;
		e = tcp_repair_end(pidfd, c->number, c->reuse);
		if (e && err_code(e) == ERR_GONE) {
			err_free(e);
			continue;
		}
		e = err_in(e, "the connection of descriptor %d of %d stands still", c->number,
			c->pid);
		all = done(notes, e) && all;
	}
	return all;
}

bool network_stay(struct network *n, pid_t pid, struct notes *notes)
{
	bool all = put_addresses(n, notes);
	struct err *e = netlock_open(n->id, n->silenced);

	network_announce(n);
	if (e)
		e = err_hint(err_in(e, "its packets may still be dropped here"),
			"nft delete table inet " NETLOCK_PREFIX "%s", n->id);
	all = done(notes, e) && all;
	return (pid <= 1 || let_go_on(n, notes)) && all;
}

/* The lock last: until then nothing answers for the addresses. */
struct err *network_leave(const struct network *n)
{
	for (size_t i = 0; i < n->n_addresses; i++)
		TRY(netaddr_drop(&n->addresses[i]));
	return netlock_remove(n->id);
}

static struct err *settle(const struct network_settle *spec, struct network *n, struct notes *notes)
{
	autoarena struct arena *a = arena_new();
	autoerr struct err *gone = NULL;
	struct proc_stat st = { .start_time = 0 };
	pid_t pid = 0;

	if (spec->runs)
		return netlock_remove(spec->id);
	TRY(read_list(a, spec, n));
	if (!spec->stays)
		return network_leave(n);
	gone = spec->pid ? proc_stat(a, spec->pid, 0, &st) : NULL;
	if (!gone && st.start_time == spec->start_time)
		pid = spec->pid;
	if (network_stay(n, pid, notes))
		return netlock_remove(n->id);
	return err_new(ERR_BUG, "not all of its addresses and connections could be set right");
}

struct err *engine_network_settle(const struct network_settle *spec, struct notes *notes)
{
	struct network n;
	struct err *e;

	network_init(&n, spec->id);
	n.silenced = true;
	e = settle(spec, &n, notes);
	network_fini(&n);
	return e;
}
