// SPDX-License-Identifier: Apache-2.0
/*
 * The source's part in the network: what the process is on it, who may not reach it any more and
 * from when on, and what of it leaves with it.
 *
 * In order: nobody new is let in while it still runs; it stands still only when nobody is left
 * half-way (drain); when all its memory is sent its connections are locked, put into repair mode
 * and sent; then the addresses leave. Whatever goes wrong, source_network_back undoes all of it, or
 * whoever finds the list that is written down first.
 */
#include <linux/if_addr.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/patience.h"
#include "engine/source.h"
#include "kinds/files.h"
#include "kinds/tcp_repair.h"

/* How long it is let go on, in all, for what waits to be taken by the program or delivered by the
 * kernel; the moments begin with the first and are doubled up to the last. */
#define DRAIN_US       2000000
#define DRAIN_FIRST_US 1000
#define DRAIN_LAST_US  50000

static struct source_network *begin(struct source *s)
{
	struct source_network *w = &s->network;

	if (w->arena)
		arena_free(w->arena);
	w->arena = arena_new();
	network_init(&w->list, s->opt->id);
	return w;
}

/* What it is now; `snap` is the caller's, of the state that is meant. */
static struct err *look(struct source *s, struct snapshot *snap, struct net_use *use)
{
	struct capture_priv p;
	struct capture c;

	capture_context(&c, &p, s->task, snap);
	return net_use_look(&c, use);
}

static void keep_connections(struct source_network *w, const struct net_use *use)
{
	struct network_connection *v = arena_array(w->arena, use->n_connections + 1, sizeof(*v));

	for (size_t i = 0; i < use->n_connections; i++)
		v[i] = (struct network_connection){ use->connections[i], use->pids[i],
			use->numbers[i], use->reuse[i] };
	w->list.connections = v;
	w->list.n_connections = use->n_connections;
}

/* ---- the rehearsal ---- */

static bool is_among(const struct net_ip *ip, const struct net_ip *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (net_ip_equal(ip, &v[i]))
			return true;
	return false;
}

static bool has_connections(const struct net_use *use, const struct net_ip *ip)
{
	for (size_t i = 0; i < use->n_connections; i++)
		if (net_ip_equal(&use->connections[i].local.ip, ip))
			return true;
	return false;
}

static bool is_link_local(const struct net_ip *ip)
{
	return ip->family == AF_INET6 && ip->bytes[0] == 0xfe && (ip->bytes[1] & 0xc0) == 0x80;
}

static bool is_alone(const struct net_address *a, const struct net_address *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].index == a->index && v[i].ip.family == a->ip.family &&
			!net_ip_equal(&v[i].ip, &a->ip) && !is_link_local(&v[i].ip))
			return false;
	return true;
}

/* A host's own address has the prefix of its network, or is the only one of its interface; a
 * service address stands beside it. That over which this very migration goes is never taken. */
static bool is_own(const struct source *s, const struct net_address *a)
{
	return is_alone(a, s->network.here, s->network.n_here) ||
	       (a->prefix < net_ip_len(a->ip.family) * 8 && !(a->flags & IFA_F_SECONDARY)) ||
	       net_ip_equal(&a->ip, &s->opt->own);
}

static struct err *not_taken(const struct source *s, const struct net_address *a)
{
	char text[NET_IP_TEXT];

	net_ip_text(&a->ip, text);
	if (net_ip_equal(&a->ip, &s->opt->own))
		return err_hint(
			err_new(ERR_UNSUPPORTED,
				"%s cannot leave: this migration itself goes over it", text),
			"give the service an address of its own, or move the network by other "
			"means and say --take-address none");
	return err_hint(err_new(ERR_UNSUPPORTED,
				"connections stand on %s, which is this host's own address", text),
		"close them, or say --take-address %s if this host can do without it, or none if "
		"somebody else moves it",
		text);
}

/* Does it come along? An error: it would have to, and cannot. */
static struct err *decide(
	const struct source *s, const struct net_use *use, const struct net_address *a, bool *take)
{
	bool given = is_among(&a->ip, s->opt->take_given, s->opt->n_take_given);
	char text[NET_IP_TEXT];

	*take = false;
	if (s->opt->take == TAKE_NONE)
		return NULL;
	if (given && net_ip_equal(&a->ip, &s->opt->own))
		return not_taken(s, a);
	*take = s->opt->take == TAKE_AUTO ? !is_own(s, a) : given;
	if (*take && !s->opt->may_take)
		return err_hint(
			err_new(ERR_DENIED, "only root may have the address %s leave this host",
				net_ip_text(&a->ip, text)),
			"ask root, or say --take-address none");
	return *take || !has_connections(use, &a->ip) ? NULL : not_taken(s, a);
}

