// SPDX-License-Identifier: Apache-2.0
/*
 * The life of what a worker has left. A doubt is tried again and again: to get at its journal (a
 * worker of the daemon before us may still be at it), to do what is to be done here, to ask the
 * peer.
 */
#include "roles/settle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "kernel/freezer.h"
#include "roles/hooks.h"
#include "roles/policy.h"
#include "roles/recover.h"
#include "wire/err_wire.h"

/* To take back what was given up; then its worker hangs, and another one tries. */
#define UNDO_MS  ((unsigned)(FAULT_LIMIT_US(60000000) / 1000))
#define FIRST_MS 250   /* between two tries, doubled each time */
#define MOST_MS  60000 /* up to this */
/* Who waits for a migration is told that it is in doubt when the peer could not say for so long. */
#define TELL_US 5000000
/* What came here and was never confirmed is forgotten after a month; so after half of that the
 * source does not believe any more that a peer which knows nothing never ran it. */
#define FORGET_S  (30 * 86400)
#define BELIEVE_S (15 * 86400)

struct doubt {
	struct doubt *next;
	struct monitor *monitor;
	char id[JOURNAL_ID_BYTES];
	bool destination;
	struct journal journal; /* fd -1: not opened yet */
	Migrate__Done
		*done; /* owned; source: what was last said of it, or will be; NULL: nothing */
	struct event *again;
	struct child *undoer; /* takes back what was given up */
	char *group;          /* owned: that holds the process meanwhile; NULL: none */
	struct err *why;      /* decided: what is told with it */
	unsigned tries;
	bool asking, told;
	bool peer_at_it; /* its last answer: it may run it any moment */
	bool found;      /* in the journal, when the daemon started: its worker is unknown */
	Migrate__Progress *hooks; /* owned: what they are to be told in the end; NULL: nothing */
	int64_t since_us;
};

static bool same_boot(const struct doubt *d)
{
	return strcmp(d->journal.last.boot_id, d->monitor->boot_id) == 0;
}

/* ---- what is told ---- */

static void post(struct monitor *m, const Migrate__Ipc *ipc)
{
	if (m->control.child)
		child_post(m->control.child, ipc, NULL, 0);
}

/* Replaces what is said of it: outcome, who runs it, why. `e` is borrowed. */
static void say(struct doubt *d, enum verdict v, const struct err *e)
{
	static const char *const owners[] = { "source", "destination", "unknown" };
	static const char *const states[] = { "resumed", "done", "in_doubt" };
	autoarena struct arena *a = arena_new();
	Migrate__Done next = *d->done;
	Migrate__Progress last = *d->done->last;
	Migrate__Done *copy;

	last.state = arena_strdup(a, states[v]);
	last.owner = arena_strdup(a, owners[v]);
	next.last = &last;
	next.outcome = arena_strdup(a, verdict_name(v));
	next.error = e ? err_to_wire(a, e, "source", "in_doubt") : NULL;
	copy = ipc_copy(&next.base);
	migrate__done__free_unpacked(d->done, NULL);
	d->done = copy;
}

static void tell(struct doubt *d)
{
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;

	d->told = true;
	moves_remember(d->monitor, d->done);
	ipc.body_case = MIGRATE__IPC__BODY_DONE;
	ipc.done = d->done;
	post(d->monitor, &ipc);
}

static void tell_progress(struct doubt *d)
{
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;

	ipc.body_case = MIGRATE__IPC__BODY_PROGRESS;
	ipc.progress = d->done->last;
	post(d->monitor, &ipc);
}

static char *mutable(const char *text)
{
	return (char *)(uintptr_t)text;
}

/* From the journal alone, when the daemon has been started anew. */
static Migrate__Progress progress_of(const struct journal_record *r)
{
	Migrate__Progress p = MIGRATE__PROGRESS__INIT;

	p.id = mutable(r->id);
	p.side = mutable(r->destination ? "destination" : "source");
	p.state = mutable("in_doubt");
	p.owner = mutable("unknown");
	p.pid = r->pid;
	p.comm = mutable(r->comm);
	p.peer = mutable(r->peer);
	p.asker = r->asker;
	return p;
}

