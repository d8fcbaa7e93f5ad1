// SPDX-License-Identifier: Apache-2.0
/*
 * The life of a migration in the monitor: connect (net), worker, outcome.
 *
 * Every migration that a client has an id of ends with exactly one Done, whoever dies: the worker
 * says it; or, if it is gone, the monitor does, from the state that the worker said last (it says a
 * state before it enters it).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "roles/groups.h"
#include "roles/monitor.h"
#include "roles/policy.h"
#include "roles/recover.h"
#include "roles/refuse.h"
#include "roles/settle.h"
#include "roles/subject.h"
#include "roles/take.h"
#include "roles/tell.h"
#include "roles/why.h"
#include "wire/err_wire.h"

const char *move_side(const struct move *v)
{
	return v->receive ? "destination" : "source";
}

/* Tells the peer of an incoming connection that nobody serves it. With kernel TLS that takes time:
 * net does it. What a dead worker wrote last may be cut, a long CHECKED at worst (all else fits a
 * buffer that the peer has emptied before): the peer then reads our frame as the rest of that one,
 * and gets an end without goodbye, or nonsense; either ends the migration before its COMMIT. */
static void refuse(struct monitor *m, int fd, bool kernel_tls, const struct err *e)
{
	autoarena struct arena *a = arena_new();
	Migrate__Refuse r = MIGRATE__REFUSE__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;

	if (!kernel_tls) {
		refuse_relay(fd, e);
		return;
	}
	r.error = err_to_wire(a, e, "destination", "hello");
	ipc.body_case = MIGRATE__IPC__BODY_REFUSE;
	ipc.refuse = &r;
	if (m->net.child)
		child_post(m->net.child, &ipc, &fd, 1);
}

static void post_control(struct monitor *m, const Migrate__Ipc *ipc)
{
	if (m->control.child)
		child_post(m->control.child, ipc, NULL, 0);
}

static void post_progress(struct monitor *m, Migrate__Progress *p)
{
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;

	ipc.body_case = MIGRATE__IPC__BODY_PROGRESS;
	ipc.progress = p;
	post_control(m, &ipc);
}

static void move_free(struct move *v)
{
	struct monitor *m = v->monitor;
	struct move **link = &m->moves;

	while (*link != v)
		link = &(*link)->next;
	*link = v->next;
	m->n_moves--;
	if (v->send)
		migrate__send_request__free_unpacked(v->send, NULL);
	if (v->last)
		migrate__progress__free_unpacked(v->last, NULL);
	joins_fini(v);
	admit_fini(v);
	asker_fini(&v->asker);
	free(v->comm);
	free(v->peer);
	free(v->key);
	fd_closep(&v->stream_fd);
	fd_closep(&v->interrupt_fd);
	err_free(v->lost);
	err_free(v->why);
	free(v);
}

/* Removes it as soon as it is over and none of its processes is left. */
void move_check_end(struct move *v)
{
	struct monitor *m = v->monitor;

	if (!v->over || v->worker || v->hooks || v->dialling)
		return;
	move_free(v);
	groups_tidy(m->groups);
	monitor_check_end(m);
}

static struct move *move_new(struct monitor *m, bool receive)
{
	struct move *v = xcalloc(1, sizeof(*v));

	*v = (struct move){ .next = m->moves,
		.monitor = m,
		.receive = receive,
		.stream_fd = -1,
		.interrupt_fd = -1,
		.began_us = clock_us() };
	m->moves = v;
	m->n_moves++;
	return v;
}

/* ---- outcome ---- */

static void log_done(const struct move *v, const Migrate__Done *d)
{
	autotext struct text reason = { NULL, 0, 0 };

	for (size_t i = 0; d->error && i < d->error->n_texts; i++)
		text_addf(&reason, "%s%s", i ? ": " : "", d->error->texts[i]);
	if (d->error)
		log_warn("done id=%s side=%s pid=%d comm=%s peer=%s outcome=%s error=\"%s\"", v->id,
			move_side(v), d->last->pid, d->last->comm, d->last->peer, d->outcome,
			text_str(&reason));
	else
		log_info("done id=%s side=%s pid=%d comm=%s peer=%s outcome=%s total_ms=%ju "
			 "downtime_ms=%.1f bytes=%ju",
			v->id, move_side(v), d->last->pid, d->last->comm, d->last->peer, d->outcome,
			(uintmax_t)d->last->total_us / 1000, (double)d->last->downtime_us / 1000,
			(uintmax_t)d->last->bytes_sent);
}

