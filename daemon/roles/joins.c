// SPDX-License-Identifier: Apache-2.0
#include "roles/joins.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "roles/monitor.h"
#include "wire/err_wire.h"

enum join_state {
	COMING, /* net dials, or the peer's HELLO is not over yet */
	HERE,   /* waits for the worker to ask */
	GIVEN,  /* is the worker's; kept for its number and net's */
};

struct join {
	struct join *next;
	struct move *move;
	uint32_t number;
	enum join_state state;
	bool wanted;         /* the worker waits for it */
	uint64_t connection; /* net's number; 0: not known */
	int fd;              /* for the worker; -1: none yet */
	bool kernel_tls;
	struct event *limit;
};

static struct join *find(const struct move *v, uint32_t number)
{
	struct join *j = v->joins.first;

	while (j && j->number != number)
		j = j->next;
	return j;
}

static void remove_join(struct join *j)
{
	struct join **link = &j->move->joins.first;

	while (*link != j)
		link = &(*link)->next;
	*link = j->next;
	event_free(j->limit);
	fd_closep(&j->fd);
	free(j);
}

void joins_fini(struct move *v)
{
	while (v->joins.first)
		remove_join(v->joins.first);
}

void joins_allow(struct move *v, const ProtobufCBinaryData *token)
{
	v->joins.allowed = token->len == JOIN_TOKEN_BYTES;
	if (v->joins.allowed)
		memcpy(v->joins.token, token->data, JOIN_TOKEN_BYTES);
}

/* ---- answers to the worker ---- */

static void post_opened(struct move *v, Migrate__Opened *o, const int *fd)
{
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;

	ipc.body_case = MIGRATE__IPC__BODY_OPENED;
	ipc.opened = o;
	if (v->worker)
		child_post(v->worker, &ipc, fd, fd ? 1 : 0);
}

/* Takes e. */
static void post_none(struct move *v, uint32_t number, struct err *e)
{
	autoarena struct arena *a = arena_new();
	Migrate__Opened o = MIGRATE__OPENED__INIT;

	o.number = number;
	o.error = err_to_wire(a, e, move_side(v), NULL);
	err_free(e);
	post_opened(v, &o, NULL);
}

static void give(struct join *j)
{
	Migrate__Opened o = MIGRATE__OPENED__INIT;

	o.number = j->number;
	o.kernel_tls = j->kernel_tls;
	post_opened(j->move, &o, &j->fd);
	fd_closep(&j->fd);
	j->state = GIVEN;
	j->wanted = false;
	event_del(j->limit);
	log_info("joined id=%s number=%u stream=%s", j->move->id, j->number,
		j->kernel_tls ? "ktls" : "relay");
}

/* Takes e. */
static void fail(struct join *j, struct err *e)
{
	if (j->wanted)
		post_none(j->move, j->number, e);
	else
		err_free(e);
	remove_join(j);
}

/* ---- limits of time ---- */

static void drop_dial(const struct join *j)
{
	struct monitor *m = j->move->monitor;
	Migrate__Drop drop = MIGRATE__DROP__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;

	drop.id = j->move->id;
	drop.join = j->number;
	ipc.body_case = MIGRATE__IPC__BODY_DROP;
	ipc.drop = &drop;
	if (m->net.child)
		child_post(m->net.child, &ipc, NULL, 0);
}

static void on_limit(evutil_socket_t fd unused_arg, short what unused_arg, void *arg)
{
	struct join *j = arg;

	if (!j->wanted)
		log_info("join unclaimed id=%s number=%u", j->move->id, j->number);
	else if (!j->move->receive)
		drop_dial(j);
	fail(j, err_new(ERR_TIMEOUT, "connection %u did not come in time", j->number));
}

static void limit(struct join *j, uint64_t us)
{
	const struct timeval tv = { (time_t)(us / 1000000), (suseconds_t)(us % 1000000) };

	event_add(j->limit, &tv);
}

static struct join *join_new(struct move *v, uint32_t number, uint64_t limit_us)
{
	struct join *j = xcalloc(1, sizeof(*j));

	*j = (struct join){ .next = v->joins.first, .move = v, .number = number, .fd = -1 };
	j->limit = evtimer_new(v->monitor->base, on_limit, j);
	if (!j->limit)
		abort();
	v->joins.first = j;
	limit(j, limit_us);
	return j;
}

/* ---- the worker asks ---- */

static struct err *want(struct move *v, const Migrate__Open *o)
{
	struct join *j = find(v, o->number);
	struct err *e;

	if (!o->number || o->number > JOIN_NUMBER_MAX)
		return err_new(ERR_LIMIT, "a migration has connections 1 to %d besides the first",
			JOIN_NUMBER_MAX);
	if (j && (!v->receive || j->wanted || j->state == GIVEN))
		return err_new(ERR_BUG, "connection %u is asked for twice", o->number);
	if (!v->joins.allowed)
		return err_new(ERR_UNSUPPORTED, "the other host takes one connection only");
	if (!j)
		j = join_new(v, o->number, o->limit_us);
	j->wanted = true;
	if (j->state == HERE) {
		give(j);
		return NULL;
	}
	limit(j, o->limit_us);
	e = v->receive ? NULL : move_dial(v, o->number, &j->fd);
	if (e)
		remove_join(j);
	return e;
}

