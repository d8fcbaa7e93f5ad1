// SPDX-License-Identifier: Apache-2.0
/*
 * The control role: local clients on a unix socket, one request each (control.proto). It parses
 * what users send, and answers by itself what everybody may know (list, status, watch, identity,
 * peers) from the events that the monitor sends. For everything else it passes the request on
 * together with the client's socket: the monitor asks the kernel who that is, so a lying control
 * process cannot invent a uid.
 *
 * What a client can use up: CLIENTS_MAX connections, REQUEST_MAX bytes and REQUEST_S seconds for
 * its request; one that does not read its replies loses progress lines first, then the connection.
 */
#include <endian.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "roles/ipc.h"
#include "roles/migrations.h"
#include "roles/policy.h"
#include "roles/role.h"
#include "roles/seen.h"
#include "session/peers.h"
#include "wire/err_wire.h"

#define CLIENTS_MAX      256
#define CLIENTS_PER_USER 32 /* root has no limit of its own */
#define REQUEST_MAX      (64 << 10)
#define REQUEST_S        10
#define SLOW_BYTES       (256 << 10) /* waiting for one client: no more progress for it */
#define STUCK_BYTES      (4 << 20)   /* and this ends it */
#define LAST_WRITE_S     10

struct control;

struct client {
	struct client *next;
	struct control *control;
	struct bufferevent *bev;
	uint64_t cookie;
	uid_t uid;        /* for fairness only: who may do what is the monitor's to find out */
	bool asked;       /* the request is in */
	bool left;        /* it closed its side */
	bool ending;      /* the last reply is in the buffer */
	bool follows_all; /* watch without an id */
	bool begun_by_it; /* its end cancels the migration */
	const char *side; /* NULL: both */
	char *id;         /* follows this one */
};

struct control {
	struct event_base *base;
	struct ipc *monitor;
	struct event *listeners[IPC_FDS_MAX];
	size_t n_listeners;
	struct client *clients;
	size_t n_clients;
	uint64_t last_cookie;
	struct migrations migrations;
	struct peers peers;
	struct seen seen;
	char *fingerprint, *next_fingerprint;
};

/* ---- replies ---- */

static void client_free(struct client *c)
{
	struct client **link = &c->control->clients;

	while (*link != c)
		link = &(*link)->next;
	*link = c->next;
	c->control->n_clients--;
	bufferevent_free(c->bev); /* closes the socket */
	free(c->id);
	free(c);
}

/* True if the client is still there. */
static bool reply(struct client *c, const Migrate__Reply *r)
{
	struct evbuffer *out = bufferevent_get_output(c->bev);
	size_t len = migrate__reply__get_packed_size(r);
	uint32_t le = htole32((uint32_t)len);
	uint8_t *buf;

	if (evbuffer_get_length(out) > SLOW_BYTES && r->progress && !r->last)
		return true;
	if (evbuffer_get_length(out) > STUCK_BYTES) {
		client_free(c);
		return false;
	}
	buf = xcalloc(1, len + 1);
	migrate__reply__pack(r, buf);
	evbuffer_add(out, &le, sizeof(le));
	evbuffer_add(out, buf, len);
	free(buf);
	if (r->last) {
		const struct timeval limit = { LAST_WRITE_S, 0 };

		c->ending = true;
		bufferevent_set_timeouts(c->bev, NULL, &limit);
	}
	return true;
}

static void reply_error(struct client *c, struct err *e)
{
	autoarena struct arena *a = arena_new();
	Migrate__Reply r = MIGRATE__REPLY__INIT;

	r.last = true;
	r.error = err_to_wire(a, e, NULL, NULL);
	err_free(e);
	(void)reply(c, &r);
}

/* Paths, descriptors and the like in it are nobody's business but of root and of who began it. */
static Migrate__Done *as_seen_by(struct arena *a, const struct client *c, Migrate__Done *d)
{
	autoerr struct err *hidden = policy_may(MAY_DETAILS, c->uid, d->last->asker);
	Migrate__Done *copy;

	if (!hidden)
		return d;
	copy = arena_dup(a, d, sizeof(*d));
	copy->n_blockers = copy->n_warnings = 0;
	if (d->error)
		copy->error = err_to_wire(a, hidden, d->error->side, d->error->state);
	return copy;
}

