// SPDX-License-Identifier: Apache-2.0
/*
 * The net role: an unprivileged parent that listens and forks a child for every connection that
 * says something. The parent never reads a byte from the network. Strangers can use at most
 * DOORS_MAX descriptors and UNKNOWN_MAX children at a time, each for the handshake's time limit;
 * whoever comes beyond that takes the place of another one (session/admission.h), so that those who
 * only wait do not keep others out. What is accepted at once is little work, so that nobody waits
 * in the listen queue.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/forked.h"
#include "base/io.h"
#include "base/log.h"
#include "roles/audit.h"
#include "roles/connection.h"
#include "roles/doors.h"
#include "roles/ipc.h"
#include "roles/names.h"
#include "roles/rates.h"
#include "roles/role.h"
#include "session/admission.h"
#include "wire/err_wire.h"

#define DOORS_MAX          256
#define DOORS_PER_SOURCE   192
#define ACCEPT_AT_ONCE     16
#define STAY_US            1000000
#define UNKNOWN_MAX        160
#define UNKNOWN_PER_SOURCE 96 /* more than 64 migrations that begin at once */
#define CONNECTIONS_MAX    512
#define RETRY_MS           200 /* after accept ran out of descriptors */
#define KEY_MAX            4096
/* Lines in the log about strangers: more would fill a disk at their pleasure. */
#define LINES_BURST      50
#define LINES_PER_MINUTE 60

/* Of events; libevent gives all others the one in the middle. */
enum { PRIORITIES = 3, PRIORITY_NEW = 2 };

struct net;

struct child {
	struct child *next;
	struct net *net;
	pid_t pid;
	struct ipc *ipc;
	char *id;      /* dialled for this migration; NULL: accepted */
	uint32_t join; /* dialled: as in Dial */
	bool ask;      /* dialled: as in Dial */
	uint64_t number;
	int64_t began_us;
	bool connected;
	bool stranger; /* is in the list of those */
	bool loud;     /* may write a line about itself */
	struct waiting waiting;
};

struct net {
	struct event_base *base;
	struct ipc *monitor;
	Migrate__NetSetup *setup; /* part of setup_msg */
	struct ipc_msg setup_msg;
	struct event *listeners[IPC_FDS_MAX];
	size_t n_listeners;
	struct event *retry;
	struct tls_ctx dial, dial_next,
		accept; /* dial_next: with the key that follows; or nothing */
	struct identity *identity, *next;
	struct peers peers;
	struct child *children;
	size_t n_children;
	struct doors doors;
	struct admission strangers;
	struct bucket lines;
	size_t silenced; /* since the last line */
	bool paused;
	uint64_t last_number;
	int status;
};

/* ---- children ---- */