static Migrate__Done *done_of(const struct journal_record *r)
{
	Migrate__Done d = MIGRATE__DONE__INIT;
	Migrate__Progress p = progress_of(r);

	d.last = &p;
	d.outcome = p.state;
	return ipc_copy(&d.base);
}

/* ---- hooks, which its worker has not told ---- */

/* Who has found it in the journal does not know what the worker told before it died: then they
 * are told again. A destination keeps its journal until the source knows, and finds it at each
 * start. */
static void note_for_hooks(struct doubt *d)
{
	const struct journal_record *r = &d->journal.last;
	Migrate__Progress p = progress_of(r);

	if (!d->found || d->hooks)
		return;
	if (!d->destination || (r->mark < MARK_CONFIRMED && same_boot(d)))
		d->hooks = ipc_copy(&p.base);
}

static void tell_hooks(struct doubt *d, enum verdict v)
{
	static const struct {
		const char *event, *state, *owner;
	} ends[2][2] = {
		{ { "failed", "resumed", "source" }, { "committed", "done", "destination" } },
		{ { "failed", "discarded", "source" }, { "running", "running", "destination" } },
	};
	Migrate__Progress p;

	if (!d->hooks || v == VERDICT_DOUBT)
		return;
	/* It has run here, and is no news any more. */
	if (d->found && d->destination && v == VERDICT_MOVED &&
		!recover_alive(&d->journal.last, d->monitor->boot_id))
		return;
	p = *d->hooks;
	p.state = mutable(ends[d->destination][v == VERDICT_MOVED].state);
	p.owner = mutable(ends[d->destination][v == VERDICT_MOVED].owner);
	monitor_hooks_tell(d->monitor, ends[d->destination][v == VERDICT_MOVED].event, &p,
		v == VERDICT_MOVED ? NULL : d->why);
}

/* ---- the end of a doubt ---- */

static void doubt_free(struct doubt *d)
{
	struct doubt **link = &d->monitor->doubts;

	while (*link != d)
		link = &(*link)->next;
	*link = d->next;
	event_free(d->again);
	child_free(d->undoer);
	err_free(d->why);
	free(d->group);
	journal_close(&d->journal);
	if (d->done)
		migrate__done__free_unpacked(d->done, NULL);
	if (d->hooks)
		migrate__progress__free_unpacked(d->hooks, NULL);
	free(d);
}

/* The destination's answer to a source that has not said yet that it knows. */
static void keep_answer(struct doubt *d)
{
	autoerr struct err *e = journal_sync(&d->journal);

	if (!e)
		return;
	autofree char *line = err_line(e);

	log_warn("settle id=%s error=\"%s\"", d->id, line);
}

static bool to_be_kept(const struct doubt *d, enum verdict v)
{
	const struct journal_record *r = &d->journal.last;

	return d->destination && v != VERDICT_KEPT && r->mark != MARK_CONFIRMED &&
	       journal_age_least_s(r, d->monitor->boot_id) < FORGET_S;
}

static void finish(struct doubt *d, enum verdict v)
{
	tell_hooks(d, v);
	if (d->journal.fd >= 0 && to_be_kept(d, v))
		keep_answer(d);
	else
		journal_remove(&d->journal);
	if (d->done) {
		log_info("settled id=%s side=source pid=%d outcome=%s", d->id, d->done->last->pid,
			verdict_name(v));
		say(d, v, v == VERDICT_MOVED ? NULL : d->why);
		tell(d);
	}
	doubt_free(d);
}

/* ---- trying ---- */

static void rearm(struct doubt *d, unsigned ms)
{
	const struct timeval tv = { ms / 1000, (suseconds_t)(ms % 1000) * 1000 };

	event_add(d->again, &tv);
}

static void back_off(struct doubt *d)
{
	unsigned ms = d->tries < 8 ? FIRST_MS << d->tries : MOST_MS;

	d->tries++;
	rearm(d, MIN(ms, (unsigned)MOST_MS));
}

/* Whoever waits is told after a while, and everybody what is known by now. Takes e. */
static void stay(struct doubt *d, struct err *e)
{
	autofree char *line = err_line(e);

	log_info("in-doubt id=%s pid=%d peer=%s try=%u reason=\"%s\"", d->id, d->journal.last.pid,
		d->journal.last.peer, d->tries + 1, line);
	say(d, VERDICT_DOUBT, e);
	err_free(e);
	if (d->told || clock_us() - d->since_us >= TELL_US)
		tell(d);
	back_off(d);
}