void moves_remember(struct monitor *m, const Migrate__Done *d)
{
	Migrate__Done brief = *d;

	brief.n_blockers = brief.n_warnings = 0;
	migrations_done(&m->ended, ipc_copy(&brief.base));
}

static void post_done(struct move *v, Migrate__Done *d)
{
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;

	if (v->over)
		return;
	v->over = true;
	log_done(v, d);
	if (!v->id[0]) /* a peer that never said what it wanted: nobody knows of it */
		return;
	ipc.body_case = MIGRATE__IPC__BODY_DONE;
	ipc.done = d;
	post_control(v->monitor, &ipc);
	moves_remember(v->monitor, d);
}

/* An outcome that no worker says. Takes e. */
static void end_with(struct move *v, const char *outcome, struct err *e)
{
	autoarena struct arena *a = arena_new();
	Migrate__Done d = MIGRATE__DONE__INIT;

	d.last = v->last;
	d.outcome = arena_strdup(a, v->dry_run ? "blocked" : outcome);
	if (e)
		d.error = err_to_wire(a, e, move_side(v), v->last->state);
	post_done(v, &d);
	err_free(e);
	move_check_end(v);
}

/* ---- the worker ---- */

/* What net knows of the connection is the cause of what the worker saw. */
static void add_cause(struct arena *a, const struct move *v, Migrate__Done *d)
{
	Migrate__Error *e;
	size_t more = 0;
	char **texts;

	if (!v->lost || !d->error || d->error->code != ERR_PEER)
		return;
	e = d->error = arena_dup(a, d->error, sizeof(*d->error));
	while (err_text(v->lost, more))
		more++;
	texts = arena_array(a, e->n_texts + more, sizeof(*texts));
	memcpy(texts, e->texts, e->n_texts * sizeof(*texts));
	for (size_t i = 0; i < more; i++)
		texts[e->n_texts++] = arena_strdup(a, err_text(v->lost, i));
	e->texts = texts;
}

static void on_worker_progress(void *arg, struct ipc_msg *msg)
{
	struct move *v = arg;
	Migrate__Progress *p = msg->m->progress;

	if (v->over)
		return;
	snprintf(v->id, sizeof(v->id), "%s", p->id);
	v->pid = p->pid;
	p->asker = v->asker.uid;
	post_progress(v->monitor, p);
	if (v->last)
		migrate__progress__free_unpacked(v->last, NULL);
	v->last = p;
	msg->m->progress = NULL;
	msg->m->body_case = MIGRATE__IPC__BODY__NOT_SET;
}

static void on_worker_done(void *arg, struct ipc_msg *msg)
{
	autoarena struct arena *a = arena_new();
	struct move *v = arg;
	Migrate__Done d = *msg->m->done; /* the message is freed as it came */

	if (!d.last)
		return;
	d.last->asker = v->asker.uid;
	add_cause(a, v, &d);
	/* The peer is asked first. */
	v->doubtful = !v->receive && strcmp(d.outcome, verdict_name(VERDICT_DOUBT)) == 0;
	if (v->doubtful)
		v->why = d.error ? err_from_wire(d.error) : NULL;
	else
		post_done(v, &d);
}

/* Why it is over, if it has not said so itself. */
static struct err *reason(struct move *v, int status)
{
	if (v->doubtful)
		return take(&v->why);
	return err_hint(
		WIFSIGNALED(status)
			? err_new(ERR_BUG, "the worker was ended by signal %d", WTERMSIG(status))
			: err_new(ERR_BUG, "the worker ended with status %d", WEXITSTATUS(status)),
		"the daemon's log may tell more");
}

/* Takes e. */
static void end_as(struct move *v, enum verdict verdict, struct err *e)
{
	if (verdict == VERDICT_KEPT && v->stream_fd >= 0)
		refuse(v->monitor, v->stream_fd, v->kernel_tls, e);
	if (verdict == VERDICT_MOVED && !v->receive) {
		err_free(e);
		e = NULL;
	}
	end_with(v, verdict_name(verdict), e);
}

static void on_scratch_later(evutil_socket_t fd unused_arg, short what unused_arg, void *arg)
{
	const struct monitor *m = arg;

	recover_scratch(m->state.dir);
}

/* A worker that was killed while it made a process leaves a child that has its lock for a moment.
 */
