// SPDX-License-Identifier: Apache-2.0
#include "roles/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "roles/ipc.h"
#include "session/hello.h"
#include "session/relay.h"
#include "wire/err_wire.h"

#define REPORT_US 5000000
#define CLOSE_US  5000000

static void report(const struct connection *c, const Migrate__Ipc *m, const int *fds, size_t n_fds)
{
	autoerr struct err *e = ipc_send(c->report_fd, m, fds, n_fds, deadline_in(REPORT_US));

	/* Without net there is nobody to tell; the stream itself goes on. */
	if (e)
		log_debug("report net-gone");
}

/* Says what came of it; `peer` and `who` are NULL when it did not work. */
static void report_connected(const struct connection *c, const struct hello_peer *peer,
	const struct peer *who, const struct err *e, int fds[2])
{
	autoarena struct arena *a = arena_new();
	Migrate__Connected m = MIGRATE__CONNECTED__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	char address[ADDRESS_BYTES];

	if (c->dial)
		m.id = c->dial->id;
	if (e)
		m.error = err_to_wire(a, e, "source", "hello");
	if (who) {
		m.name = arena_strdup(a, who->name);
		m.fingerprint = arena_strdup(a, who->fingerprint);
	}
	if (peer) {
		m.software = arena_strdup(a, peer->software);
		m.boot_id = arena_strdup(a, peer->boot_id);
	}
	if (c->tcp_fd >= 0) {
		address_of_peer(c->tcp_fd, address);
		m.address = arena_strdup(a, address);
	}
	ipc.body_case = MIGRATE__IPC__BODY_CONNECTED;
	ipc.connected = &m;
	report(c, &ipc, fds, fds ? 2 : 0);
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

/* The one key that may answer. */
static struct err *verify_dialled(void *arg, const char *fingerprint)
{
	const Migrate__Dial *d = arg;

	if (strcmp(fingerprint, d->fingerprint) == 0)
		return NULL;
	return err_hint(err_new(ERR_DENIED, "its key is %s, but %s is known for %s", fingerprint,
				d->fingerprint, d->name),
		"if the host was installed anew, compare with migratectl identity there and run "
		"migratectl peer add %s again; if not, somebody else answers in its place",
		d->name);
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

static struct err *dial_tls(struct connection *c, struct hello_peer *peer, struct tls **ret)
{
	const struct hello_self self = { c->setup->software, c->setup->boot_id };
	struct deadline d = deadline_in((int64_t)c->setup->handshake_us);
	struct tls *t = NULL;
	struct err *e;

	TRY(tls_handshake(c->tls, dup(c->tcp_fd),
		(struct tls_verify){ verify_dialled, (void *)(uintptr_t)c->dial }, d, &t));
	e = hello_dial(t, &self, d, peer);
	if (e) {
		bool end = err_code(e) == ERR_PEER;

		tls_close(t, deadline_in(0));
		return end ? err_in(e, "agree on the protocol") : e;
	}
	*ret = t;
	return NULL;
}

static struct err *dial(struct connection *c, struct hello_peer *peer, struct tls **ret)
{
	struct address a = { .port = (uint16_t)c->dial->port };
	char text[ADDRESS_BYTES];

	snprintf(a.host, sizeof(a.host), "%s", c->dial->host);
	address_text(&a, text);
	TRY_IN(address_dial(&a, deadline_in((int64_t)c->setup->connect_us), &c->tcp_fd),
		"connect to %s", text);
	TRY_IN(dial_tls(c, peer, ret), "connect to %s", text);
	return NULL;
}

static int dialling(struct connection *c)
{
	struct hello_peer peer;
	struct peer who = { .name = "" };
	struct tls *t = NULL;
	autoerr struct err *e = dial(c, &peer, &t);

	alarm(0);
	if (e) {
		report_connected(c, NULL, NULL, e, NULL);
		return 1;
	}
	snprintf(who.name, sizeof(who.name), "%s", c->dial->name);
	snprintf(who.fingerprint, sizeof(who.fingerprint), "%s", t->peer);
	report_connected(c, &peer, &who, NULL, NULL);
	e = relay(c, t);
	return e ? 1 : 0;
}

static struct err *accept_tls(struct connection *c, struct hello_peer *peer, struct tls **ret)
{
	const struct hello_self self = { c->setup->software, c->setup->boot_id };
	struct deadline d = deadline_in((int64_t)c->setup->handshake_us);
	struct tls *t = NULL;
	struct err *e;

	TRY(tls_handshake(c->tls, dup(c->tcp_fd),
		(struct tls_verify){ verify_accepted, (void *)(uintptr_t)c->peers }, d, &t));
	e = hello_accept(t, &self, d, peer);
	if (e) {
		tls_close(t, deadline_min(d, deadline_in(CLOSE_US)));
		return e;
	}
	*ret = t;
	return NULL;
}

static int accepting(struct connection *c)
{
	autoerr struct err *e = NULL;
	struct hello_peer peer;
	struct tls *t = NULL;
	char address[ADDRESS_BYTES];
	int pair[2];

	address_of_peer(c->tcp_fd, address);
	e = accept_tls(c, &peer, &t);
	alarm(0);
	if (!e && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
		e = err_errno(errno, "make a socket pair");
		tls_freep(&t);
	}
	if (e) {
		autofree char *line = err_line(e);

		/* The one line about a stranger. */
		log_warn("refused from=%s reason=\"%s\"", address, line);
		return 1;
	}
	report_connected(
		c, &peer, peers_by_key(c->peers, t->peer), NULL, (int[]){ pair[1], pair[0] });
	close(pair[1]);
	c->stream_fd = pair[0];
	e = relay(c, t);
	return e ? 1 : 0;
}

int connection_main(struct connection *c)
{
	/* Blocking name service, and a backstop for all that has deadlines of its own. */
	uint64_t limit_us = c->setup->handshake_us + (c->dial ? c->setup->connect_us : 0);

	alarm((unsigned)(limit_us / 1000000) + 2);
	if (c->stream_fd >= 0)
		(void)fcntl(c->stream_fd, F_SETFL, O_NONBLOCK);
	return c->dial ? dialling(c) : accepting(c);
}