static bool reply_done(struct client *c, Migrate__Done *done, bool last)
{
	autoarena struct arena *a = arena_new();
	Migrate__Reply r = MIGRATE__REPLY__INIT;

	r.done = as_seen_by(a, c, done);
	r.last = last;
	return reply(c, &r);
}

/* ---- requests ---- */

static void post_ask(struct client *c, Migrate__Request *request)
{
	Migrate__Ask ask = MIGRATE__ASK__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	int fd = bufferevent_getfd(c->bev);

	ask.cookie = c->cookie;
	ask.request = request;
	ipc.body_case = MIGRATE__IPC__BODY_ASK;
	ipc.ask = &ask;
	ipc_post(c->control->monitor, &ipc, &fd, 1);
}

static void post_left(struct control *ct, const char *id)
{
	Migrate__ClientLeft left = MIGRATE__CLIENT_LEFT__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;

	left.id = (char *)(uintptr_t)id;
	ipc.body_case = MIGRATE__IPC__BODY_LEFT;
	ipc.left = &left;
	ipc_post(ct->monitor, &ipc, NULL, 0);
}

/* Fields that we do not know would travel on with the rest, in a form that only their sender chose:
 * the monitor takes no message that does not parse, and would end us for it. */
static bool parses_again(const Migrate__Request *request)
{
	size_t len = migrate__request__get_packed_size(request);
	autofree uint8_t *buf = xcalloc(1, len + 1);
	Migrate__Request *again;

	migrate__request__pack(request, buf);
	again = migrate__request__unpack(NULL, len, buf);
	if (again)
		migrate__request__free_unpacked(again, NULL);
	return again;
}

static void serve_move(struct client *c, Migrate__Request *request)
{
	c->begun_by_it = true;
	post_ask(c, request);
}

/* Sixty-four outcomes with all their blockers and addresses would be more than a reply may hold. */
static Migrate__Done *brief(struct arena *a, const Migrate__Done *d)
{
	Migrate__Done *copy = arena_dup(a, d, sizeof(*d));

	copy->n_blockers = copy->n_warnings = copy->n_addresses = 0;
	return copy;
}

/* All migrations, or those of one id ("": the only or latest one). */
static void reply_listing(struct client *c, const char *id, bool all)
{
	autoarena struct arena *a = arena_new();
	struct migrations *ms = &c->control->migrations;
	const struct migration *latest = migrations_latest(ms);
	Migrate__Reply r = MIGRATE__REPLY__INIT;
	size_t n = ms->n;

	if (!all && !id[0] && latest)
		id = latest->id;
	r.migrations = arena_array(a, n + 1, sizeof(*r.migrations));
	r.ended = arena_array(a, n + 1, sizeof(*r.ended));
	for (const struct migration *m = ms->first; m; m = m->next) {
		if (!all && strcmp(m->id, id) != 0)
			continue;
		if (m->done)
			r.ended[r.n_ended++] = as_seen_by(a, c, all ? brief(a, m->done) : m->done);
		else
			r.migrations[r.n_migrations++] = m->progress;
	}
	if (!all && !r.n_ended && !r.n_migrations) {
		reply_error(c, migrations_unknown(id));
		return;
	}
	r.last = true;
	(void)reply(c, &r);
}

static void serve_list(struct client *c, Migrate__Request *request unused_arg)
{
	reply_listing(c, "", true);
}

static void serve_status(struct client *c, Migrate__Request *request)
{
	reply_listing(c, request->status->id, false);
}

static void serve_watch(struct client *c, Migrate__Request *request)
{
	struct migrations *ms = &c->control->migrations;
	const char *id = request->watch->id;
	const struct migration *m;
	Migrate__Reply r = MIGRATE__REPLY__INIT;

	if (!id[0]) {
		c->follows_all = true;
		for (m = ms->first; m; m = m->next) {
			r.progress = m->progress;
			if (!m->done && !reply(c, &r))
				return;
		}
		return;
	}
	m = migrations_find(ms, id, NULL);
	if (!m) {
		reply_error(c, migrations_unknown(id));
		return;
	}
	if (m->done) {
		(void)reply_done(c, m->done, true);
		return;
	}
	c->id = xstrdup(id);
	c->side = m->side;
	r.progress = m->progress;
	(void)reply(c, &r);
}