static void clean_scratch(struct monitor *m, int status)
{
	const struct timeval later = { 1, 0 };

	recover_scratch(m->state.dir);
	if (WIFSIGNALED(status))
		event_base_once(m->base, -1, EV_TIMEOUT, on_scratch_later, m, &later);
}

/* What its journal says is made true, also when it has come to its end by itself: should it have
 * failed to undo something, that is tried again. */
static void on_worker_ended(void *arg, int status, bool heard unused_arg)
{
	enum verdict verdict = VERDICT_KEPT;
	struct move *v = arg;
	struct err *e = v->over ? NULL : reason(v, status);

	v->worker = NULL;
	fd_closep(&v->interrupt_fd);
	if (v->id[0] && !v->dry_run)
		settle_move(v, e, &verdict);
	if (v->receive)
		clean_scratch(v->monitor, status);
	if (!v->over && verdict == VERDICT_DOUBT && !v->receive) {
		err_free(e); /* told when the peer has been asked */
		v->over = true;
	}
	if (v->over)
		move_check_end(v);
	else
		end_as(v, verdict, e);
}

static void on_worker_tell(void *arg, struct ipc_msg *msg)
{
	const struct move *v = arg;

	tell_begin(v->monitor, msg->m->tell);
}

static const struct child_ops worker_ops = {
	.by_case = { [MIGRATE__IPC__BODY_TELL] = on_worker_tell,
		[MIGRATE__IPC__BODY_PROGRESS] = on_worker_progress,
		[MIGRATE__IPC__BODY_DONE] = on_worker_done,
		[MIGRATE__IPC__BODY_HOOK_RUN] = move_hook_asked,
		[MIGRATE__IPC__BODY_HOOK_STOP] = move_hook_stop,
		[MIGRATE__IPC__BODY_OPEN] = joins_wanted,
		[MIGRATE__IPC__BODY_RESERVE] = admit_reserve },
	.ended = on_worker_ended,
};

static void post_work(struct move *v, int interrupt)
{
	const struct config *c = &v->monitor->config;
	const struct receive_policy *receive = config_receive(c, v->peer ? v->peer : "");
	autofree char *uids = uid_set_text(&receive->uids);
	autofree char *addresses = ip_set_text(&receive->addresses);
	Migrate__Work work = MIGRATE__WORK__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	char none[] = "";

	work.id = v->id;
	work.receive = v->receive;
	work.peer = v->peer ? v->peer : none;
	work.boot_id = v->monitor->boot_id;
	work.peer_boot_id = v->peer_boot_id;
	work.peer_key = v->key ? v->key : none;
	work.peer_host = v->to.host;
	work.peer_port = v->to.port;
	work.local_ip = v->local_ip;
	work.kernel_tls = v->kernel_tls;
	work.send = v->send;
	work.start_time = v->start_time;
	work.comm = v->comm ? v->comm : none;
	work.asker = v->asker.uid;
	work.asker_gid = v->asker.gid;
	work.asker_groups = v->asker.groups;
	work.n_asker_groups = v->asker.n_groups;
	work.users_own = c->allow_users_own;
	work.max_memory = receive->max_memory;
	work.max_processes = receive->max_processes;
	work.allow_uids = uids;
	work.allow_addresses = addresses;
	work.allow_capabilities = receive->allow_capabilities;
	work.state_dir = v->monitor->state.dir;
	work.cgroup_dir = c->cgroup_dir ? c->cgroup_dir : none;
	work.hooks_dir = c->hooks_dir;
	work.hook_limit_us = (uint64_t)c->hook_limit_us;
	work.tracker = (char *)(uintptr_t)c->tracker;
	work.pages = (char *)(uintptr_t)c->pages;
	work.sink = (char *)(uintptr_t)c->sink;
	work.spent_us = (uint64_t)(clock_us() - v->began_us);
	work.frozen_us = (uint64_t)c->frozen_us;
	ipc.body_case = MIGRATE__IPC__BODY_WORK;
	ipc.work = &work;
	child_post(v->worker, &ipc, (int[]){ interrupt, v->stream_fd }, v->stream_fd >= 0 ? 2 : 1);
}

