// SPDX-License-Identifier: Apache-2.0
/*
 * What clients ask for by way of control. The uid comes from the kernel, by the client's own
 * socket; everything else in the request is checked here again, because control has parsed what
 * users sent and may be in their hands. The most that a captured control role can do is what the
 * client that it has a socket of could do, and cancel migrations (ClientLeft).
 */
#include "base/log.h"
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
	struct monitor *m, uint32_t who, const Migrate__Request *r, const char **id)
{
	if (!r->send->host[0])
		return err_new(ERR_INVALID, "no host to send to");
	return move_begin_send(m, who, r->send, id);
}

/* A check is a move that stops before anything is moved. */
static struct err *ask_check(
	struct monitor *m, uint32_t who, const Migrate__Request *r, const char **id)
{
	Migrate__SendRequest send = MIGRATE__SEND_REQUEST__INIT;

	send.pid = r->check->pid;
	send.host = r->check->host;
	send.dry_run = true;
	return move_begin_send(m, who, &send, id);
}

static struct err *ask_cancel(
	struct monitor *m, uint32_t who, const Migrate__Request *r, const char **id unused_arg)
{
	return move_cancel(m, who, r->cancel->id);
}

static struct err *ask_resolve(
	struct monitor *m, uint32_t who, const Migrate__Request *r, const char **id unused_arg)
{
	return settle_resolve(m, who, r->resolve->id, r->resolve->where);
}

static struct err *ask_peer_add(
	struct monitor *m, uint32_t who, const Migrate__Request *r, const char **id unused_arg)
{
	const Migrate__PeerAddRequest *p = r->peer_add;

	TRY(policy_peers(who));
	TRY(state_peer_add(&m->state, p->name, p->host, p->fingerprint));
	log_info("peer-add name=%s host=%s key=%s", p->name, p->host, p->fingerprint);
	monitor_post_peers(m);
	return NULL;
}

static struct err *ask_peer_remove(
	struct monitor *m, uint32_t who, const Migrate__Request *r, const char **id unused_arg)
{
	TRY(policy_peers(who));
	TRY(state_peer_remove(&m->state, r->peer_remove->name));
	log_info("peer-remove name=%s", r->peer_remove->name);
	monitor_post_peers(m);
	return NULL;
}

static struct err *(*const asks[])(
	struct monitor *m, uint32_t who, const Migrate__Request *r, const char **id) = {
	[MIGRATE__REQUEST__VERB_SEND] = ask_send,
	[MIGRATE__REQUEST__VERB_CHECK] = ask_check,
	[MIGRATE__REQUEST__VERB_CANCEL] = ask_cancel,
	[MIGRATE__REQUEST__VERB_RESOLVE] = ask_resolve,
	[MIGRATE__REQUEST__VERB_PEER_ADD] = ask_peer_add,
	[MIGRATE__REQUEST__VERB_PEER_REMOVE] = ask_peer_remove,
};

void monitor_ask(void *arg, struct ipc_msg *msg)
{
	struct service *control = arg;
	struct monitor *m = control->monitor;
	const Migrate__Ask *ask = msg->m->ask;
	const Migrate__Request *r = ask->request;
	const char *id = NULL;
	struct err *e = NULL;
	uint32_t who;

	if (msg->n_fds != 1 || !r || r->verb_case >= ARRAY_LEN(asks) || !asks[r->verb_case])
		e = err_new(ERR_BUG, "control asked nonsense");
	if (!e)
		e = asker_uid(msg->fds[0], &who);
	if (!e && m->ending)
		e = err_new(ERR_CANCELLED, "migrated is ending");
	if (!e)
		e = asks[r->verb_case](m, who, r, &id);
	answer(m, ask->cookie, e, id);
	/* Answered first, so that control knows whose progress it is. */
	if (id)
		moves_tell(m, id);
}