static void serve_identity(struct client *c, Migrate__Request *request unused_arg)
{
	Migrate__Reply r = MIGRATE__REPLY__INIT;

	r.last = true;
	r.fingerprint = c->control->fingerprint;
	r.next_fingerprint = c->control->next_fingerprint;
	(void)reply(c, &r);
}

static Migrate__Peer *describe_peer(struct arena *a, const struct control *ct, struct peer *peer)
{
	const struct seen_peer *seen = seen_find(&ct->seen, peer->name);
	Migrate__Peer *p = arena_alloc(a, sizeof(*p));
	char host[ADDRESS_BYTES];

	migrate__peer__init(p);
	address_text(&peer->address, host);
	p->name = peer->name;
	p->host = arena_strdup(a, host);
	p->fingerprints = arena_array(a, peer->n_keys, sizeof(*p->fingerprints));
	for (size_t i = 0; i < peer->n_keys; i++)
		p->fingerprints[p->n_fingerprints++] = peer->keys[i];
	if (seen) {
		p->seen_s = seen->when_s;
		p->seen_key = arena_strdup(a, seen->key);
		p->seen_own = arena_strdup(a, seen->own);
	}
	return p;
}

static void serve_peer_list(struct client *c, Migrate__Request *request unused_arg)
{
	autoarena struct arena *a = arena_new();
	const struct peers *peers = &c->control->peers;
	Migrate__Reply r = MIGRATE__REPLY__INIT;

	r.last = true;
	r.peers = arena_array(a, peers->n + 1, sizeof(*r.peers));
	for (size_t i = 0; i < peers->n; i++)
		r.peers[r.n_peers++] = describe_peer(a, c->control, &peers->v[i]);
	(void)reply(c, &r);
}

static void (*const verbs[])(struct client *c, Migrate__Request *request) = {
	[MIGRATE__REQUEST__VERB_SEND] = serve_move,
	[MIGRATE__REQUEST__VERB_CHECK] = serve_move,
	[MIGRATE__REQUEST__VERB_LIST] = serve_list,
	[MIGRATE__REQUEST__VERB_STATUS] = serve_status,
	[MIGRATE__REQUEST__VERB_WATCH] = serve_watch,
	[MIGRATE__REQUEST__VERB_CANCEL] = post_ask,
	[MIGRATE__REQUEST__VERB_IDENTITY] = serve_identity,
	[MIGRATE__REQUEST__VERB_PEER_ADD] = post_ask,
	[MIGRATE__REQUEST__VERB_PEER_LIST] = serve_peer_list,
	[MIGRATE__REQUEST__VERB_PEER_REMOVE] = post_ask,
	[MIGRATE__REQUEST__VERB_RESOLVE] = post_ask,
	[MIGRATE__REQUEST__VERB_IDENTITY_ROTATE] = post_ask,
	[MIGRATE__REQUEST__VERB_IDENTITY_RETIRE] = post_ask,
};

static void serve(struct client *c, const uint8_t *data, size_t len)
{
	Migrate__Request *request = migrate__request__unpack(NULL, len, data);
	bool whole = request && parses_again(request);
	bool known = whole && request->verb_case < ARRAY_LEN(verbs) && verbs[request->verb_case];

	c->asked = true;
	bufferevent_set_timeouts(c->bev, NULL, NULL);
	if (known)
		verbs[request->verb_case](c, request);
	else
		reply_error(c,
			err_hint(err_new(ERR_INVALID, whole ? "the daemon does not know this verb"
							    : "the request does not parse"),
				"use the migratectl that belongs to this migrated"));
	if (request)
		migrate__request__free_unpacked(request, NULL);
}

/* ---- clients ---- */

static void on_client_readable(struct bufferevent *bev, void *arg)
{
	struct client *c = arg;
	struct evbuffer *in = bufferevent_get_input(bev);
	size_t have = evbuffer_get_length(in);
	uint32_t len;

	if (c->asked) { /* one request per connection */
		evbuffer_drain(in, have);
		return;
	}
	if (have < sizeof(len))
		return;
	evbuffer_copyout(in, &len, sizeof(len));
	len = le32toh(len);
	if (len > REQUEST_MAX) {
		c->asked = true;
		reply_error(c, err_new(ERR_INVALID, "request of %u bytes, at most %d are allowed",
				       len, REQUEST_MAX));
		return;
	}
	if (have < sizeof(len) + len)
		return;
	evbuffer_drain(in, sizeof(len));
	/* serve may free the client, and the buffer with it */
	{
		autofree uint8_t *data = xcalloc(1, len + 1);

		evbuffer_remove(in, data, len);
		serve(c, data, len);
	}
}