void joins_wanted(void *move, struct ipc_msg *msg)
{
	struct move *v = move;
	const Migrate__Open *o = msg->m->open;
	struct err *e = v->over ? err_new(ERR_BUG, "the migration is over") : want(v, o);

	if (e)
		post_none(v, o->number, e);
}

/* ---- net asks ---- */

/* In a time that does not depend on where they differ. */
static bool same_token(const struct joins *s, const ProtobufCBinaryData *token)
{
	uint8_t differ = 0;

	if (!s->allowed || token->len != JOIN_TOKEN_BYTES)
		return false;
	for (size_t i = 0; i < JOIN_TOKEN_BYTES; i++)
		differ |= s->token[i] ^ token->data[i];
	return !differ;
}

/* The peer of the first connection, as it is known now: it may be about to change its key. */
static bool same_peer(const struct move *v, const struct peer *p)
{
	return p && strcmp(v->peer, p->name) == 0;
}

static struct move *find_move(struct monitor *m, const Migrate__JoinAsk *a)
{
	const struct peer *p = peers_by_key(&m->state.peers, a->fingerprint);

	for (struct move *v = m->moves; v; v = v->next)
		if (v->receive && !v->over && v->worker && same_token(&v->joins, &a->token) &&
			same_peer(v, p))
			return v;
	return NULL;
}

static size_t waiting(const struct move *v)
{
	size_t n = 0;

	for (const struct join *j = v->joins.first; j; j = j->next)
		n += j->state != GIVEN && !j->wanted;
	return n;
}

static struct err *admit(struct monitor *m, const Migrate__JoinAsk *a)
{
	struct move *v = find_move(m, a);
	struct join *j = v ? find(v, a->number) : NULL;

	if (!v)
		return err_new(ERR_GONE,
			"the migration that it wants to join is not, or no longer, "
			"under way there");
	if (!a->number || a->number > JOIN_NUMBER_MAX)
		return err_new(ERR_LIMIT, "a migration has connections 1 to %d besides the first",
			JOIN_NUMBER_MAX);
	if (j && (j->connection || j->state != COMING))
		return err_new(ERR_INVALID, "the migration has had a connection %u", a->number);
	if (!j && waiting(v) >= JOINS_WAITING_MAX)
		return err_new(ERR_LIMIT, "%d connections of the migration wait there already",
			JOINS_WAITING_MAX);
	if (!j)
		j = join_new(v, a->number, JOINS_UNCLAIMED_US);
	j->connection = a->connection;
	return NULL;
}

void joins_asked(void *net_service, struct ipc_msg *msg)
{
	autoarena struct arena *a = arena_new();
	struct service *net = net_service;
	Migrate__JoinAnswer answer = MIGRATE__JOIN_ANSWER__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	autoerr struct err *e = admit(net->monitor, msg->m->join_ask);

	answer.connection = msg->m->join_ask->connection;
	if (e)
		answer.error = err_to_wire(a, e, "destination", "hello");
	ipc.body_case = MIGRATE__IPC__BODY_JOIN_ANSWER;
	ipc.join_answer = &answer;
	if (net->child)
		child_post(net->child, &ipc, NULL, 0);
}

/* ---- net has it ---- */

static struct join *find_coming(struct monitor *m, const Migrate__Connected *c)
{
	for (struct move *v = m->moves; v; v = v->next) {
		bool ours = c->id[0] ? !v->receive && strcmp(v->id, c->id) == 0 : v->receive;
		struct join *j = ours ? find(v, c->join) : NULL;

		if (j && j->state == COMING && (c->id[0] || j->connection == c->connection))
			return j;
	}
	return NULL;
}

/* Whoever waited for it may have given up: then it is closed with the message. */
void joins_connected(struct monitor *m, struct ipc_msg *msg)
{
	const Migrate__Connected *c = msg->m->connected;
	struct join *j = find_coming(m, c);

	if (!j)
		return;
	j->connection = c->connection;
	if (c->error) {
		fail(j, err_from_wire(c->error));
		return;
	}
	j->kernel_tls = c->kernel_tls;
	if (msg->n_fds == 1) {
		fd_closep(&j->fd);
		j->fd = take_fd(&msg->fds[0]);
	}
	j->state = HERE;
	if (j->wanted)
		give(j);
}

bool joins_has(const struct move *v, uint64_t connection)
{
	for (const struct join *j = v->joins.first; j; j = j->next)
		if (j->connection && j->connection == connection)
			return true;
	return false;
}

/* Its children serve what they have; what is not there yet will not come. */
void joins_net_died(struct move *v)
{
	for (struct join *j = v->joins.first, *next; j; j = next) {
		bool lost = j->state == COMING && (!v->receive || j->connection);

		next = j->next;
		j->connection = 0;
		if (lost)
			fail(j, err_new(ERR_BUG, "the net role ended"));
	}
}