/* The interrupt is a socket: our death is an end of file, which is readable, so it cancels too. */
static struct err *start_worker(struct move *v)
{
	autoclose int theirs = -1;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return err_errno(errno, "make a socket pair");
	v->interrupt_fd = pair[0];
	theirs = pair[1];
	TRY(child_start(v->monitor->base,
		(struct child_spec){ ROLE_WORKER, monitor_debug(v->monitor), &worker_ops }, v,
		&v->worker));
	post_work(v, theirs);
	/* An incoming stream is kept, so that the peer can be told if the worker dies. */
	if (!v->receive)
		fd_closep(&v->stream_fd);
	return NULL;
}

/* ---- sending ---- */

static void new_id(char id[MOVE_ID_BYTES])
{
	static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
	uint8_t bytes[10];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		abort();
	for (size_t i = 0; i < sizeof(bytes); i++)
		id[i] = digits[bytes[i] % 32];
	id[sizeof(bytes)] = 0;
}

/* Until the worker speaks: so that status shows it, and an early end has numbers to show. */
static void first_progress(struct move *v)
{
	Migrate__Progress *p = xcalloc(1, sizeof(*p));

	migrate__progress__init(p);
	p->id = xstrdup(v->id);
	p->side = xstrdup(move_side(v));
	p->state = xstrdup("connect");
	p->owner = xstrdup("source");
	p->pid = v->pid;
	p->comm = xstrdup(v->comm ? v->comm : "");
	p->asker = v->asker.uid;
	p->peer = xstrdup(v->peer ? v->peer : "");
	v->last = p;
}

/* Its worker only waits for the source's last word. */
static bool runs_here(const struct move *v)
{
	return v->last && strcmp(v->last->state, "running") == 0;
}

static struct err *check_room(struct monitor *m, const struct subject *s)
{
	const char *held = s ? settle_holds(m, s->pid) : NULL;

	if (held)
		return err_hint(
			err_new(ERR_LIMIT, "%d (%s) stands still: its migration %s is in doubt",
				s->pid, s->comm, held),
			"migratectl status %s tells what is known", held);
	for (const struct move *v = m->moves; v; v = v->next)
		if (v->receive && !v->over && v->pid == s->pid && !runs_here(v))
			return err_hint(err_new(ERR_LIMIT, "%d (%s) is on its way here from %s",
						s->pid, v->last ? v->last->comm : s->comm,
						v->peer ? v->peer : "another host"),
				"migratectl watch %s follows it", v->id);
		else if (!v->receive && !v->over && v->pid == s->pid)
			return err_hint(err_new(ERR_LIMIT, "%d (%s) is being moved already", s->pid,
						s->comm),
				"migratectl watch %s follows it", v->id);
	return admit_room(m, NULL);
}

/* A pair for the stream: ours goes to the worker, the other one to net. */
struct err *move_dial(struct move *v, uint32_t join, int *stream_fd)
{
	const struct peer *peer = peers_by_name(&v->monitor->state.peers, v->peer);
	Migrate__Dial dial = MIGRATE__DIAL__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	char *keys[PEER_KEYS_MAX];
	autoclose int theirs = -1;
	int pair[2];

	if (!peer)
		return why_err(WHY_REVOKED, v->peer, move_side(v));
	for (size_t i = 0; i < peer->n_keys; i++)
		keys[i] = (char *)(uintptr_t)peer->keys[i];
	if (!v->monitor->net.child)
		return err_new(ERR_BUG, "the net role is not running");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(errno, "make a socket pair");
	*stream_fd = pair[0];
	theirs = pair[1];
	dial.id = v->id;
	dial.host = v->to.host;
	dial.port = v->to.port;
	dial.fingerprints = keys;
	dial.n_fingerprints = peer->n_keys;
	dial.name = v->peer;
	dial.join = join;
	dial.limit_us = join ? 0 : v->send->timeout_us;
	dial.token.data = v->joins.token;
	dial.token.len = join ? JOIN_TOKEN_BYTES : 0;
	ipc.body_case = MIGRATE__IPC__BODY_DIAL;
	ipc.dial = &dial;
	child_post(v->monitor->net.child, &ipc, &theirs, 1);
	return NULL;
}

static struct err *check_request(const Migrate__SendRequest *r)
{
	struct taking unused;

