// SPDX-License-Identifier: Apache-2.0
#include "engine/network_site.h"

#include <stdlib.h>
#include <string.h>

#include "kinds/tcp_repair.h"

struct err *network_site_plan(struct network_site *n, const uint8_t *body, size_t len)
{
	if (n->plan)
		return err_new(ERR_PEER, "a second NETWORK frame");
	n->plan = (Migrate__Network *)message_unpack(
		n->arena, &migrate__network__descriptor, body, len);
	if (!n->plan)
		return err_new(ERR_PEER, "NETWORK frame that does not parse");
	if (n->plan->n_take > NETWORK_ADDRESSES_MAX)
		return err_new(ERR_LIMIT, "%zu addresses to take, at most %d can be",
			n->plan->n_take, NETWORK_ADDRESSES_MAX);
	return NULL;
}

/* ---- check ---- */

static struct err *allowed(const struct network_site *n, const struct net_ip *ip)
{
	return n->opt->on_address ? n->opt->on_address(n->io->arg, ip) : NULL;
}

static const struct net_address *find(const struct network_site *n, const struct net_ip *ip)
{
	for (size_t i = 0; i < n->list.n_addresses; i++)
		if (net_ip_equal(&n->list.addresses[i].ip, ip))
			return &n->list.addresses[i];
	return NULL;
}

/* An address that is to come here; PEER errors end the migration, others are blockers. */
static struct err *check_taken(struct network_site *n, struct net_address *a)
{
	char text[NET_IP_TEXT], like[IF_NAMESIZE];
	bool local;

	net_ip_text(&a->ip, text);
	if (net_ip_is_any(&a->ip) || net_ip_is_loopback(&a->ip) || find(n, &a->ip))
		return err_new(ERR_PEER, "%s is no address to take, or is named twice", text);
	TRY(allowed(n, &a->ip));
	TRY(netaddr_is_local(&a->ip, &local));
	if (local)
		return err_hint(err_new(ERR_MISMATCH, "address %s is on this host already", text),
			"take it away there, or say --take-address none if both hosts have it");
	memcpy(like, a->interface, sizeof(like));
	return netaddr_place(&a->ip, like, a);
}

static struct err *check_needed(struct network_site *n, const struct net_ip *ip)
{
	char text[NET_IP_TEXT];
	bool local;

	TRY(netaddr_is_local(ip, &local));
	if (local || n->plan->elsewhere)
		return NULL;
	return err_hint(err_new(ERR_MISMATCH, "this host does not have the address %s",
				net_ip_text(ip, text)),
		"give it that address, let the program bind a wildcard address, or bring the "
		"address "
		"along with --take-address %s",
		text);
}

static void blocker(struct network_site *n, struct err *e)
{
	if (e)
		notes_refuse(n->notes, e);
}

struct err *network_site_check(struct network_site *n)
{
	const Migrate__Network *m = n->plan;
	bool any4 = false;

	if (!m)
		return NULL;
	n->list.addresses = arena_array(n->arena, m->n_take + 1, sizeof(*n->list.addresses));
	for (size_t i = 0; i < m->n_take; i++) {
		struct net_address a;
		struct err *e;

		TRY(network_unpack_address(m->take[i], &a));
		e = check_taken(n, &a);
		if (e && err_code(e) == ERR_PEER)
			return e;
		blocker(n, e);
		n->list.addresses[n->list.n_addresses++] = a;
		any4 = any4 || a.ip.family == AF_INET;
	}
	for (size_t i = 0; i < m->n_need; i++) {
		struct net_ip ip;

		TRY(network_unpack_ip(&m->need[i], &ip));
		blocker(n, check_needed(n, &ip));
	}
	if (m->connections || m->n_take)
		blocker(n, netlock_probe(any4));
	if (m->connections)
		blocker(n, tcp_repair_probe());
	return NULL;
}

/* ---- frozen ---- */

static int by_pair(const void *a, const void *b)
{
	return net_pair_order(a, b);
}

bool network_site_has(const struct network_site *n, const struct net_pair *p)
{
	return n->list.n_connections &&
	       bsearch(p, n->locked, n->list.n_connections, sizeof(*p), by_pair);
}

/* The local end is an address that came along, or one of this host that the peer may use. */
static struct err *check_local(struct network_site *n, const struct net_ip *ip)
{
	char text[NET_IP_TEXT];
	bool local;

