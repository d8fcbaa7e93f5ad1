// SPDX-License-Identifier: Apache-2.0
/*
 * What clients ask for by way of control. The uid comes from the kernel, by the client's own
 * socket; everything else in the request is checked here again, because control has parsed what
 * users sent and may be in their hands. The most that a captured control role can do is what the
 * client that it has a socket of could do, and cancel migrations (ClientLeft).
 */
#include "base/log.h"
#include "roles/audit.h"
#include "roles/monitor.h"
#include "roles/policy.h"
#include "roles/settle.h"
#include "roles/subject.h"
#include "wire/err_wire.h"

static void answer(struct monitor *m, uint64_t cookie, struct err *e, const char *id)
{
	autoarena struct arena *a = arena_new();
	Migrate__Answer answer = MIGRATE__ANSWER__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;

	answer.cookie = cookie;
	if (e)
		answer.error = err_to_wire(a, e, "source", NULL);
	if (id)
		answer.id = arena_strdup(a, id);
	ipc.body_case = MIGRATE__IPC__BODY_ANSWER;
	ipc.answer = &answer;
	if (m->control.child)
		child_post(m->control.child, &ipc, NULL, 0);
	err_free(e);
}

static struct err *ask_send(
	struct monitor *m, const struct asker *who, const Migrate__Request *r, const char **id)
{
	if (!r->send->host[0])
		return err_new(ERR_INVALID, "no host to send to");
	return move_begin_send(m, who, r->send, id);
}

/* A check is a move that stops before anything is moved. */
static struct err *ask_check(
	struct monitor *m, const struct asker *who, const Migrate__Request *r, const char **id)
{
	Migrate__SendRequest send = MIGRATE__SEND_REQUEST__INIT;

	send.pid = r->check->pid;
	send.host = r->check->host;
	send.take_address = r->check->take_address;
	send.dry_run = true;
	return move_begin_send(m, who, &send, id);
}

static struct err *ask_cancel(struct monitor *m, const struct asker *who, const Migrate__Request *r,
	const char **id unused_arg)
{
	return move_cancel(m, who->uid, r->cancel->id);
}

static struct err *ask_resolve(struct monitor *m, const struct asker *who,
	const Migrate__Request *r, const char **id unused_arg)
{
	return settle_resolve(m, who->uid, r->resolve->id, r->resolve->where);
}

static struct err *ask_peer_add(struct monitor *m, const struct asker *who,
	const Migrate__Request *r, const char **id unused_arg)
{
	const Migrate__PeerAddRequest *p = r->peer_add;

	TRY(policy_may(MAY_CHANGE_PEERS, who->uid, 0));
	TRY(state_peer_add(&m->state, p->name, p->host, p->fingerprint));
	monitor_post_peers(m);
	return NULL;
}

static struct err *ask_peer_remove(struct monitor *m, const struct asker *who,
	const Migrate__Request *r, const char **id unused_arg)
{
	const Migrate__PeerRemoveRequest *p = r->peer_remove;

	TRY(policy_may(MAY_CHANGE_PEERS, who->uid, 0));
	TRY(state_peer_remove(&m->state, p->name, p->fingerprint[0] ? p->fingerprint : NULL));
	monitor_post_peers(m);
	return NULL;
}

static struct err *ask_rotate(struct monitor *m, const struct asker *who,
	const Migrate__Request *r unused_arg, const char **id unused_arg)
{
	TRY(policy_may(MAY_CHANGE_KEY, who->uid, 0));
	TRY(state_rotate(&m->state));
	monitor_post_keys(m);
	return NULL;
}

static struct err *ask_retire(struct monitor *m, const struct asker *who, const Migrate__Request *r,
	const char **id unused_arg)
{
	TRY(policy_may(MAY_CHANGE_KEY, who->uid, 0));
	TRY(state_retire(&m->state, r->identity_retire->force));
	monitor_post_keys(m);
	return NULL;
}

/* ---- what the audit line says of each ---- */