	if (r->unit_policy[0] && strcmp(r->unit_policy, "stop") != 0 &&
		strcmp(r->unit_policy, "refuse") != 0)
		return err_new(ERR_INVALID, "--unit is stop or refuse, not \"%s\"", r->unit_policy);
	if (r->accept_queue[0] && strcmp(r->accept_queue, "refuse") != 0 &&
		strcmp(r->accept_queue, "reset") != 0)
		return err_new(ERR_INVALID, "--accept-queue is refuse or reset, not \"%s\"",
			r->accept_queue);
	TRY(taking_parse(r->take_address, &unused));
	if (r->downtime_us > INT64_MAX || r->timeout_us > INT64_MAX)
		return err_new(ERR_INVALID, "a time that is too long");
	return NULL;
}

static struct move *new_send(struct monitor *m, const struct asker *who, const struct subject *s,
	const struct peer *peer, const Migrate__SendRequest *r)
{
	struct move *v = move_new(m, false);

	new_id(v->id);
	v->dry_run = r->dry_run;
	v->asker = asker_copy(who);
	v->pid = s->pid;
	v->start_time = s->start_time;
	v->comm = xstrdup(s->comm);
	v->peer = peer ? xstrdup(peer->name) : NULL;
	v->send = ipc_copy(&r->base);
	first_progress(v);
	return v;
}

struct err *move_begin_send(
	struct monitor *m, const struct asker *who, const Migrate__SendRequest *r, const char **id)
{
	AUTO(subject_fini) struct subject s = { .pid = 0 };
	const struct peer *peer = NULL;
	struct address to = { .port = 0 };
	struct move *v;
	struct err *e;

	TRY(check_request(r));
	TRY(subject_read(r->pid, &s));
	TRY(policy_send(who, m->config.allow_users_own, &s));
	if (r->host[0])
		TRY(peers_find(&m->state.peers, r->host, &peer, &to));
	TRY(check_room(m, &s));
	v = new_send(m, who, &s, peer, r);
	v->to = to;
	e = peer ? move_dial(v, 0, &v->stream_fd) : start_worker(v);
	v->dialling = peer && !e;
	if (e) {
		move_free(v);
		return e;
	}
	*id = v->id;
	return NULL;
}

/* ---- net ---- */

struct move *move_find(struct monitor *m, const char *id, bool receive)
{
	for (struct move *v = m->moves; v; v = v->next)
		if (!v->over && v->receive == receive && id[0] && strcmp(v->id, id) == 0)
			return v;
	return NULL;
}

static const char *carrier(bool kernel_tls)
{
	return kernel_tls ? "ktls" : "relay";
}

static void dialled(struct monitor *m, struct ipc_msg *msg)
{
	const Migrate__Connected *c = msg->m->connected;
	struct move *v = m->moves;
	struct err *e;

	while (v && !(v->dialling && strcmp(v->id, c->id) == 0))
		v = v->next;
	if (!v)
		return;
	v->dialling = false;
	v->connection = c->connection;
	if (v->over) { /* cancelled meanwhile */
		move_check_end(v);
		return;
	}
	if (c->error) {
		end_with(v, "kept", err_from_wire(c->error));
		return;
	}
	joins_allow(v, &c->token);
	snprintf(v->peer_boot_id, sizeof(v->peer_boot_id), "%s", c->boot_id);
	snprintf(v->local_ip, sizeof(v->local_ip), "%s", c->local_ip);
	v->key = xstrdup(c->fingerprint);
	v->kernel_tls = c->kernel_tls && msg->n_fds == 1;
	if (v->kernel_tls) {
		fd_closep(&v->stream_fd);
		v->stream_fd = take_fd(&msg->fds[0]);
	}
	log_info("connected id=%s peer=%s address=%s software=\"%s\" stream=%s", v->id, v->peer,
		c->address, c->software, carrier(v->kernel_tls));
	e = start_worker(v);
	if (e)
		end_with(v, "kept", e);
}

static void accepted(struct monitor *m, struct ipc_msg *msg)
{
	const Migrate__Connected *c = msg->m->connected;
	struct move *v;
	struct err *e;

	if (msg->n_fds != 1) {
		log_warn("accepted peer=%s error=\"no room for the connection\"", c->name);
		return;
	}
	log_info("accepted peer=%s address=%s software=\"%s\" stream=%s", c->name, c->address,
		c->software, carrier(c->kernel_tls));
	settle_poke(m, c->name);
	e = m->ending ? err_new(ERR_CANCELLED, "migrated is ending there") : admit_connection(m, c);
	if (e) {
		refuse(m, msg->fds[0], c->kernel_tls, e);
		err_free(e);
		return;
	}
	v = move_new(m, true);
	v->peer = xstrdup(c->name);
	v->key = xstrdup(c->fingerprint);
	joins_allow(v, &c->token);
	snprintf(v->peer_boot_id, sizeof(v->peer_boot_id), "%s", c->boot_id);
	v->connection = c->connection;
	v->kernel_tls = c->kernel_tls;
	v->stream_fd = take_fd(&msg->fds[0]);
	first_progress(v);
	admit_watch(v);
	e = start_worker(v);
	if (e) {
		refuse(m, v->stream_fd, v->kernel_tls, e);
		end_with(v, "kept", e);
	}
}