static void on_client_written(struct bufferevent *bev unused_arg, void *arg)
{
	struct client *c = arg;

	if (c->ending)
		client_free(c);
}

/* A client that has only closed its side still reads how its migration ends. */
static void on_client_event(struct bufferevent *bev, short what, void *arg)
{
	struct client *c = arg;
	bool half = (what & BEV_EVENT_EOF) && c->asked && (c->begun_by_it || c->ending);

	c->left = true;
	if (c->begun_by_it && c->id && !c->ending)
		post_left(c->control, c->id);
	if (half)
		bufferevent_disable(bev, EV_READ);
	else if (!c->begun_by_it || c->id || c->ending)
		client_free(c);
	else
		bufferevent_disable(
			bev, EV_READ | EV_WRITE); /* the answer brings the id to cancel */
}

/* @calls control: getsockopt[1=SOL_SOCKET,2=SO_PEERCRED] */
static bool has_room(const struct control *ct, int fd, uid_t *uid)
{
	struct ucred cred = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(cred);
	size_t n = 0;

	if (ct->n_clients >= CLIENTS_MAX ||
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return false;
	*uid = cred.uid;
	for (const struct client *c = ct->clients; c; c = c->next)
		n += c->uid == cred.uid;
	return cred.uid == 0 || n < CLIENTS_PER_USER;
}

/* @calls control: accept4 close */
static void on_accept(evutil_socket_t listener, short what unused_arg, void *arg)
{
	const struct timeval limit = { REQUEST_S, 0 };
	struct control *ct = arg;
	autoclose int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *c;
	uid_t uid;

	if (fd < 0 || !has_room(ct, fd, &uid)) {
		if (fd < 0 && errno == EMFILE)
			usleep(1000); /* level-triggered: do not spin */
		return;
	}
	c = xcalloc(1, sizeof(*c));
	*c = (struct client){
		.next = ct->clients, .control = ct, .cookie = ++ct->last_cookie, .uid = uid
	};
	c->bev = bufferevent_socket_new(ct->base, take_fd(&fd), BEV_OPT_CLOSE_ON_FREE);
	if (!c->bev)
		abort();
	ct->clients = c;
	ct->n_clients++;
	bufferevent_setcb(c->bev, on_client_readable, on_client_written, on_client_event, c);
	bufferevent_set_timeouts(c->bev, &limit, NULL);
	bufferevent_setwatermark(c->bev, EV_READ, 0, REQUEST_MAX + sizeof(uint32_t));
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
}

/* ---- the monitor ---- */

static bool follows(const struct client *c, const char *id, const char *side)
{
	if (!c->asked || c->ending)
		return false;
	if (c->follows_all)
		return true;
	return c->id && strcmp(c->id, id) == 0 && (!c->side || strcmp(c->side, side) == 0);
}

static void on_progress(void *arg, struct ipc *from unused_arg, struct ipc_msg *msg)
{
	struct control *ct = arg;
	Migrate__Reply r = MIGRATE__REPLY__INIT;
	Migrate__Progress *p = msg->m->progress;

	r.progress = p;
	for (struct client *c = ct->clients, *next; c; c = next) {
		next = c->next;
		if (follows(c, p->id, p->side))
			(void)reply(c, &r);
	}
	msg->m->progress = NULL;
	msg->m->body_case = MIGRATE__IPC__BODY__NOT_SET;
	migrations_progress(&ct->migrations, p);
}

static void on_done(void *arg, struct ipc *from unused_arg, struct ipc_msg *msg)
{
	struct control *ct = arg;
	Migrate__Done *d = msg->m->done;

	if (!d->last)
		return;
	for (struct client *c = ct->clients, *next; c; c = next) {
		next = c->next;
		if (follows(c, d->last->id, d->last->side))
			(void)reply_done(c, d, !c->follows_all);
	}
	msg->m->done = NULL;
	msg->m->body_case = MIGRATE__IPC__BODY__NOT_SET;
	migrations_done(&ct->migrations, d);
}

static void on_answer(void *arg, struct ipc *from unused_arg, struct ipc_msg *msg)
{
	struct control *ct = arg;
	const Migrate__Answer *answer = msg->m->answer;
	Migrate__Reply r = MIGRATE__REPLY__INIT;
	struct client *c = ct->clients;

	while (c && c->cookie != answer->cookie)
		c = c->next;
	if (!c && answer->id[0])
		post_left(ct, answer->id);
	if (!c)
		return;
	if (answer->id[0] && c->left)
		post_left(ct, answer->id);
	if (c->left && !(bufferevent_get_enabled(c->bev) & EV_WRITE)) {
		client_free(c);
		return;
	}
	if (answer->id[0]) {
		free(c->id);
		c->id = xstrdup(answer->id);
		c->side = "source";
		return;
	}
	r.last = true;
	r.error = answer->error;
	(void)reply(c, &r);
}

static void on_peers(void *arg, struct ipc *from unused_arg, struct ipc_msg *msg)
{
	struct control *ct = arg;
	autoarena struct arena *a = arena_new();
	autoerr struct err *e = NULL;
	char *text;

	if (msg->n_fds != 2)
		return;
	e = io_read_fd(a, msg->fds[0], PEERS_TEXT_MAX, "list of peers", &text);
	if (!e)
		e = peers_parse(&ct->peers, text);
	if (!e)
		e = io_read_fd(a, msg->fds[1], SEEN_TEXT_MAX, "when they were seen", &text);
	if (!e)
		seen_parse(&ct->seen, text);
	if (e) {
		autofree char *line = err_line(e);

		log_error("peers error=\"%s\"", line);
	}
}

static void on_setup(void *arg, struct ipc *from, struct ipc_msg *msg)
{
	struct control *ct = arg;
	Migrate__Ipc ready = MIGRATE__IPC__INIT;
	Migrate__RoleReady empty = MIGRATE__ROLE_READY__INIT;

	free(ct->fingerprint);
	free(ct->next_fingerprint);
	ct->fingerprint = xstrdup(msg->m->control_setup->fingerprint);
	ct->next_fingerprint = xstrdup(msg->m->control_setup->next_fingerprint);
	for (size_t i = 0; i < msg->n_fds && ct->n_listeners < ARRAY_LEN(ct->listeners); i++) {
		struct event *ev = event_new(
			ct->base, take_fd(&msg->fds[i]), EV_READ | EV_PERSIST, on_accept, ct);

		if (!ev || event_add(ev, NULL) < 0)
			abort();
		ct->listeners[ct->n_listeners++] = ev;
	}
	ready.body_case = MIGRATE__IPC__BODY_READY;
	ready.ready = &empty;
	ipc_post(from, &ready, NULL, 0);
}

static void on_monitor_gone(void *arg, struct ipc *from unused_arg)
{
	event_base_loopbreak(((struct control *)arg)->base);
}

static const struct ipc_handlers monitor_handlers = {
	.by_case = { [MIGRATE__IPC__BODY_CONTROL_SETUP] = on_setup,
		[MIGRATE__IPC__BODY_PEERS] = on_peers,
		[MIGRATE__IPC__BODY_ANSWER] = on_answer,
		[MIGRATE__IPC__BODY_PROGRESS] = on_progress,
		[MIGRATE__IPC__BODY_DONE] = on_done },
	.closed = on_monitor_gone,
};

/* @calls control: close */
static void control_fini(struct control *ct)
{
	while (ct->clients)
		client_free(ct->clients);
	for (size_t i = 0; i < ct->n_listeners; i++) {
		close(event_get_fd(ct->listeners[i]));
		event_free(ct->listeners[i]);
	}
	ipc_free(ct->monitor);
	migrations_fini(&ct->migrations);
	peers_fini(&ct->peers);
	seen_fini(&ct->seen);
	free(ct->fingerprint);
	free(ct->next_fingerprint);
	event_base_free(ct->base);
}

/* @calls control: +base +libevent */
int control_main(void)
{
	struct control ct = { .base = event_base_new() };

	if (!ct.base)
		return 1;
	ct.monitor = ipc_new(ct.base, IPC_FD, &monitor_handlers, &ct);
	event_base_dispatch(ct.base);
	control_fini(&ct);
	return 0;
}
