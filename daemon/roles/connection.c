// SPDX-License-Identifier: Apache-2.0
#include "roles/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "roles/audit.h"
#include "roles/ipc.h"
#include "roles/names.h"
#include "roles/refuse.h"
#include "session/hello.h"
#include "session/ktls.h"
#include "session/relay.h"
#include "wire/err_wire.h"

#define REPORT_US 5000000
#define CLOSE_US  5000000
/* Between attempts, doubled each time. */
#define AGAIN_US     250000
#define AGAIN_MAX_US 1000000

static void report(const struct connection *c, const Migrate__Ipc *m, const int *fds, size_t n_fds)
{
	autoerr struct err *e = ipc_send(c->report_fd, m, fds, n_fds, deadline_in(REPORT_US));

	/* Without net there is nobody to tell; the stream itself goes on. */
	if (e)
		log_debug("report net-gone");
}

/* What came of it. */
struct result {
	const struct err *failed; /* then nothing else is set */
	const struct hello_peer *peer;
	const struct peer *who;
	int fd; /* for the server: the TCP socket, or what the relay serves; -1: it has it */
	bool kernel_tls; /* fd is the TCP socket */
};

static void report_connected(const struct connection *c, const struct result *r)
{
	autoarena struct arena *a = arena_new();
	Migrate__Connected m = MIGRATE__CONNECTED__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	char address[ADDRESS_BYTES];

	if (c->dial)
		m.id = c->dial->id;
	if (r->failed)
		m.error = err_to_wire(a, r->failed, "source", "hello");
	if (r->who) {
		m.name = arena_strdup(a, r->who->name);
		m.fingerprint = arena_strdup(a, c->peer_key);
		m.own = arena_strdup(a, c->own_key);
	}
	if (r->peer) {
		m.software = arena_strdup(a, r->peer->software);
		m.boot_id = arena_strdup(a, r->peer->boot_id);
	}
	m.join = c->dial ? c->dial->join : r->peer ? r->peer->join.number : 0;
	if (r->peer && r->peer->can_join) {
		m.token.data = (uint8_t *)(uintptr_t)r->peer->join.token;
		m.token.len = JOIN_TOKEN_BYTES;
	}
	if (c->tcp_fd >= 0) {
		address_of_peer(c->tcp_fd, address);
		m.address = arena_strdup(a, address);
		address_of_self(c->tcp_fd, address);
		m.local_ip = arena_strdup(a, address);
	}
	m.asked = c->dial && c->dial->ask;
	if (m.asked && r->peer)
		m.fate = arena_strdup(a, r->peer->fate);
	m.kernel_tls = r->kernel_tls;
	ipc.body_case = MIGRATE__IPC__BODY_CONNECTED;
	ipc.connected = &m;
	report(c, &ipc, &r->fd, r->fd >= 0 ? 1 : 0);
}

static void report_lost(
	const struct connection *c, const struct relay_stats *stats, const struct err *e)
{
	autoarena struct arena *a = arena_new();
	Migrate__Lost m = MIGRATE__LOST__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;

	m.to_peer = stats->to_peer;
	m.from_peer = stats->from_peer;
	if (e)
		m.error = err_to_wire(a, e, NULL, NULL);
	ipc.body_case = MIGRATE__IPC__BODY_LOST;
	ipc.lost = &m;
	report(c, &ipc, NULL, 0);
}

/* The keys that may answer. */
static struct err *verify_dialled(void *arg, const char *fingerprint)
{
	const Migrate__Dial *d = arg;
	autotext struct text known = { NULL, 0, 0 };

	for (size_t i = 0; i < d->n_fingerprints; i++) {
		if (strcmp(fingerprint, d->fingerprints[i]) == 0)
			return NULL;
		text_addf(&known, "%s%s", i ? " or " : "", d->fingerprints[i]);
	}
	return err_hint(err_new(ERR_DENIED, "its key is %s, but %s is known for %s", fingerprint,
				text_str(&known), d->name),
		"if the host was installed anew, compare with migratectl identity there, run "
		"migratectl peer add %s HOST %s and remove the old key; if not, somebody else "
		"answers in its place",
		d->name, fingerprint);
}