static struct err *dial(struct doubt *d)
{
	struct monitor *m = d->monitor;
	const struct journal_record *r = &d->journal.last;
	Migrate__Dial dial = MIGRATE__DIAL__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	const struct peer *peer = NULL;
	char *keys[PEER_KEYS_MAX];
	struct address to;

	if (!m->net.child)
		return err_new(ERR_BUG, "the net role is not running");
	/* It may have moved, or have another key, since. */
	err_free(peers_find(&m->state.peers, r->peer, &peer, &to));
	dial.id = d->id;
	dial.host = (char *)(uintptr_t)(peer ? to.host : r->host);
	dial.port = peer ? to.port : r->port;
	for (size_t i = 0; peer && i < peer->n_keys; i++)
		keys[dial.n_fingerprints++] = (char *)(uintptr_t)peer->keys[i];
	if (!peer)
		keys[dial.n_fingerprints++] = (char *)(uintptr_t)r->key;
	dial.fingerprints = keys;
	dial.name = (char *)(uintptr_t)r->peer;
	dial.ask = true;
	ipc.body_case = MIGRATE__IPC__BODY_DIAL;
	ipc.dial = &dial;
	child_post(m->net.child, &ipc, NULL, 0);
	return NULL;
}

static void ask(struct doubt *d)
{
	struct err *e;

	if (!d->done)
		d->done = done_of(&d->journal.last);
	if (d->tries == 0)
		tell_progress(d);
	e = dial(d);
	d->asking = !e;
	if (e)
		stay(d, e);
}

struct recover_host settle_host(const struct monitor *m)
{
	return (struct recover_host){ m->state.dir, m->boot_id,
		m->config.cgroup_dir ? m->config.cgroup_dir : "" };
}

/* ---- what was given up ---- */

static void go_on(struct doubt *d);

static void drop_asides(const struct doubt *d)
{
	for (enum journal_aside what = 0; what < ASIDE_COUNT; what++)
		journal_drop_aside(d->monitor->state.dir, d->id, d->destination, what);
}

/* Should it have been thawed, for a call that the undoer had it make. */
static void hold_again(const struct doubt *d)
{
	struct freezer f = { .dir = d->group };
	autoerr struct err *e = d->group ? freezer_set(&f, true, false) : NULL;
	autofree char *line = e ? err_line(e) : NULL;

	if (line && err_sysno(e) != ENOENT)
		log_warn("undo id=%s error=\"%s\"", d->id, line);
}

/* On failure it is tried again: the process must not run without what it had. */
static void on_undone(void *arg, int status, bool heard unused_arg)
{
	struct doubt *d = arg;

	d->undoer = NULL;
	if (status) {
		hold_again(d);
		log_error("undo id=%s status=%#x", d->id, (unsigned)status);
		back_off(d);
		return;
	}
	drop_asides(d); /* where it is gone */
	go_on(d);
}

static void end_undo(struct doubt *d)
{
	log_error("undo id=%s ended after %u ms", d->id, UNDO_MS);
	hold_again(d);
	child_kill(d->undoer);
}

static const struct child_ops undo_ops = { .ended = on_undone };

/* How what a dead worker has left is to be set right. */
enum left {
	LEFT_HERE,    /* it runs here as soon as it is thawed */
	LEFT_RUNNING, /* it does already */
	LEFT_AWAY,    /* it does not in the end */
};

static struct err *start_undo(struct doubt *d, enum left left)
{
	const struct journal_record *r = &d->journal.last;
	Migrate__Work work = MIGRATE__WORK__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	char none[] = "";

	free(take(&d->group));
	if (!d->destination)
		TRY(recover_group(r, &d->group));
	TRY(child_start(d->monitor->base,
		(struct child_spec){ ROLE_WORKER, monitor_debug(d->monitor), &undo_ops }, d,
		&d->undoer));
	work.undo = true;
	work.undo_leaves = left == LEFT_AWAY;
	work.undo_runs = left == LEFT_RUNNING;
	work.receive = d->destination;
	work.id = d->id;
	work.state_dir = d->monitor->state.dir;
	work.start_time = r->start_time;
	work.undo_pid = r->pid;
	work.undo_group = d->group ? d->group : none;
	ipc.body_case = MIGRATE__IPC__BODY_WORK;
	ipc.work = &work;
	child_post(d->undoer, &ipc, NULL, 0);
	rearm(d, UNDO_MS);
	return NULL;
}