static int compare_ints(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* A child keeps stdio and these. @calls net: close_range */
static void close_all_but(int *keep, size_t n)
{
	unsigned from = STDERR_FILENO + 1;

	qsort(keep, n, sizeof(*keep), compare_ints);
	for (size_t i = 0; i < n; i++) {
		if (keep[i] < (int)from)
			continue;
		if ((unsigned)keep[i] > from)
			(void)syscall(SYS_close_range, from, (unsigned)keep[i] - 1, 0);
		from = (unsigned)keep[i] + 1;
	}
	(void)syscall(SYS_close_range, from, ~0U, 0);
}

static void listen_more(struct net *n, bool on)
{
	if (n->paused == !on)
		return;
	n->paused = !on;
	for (size_t i = 0; i < n->n_listeners; i++) {
		if (on)
			event_add(n->listeners[i], NULL);
		else
			event_del(n->listeners[i]);
	}
}

static void listen_if_room(struct net *n)
{
	listen_more(n, n->n_children < CONNECTIONS_MAX);
}

/* It has said who it is; a line about it was not needed. */
static void no_stranger(struct child *c)
{
	if (!c->stranger)
		return;
	c->stranger = false;
	admission_remove(&c->net->strangers, &c->waiting);
}

/* What a dial was for. */
struct dialled {
	const char *id;
	uint32_t join;
	bool ask;
};

static void post_failed_dial(struct net *n, const struct dialled *d, const struct err *e)
{
	autoarena struct arena *a = arena_new();
	Migrate__Connected m = MIGRATE__CONNECTED__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;

	m.id = arena_strdup(a, d->id);
	m.join = d->join;
	m.asked = d->ask;
	m.error = err_to_wire(a, e, "source", "hello");
	ipc.body_case = MIGRATE__IPC__BODY_CONNECTED;
	ipc.connected = &m;
	ipc_post(n->monitor, &ipc, NULL, 0);
}

static void on_child_connected(void *arg, struct ipc *from unused_arg, struct ipc_msg *msg)
{
	struct child *c = arg;

	no_stranger(c);
	if (c->loud)
		bucket_give_back(&c->net->lines, LINES_PER_MINUTE);
	c->loud = false;
	c->connected = true;
	msg->m->connected->connection = c->number;
	ipc_post(c->net->monitor, msg->m, msg->fds, msg->n_fds);
	listen_if_room(c->net);
}

/* It waits for the answer before it says HELLO_OK. */
static void on_child_asks(void *arg, struct ipc *from unused_arg, struct ipc_msg *msg)
{
	struct child *c = arg;

	msg->m->join_ask->connection = c->number;
	ipc_post(c->net->monitor, msg->m, NULL, 0);
}

static void on_child_asks_fate(void *arg, struct ipc *from unused_arg, struct ipc_msg *msg)
{
	struct child *c = arg;

	msg->m->fate_ask->connection = c->number;
	ipc_post(c->net->monitor, msg->m, NULL, 0);
}

static void on_child_lost(void *arg, struct ipc *from unused_arg, struct ipc_msg *msg)
{
	struct child *c = arg;

	msg->m->lost->connection = c->number;
	ipc_post(c->net->monitor, msg->m, NULL, 0);
}

static void child_remove(struct child *c)
{
	struct child **link = &c->net->children;

	no_stranger(c);
	c->net->n_children--;
	while (*link != c)
		link = &(*link)->next;
	*link = c->next;
	ipc_free(c->ipc);
	free(c->id);
	free(c);
}

/* @calls net: wait4 */
/* Its end of the pair closes when it ends, so the wait is short. With kernel TLS it ends as soon as
 * it is connected. */
static void on_child_ended(void *arg, struct ipc *from unused_arg)
{
	struct child *c = arg;
	struct net *n = c->net;
	int status = 0;

	while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGALRM && WTERMSIG(status) != SIGKILL)
		log_error("connection ended by signal %d", WTERMSIG(status));
	if (c->id && !c->connected) {
		autoerr struct err *e =
			WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM
				? err_new(ERR_TIMEOUT, "no connection in time: the name service or "
						       "the host does not answer")
				: err_new(ERR_BUG, "the connecting process ended (status %#x)",
					  status);

		post_failed_dial(n, &(struct dialled){ c->id, c->join, c->ask }, e);
	}
	child_remove(c);
	listen_if_room(n);
}

static const struct ipc_handlers child_handlers = {
	.by_case = { [MIGRATE__IPC__BODY_CONNECTED] = on_child_connected,
		[MIGRATE__IPC__BODY_JOIN_ASK] = on_child_asks,
		[MIGRATE__IPC__BODY_FATE_ASK] = on_child_asks_fate,
		[MIGRATE__IPC__BODY_LOST] = on_child_lost },
	.closed = on_child_ended,
};

/* What a child is for. */
struct task {
	int fd;                    /* accepted, or the stream to relay; borrowed */
	const Migrate__Dial *dial; /* NULL: accepted */
	/* Why nobody serves it: fd is the kernel's TLS. NULL: somebody may. */
	const Migrate__Error *refuse;
	const struct in6_addr *from; /* accepted: a stranger; where it comes from */
	bool loud;
};

static int child_main(struct net *n, const struct task *t, int report)
{
	struct connection conn = {
		.report_fd = report,
		.tcp_fd = t->dial ? -1 : t->fd,
		.stream_fd = t->dial ? t->fd : -1,
		.dial = t->dial,
		.setup = n->setup,
		.tls = t->dial ? &n->dial : &n->accept,
		.tls_next = n->dial_next.ctx ? &n->dial_next : NULL,
		.peers = &n->peers,
		.loud = t->loud,
	};

	close_all_but((int[]){ report, t->fd, t->dial ? NAMES_FD : report }, 3);
	return t->refuse ? connection_refuse(t->fd, t->refuse) : connection_main(&conn);
}

/* @calls net: clone[0=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD] close */
static struct err *start_child(struct net *n, const struct task *t)
{
	autoclose int ours = -1, theirs = -1;
	struct child *c;
	int pair[2];
	pid_t pid;