void monitor_connected(void *arg, struct ipc_msg *msg)
{
	struct service *net = arg;

	if (!msg->m->connected->error)
		monitor_seen(net->monitor, msg->m->connected);
	if (msg->m->connected->asked)
		settle_answered(net->monitor, msg->m->connected);
	else if (msg->m->connected->join)
		joins_connected(net->monitor, msg);
	else if (msg->m->connected->id[0])
		dialled(net->monitor, msg);
	else
		accepted(net->monitor, msg);
}

void monitor_lost(void *arg, struct ipc_msg *msg)
{
	struct service *net = arg;
	const Migrate__Lost *lost = msg->m->lost;

	for (struct move *v = net->monitor->moves; v; v = v->next)
		if (lost->error && !v->lost &&
			(v->connection == lost->connection || joins_has(v, lost->connection)))
			v->lost = err_from_wire(lost->error);
}

void moves_net_died(struct monitor *m)
{
	settle_net_died(m);
	for (struct move *v = m->moves, *next; v; v = next) {
		next = v->next;
		v->connection = 0; /* a new net counts anew */
		joins_net_died(v);
		if (!v->dialling)
			continue;
		v->dialling = false;
		if (v->over)
			move_check_end(v);
		else
			end_with(v, "kept", err_new(ERR_BUG, "the net role ended"));
	}
}

/* ---- cancel ---- */

void move_end(struct move *v, char why)
{
	Migrate__Drop drop = MIGRATE__DROP__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;

	if (v->cancelled || v->over)
		return;
	v->cancelled = true;
	log_info("cancel id=%s side=%s why=%c", v->id, move_side(v), why);
	if (v->worker) {
		(void)send(v->interrupt_fd, &why, 1, MSG_NOSIGNAL);
		return;
	}
	drop.id = v->id;
	ipc.body_case = MIGRATE__IPC__BODY_DROP;
	ipc.drop = &drop;
	if (v->monitor->net.child)
		child_post(v->monitor->net.child, &ipc, NULL, 0);
	end_with(v, "kept",
		err_in(why_err(why, v->peer ? v->peer : "", move_side(v)),
			"ended while connecting"));
}

struct err *move_cancel(struct monitor *m, uint32_t who, const char *id)
{
	struct move *out = move_find(m, id, false), *in = move_find(m, id, true);

	if (!out && !in)
		return err_hint(err_new(ERR_INVALID, "no migration %s goes on here", id),
			"migratectl list shows all of them");
	TRY(policy_may(MAY_CANCEL, who, out ? out->asker.uid : 0));
	move_end(out ? out : in, WHY_ASKED);
	return NULL;
}

void monitor_client_left(void *arg, struct ipc_msg *msg)
{
	struct service *control = arg;
	struct move *v = move_find(control->monitor, msg->m->left->id, false);

	if (v)
		move_end(v, WHY_ASKED);
}

void moves_cancel_all(struct monitor *m)
{
	for (struct move *v = m->moves, *next; v; v = next) {
		next = v->next;
		move_end(v, WHY_ENDING);
	}
}

void moves_tell(struct monitor *m, const char *id)
{
	for (struct move *v = m->moves; v; v = v->next)
		if (!v->over && v->id[0] && (!id || strcmp(id, v->id) == 0))
			post_progress(m, v->last);
	settle_tell(m, id);
}

void moves_tell_ended(struct monitor *m)
{
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;

	ipc.body_case = MIGRATE__IPC__BODY_DONE;
	for (const struct migration *e = m->ended.first; e; e = e->next) {
		ipc.done = e->done;
		post_control(m, &ipc);
	}
}

void moves_fini(struct monitor *m)
{
	while (m->moves) {
		child_free(m->moves->worker);
		move_hooks_fini(m->moves);
		move_free(m->moves);
	}
}