static bool has_asides(const struct doubt *d)
{
	for (enum journal_aside what = 0; what < ASIDE_COUNT; what++)
		if (journal_has_aside(&d->journal, what))
			return same_boot(d);
	return false;
}

/* Before anything is made true. False: there is nothing. */
static bool first_of_all(const struct doubt *d, enum left *ret)
{
	enum engine_mark mark = d->journal.last.mark;

	*ret = mark >= MARK_RUNNING ? LEFT_RUNNING : LEFT_HERE;
	return has_asides(d) && (d->destination ? mark >= MARK_COMMITTED : mark == MARK_INTENT);
}

/* It is not here in the end, nor may what belongs to it be. */
static bool must_clear(const struct doubt *d, enum verdict v)
{
	return v == (d->destination ? VERDICT_KEPT : VERDICT_MOVED) && has_asides(d);
}

static struct err *recover(struct doubt *d, enum verdict *v, bool *over)
{
	const struct recover_host h = settle_host(d->monitor);

	if (d->destination)
		return recover_destination(&d->journal, &h, v);
	TRY(recover_source(&d->journal.last, h.boot_id, v));
	*over = *v != VERDICT_DOUBT;
	return NULL;
}

/* *over: the verdict is final. */
static struct err *look(struct doubt *d, enum verdict *v, bool *over)
{
	enum left left;

	*over = true;
	*v = VERDICT_KEPT;
	if (d->journal.fd < 0)
		TRY(journal_open(d->monitor->state.dir, d->id, d->destination, &d->journal));
	if (d->journal.fd < 0)
		return NULL;
	note_for_hooks(d);
	/* What they speak of went with that boot. */
	if (!same_boot(d))
		drop_asides(d);
	if (first_of_all(d, &left)) {
		*over = false;
		return start_undo(d, left);
	}
	TRY(recover(d, v, over));
	if (!*over || !must_clear(d, *v))
		return NULL;
	*over = false;
	return start_undo(d, LEFT_AWAY);
}

/* True: it is over, and d still there for `finish`. */
static bool try_once(struct doubt *d, enum verdict *v)
{
	bool over;
	autoerr struct err *e = look(d, v, &over);

	if (!e && over)
		return true;
	*v = VERDICT_DOUBT;
	if (!e) {
		if (!d->undoer)
			ask(d);
		return false;
	}
	/* Somebody is still at it: that ends by itself. */
	if (err_code(e) != ERR_LIMIT) {
		autofree char *line = err_line(e);

		log_error("settle id=%s try=%u error=\"%s\"", d->id, d->tries + 1, line);
		back_off(d);
	} else {
		rearm(d, FIRST_MS);
	}
	return false;
}

static void go_on(struct doubt *d)
{
	enum verdict v;

	if (!d->asking && !d->undoer && try_once(d, &v))
		finish(d, v);
}

static void on_again(evutil_socket_t fd unused_arg, short what unused_arg, void *arg)
{
	struct doubt *d = arg;

	if (d->undoer)
		end_undo(d);
	else
		go_on(d);
}

static struct doubt *doubt_new(struct monitor *m, const char *id, bool destination)
{
	struct doubt *d = xcalloc(1, sizeof(*d));

	*d = (struct doubt){ .next = m->doubts,
		.monitor = m,
		.destination = destination,
		.journal = JOURNAL_NONE,
		.since_us = clock_us() };
	snprintf(d->id, sizeof(d->id), "%s", id);
	d->again = evtimer_new(m->base, on_again, d);
	if (!d->again)
		abort();
	m->doubts = d;
	return d;
}

/* ---- answers ---- */

/* Who has no journal of it says "never". That is worth something from the host that was to take it,
 * as long as that one has neither restarted nor forgotten: another host may have its name by now,
 * or its state directory may have been lost or restored. */