/* Does another program use the address? One of its own children may have been born during the look,
 * so a stranger is looked for again. */
#define STRANGER_LOOKS 5

static struct err *others(struct source *s, const struct net_ip *ip)
{
	char text[NET_IP_TEXT];
	struct err *e = NULL;

	for (unsigned i = 0; i < STRANGER_LOOKS; i++) {
		struct snapshot snap AUTO(snapshot_fini);
		struct capture_priv p;
		struct capture c;
		char *who;

		snapshot_init(&snap, &s->out->notes, s->cache);
		err_free(take(&e));
		TRY(capture_look(&s->tree, &snap));
		capture_context(&c, &p, s->task, &snap);
		TRY(net_use_others(&c, ip, &who));
		if (!who)
			return NULL;
		e = err_hint(err_new(ERR_UNSUPPORTED, "%s cannot leave: %s uses it too",
				     net_ip_text(ip, text), who),
			"stop that, or give this program an address of its own");
	}
	return e;
}

static void add_address(struct source_network *w, const struct net_address *a)
{
	w->list.addresses[w->list.n_addresses++] = *a;
}

static bool is_listed(const struct net_ip *ip, const struct net_address *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (net_ip_equal(ip, &v[i].ip))
			return true;
	return false;
}

/* Those that come along into the list; blockers to the notes. */
static struct err *choose_addresses(struct source *s, const struct net_use *use)
{
	struct source_network *w = &s->network;
	struct notes *notes = &s->out->notes;
	struct net_address *v;
	char text[NET_IP_TEXT];
	size_t n;

	TRY(netaddr_list(w->arena, &v, &n));
	w->here = v;
	w->n_here = n;
	w->list.addresses = arena_array(w->arena, n + 1, sizeof(*v));
	for (size_t i = 0; i < n; i++) {
		struct err *e = NULL;
		bool take = false;

		if (is_among(&v[i].ip, use->addresses, use->n_addresses) ||
			is_among(&v[i].ip, s->opt->take_given, s->opt->n_take_given))
			e = decide(s, use, &v[i], &take);
		if (!e && take)
			e = others(s, &v[i].ip);
		if (e)
			notes_refuse(notes, e);
		else if (take && w->list.n_addresses < NETWORK_ADDRESSES_MAX)
			add_address(w, &v[i]);
		else if (take)
			notes_refuse(notes, err_new(ERR_LIMIT, "more than %d addresses to take",
						    NETWORK_ADDRESSES_MAX));
	}
	for (size_t i = 0; i < s->opt->n_take_given; i++)
		if (!is_listed(&s->opt->take_given[i], v, n))
			notes_refuse(notes,
				err_new(ERR_INVALID, "this host has no address %s to take along",
					net_ip_text(&s->opt->take_given[i], text)));
	return NULL;
}

static int by_pair(const void *a, const void *b)
{
	return net_pair_order(a, b);
}

/* A connection within this host has its other end in the process, too, or cannot be moved. */
static struct err *check_inner(struct source *s, const struct net_use *use)
{
	autoarena struct arena *a = arena_new();
	struct net_pair *sorted = arena_array(a, use->n_connections + 1, sizeof(*sorted));
	struct net_address *v;
	char here[NET_END_TEXT], there[NET_END_TEXT];
	size_t n;

	if (!use->n_connections)
		return NULL;
	TRY(netaddr_list(a, &v, &n));
	memcpy(sorted, use->connections, use->n_connections * sizeof(*sorted));
	qsort(sorted, use->n_connections, sizeof(*sorted), by_pair);
	for (size_t i = 0; i < use->n_connections; i++) {
		const struct net_pair *p = &use->connections[i];
		const struct net_pair turned = { p->remote, p->local };

		if (!net_ip_is_loopback(&p->remote.ip) && !is_listed(&p->remote.ip, v, n))
			continue;
		if (!bsearch(&turned, sorted, use->n_connections, sizeof(turned), by_pair))
			notes_refuse(&s->out->notes,
				err_hint(err_new(ERR_UNSUPPORTED,
						 "connection from %s to %s, whose other end is "
						 "another program of this host",
						 net_end_text(&p->local, here),
						 net_end_text(&p->remote, there)),
					"close it first; it would have to move with the other "
					"program"));
	}
	return NULL;
}