/* Any key in the list may knock. */
static struct err *verify_accepted(void *arg, const char *fingerprint)
{
	if (peers_by_key(arg, fingerprint))
		return NULL;
	return err_new(ERR_DENIED, "key %s is not among the peers", fingerprint);
}

static struct err *relay(struct connection *c, struct tls *t)
{
	struct relay_stats stats;
	struct err *e = relay_run(t, c->stream_fd, &stats);

	report_lost(c, &stats, e);
	fd_closep(&c->stream_fd);
	tls_close(t, deadline_in(CLOSE_US));
	return e;
}

/* Asked before HELLO, which says so. */
static bool kernel_may(const struct connection *c)
{
	if (!c->setup->kernel_tls)
		return false;
	if (ktls_possible(c->tcp_fd))
		return true;
	log_debug("kernel-tls no reason=\"%s\"", strerror(errno));
	return false;
}

/* The kernel goes on where it can: *fd is the socket then, and *t NULL. An error is the end of the
 * connection. */
static struct err *to_kernel(bool may, struct tls **t, int *fd)
{
	autoerr struct err *e = NULL;
	autofree char *line = NULL;
	bool ruined;

	if (!may)
		return NULL;
	e = ktls_take_over(t, fd, &ruined);
	if (!e)
		return NULL;
	if (ruined) {
		tls_freep(t);
		return take(&e);
	}
	line = err_line(e);
	log_info("kernel-tls no reason=\"%s\"", line);
	return NULL;
}

static struct hello_join join_of(const Migrate__Dial *d)
{
	struct hello_join j = { .number = d->join };

	if (d->token.len == JOIN_TOKEN_BYTES)
		memcpy(j.token, d->token.data, JOIN_TOKEN_BYTES);
	return j;
}

/* Of the limits for a step and for the migration, whichever is the shorter. */
static int64_t within(const struct connection *c, uint64_t us)
{
	const Migrate__Dial *d = c->dial;

	return (int64_t)(d && d->limit_us && d->limit_us < us ? d->limit_us : us);
}

/* @calls net: dup */
static struct err *dial_tls(struct connection *c, const struct tls_ctx *ctx, bool kernel,
	struct hello_peer *peer, struct tls **ret)
{
	const struct hello_self self = { .software = c->setup->software,
		.boot_id = c->setup->boot_id,
		.fixed_keys = kernel,
		.ask = c->dial->ask ? c->dial->id : NULL,
		.join = join_of(c->dial) };
	const Migrate__Dial *d = c->dial;
	const struct tls_verify verify = { verify_dialled, (void *)(uintptr_t)d,
		/* The one that was added last: a host that changes its key learns that we know
		 * the new one. */
		d->n_fingerprints ? d->fingerprints[d->n_fingerprints - 1] : NULL, &c->cut };
	struct deadline limit = deadline_in(within(c, c->setup->handshake_us));
	struct tls *t = NULL;
	struct err *e;

	TRY(tls_handshake(ctx, dup(c->tcp_fd), verify, limit, &t));
	e = hello_dial(t, &self, limit, peer);
	if (e) {
		bool end = err_code(e) == ERR_PEER;

		c->own_refused = t->own_refused;
		tls_close(t, deadline_in(0));
		return end ? err_in(e, "agree on the protocol") : e;
	}
	snprintf(c->peer_key, sizeof(c->peer_key), "%s", t->peer);
	snprintf(c->own_key, sizeof(c->own_key), "%s", t->own);
	*ret = t;
	return NULL;
}

/* *fd as to_kernel says. */
static struct err *dial_with(struct connection *c, const struct tls_ctx *ctx,
	struct hello_peer *peer, struct tls **t, int *fd)
{
	bool kernel;

	fd_closep(&c->tcp_fd);
	TRY(address_dial(&c->places, deadline_in(within(c, c->setup->connect_us)), &c->tcp_fd));
	kernel = !c->dial->ask && kernel_may(c);
	TRY(dial_tls(c, ctx, kernel, peer, t));
	return to_kernel(kernel, t, fd);
}

/* While our key changes there are peers that know the old one, the new one, or both. */
static struct err *dial_once(struct connection *c, struct hello_peer *peer, struct tls **t, int *fd)
{
	struct err *e = NULL;