static void audit_send(struct audit *a, const Migrate__Request *r)
{
	a->pid = r->send->pid;
	a->other = r->send->host;
}

static void audit_check(struct audit *a, const Migrate__Request *r)
{
	a->pid = r->check->pid;
	a->other = r->check->host;
}

static void audit_cancel(struct audit *a, const Migrate__Request *r)
{
	a->id = r->cancel->id;
}

static void audit_resolve(struct audit *a, const Migrate__Request *r)
{
	a->id = r->resolve->id;
	a->other = r->resolve->where;
}

static void audit_peer_add(struct audit *a, const Migrate__Request *r)
{
	a->peer = r->peer_add->name;
	a->key = r->peer_add->fingerprint;
	a->other = r->peer_add->host;
}

static void audit_peer_remove(struct audit *a, const Migrate__Request *r)
{
	a->peer = r->peer_remove->name;
	a->key = r->peer_remove->fingerprint;
}

static const struct ask {
	const char *name;
	struct err *(*fn)(struct monitor *m, const struct asker *who, const Migrate__Request *r,
		const char **id);
	void (*audit)(struct audit *a, const Migrate__Request *r); /* NULL: nothing more to say */
} asks[] = {
	[MIGRATE__REQUEST__VERB_SEND] = { "send", ask_send, audit_send },
	[MIGRATE__REQUEST__VERB_CHECK] = { "check", ask_check, audit_check },
	[MIGRATE__REQUEST__VERB_CANCEL] = { "cancel", ask_cancel, audit_cancel },
	[MIGRATE__REQUEST__VERB_RESOLVE] = { "resolve", ask_resolve, audit_resolve },
	[MIGRATE__REQUEST__VERB_PEER_ADD] = { "peer-add", ask_peer_add, audit_peer_add },
	[MIGRATE__REQUEST__VERB_PEER_REMOVE] = { "peer-remove", ask_peer_remove,
		audit_peer_remove },
	[MIGRATE__REQUEST__VERB_IDENTITY_ROTATE] = { "identity-rotate", ask_rotate, NULL },
	[MIGRATE__REQUEST__VERB_IDENTITY_RETIRE] = { "identity-retire", ask_retire, NULL },
};

static void audit_ask(struct monitor *m, const struct asker *who, const Migrate__Request *r,
	const struct err *e, const char *id)
{
	const struct ask *ask = &asks[r->verb_case];
	const struct move *v = id ? move_find(m, id, false) : NULL;
	struct audit a = { .what = ask->name, .who = who, .denied = e };

	if (ask->audit)
		ask->audit(&a, r);
	if (id)
		a.id = id;
	if (v) {
		const struct peer *p = v->peer ? peers_by_name(&m->state.peers, v->peer) : NULL;

		a.comm = v->comm;
		a.peer = v->peer;
		a.key = p ? p->keys[p->n_keys - 1] : NULL;
	}
	audit(&a);
}

void monitor_ask(void *arg, struct ipc_msg *msg)
{
	struct service *control = arg;
	struct monitor *m = control->monitor;
	const Migrate__Ask *ask = msg->m->ask;
	const Migrate__Request *r = ask->request;
	AUTO(asker_fini) struct asker who = { .uid = UINT32_MAX };
	const char *id = NULL;
	struct err *e = NULL;
	bool sane = msg->n_fds == 1 && r && r->verb_case < ARRAY_LEN(asks) && asks[r->verb_case].fn;

	e = ipc_no_room(msg);
	if (!e && !sane)
		e = err_new(ERR_BUG, "control asked nonsense");
	if (!e)
		e = asker_read(msg->fds[0], &who);
	if (!e && m->ending)
		e = err_new(ERR_CANCELLED, "migrated is ending");
	if (!e)
		e = asks[r->verb_case].fn(m, &who, r, &id);
	if (sane)
		audit_ask(m, &who, r, e, id);
	answer(m, ask->cookie, e, id);
	/* Answered first, so that control knows whose progress it is. */
	if (id)
		moves_tell(m, id);
}
