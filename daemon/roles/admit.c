// SPDX-License-Identifier: Apache-2.0
#include "roles/admit.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "roles/audit.h"
#include "roles/monitor.h"
#include "roles/policy.h"
#include "roles/why.h"
#include "wire/err_wire.h"

#define SILENT_LEAST_US 5000000 /* nobody goes before that for one of a peer with as many */
/* Our worker, and theirs, have to be started first. */
#define SILENT_HANDSHAKES 3
#define ENDING_MAX        64 /* that were told to go and have not gone yet */

static bool silent(const struct move *v)
{
	return v->receive && !v->begun && !v->over && !v->cancelled;
}

static size_t count_silent(const struct monitor *m, const char *peer)
{
	size_t n = 0;

	for (const struct move *v = m->moves; v; v = v->next)
		n += silent(v) && strcmp(v->peer, peer) == 0;
	return n;
}

/* The list begins with what came last. */
static struct move *crowded_out(const struct monitor *m, const char *peer)
{
	struct move *victim = NULL;
	size_t most = 0, own = peer ? count_silent(m, peer) : 0;

	for (struct move *v = m->moves; v; v = v->next) {
		size_t n = silent(v) ? count_silent(m, v->peer) : 0;

		if (n && n >= most) {
			most = n;
			victim = v;
		}
	}
	if (!victim || most > own + 1 || clock_us() - victim->accepted_us >= SILENT_LEAST_US)
		return victim;
	return NULL;
}

struct err *admit_room(struct monitor *m, const char *peer)
{
	size_t going = 0, ending = 0;
	struct move *victim;

	for (const struct move *v = m->moves; v; v = v->next) {
		bool out = v->cancelled && v->receive && !v->begun;

		going += !out;
		ending += out;
	}
	if (going < m->config.max_migrations)
		return NULL;
	victim = ending < ENDING_MAX ? crowded_out(m, peer) : NULL;
	if (victim) {
		move_end(victim, WHY_CROWDED);
		return NULL;
	}
	return err_hint(err_new(ERR_LIMIT, "%zu migrations go on already on this host", going),
		"try again later, or raise max_migrations in migrated.conf");
}

static struct err *check_peer(struct monitor *m, const char *name, const char *key)
{
	const struct peer *p = peers_by_key(&m->state.peers, key);
	const struct receive_policy *policy = config_receive(&m->config, name);
	uint64_t at_once = 0;
	int64_t wait_us;

	/* The list may have changed while it was shaking hands. */
	if (!p || strcmp(p->name, name) != 0)
		return err_new(ERR_DENIED, "key %s is not among the peers any more", key);
	if (!policy->allow)
		return err_hint(err_new(ERR_DENIED, "no process may come here from %s", name),
			"see allow_receive in migrated.conf of the destination");
	for (const struct move *v = m->moves; v; v = v->next)
		at_once += v->receive && !v->over && !v->cancelled && strcmp(v->peer, name) == 0;
	if (at_once >= policy->max_incoming)
		return err_hint(err_new(ERR_LIMIT, "%ju migrations come in from %s already",
					(uintmax_t)at_once, name),
			"try again later, or see max_incoming in migrated.conf of the destination");
	if (!rates_take(&m->rates, name, policy->max_per_minute, clock_us(), &wait_us))
		return err_hint(err_new(ERR_LIMIT, "more than %ju migrations a minute from %s",
					(uintmax_t)policy->max_per_minute, name),
			"try again in %ju seconds, or see max_per_minute in migrated.conf of the "
			"destination",
			(uintmax_t)(wait_us / 1000000 + 1));
	return admit_room(m, name);
}

/* It hears why, and is to go then. */
static void post_unwanted(struct monitor *m, uint64_t connection)
{
	Migrate__Unwanted u = MIGRATE__UNWANTED__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;

	u.connection = connection;
	ipc.body_case = MIGRATE__IPC__BODY_UNWANTED;
	ipc.unwanted = &u;
	if (m->net.child && !m->ending)
		child_post(m->net.child, &ipc, NULL, 0);
}

struct err *admit_connection(struct monitor *m, const Migrate__Connected *c)
{
	struct err *e = check_peer(m, c->name, c->fingerprint);

