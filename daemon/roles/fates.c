// SPDX-License-Identifier: Apache-2.0
/* The destination's side of a doubt: what became of a migration that came here. */
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "roles/recover.h"
#include "roles/settle.h"

static const char *const fates[FATES] = {
	[FATE_UNKNOWN] = "unknown",
	[FATE_WAIT] = "wait",
	[FATE_RUNNING] = "running",
	[FATE_ENDED] = "ended",
	[FATE_NEVER] = "never",
	[FATE_REBOOTED] = "rebooted",
};

const char *fate_name(enum fate f)
{
	return fates[f];
}

enum fate fate_parse(const char *name)
{
	for (size_t i = 0; i < FATES; i++)
		if (strcmp(fates[i], name) == 0)
			return (enum fate)i;
	return FATE_UNKNOWN;
}

static bool goes_on(const struct monitor *m, const char *id)
{
	for (const struct move *v = m->moves; v; v = v->next)
		if (v->receive && v->worker && strcmp(v->id, id) == 0)
			return true;
	return false;
}

/* Whether somebody else has sent it, who alone may hear about it. */
static bool is_of_another(const struct monitor *m, const Migrate__FateAsk *ask)
{
	struct journal_record r;

	for (const struct move *v = m->moves; v; v = v->next)
		if (v->receive && strcmp(v->id, ask->id) == 0)
			return strcmp(v->peer, ask->name) != 0;
	return journal_peek(m->state.dir, ask->id, true, &r) &&
	       strcmp(r.key, ask->fingerprint) != 0 && strcmp(r.peer, ask->name) != 0;
}

/* Nobody is at it any more. What was not committed is ended here and now: so "never" stays true. */
static struct err *look(const struct monitor *m, struct journal *j, enum fate *ret)
{
	const struct recover_host h = settle_host(m);
	enum verdict v;

	if (strcmp(j->last.boot_id, m->boot_id) != 0) {
		*ret = FATE_REBOOTED;
		return NULL;
	}
	TRY(recover_destination(j, &h, &v));
	if (v == VERDICT_KEPT) {
		journal_remove(j);
		*ret = FATE_NEVER;
	} else if (v == VERDICT_MOVED) {
		*ret = recover_alive(&j->last, m->boot_id) ? FATE_RUNNING : FATE_ENDED;
	} else {
		*ret = FATE_UNKNOWN;
	}
	return NULL;
}

/* A journal is on the disk before the source can send COMMIT, and stays until the source has said
 * that it knows. So where there is none, nothing came of it. */
static struct err *find(const struct monitor *m, const Migrate__FateAsk *ask, enum fate *ret)
{
	AUTO(journal_close) struct journal j = JOURNAL_NONE;
	struct err *e = journal_open(m->state.dir, ask->id, true, &j);

	if (e && err_code(e) == ERR_LIMIT) { /* its worker, perhaps that of a monitor before us */
		err_free(e);
		*ret = FATE_WAIT;
		return NULL;
	}
	TRY(e);
	if (j.fd >= 0)
		return look(m, &j, ret);
	*ret = FATE_NEVER;
	return NULL;
}

static enum fate fate_of(const struct monitor *m, const Migrate__FateAsk *ask)
{
	enum fate f = FATE_WAIT;
	autoerr struct err *e = NULL;

	if (!text_is_id(ask->id, ENGINE_ID_MAX) || is_of_another(m, ask))
		return FATE_UNKNOWN;
	if (goes_on(m, ask->id))
		return FATE_WAIT;
	e = find(m, ask, &f);
	if (e) {
		autofree char *line = err_line(e);

		log_warn("asked id=%s peer=%s error=\"%s\"", ask->id, ask->name, line);
		return FATE_WAIT;
	}
	return f;
}

void settle_asked(void *net_service, struct ipc_msg *msg)
{
	struct service *net = net_service;
	const Migrate__FateAsk *ask = msg->m->fate_ask;
	Migrate__FateAnswer answer = MIGRATE__FATE_ANSWER__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	enum fate f = fate_of(net->monitor, ask);

	log_info("asked id=%s peer=%s answer=%s", f == FATE_UNKNOWN ? "?" : ask->id, ask->name,
		fate_name(f));
	answer.connection = ask->connection;
	answer.fate = (char *)(uintptr_t)fate_name(f);
	ipc.body_case = MIGRATE__IPC__BODY_FATE_ANSWER;
	ipc.fate_answer = &answer;
	if (net->child)
		child_post(net->child, &ipc, NULL, 0);
}