	c->own_refused = c->cut = false;
	if (c->tls_next)
		e = dial_with(c, c->tls_next, peer, t, fd);
	if (c->tls_next && !(e && c->own_refused))
		return e;
	err_free(e);
	return dial_with(c, c->tls, peer, t, fd);
}

/* A host that is flooded closes what it has no room for, without a word: nothing has begun there,
 * so it is tried again. */
static struct err *dial(struct connection *c, struct hello_peer *peer, struct tls **t, int *fd)
{
	struct address a = { .port = (uint16_t)c->dial->port };
	struct deadline d = deadline_in(within(c, c->setup->handshake_us));
	char text[ADDRESS_BYTES];
	struct err *e;

	snprintf(a.host, sizeof(a.host), "%s", c->dial->host);
	address_text(&a, text);
	TRY_IN(names_look_up(&a, deadline_in(within(c, c->setup->connect_us)), &c->places),
		"connect to %s", text);
	close(NAMES_FD);
	e = dial_once(c, peer, t, fd);
	for (int64_t wait_us = AGAIN_US; c->cut && wait_us <= AGAIN_MAX_US; wait_us *= 2) {
		struct err *again;

		(void)usleep((useconds_t)wait_us);
		if (deadline_passed(d))
			break;
		again = dial_once(c, peer, t, fd);
		/* That nobody listens any more is no better reason than the first. */
		if (again && !c->cut && err_sysno(again)) {
			err_free(again);
			break;
		}
		err_free(e);
		e = again;
	}
	return err_in(e, "connect to %s", text);
}

/* The migration's limit is the one that counts. */
static bool limited(const struct connection *c)
{
	const uint64_t steps_us = c->setup->connect_us + c->setup->handshake_us;

	return within(c, steps_us) < (int64_t)steps_us;
}

/* @calls net: alarm close */
static int dialling(struct connection *c)
{
	struct hello_peer peer;
	struct peer who = { .name = "" };
	autoclose int fd = -1;
	struct tls *t = NULL;
	autoerr struct err *e = dial(c, &peer, &t, &fd);

	alarm(0);
	if (e && err_code(e) == ERR_TIMEOUT && limited(c))
		e = err_in(e, "not ready to freeze after %ju s",
			(uintmax_t)(c->dial->limit_us / 1000000));
	if (e) {
		report_connected(c, &(struct result){ .failed = e, .fd = -1 });
		return 1;
	}
	snprintf(who.name, sizeof(who.name), "%s", c->dial->name);
	report_connected(c, &(struct result){ NULL, &peer, &who, fd, !t });
	if (t && c->dial->ask)
		tls_close(t, deadline_in(CLOSE_US));
	else if (t)
		e = relay(c, t);
	return e ? 1 : 0;
}

/* The monitor knows which migrations there are. */
struct joining {
	const struct connection *c;
	struct deadline d;
};

/* The answer to what net passes on to the monitor. */
static struct err *ask_monitor(const struct joining *j, const Migrate__Ipc *ipc,
	Migrate__Ipc__BodyCase wanted, struct ipc_msg *msg)
{
	TRY(ipc_send(j->c->report_fd, ipc, NULL, 0, j->d));
	TRY(ipc_recv(j->c->report_fd, j->d, msg));
	return msg->m->body_case == wanted
		       ? NULL
		       : err_new(ERR_BUG, "the monitor answered something else");
}

static struct err *ask_join(void *arg, const struct hello_join *join)
{
	const struct joining *j = arg;
	Migrate__JoinAsk ask = MIGRATE__JOIN_ASK__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	autoipc struct ipc_msg msg = { .m = NULL };

	ask.fingerprint = (char *)(uintptr_t)j->c->peer_key;
	ask.token.data = (uint8_t *)(uintptr_t)join->token;
	ask.token.len = JOIN_TOKEN_BYTES;
	ask.number = join->number;
	ipc.body_case = MIGRATE__IPC__BODY_JOIN_ASK;
	ipc.join_ask = &ask;
	TRY(ask_monitor(j, &ipc, MIGRATE__IPC__BODY_JOIN_ANSWER, &msg));
	return msg.m->join_answer->error ? err_from_wire(msg.m->join_answer->error) : NULL;
}

static struct err *ask_fate(void *arg, const char *id, char fate[FATE_BYTES])
{
	const struct joining *j = arg;
	const struct peer *who = peers_by_key(j->c->peers, j->c->peer_key);
	Migrate__FateAsk ask = MIGRATE__FATE_ASK__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	autoipc struct ipc_msg msg = { .m = NULL };