static bool never_counts(const struct doubt *d, const char *boot_id)
{
	const struct journal_record *r = &d->journal.last;

	return strcmp(boot_id, r->peer_boot_id) == 0 &&
	       journal_age_most_s(r, d->monitor->boot_id) < BELIEVE_S;
}

/* What the answer means; *v is set where there is no error. */
static struct err *weigh(const struct doubt *d, enum fate f, const char *boot_id, enum verdict *v)
{
	const struct journal_record *r = &d->journal.last;
	bool believe = f != FATE_NEVER || never_counts(d, boot_id);

	if (f == FATE_WAIT)
		return err_new(ERR_PEER, "%s has not decided yet", r->peer);
	/* Nothing stands here any more, so there is nothing to hold back. */
	if (!same_boot(d) && (f == FATE_REBOOTED || f == FATE_NEVER)) {
		*v = VERDICT_KEPT;
		return NULL;
	}
	if (f == FATE_REBOOTED)
		return err_new(ERR_PEER,
			"%s has restarted since, and cannot tell whether it ran there", r->peer);
	if (!believe)
		return err_new(ERR_PEER,
			"%s knows nothing of it, but has restarted, is another host or has "
			"forgotten since",
			r->peer);
	if (f == FATE_UNKNOWN)
		return err_new(ERR_PEER, "%s cannot tell whether it ever ran there", r->peer);
	*v = f == FATE_NEVER ? VERDICT_KEPT : VERDICT_MOVED;
	return NULL;
}

/* Why it is here, for who waits for it. */
static struct err *explain(const struct doubt *d, enum verdict v)
{
	if (v == VERDICT_MOVED)
		return NULL;
	if (!same_boot(d))
		return err_new(
			ERR_GONE, "this host has restarted meanwhile, which ended the process");
	return err_new(ERR_PEER,
		"the connection was lost at the last moment; %s says that it never ran there",
		d->journal.last.peer);
}

/* Written down before anything is done: should we die now, the next one does the same. Takes why.
 */
static struct err *decide(struct doubt *d, enum verdict v, struct err *why)
{
	struct err *e = journal_add(&d->journal, v == VERDICT_KEPT ? MARK_INTENT : MARK_MOVED);

	if (e) {
		err_free(why);
		return e;
	}
	err_free(d->why);
	d->why = why;
	if (same_boot(d))
		go_on(d);
	else
		finish(d, v); /* there is nothing here to let go on, or to end */
	return NULL;
}

static struct doubt *asked_about(const struct monitor *m, const char *id)
{
	for (struct doubt *d = m->doubts; d; d = d->next)
		if (!d->destination && d->asking && strcmp(d->id, id) == 0)
			return d;
	return NULL;
}

void settle_answered(struct monitor *m, const Migrate__Connected *c)
{
	struct doubt *d = asked_about(m, c->id);
	enum verdict v = VERDICT_DOUBT;
	struct err *e;

	if (!d)
		return;
	d->asking = false;
	d->peer_at_it = !c->error && fate_parse(c->fate) == FATE_WAIT;
	e = c->error ? err_from_wire(c->error) : weigh(d, fate_parse(c->fate), c->boot_id, &v);
	if (!e) {
		log_info("answer id=%s peer=%s fate=%s", d->id, d->journal.last.peer, c->fate);
		e = decide(d, v, explain(d, v));
	}
	if (e)
		stay(d, e);
}

void settle_net_died(struct monitor *m)
{
	for (struct doubt *d = m->doubts, *next; d; d = next) {
		next = d->next;
		if (!d->asking)
			continue;
		d->asking = false;
		stay(d, err_new(ERR_BUG, "the net role ended"));
	}
}

void settle_poke(struct monitor *m, const char *peer)
{
	for (struct doubt *d = m->doubts; d; d = d->next) {
		if (d->destination || d->asking || d->undoer ||
			strcmp(d->journal.last.peer, peer) != 0)
			continue;
		d->tries = MIN(d->tries, 1U);
		rearm(d, 0);
	}
}

/* ---- beginnings ---- */

static void on_swept(void *arg, int status unused_arg, bool heard unused_arg)
{
	struct monitor *m = arg;

	m->sweeper = NULL;
}

static const struct child_ops sweep_ops = { .ended = on_swept };