	if (n->n_children >= CONNECTIONS_MAX)
		return err_new(ERR_LIMIT, "%d connections are open already", CONNECTIONS_MAX);
	TRY(ipc_pair(pair));
	ours = pair[0];
	theirs = pair[1];
	pid = fork();
	if (pid < 0)
		return err_errno(errno, "start a process for the connection");
	if (pid == 0)
		fork_exit(child_main(n, t, theirs));
	c = xcalloc(1, sizeof(*c));
	*c = (struct child){ .next = n->children, .net = n, .pid = pid, .loud = t->loud };
	c->began_us = clock_us();
	c->id = t->dial ? xstrdup(t->dial->id) : NULL;
	c->join = t->dial ? t->dial->join : 0;
	c->ask = t->dial && t->dial->ask;
	c->connected = t->refuse; /* no stranger: its HELLO is over */
	c->number = ++n->last_number;
	c->ipc = ipc_new(n->base, take_fd(&ours), &child_handlers, c);
	n->children = c;
	n->n_children++;
	if (t->from) {
		c->stranger = true;
		c->waiting.source = *t->from;
		admission_add(&n->strangers, &c->waiting);
	}
	return NULL;
}

/* ---- listening ---- */

static void on_retry(evutil_socket_t fd unused_arg, short what unused_arg, void *arg)
{
	listen_if_room(arg);
}

static struct child *child_of(struct waiting *w)
{
	return (struct child *)(void *)((char *)w - offsetof(struct child, waiting));
}

/* It is none of ours to wait for any more; the process ends at once. */
static void evict(struct waiting *w)
{
	if (!w)
		return;
	no_stranger(child_of(w));
	kill(child_of(w)->pid, SIGKILL); /* our child, not yet waited for */
}

/* Whether the next stranger may have a line in the log. */
static bool take_line(struct net *n)
{
	if (!bucket_take(&n->lines, LINES_BURST, LINES_PER_MINUTE, clock_us(), NULL)) {
		n->silenced++;
		return false;
	}
	if (n->silenced)
		log_warn("strangers without-a-line=%zu", n->silenced);
	n->silenced = 0;
	return true;
}

static void accept_failed(struct net *n, int no)
{
	const struct timeval soon = { 0, RETRY_MS * 1000 };

	if (no != EMFILE && no != ENFILE && no != ENOMEM && no != ENOBUFS)
		return; /* the stranger has gone again */
	if (doors_drop(&n->doors))
		return; /* there is one now */
	log_warn("accept error=\"%s\"", strerror(no));
	listen_more(n, false);
	event_add(n->retry, &soon);
}

/* Whoever has a process has some time to say who it is, whatever else comes from there. For another
 * source there is room at once. */
static bool too_early(const struct waiting *victim, const struct in6_addr *source)
{
	return memcmp(&victim->source, source, sizeof(*source)) == 0 &&
	       clock_us() - child_of((struct waiting *)(uintptr_t)victim)->began_us < STAY_US;
}

static bool on_knocked(void *arg, int stranger, const struct in6_addr *source)
{
	struct net *n = arg;
	struct waiting *victim = admission_victim(&n->strangers, source);
	autoclose int fd = -1;
	bool loud;
	autoerr struct err *e = NULL;

	if ((victim && too_early(victim, source)) || n->n_children >= CONNECTIONS_MAX)
		return false;
	evict(victim);
	fd = stranger;
	loud = take_line(n);
	e = start_child(n, &(struct task){ .fd = fd, .from = source, .loud = loud });
	if (e) {
		autofree char *line = err_line(e);

		if (loud)
			log_warn("accept error=\"%s\"", line);
		if ((err_sysno(e) == EMFILE || err_sysno(e) == ENFILE) && doors_drop(&n->doors)) {
			(void)take_fd(&fd);
			return false; /* there may be enough the next time */
		}
	}
	listen_if_room(n);
	return true;
}

static void on_silent(void *arg, int fd)
{
	autoerr struct err *e = err_new(ERR_TIMEOUT, "it connected, then said nothing");
	char address[ADDRESS_BYTES];

	if (!take_line(arg))
		return;
	address_of_peer(fd, address);
	audit(&(struct audit){ .what = "connect", .from = address, .denied = e });
}

static void on_dropped(void *arg)
{
	struct net *n = arg;

	n->silenced++;
}

