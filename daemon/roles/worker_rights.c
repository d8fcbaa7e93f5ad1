// SPDX-License-Identifier: Apache-2.0
/*
 * What a process may, looked at as the kernel shows it: at the destination before it is let run and
 * while it comes in, at the source when it stands still.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/mark.h"
#include "kernel/proc.h"
#include "kinds/mqueue_notes.h"
#include "kinds/sysv_notes.h"
#include "roles/audit.h"
#include "roles/subject.h"
#include "roles/why.h"
#include "roles/worker.h"
#include "wire/err_wire.h"

#define RESERVE_US 5000000
#define MEASURE_US 50000                /* between two looks at how large it has become */
#define GROW_BYTES (UINT64_C(64) << 20) /* that are asked for at once */

/* ---- what may come in ---- */

/* The monitor knows what else comes in from this peer. */
struct err *worker_reserve(struct worker *w, uint64_t bytes)
{
	autoipc struct ipc_msg msg = { .m = NULL };
	Migrate__Reserve r = MIGRATE__RESERVE__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	struct deadline d = deadline_in(RESERVE_US);
	struct err *e;

	r.id = (char *)(uintptr_t)w->id;
	r.pid = w->pid;
	r.comm = (char *)(uintptr_t)w->comm;
	r.uid = w->uid;
	r.bytes = bytes;
	ipc.body_case = MIGRATE__IPC__BODY_RESERVE;
	ipc.reserve = &r;
	pthread_mutex_lock(&w->asking);
	e = err_in(worker_tell(w, &ipc), "tell the monitor");
	/* The answer to hooks that were not waited for may come first. */
	while (!e && !(msg.m && msg.m->body_case == MIGRATE__IPC__BODY_RESERVED)) {
		ipc_msg_fini(&msg);
		msg = (struct ipc_msg){ .m = NULL };
		e = worker_answer(w, 0, d, &msg);
	}
	pthread_mutex_unlock(&w->asking);
	TRY(e);
	if (msg.m->reserved->error)
		return err_from_wire(msg.m->reserved->error);
	w->reserved_bytes = bytes;
	return NULL;
}

/* A process can grow on its way, and a peer can announce less than it sends. */
static struct err *check_growth(struct worker *w)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < w->pids.n; i++) {
		autoarena struct arena *a = arena_new();
		struct proc_status status;
		autoerr struct err *none = proc_status(a, w->pids.v[i], 0, &status);

		if (!none) /* else it is not there yet */
			bytes += status.vm_rss_bytes + status.vm_swap_bytes;
	}
	if (bytes <= w->reserved_bytes)
		return NULL;
	return worker_reserve(w, bytes + GROW_BYTES);
}

/* The engine asks nobody while pages come in, so it is interrupted, and asks why then. */
void worker_watch_growth(struct worker *w)
{
	bool ours = w->seen.owner == OWNER_DESTINATION || w->seen.owner == OWNER_UNKNOWN;

	/* What is committed may be as large as it likes. */
	if (ours || !w->work->receive || !w->id || w->too_much ||
		clock_us() - w->measured_us < MEASURE_US)
		return;
	w->too_much = check_growth(w);
	w->measured_us = clock_us();
	if (w->too_much)
		(void)shutdown(w->interrupt_fd, SHUT_RD);
}

struct err *worker_why(void *arg, struct err *cancelled)
{
	struct worker *w = arg;
	char why = 0;

	if (recv(w->interrupt_fd, &why, 1, MSG_PEEK | MSG_DONTWAIT) != 1 && !w->too_much)
		return cancelled; /* the monitor has ended */
	err_free(cancelled);
	return w->too_much ? take(&w->too_much) : why_err(why, w->work->peer, worker_side(w));
}

static void audit_denied(const struct worker *w, const struct err *e)
{
	if (e)
		audit(&(struct audit){ .what = w->work->receive ? "receive" : "send",
			.peer = w->work->peer,
			.key = w->work->peer_key,
			.id = w->id,
			.pid = w->pid,
			.comm = w->comm,
			.denied = e });
}

/* Others on this host may find it by its key and trust it for its owner. */
static struct err *check_object(void *arg, enum sysv sort, const struct sysv_object *o)
{
	const struct worker *w = arg;

	TRY_IN(policy_receive(&w->policy, o->uid, 0), "%s %d", sysv_names[sort], o->id);
	return err_in(policy_receive(&w->policy, o->cuid, 0), "%s %d", sysv_names[sort], o->id);
}

static struct err *check_queue(void *arg, const char *name, uint32_t uid)
{
	const struct worker *w = arg;

	return err_in(policy_receive(&w->policy, uid, 0), "POSIX message queue /%s", name);
}

/* What came in is looked at as the kernel shows it, not as the peer described it. */
static struct err *check_rebuilt(const struct worker *w)
{
	autofree char *scratch = NULL;
	uint64_t bytes = 0;

	for (size_t i = 0; i < w->pids.n; i++) {
		AUTO(rights_fini) struct rights r = { NULL, 0, NULL, 0, 0, 0 };

		TRY(subject_rights(w->pids.v[i], &r));
		bytes += r.memory_bytes;
		r.memory_bytes = bytes;
		TRY(policy_rebuilt(&w->policy, &r));
	}
	if (asprintf(&scratch, "%s/" ENGINE_SCRATCH "%s", w->work->state_dir, w->id) < 0)
		abort();
	TRY(sysv_notes_each(scratch, check_object, (void *)(uintptr_t)w));
	return mqueue_notes_each(scratch, check_queue, (void *)(uintptr_t)w);
}

/* Is all of it what its user may move? It stands still the second time: it may have executed a
 * set-user-id program since, with the same number and start time. */
static struct err *check_again(const struct worker *w)
{
	const struct asker who = { .uid = w->work->asker,
		.gid = w->work->asker_gid,
		.groups = w->work->asker_groups,
		.n_groups = w->work->n_asker_groups };

	if (who.uid == 0)
		return NULL;
	for (size_t i = 0; i < w->pids.n; i++) {
		AUTO(subject_fini) struct subject s = { .pid = 0 };
		struct err *e = subject_read(w->pids.v[i], &s);

		if (e && err_code(e) == ERR_GONE && w->pids.v[i] != w->pid) {
			err_free(e); /* it runs, and has ended meanwhile */
			continue;
		}
		TRY(e);
		TRY_IN(policy_send(&who, w->work->users_own, &s), "process %d", w->pids.v[i]);
	}
	return NULL;
}

struct err *worker_check_rights(const struct worker *w, const char *event)
{
	struct err *e = NULL;

	if (w->work->receive && strcmp(event, "pre-commit") == 0)
		e = check_rebuilt(w);
	if (!w->work->receive && (strcmp(event, "check") == 0 || strcmp(event, "frozen") == 0))
		e = check_again(w);
	audit_denied(w, e);
	return e;
}

/* A peer may name any number of them, and a line for each would be for it to write our log. */
struct err *worker_check_address(struct worker *w, const struct net_ip *ip)
{
	struct err *e = policy_address(&w->policy, ip);

	if (e && !w->address_denied)
		audit_denied(w, e);
	w->address_denied = w->address_denied || e;
	return e;
}

static struct err *admit_all(const struct worker *w, const uint32_t *uids, size_t n)
{
	for (size_t i = 0; i < n; i++)
		TRY(policy_receive(&w->policy, uids[i], 0));
	return policy_count(&w->policy, n);
}

struct err *worker_check_processes(const struct worker *w, const uint32_t *uids, size_t n)
{
	struct err *e = admit_all(w, uids, n);

	audit_denied(w, e);
	return e;
}