static struct err *start_sweep(struct monitor *m)
{
	Migrate__Work work = MIGRATE__WORK__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;

	TRY(child_start(m->base, (struct child_spec){ ROLE_WORKER, monitor_debug(m), &sweep_ops },
		m, &m->sweeper));
	work.sweep = true;
	work.state_dir = m->state.dir;
	ipc.body_case = MIGRATE__IPC__BODY_WORK;
	ipc.work = &work;
	child_post(m->sweeper, &ipc, NULL, 0);
	return NULL;
}

struct err *settle_start(struct monitor *m)
{
	autoarena struct arena *a = arena_new();
	struct journal_name *names;
	size_t n;

	TRY(journal_names(a, m->state.dir, &names, &n));
	for (size_t i = 0; i < n; i++) {
		struct doubt *d = doubt_new(m, names[i].id, names[i].destination);

		d->found = true;
		go_on(d);
	}
	return start_sweep(m);
}

void settle_move(struct move *v, const struct err *e, enum verdict *ret)
{
	struct doubt *d = doubt_new(v->monitor, v->id, v->receive);
	Migrate__Done done = MIGRATE__DONE__INIT;
	char none[] = "";
	bool over;

	/* One that has said how it ended has told them itself. */
	if (!v->over && !v->told && v->last)
		d->hooks = ipc_copy(&v->last->base);
	if (!v->receive) {
		done.last = v->last;
		done.outcome = none;
		d->done = ipc_copy(&done.base);
		say(d, VERDICT_DOUBT, e);
		d->why = d->done->error ? err_from_wire(d->done->error) : NULL;
	}
	over = try_once(d, ret);
	if (!over)
		return;
	/* Whoever asks here tells it himself. */
	if (d->done)
		migrate__done__free_unpacked(d->done, NULL);
	d->done = NULL;
	finish(d, *ret);
}

/* ---- the operator ---- */

static struct doubt *by_id(const struct monitor *m, const char *id)
{
	for (struct doubt *d = m->doubts; d; d = d->next)
		if (!d->destination && d->done && strcmp(d->id, id) == 0)
			return d;
	return NULL;
}

struct err *settle_resolve(struct monitor *m, uint32_t who, const char *id, const char *where)
{
	struct doubt *d = by_id(m, id);
	bool here = strcmp(where, "here") == 0;
	struct err *e;

	if (!here && strcmp(where, "there") != 0)
		return err_new(
			ERR_INVALID, "a migration is resolved as here or there, not \"%s\"", where);
	if (!d)
		return err_hint(err_new(ERR_INVALID, "no migration %s is in doubt here", id),
			"migratectl list shows all of them, on the host that has sent it");
	TRY(policy_may(MAY_RESOLVE, who, d->journal.last.asker));
	if (d->undoer || (same_boot(d) && d->journal.last.mark != MARK_COMMIT))
		return err_new(ERR_LIMIT, "migration %s is being settled just now", id);
	if (here && d->peer_at_it)
		return err_hint(err_new(ERR_LIMIT, "%s is still at it, and may run it any moment",
					d->journal.last.peer),
			"end its worker there, or start migrated anew there: then it knows");
	log_info("resolve id=%s where=%s uid=%u", id, where, who);
	d->asking = false; /* an answer that comes now is too late */
	e = decide(d, here ? VERDICT_KEPT : VERDICT_MOVED,
		here ? err_new(ERR_CANCELLED, "resolved by hand (uid %u)", who) : NULL);
	if (e) /* as before: the peer is asked */
		back_off(d);
	return e;
}

const char *settle_holds(const struct monitor *m, pid_t pid)
{
	for (const struct doubt *d = m->doubts; d; d = d->next)
		if (!d->destination && d->journal.fd >= 0 && d->journal.last.pid == pid &&
			recover_alive(&d->journal.last, m->boot_id))
			return d->id;
	return NULL;
}

void settle_tell(struct monitor *m, const char *id)
{
	for (struct doubt *d = m->doubts; d; d = d->next)
		if (d->done && !d->told && (!id || strcmp(id, d->id) == 0))
			tell_progress(d);
}

void settle_fini(struct monitor *m)
{
	while (m->doubts)
		doubt_free(m->doubts);
	child_free(m->sweeper);
	m->sweeper = NULL;
}