	if (e)
		post_unwanted(m, c->connection);

	audit(&(struct audit){ .what = "connect",
		.from = c->address,
		.peer = c->name,
		.key = c->fingerprint,
		.denied = e });
	return e;
}

/* ---- silent ones ---- */

static void on_silence(evutil_socket_t fd unused_arg, short what unused_arg, void *arg)
{
	struct move *v = arg;

	if (silent(v))
		move_end(v, WHY_SILENT);
}

void admit_watch(struct move *v)
{
	const int64_t us = SILENT_HANDSHAKES * v->monitor->config.handshake_us;
	const struct timeval limit = { us / 1000000, us % 1000000 };

	v->accepted_us = clock_us();
	v->silence = evtimer_new(v->monitor->base, on_silence, v);
	if (v->silence)
		event_add(v->silence, &limit);
}

static void stop_watching(struct move *v)
{
	if (v->silence)
		event_free(v->silence);
	v->silence = NULL;
}

void admit_fini(struct move *v)
{
	stop_watching(v);
	if (v->receive && !v->begun && v->connection)
		post_unwanted(v->monitor, v->connection);
}

/* ---- what it announces ---- */

static struct err *reserve(struct move *v, const Migrate__Reserve *r)
{
	struct monitor *m = v->monitor;
	const struct receive_policy *p = config_receive(&m->config, v->peer);
	uint64_t others = 0;

	if (v->cancelled || v->over)
		return err_new(ERR_CANCELLED, "cancelled");
	TRY(policy_receive(p, r->uid, r->bytes));
	for (const struct move *o = m->moves; o; o = o->next)
		if (o != v && o->receive && !o->over && strcmp(o->peer, v->peer) == 0)
			others += o->reserved_bytes;
	if (p->max_total && (r->bytes > p->max_total || others > p->max_total - r->bytes))
		return err_hint(
			err_new(ERR_LIMIT,
				"it needs %ju MiB besides %ju MiB of others that come in from %s, "
				"%ju MiB may come in at once",
				(uintmax_t)(r->bytes >> 20), (uintmax_t)(others >> 20), v->peer,
				(uintmax_t)(p->max_total >> 20)),
			"try again when those have arrived, or see max_memory_total in "
			"migrated.conf "
			"of the destination");
	v->reserved_bytes = r->bytes;
	return NULL;
}

void admit_reserve(void *move, struct ipc_msg *msg)
{
	autoarena struct arena *a = arena_new();
	struct move *v = move;
	const Migrate__Reserve *r = msg->m->reserve;
	autoerr struct err *e = reserve(v, r);
	Migrate__Reserved answer = MIGRATE__RESERVED__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;

	/* Growth is no news, unless there is no room for it. */
	if (e || !v->begun)
		audit(&(struct audit){ .what = "receive",
			.peer = v->peer,
			.key = v->key,
			.id = r->id,
			.pid = r->pid,
			.comm = r->comm,
			.has_uid = true,
			.uid = r->uid,
			.denied = e });
	v->begun = true;
	stop_watching(v);
	if (e)
		answer.error = err_to_wire(a, e, "destination", NULL);
	ipc.body_case = MIGRATE__IPC__BODY_RESERVED;
	ipc.reserved = &answer;
	if (v->worker)
		child_post(v->worker, &ipc, NULL, 0);
}

/* ---- peers that are none any more ---- */

static bool still_peer(const struct monitor *m, const struct move *v)
{
	const struct peer *p = v->peer ? peers_by_name(&m->state.peers, v->peer) : NULL;

	return p && (!v->key || peer_has_key(p, v->key));
}

void admit_revoke(struct monitor *m)
{
	for (struct move *v = m->moves, *next; v; v = next) {
		autoerr struct err *e = NULL;

		next = v->next;
		if (!v->peer || v->over || v->cancelled || still_peer(m, v))
			continue;
		e = why_err(WHY_REVOKED, v->peer, move_side(v));
		audit(&(struct audit){ .what = v->receive ? "receive" : "send",
			.peer = v->peer,
			.key = v->key,
			.id = v->id,
			.pid = v->pid,
			.comm = v->comm,
			.denied = e });
		move_end(v, WHY_REVOKED);
	}
}