	ask.fingerprint = (char *)(uintptr_t)j->c->peer_key;
	if (who)
		ask.name = (char *)(uintptr_t)who->name;
	ask.id = (char *)(uintptr_t)id;
	ipc.body_case = MIGRATE__IPC__BODY_FATE_ASK;
	ipc.fate_ask = &ask;
	TRY(ask_monitor(j, &ipc, MIGRATE__IPC__BODY_FATE_ANSWER, &msg));
	snprintf(fate, FATE_BYTES, "%s", msg.m->fate_answer->fate);
	return NULL;
}

static struct err *accept_tls(
	struct connection *c, struct hello_peer *peer, struct tls **ret, int *fd)
{
	struct deadline d = deadline_in((int64_t)c->setup->handshake_us);
	struct joining joining = { c, d };
	const struct hello_self self = { .software = c->setup->software,
		.boot_id = c->setup->boot_id,
		.fixed_keys = kernel_may(c),
		.may_join = ask_join,
		.fate_of = ask_fate,
		.arg = &joining };
	struct tls *t = NULL;
	struct err *e;

	TRY(tls_handshake(c->tls, dup(c->tcp_fd),
		(struct tls_verify){ verify_accepted, (void *)(uintptr_t)c->peers }, d, &t));
	snprintf(c->peer_key, sizeof(c->peer_key), "%s", t->peer);
	snprintf(c->own_key, sizeof(c->own_key), "%s", t->own);
	e = hello_accept(t, &self, d, peer);
	if (e) {
		tls_close(t, deadline_min(d, deadline_in(CLOSE_US)));
		return e;
	}
	TRY(to_kernel(self.fixed_keys && !peer->ask[0], &t, fd));
	*ret = t;
	return NULL;
}

/* @calls net: socketpair[0=AF_UNIX] */
/* A socketpair for the relay: one end is ours, the other the server's. */
static struct err *open_relay(struct connection *c, struct tls **t, int *fd)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
		struct err *e = err_errno(errno, "make a socket pair");

		tls_freep(t);
		return e;
	}
	c->stream_fd = pair[0];
	*fd = pair[1];
	return NULL;
}

static int accepting(struct connection *c)
{
	autoerr struct err *e = NULL;
	struct hello_peer peer;
	struct tls *t = NULL;
	char address[ADDRESS_BYTES];
	autoclose int fd = -1;

	address_of_peer(c->tcp_fd, address);
	e = accept_tls(c, &peer, &t, &fd);
	alarm(0);
	if (!e && peer.ask[0]) {
		tls_close(t, deadline_in(CLOSE_US));
		return 0;
	}
	if (!e && t)
		e = open_relay(c, &t, &fd);
	if (e) {
		const struct peer *who = peers_by_key(c->peers, c->peer_key);

		/* The one line about a stranger. */
		if (c->loud)
			audit(&(struct audit){ .what = "connect",
				.from = address,
				.peer = who ? who->name : NULL,
				.key = who ? c->peer_key : NULL,
				.denied = e });
		return 1;
	}
	report_connected(
		c, &(struct result){ NULL, &peer, peers_by_key(c->peers, c->peer_key), fd, !t });
	fd_closep(&fd);
	if (t)
		e = relay(c, t);
	return e ? 1 : 0;
}

int connection_refuse(int fd, const Migrate__Error *why)
{
	struct stream s;
	autoerr struct err *e = stream_ktls(fd, &s);

	if (e)
		return 1;
	refuse_stream(&s, why);
	stream_close(&s);
	return 0;
}

/* @calls net: fcntl[1=F_SETFL] */
int connection_main(struct connection *c)
{
	/* A backstop for all that has deadlines of its own. */
	int64_t limit_us = within(c, c->setup->handshake_us + (c->dial ? c->setup->connect_us : 0));

	limit_us *= c->tls_next && c->dial ? 2 : 1;
	alarm((unsigned)(limit_us / 1000000) + 2);
	if (c->stream_fd >= 0)
		(void)fcntl(c->stream_fd, F_SETFL, O_NONBLOCK);
	return c->dial ? dialling(c) : accepting(c);
}