/* Can both be had here? Said in the rehearsal, not when it stands still. What only listens needs no
 * lock. */
static void probe(struct source *s, const struct net_use *use)
{
	struct notes *notes = &s->out->notes;
	struct err *e = netlock_probe(false);

	s->network.lockless = e && !use->n_connections;
	if (s->network.lockless) {
		autofree char *line = err_line(e);

		if (use->n_listeners)
			notes_warnf(notes, "who connects to it in the last moment may be reset: %s",
				line);
		err_free(e);
	} else if (e) {
		notes_refuse(notes, e);
	}
	e = use->n_connections ? tcp_repair_probe() : NULL;
	if (e)
		notes_refuse(notes, e);
}

static struct err *tell_plan(struct source *s, const struct net_use *use)
{
	struct source_network *w = &s->network;
	Migrate__Network m = MIGRATE__NETWORK__INIT;

	m.elsewhere = s->opt->take == TAKE_NONE;
	m.connections = use->n_connections;
	m.n_take = w->list.n_addresses;
	m.take = arena_array(w->arena, m.n_take + 1, sizeof(*m.take));
	for (size_t i = 0; i < m.n_take; i++)
		m.take[i] = network_pack_address(w->arena, &w->list.addresses[i]);
	m.need = arena_array(w->arena, use->n_addresses + 1, sizeof(*m.need));
	for (size_t i = 0; i < use->n_addresses; i++)
		if (!is_listed(&use->addresses[i], w->list.addresses, w->list.n_addresses))
			network_pack_ip(w->arena, &use->addresses[i], &m.need[m.n_need++]);
	return peer_reason(&s->peer, peer_send(&s->peer, FRAME_NETWORK, &m.base));
}

struct err *source_network_plan(struct source *s)
{
	struct source_network *w = begin(s);
	struct net_use use;

	snapshot_fini(&w->first);
	snapshot_init(&w->first, &s->out->notes, s->cache);
	TRY(capture_look(&s->tree, &w->first));
	TRY(look(s, &w->first, &use));
	w->planned = use;
	w->any = use.n_connections || use.n_listeners || use.n_addresses || use.n_datagram ||
		 use.n_connecting;
	if (!w->any)
		return NULL;
	if (use.n_connections > NETWORK_CONNECTIONS_MAX)
		return err_new(ERR_LIMIT, "%zu connections, at most %d can be moved",
			use.n_connections, NETWORK_CONNECTIONS_MAX);
	s->out->stats.connections = use.n_connections;
	probe(s, &use);
	keep_connections(w, &use);
	s->peer.network = &w->list;
	TRY(check_inner(s, &use));
	TRY(choose_addresses(s, &use));
	return s->io->stream ? tell_plan(s, &use) : NULL;
}

/* ---- before and in the freeze ---- */

static struct err *close_doors(struct source *s)
{
	struct source_network *w = &s->network;

	TRY(capture_look(&s->tree, &w->before));
	TRY(look(s, &w->before, &w->use));
	if (w->lockless && !w->list.n_addresses)
		return NULL;
	TRY(network_note(s->io, &w->list));
	w->locked = true;
	TRY(netlock_make(s->opt->id));
	return w->use.n_listeners
		       ? netlock_listeners(s->opt->id, w->use.listeners, w->use.n_listeners)
		       : NULL;
}

struct err *source_network_close(struct source *s)
{
	struct source_network *w = &s->network;

	if (!w->any)
		return NULL;
	snapshot_init(&w->before, &s->out->notes, s->cache);
	return err_in(close_doors(s), "lock the network of %d", s->opt->pid);
}

static bool waits(const struct net_pending *p)
{
	return p->unaccepted || p->handshakes || p->closing || p->connecting || p->datagrams;
}

static struct err *pending(struct source *s, struct net_pending *ret)
{
	struct capture_priv p;
	struct capture c;

	capture_context(&c, &p, s->task, &s->network.before);
	return net_use_pending(&c, &s->network.use, ret);
}