/* @calls net: accept4 */
static void on_accept(evutil_socket_t listener, short what unused_arg, void *arg)
{
	struct net *n = arg;

	for (int i = 0; i < ACCEPT_AT_ONCE && !n->paused; i++) {
		struct sockaddr_storage ss = { .ss_family = AF_UNSPEC };
		socklen_t len = sizeof(ss);
		int fd = accept4(
			listener, (struct sockaddr *)&ss, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct in6_addr source = admission_source(&ss);

		if (fd < 0) {
			accept_failed(n, errno);
			return;
		}
		doors_open(&n->doors, fd, &source);
	}
}

/* ---- the monitor ---- */

static void fatal(struct net *n, const struct err *e)
{
	autofree char *line = err_line(e);

	log_error("end error=\"%s\"", line);
	n->status = 1;
	event_base_loopbreak(n->base);
}

/* No copy of the text stays. @calls net: pread64 */
static struct err *read_key(int fd, struct identity **ret)
{
	char pem[KEY_MAX];
	ssize_t len = pread(fd, pem, sizeof(pem), 0);
	struct err *e = len < 0 ? err_errno(errno, "read the private key")
				: identity_from_pem(pem, (size_t)len, ret);

	explicit_bzero(pem, sizeof(pem));
	return e;
}

static void forget_keys(struct net *n)
{
	identity_freep(&n->identity);
	identity_freep(&n->next);
	tls_ctx_fini(&n->dial);
	tls_ctx_fini(&n->dial_next);
	tls_ctx_fini(&n->accept);
}

/* Children have copies of what they use. */
static struct err *use_keys(struct net *n, const struct ipc_msg *msg)
{
	if (!msg->n_fds || msg->n_fds > 2)
		return err_new(ERR_BUG, "%zu keys", msg->n_fds);
	forget_keys(n);
	TRY(read_key(msg->fds[0], &n->identity));
	TRY(tls_ctx_init(&n->dial, n->identity, TLS_DIAL));
	TRY(tls_ctx_init(&n->accept, n->identity, TLS_ACCEPT));
	if (msg->n_fds == 1)
		return NULL;
	TRY(read_key(msg->fds[1], &n->next));
	n->accept.other = n->next;
	return tls_ctx_init(&n->dial_next, n->next, TLS_DIAL);
}

static struct err *set_up(struct net *n, struct ipc_msg *msg)
{
	if (n->setup || !n->identity)
		return err_new(ERR_BUG, "set up twice, or without keys");
	for (size_t i = 0; i < msg->n_fds; i++) {
		struct event *ev = event_new(
			n->base, take_fd(&msg->fds[i]), EV_READ | EV_PERSIST, on_accept, n);

		if (!ev)
			return err_new(ERR_BUG, "no event for a listener");
		/* What is there already comes before what is new. */
		event_priority_set(ev, PRIORITY_NEW);
		n->listeners[n->n_listeners++] = ev;
		event_add(ev, NULL);
	}
	n->setup_msg = *msg; /* lives as long as the role */
	n->setup = n->setup_msg.m->net_setup;
	n->doors.limit_us = (int64_t)n->setup->handshake_us;
	*msg = (struct ipc_msg){ .m = NULL };
	return NULL;
}

static void on_keys(void *arg, struct ipc *from unused_arg, struct ipc_msg *msg)
{
	struct net *n = arg;
	autoerr struct err *e = use_keys(n, msg);

	if (e)
		fatal(n, e);
}

static void on_setup(void *arg, struct ipc *from, struct ipc_msg *msg)
{
	struct net *n = arg;
	Migrate__Ipc ready = MIGRATE__IPC__INIT;
	Migrate__RoleReady empty = MIGRATE__ROLE_READY__INIT;
	autoerr struct err *e = set_up(n, msg);

	if (e) {
		fatal(n, e);
		return;
	}
	ready.body_case = MIGRATE__IPC__BODY_READY;
	ready.ready = &empty;
	ipc_post(from, &ready, NULL, 0);
}

static void on_peers(void *arg, struct ipc *from unused_arg, struct ipc_msg *msg)
{
	struct net *n = arg;
	autoarena struct arena *a = arena_new();
	autoerr struct err *e = NULL;
	char *text;

	if (msg->n_fds == 1)
		e = io_read_fd(a, msg->fds[0], PEERS_TEXT_MAX, "list of peers", &text);
	else
		e = err_new(ERR_BUG, "no list of peers");
	if (!e)
		e = peers_parse(&n->peers, text);
	if (e)
		fatal(n, e);
}

static void on_dial(void *arg, struct ipc *from unused_arg, struct ipc_msg *msg)
{
	struct net *n = arg;
	const Migrate__Dial *d = msg->m->dial;
	const struct task t = { .fd = msg->n_fds ? msg->fds[0] : -1, .dial = d };
	autoerr struct err *e = msg->n_fds == !d->ask && n->setup
					? start_child(n, &t)
					: err_new(ERR_BUG, "dial without a stream");

	if (e)
		post_failed_dial(n, &(struct dialled){ d->id, d->join, d->ask }, e);
}

/* Without room for one more process, the peer sees that it is closed. */
static void on_refuse(void *arg, struct ipc *from unused_arg, struct ipc_msg *msg)
{
	struct net *n = arg;
	autoerr struct err *e = NULL;

	if (msg->n_fds == 1 && msg->m->refuse->error && n->setup)
		e = start_child(
			n, &(struct task){ .fd = msg->fds[0], .refuse = msg->m->refuse->error });
	if (e) {
		autofree char *line = err_line(e);

		log_warn("refuse error=\"%s\"", line);
	}
}

/* @calls net: kill[1=SIGKILL] */
static void on_drop(void *arg, struct ipc *from unused_arg, struct ipc_msg *msg)
{
	struct net *n = arg;

	const Migrate__Drop *d = msg->m->drop;

	for (struct child *c = n->children; c; c = c->next)
		if (c->id && !c->connected && !c->ask && c->join == d->join &&
			strcmp(c->id, d->id) == 0)
			kill(c->pid, SIGKILL); /* our child, not yet waited for */
}

static void pass_to_child(struct net *n, uint64_t connection, const struct ipc_msg *msg)
{
	for (struct child *c = n->children; c; c = c->next)
		if (c->number == connection)
			ipc_post(c->ipc, msg->m, NULL, 0);
}

static void on_join_answer(void *arg, struct ipc *from unused_arg, struct ipc_msg *msg)
{
	pass_to_child(arg, msg->m->join_answer->connection, msg);
}

static void on_fate_answer(void *arg, struct ipc *from unused_arg, struct ipc_msg *msg)
{
	pass_to_child(arg, msg->m->fate_answer->connection, msg);
}

/* Who was refused and does not go must not take the place of others for long. */
static void on_unwanted(void *arg, struct ipc *from unused_arg, struct ipc_msg *msg)
{
	struct net *n = arg;

	for (struct child *c = n->children; c; c = c->next) {
		if (c->number != msg->m->unwanted->connection || c->id || c->stranger)
			continue;
		evict(admission_victim(&n->strangers, &c->waiting.source));
		c->stranger = true;
		admission_add(&n->strangers, &c->waiting);
	}
}

/* Without the monitor there is nothing to do; children serve their streams to the end. */
static void on_monitor_gone(void *arg, struct ipc *from unused_arg)
{
	event_base_loopbreak(((struct net *)arg)->base);
}

static const struct ipc_handlers monitor_handlers = {
	.by_case = { [MIGRATE__IPC__BODY_NET_SETUP] = on_setup,
		[MIGRATE__IPC__BODY_PEERS] = on_peers,
		[MIGRATE__IPC__BODY_DIAL] = on_dial,
		[MIGRATE__IPC__BODY_DROP] = on_drop,
		[MIGRATE__IPC__BODY_JOIN_ANSWER] = on_join_answer,
		[MIGRATE__IPC__BODY_FATE_ANSWER] = on_fate_answer,
		[MIGRATE__IPC__BODY_REFUSE] = on_refuse,
		[MIGRATE__IPC__BODY_KEYS] = on_keys,
		[MIGRATE__IPC__BODY_UNWANTED] = on_unwanted },
	.closed = on_monitor_gone,
};

/* @calls net: close munlock munmap */
/* Streams are served to the end by processes of their own. */
static void net_fini(struct net *n)
{
	while (n->children)
		child_remove(n->children);
	doors_fini(&n->doors);
	for (size_t i = 0; i < n->n_listeners; i++) {
		close(event_get_fd(n->listeners[i]));
		event_free(n->listeners[i]);
	}
	event_free(n->retry);
	ipc_free(n->monitor);
	forget_keys(n);
	peers_fini(&n->peers);
	ipc_msg_fini(&n->setup_msg);
	event_base_free(n->base);
}

/* @calls net: +base +libevent +openssl */
int net_main(void)
{
	struct net n = { .base = event_base_new() };

	if (!n.base || event_base_priority_init(n.base, PRIORITIES) < 0)
		return 1;
	n.doors = (struct doors){ .base = n.base,
		.priority = PRIORITY_NEW,
		.arg = &n,
		.knocked = on_knocked,
		.silent = on_silent,
		.dropped = on_dropped };
	doors_init(&n.doors, DOORS_MAX, DOORS_PER_SOURCE);
	admission_init(&n.strangers, UNKNOWN_MAX, UNKNOWN_PER_SOURCE);
	n.retry = evtimer_new(n.base, on_retry, &n);
	n.monitor = ipc_new(n.base, IPC_FD, &monitor_handlers, &n);
	event_base_dispatch(n.base);
	net_fini(&n);
	return n.status;
}