	if (find(n, ip) || net_ip_is_loopback(ip))
		return NULL;
	TRY(allowed(n, ip));
	TRY(netaddr_is_local(ip, &local));
	if (local || n->plan->elsewhere)
		return NULL;
	return err_new(ERR_MISMATCH, "a connection stands on %s, which this host does not have",
		net_ip_text(ip, text));
}

static struct err *check_locals(struct network_site *n)
{
	const struct net_ip *last = NULL;

	for (size_t i = 0; i < n->list.n_connections; i++) {
		const struct net_ip *ip = &n->locked[i].local.ip;

		if (last && net_ip_equal(ip, last))
			continue;
		TRY(check_local(n, ip));
		last = ip;
	}
	return NULL;
}

struct err *network_site_connections(struct network_site *n, const uint8_t *body, size_t len)
{
	const Migrate__Connections *m = (const Migrate__Connections *)message_unpack(
		n->arena, &migrate__connections__descriptor, body, len);

	if (!m)
		return err_new(ERR_PEER, "CONNECTIONS frame that does not parse");
	if (!n->plan || n->list.n_connections)
		return err_new(ERR_PEER, "CONNECTIONS where none may come");
	TRY(network_unpack_connections(n->arena, m->connections, m->n_connections, &n->list));
	n->locked = arena_array(n->arena, m->n_connections + 1, sizeof(*n->locked));
	for (size_t i = 0; i < m->n_connections; i++)
		n->locked[i] = n->list.connections[i].pair;
	qsort(n->locked, m->n_connections, sizeof(*n->locked), by_pair);
	return check_locals(n);
}

static struct err *silence(struct network_site *n)
{
	struct net_ip *v = arena_array(n->arena, n->list.n_addresses + 1, sizeof(*v));

	for (size_t i = 0; i < n->list.n_addresses; i++)
		v[i] = n->list.addresses[i].ip;
	for (size_t i = 0; i < n->list.n_addresses; i++)
		n->list.silenced = n->list.silenced || v[i].family == AF_INET;
	return n->list.n_addresses ? netlock_silence(n->list.id, v, n->list.n_addresses) : NULL;
}

/* Whoever has put one there since the check keeps it. */
static struct err *put_one(struct network_site *n, size_t i)
{
	struct network *l = &n->list;
	char text[NET_IP_TEXT];
	bool was_there;

	TRY(netaddr_put(&l->addresses[i], &was_there));
	if (!was_there)
		return NULL;
	net_ip_text(&l->addresses[i].ip, text);
	l->addresses[i] = l->addresses[--l->n_addresses];
	TRY(network_note(n->io, l));
	return err_new(ERR_MISMATCH, "address %s has come to this host meanwhile", text);
}

struct err *network_site_prepare(struct network_site *n)
{
	if (!n->list.n_addresses && !n->list.n_connections)
		return NULL;
	TRY(network_note(n->io, &n->list));
	if (n->list.n_addresses)
		TRY(netaddr_teller(&n->list.teller));
	n->made = true;
	TRY(netlock_make(n->list.id));
	TRY(silence(n));
	TRY(network_lock(&n->list));
	for (size_t i = 0; i < n->list.n_addresses; i++)
		TRY(put_one(n, i));
	return NULL;
}

/* ---- the ends ---- */

void network_site_open(struct network_site *n, pid_t pid)
{
	if (n->made)
		n->kept = !network_stay(&n->list, pid, n->notes);
}

void network_site_done(struct network_site *n)
{
	struct err *e = n->made && !n->kept ? netlock_remove(n->list.id) : NULL;

	if (n->made && n->io->on_told)
		n->io->on_told(n->io->arg, &n->list);
	/* What could not be done stays on the list, for who comes later. */
	if (n->made && !n->kept && !e)
		err_free(network_note(n->io, NULL));
	err_free(e);
	n->made = false;
}

void network_site_undo(struct network_site *n)
{
	struct err *e = n->made ? network_leave(&n->list) : NULL;

	/* The list stays, for who comes later. */
	if (e) {
		autofree char *line = err_line(e);

		notes_warn(n->notes, line);
		err_free(e);
		return;
	}
	if (n->made)
		err_free(network_note(n->io, NULL));
	n->made = false;
}