/* The program takes what waits, the kernel delivers the rest. */
static struct err *go_on_for(struct source *s, int64_t us)
{
	struct engine_stats *st = &s->out->stats;

	TRY(tree_let_go(&s->tree));
	st->stall_us = MAX(st->stall_us, (clock_ns() - s->frozen_ns) / 1000);
	TRY(channel_interrupted(&s->peer.ch));
	TRY(source_in_time(s));
	peer_alive(&s->peer);
	usleep((useconds_t)us);
	TRY(source_hold(s));
	s->frozen_ns = clock_ns();
	return NULL;
}

static struct err *reset(struct source *s, const struct net_pending *p)
{
	struct capture_priv priv;
	struct capture c;
	uint32_t n;

	capture_context(&c, &priv, s->task, &s->network.before);
	TRY(net_use_reset_unaccepted(&c, &s->network.use, &n));
	notes_warnf(&s->out->notes, "%u connections to %s that nobody had accepted were reset", n,
		p->where);
	return NULL;
}

/* It was long enough. Datagrams may be lost at any time, so they are no reason to stay: their kind
 * says it. */
static struct err *give_up_waiting(struct source *s, const struct net_pending *p)
{
	if (p->closing && !s->opt->reset_unaccepted)
		return err_hint(
			err_new(ERR_LIMIT,
				"%u connections that it has closed still have data to deliver "
				"(%s)",
				p->closing, p->where),
			"try again when these clients have read it, or give up what they have not "
			"with --accept-queue reset");
	if (p->closing)
		notes_warnf(&s->out->notes,
			"%u connections that it had closed had not delivered all their data",
			p->closing);
	if (p->connecting)
		return err_hint(err_new(ERR_LIMIT, "%u connections from %s are being made just now",
					p->connecting, p->where),
			"try again when they are there, or have failed");
	if (!p->unaccepted && !p->handshakes)
		return NULL;
	if (s->opt->reset_unaccepted)
		return reset(s, p);
	return err_hint(err_new(ERR_LIMIT, "%u connections to %s have not been accepted",
				p->unaccepted + p->handshakes, p->where),
		"try again when the program accepts them, or reset them with --accept-queue reset");
}

static struct err *not_read(const struct file *f)
{
	return err_hint(
		err_new(ERR_LIMIT, "the program does not read what is in descriptor %d of %d (%s)",
			f->slots[0].number, f->slots[0].pid, f->link),
		"it cannot be put back elsewhere; try again when the program has read it");
}

struct err *source_drain(struct source *s)
{
	struct deadline until = deadline_in(DRAIN_US);
	int64_t moment = DRAIN_FIRST_US;

	for (;;) {
		const struct file *unread = capture_waits(&s->sent);
		struct net_pending p = { 0 };

		if (s->network.any)
			TRY(pending(s, &p));
		if (!waits(&p) && !unread)
			return NULL;
		if (deadline_passed(until))
			return unread ? not_read(unread) : give_up_waiting(s, &p);
		TRY(go_on_for(s, moment));
		moment = MIN(moment * 2, (int64_t)DRAIN_LAST_US);
	}
}

/* ---- all memory is sent ---- */

/* Who could come in while it was about to stand still? */
static struct err *check_doors(const struct source *s, const struct net_use *use)
{
	const struct net_use *was = &s->network.use;

	for (size_t i = 0; i < use->n_listeners; i++) {
		size_t k = 0;

		while (k < was->n_listeners &&
			net_end_order(&was->listeners[k], &use->listeners[i]) != 0)
			k++;
		if (k == was->n_listeners)
			return err_hint(
				err_new(ERR_LIMIT,
					"it has begun to listen on port %u in the last moment",
					use->listeners[i].port),
				"send it again");
	}
	return NULL;
}

/* Every connection stands on an address that comes along, or is there. */
static struct err *check_grounds(const struct source *s, const struct net_use *use)
{
	const struct network *n = &s->network.list;
	const struct net_use *was = &s->network.planned;
	char text[NET_IP_TEXT];

	for (size_t i = 0; i < use->n_addresses; i++)
		if (!is_listed(&use->addresses[i], n->addresses, n->n_addresses) &&
			!is_among(&use->addresses[i], was->addresses, was->n_addresses))
			return err_hint(
				err_new(ERR_LIMIT,
					"it has begun to use the address %s in the last moment",
					net_ip_text(&use->addresses[i], text)),
				"send it again");
	return NULL;
}

/* What it has is known only now: the list is written again before anything is changed. */
static struct err *list_connections(struct source *s)
{
	struct source_network *w = &s->network;
	struct net_use use;

	TRY(look(s, &s->frozen, &use));
	TRY(check_doors(s, &use));
	TRY(check_grounds(s, &use));
	if (use.n_connections && !w->locked)
		return err_hint(err_new(ERR_LIMIT, "it has made a connection in the last moment"),
			"send it again");
	if (!w->locked)
		return NULL;
	TRY(check_inner(s, &use));
	TRY(source_blocked(s));
	if (use.n_connections > NETWORK_CONNECTIONS_MAX)
		return err_new(ERR_LIMIT, "%zu connections, at most %d can be moved",
			use.n_connections, NETWORK_CONNECTIONS_MAX);
	keep_connections(w, &use);
	s->out->stats.connections = use.n_connections;
	return network_note(s->io, &w->list);
}

static struct err *tell_connections(struct source *s)
{
	const struct network *n = &s->network.list;
	Migrate__Connections m = MIGRATE__CONNECTIONS__INIT;

	m.n_connections = n->n_connections;
	m.connections = network_pack_connections(s->network.arena, n);
	return peer_reason(&s->peer, peer_send(&s->peer, FRAME_CONNECTIONS, &m.base));
}

/* Nobody but us, or who has read the list, makes it run from here on. */
struct err *source_network_lock(struct source *s)
{
	struct source_network *w = &s->network;

	TRY(list_connections(s));
	if (!w->list.n_connections)
		return NULL;
	TRY(source_hold_group(s));
	w->given_up = true;
	return network_lock(&w->list);
}

struct err *source_network_send(struct source *s)
{
	struct source_network *w = &s->network;
	struct object_set none = { .sorted = true };
	uint64_t changed;

	if (!w->locked || !w->list.n_connections)
		return NULL;
	TRY(tell_connections(s));
	snapshot_init(&w->late, &s->out->notes, s->cache);
	TRY(capture_late(&s->frozen, &w->late));
	TRY(source_blocked(s));
	s->out->stats.objects += w->late.objects.n;
	return peer_reason(
		&s->peer, objects_send_diff(&s->peer.ch, &none, &w->late.objects, &changed));
}

struct err *source_network_leave(struct source *s)
{
	struct source_network *w = &s->network;
	char text[NET_IP_TEXT];

	if (!w->list.n_addresses)
		return NULL;
	TRY(source_hold_group(s));
	w->given_up = true;
	for (size_t i = 0; i < w->list.n_addresses; i++)
		TRY_IN(netaddr_drop(&w->list.addresses[i]), "take %s away",
			net_ip_text(&w->list.addresses[i].ip, text));
	return NULL;
}

/* ---- the ends ---- */

static void forget(struct source *s)
{
	err_free(network_note(s->io, NULL));
	s->network.locked = s->network.given_up = false;
}

/* What cannot be done stays on the list, for who comes later. */
void source_network_back(struct source *s)
{
	struct source_network *w = &s->network;

	if (!w->locked || w->passes)
		return;
	if (w->given_up) {
		w->passes = network_stay(&w->list, s->opt->pid, &s->out->notes);
	} else {
		struct err *e = netlock_open(s->opt->id, false);

		w->passes = !e;
		if (e)
			source_not_undone(s, e);
	}
}

void source_network_ended(struct source *s)
{
	struct err *e;

	if (!s->network.locked)
		return;
	e = network_leave(&s->network.list);
	if (e) {
		autofree char *line = err_line(e);

		notes_warn(&s->out->notes, line);
		err_free(e);
	}
	forget(s);
}

void source_network_fini(struct source *s)
{
	struct source_network *w = &s->network;
	struct err *e = w->passes ? netlock_remove(s->opt->id) : NULL;

	if (w->passes && s->network.given_up && s->io->on_told)
		s->io->on_told(s->io->arg, &w->list);
	if (w->passes && !e)
		forget(s);
	err_free(e);
	snapshot_fini(&w->first);
	snapshot_fini(&w->before);
	snapshot_fini(&w->late);
	if (!w->arena)
		return;
	network_fini(&w->list);
	arena_free(w->arena);
}
