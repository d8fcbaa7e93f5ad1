// SPDX-License-Identifier: Apache-2.0
/* Hooks that a worker asks for, or would have asked for had it lived, in the monitor. */
#include <stdlib.h>

#include "base/log.h"
#include "roles/hooks.h"
#include "roles/monitor.h"
#include "wire/err_wire.h"

/* One run of hooks. It is the move's until it has answered; then it only has to end, and the move
 * may ask for the next one meanwhile. */
struct hook_job {
	struct hook_job *next; /* answered: in the monitor's list */
	struct monitor *monitor;
	struct move *move; /* NULL: answered */
	struct child *child;
};

static void answer_hooks(struct hook_job *job, const Migrate__Ipc *ipc)
{
	struct move *v = job->move;

	job->move = NULL;
	v->hooks = NULL;
	job->next = job->monitor->answered;
	job->monitor->answered = job;
	if (v->worker)
		child_post(v->worker, ipc, NULL, 0);
	move_check_end(v);
}

static void forget(struct hook_job *job)
{
	struct hook_job **link = &job->monitor->answered;

	while (*link != job)
		link = &(*link)->next;
	*link = job->next;
	free(job);
}

static void on_hooks_result(void *arg, struct ipc_msg *msg)
{
	struct hook_job *job = arg;

	if (job->move)
		answer_hooks(job, msg->m);
}

/* The process that runs hooks could not even say what went wrong. Takes e. */
static void fail_hooks(struct hook_job *job, struct err *e)
{
	autoarena struct arena *a = arena_new();
	Migrate__HookResult result = MIGRATE__HOOK_RESULT__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;

	result.error = err_to_wire(a, e, move_side(job->move), NULL);
	err_free(e);
	ipc.body_case = MIGRATE__IPC__BODY_HOOK_RESULT;
	ipc.hook_result = &result;
	answer_hooks(job, &ipc);
}

static void on_hooks_ended(void *arg, int status, bool heard unused_arg)
{
	struct hook_job *job = arg;

	if (job->move)
		fail_hooks(job, err_new(ERR_BUG, "the process that runs hooks ended (%#x)",
					(unsigned)status));
	forget(job);
}

static const struct child_ops hooks_ops = {
	.by_case = { [MIGRATE__IPC__BODY_HOOK_RESULT] = on_hooks_result },
	.ended = on_hooks_ended,
};

/* Directory and limit are ours to say, not the worker's. */
void move_hook_asked(void *arg, struct ipc_msg *msg)
{
	struct move *v = arg;
	Migrate__HookRun run = *msg->m->hook_run;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	struct hook_job *job;
	struct err *e;

	if (v->hooks || !run.progress) { /* it waits for an answer before it asks again */
		child_kill(v->worker);
		return;
	}
	run.hooks_dir = v->monitor->config.hooks_dir;
	run.limit_us = (uint64_t)v->monitor->config.hook_limit_us;
	ipc.body_case = MIGRATE__IPC__BODY_HOOK_RUN;
	ipc.hook_run = &run;
	v->told |= run.told_only;
	job = v->hooks = xcalloc(1, sizeof(*job));
	job->move = v;
	job->monitor = v->monitor;
	e = child_start(v->monitor->base,
		(struct child_spec){ ROLE_HOOKS, monitor_debug(v->monitor), &hooks_ops }, job,
		&job->child);
	if (e) {
		fail_hooks(job, e);
		forget(job);
		return;
	}
	child_post(job->child, &ipc, msg->fds, MIN(msg->n_fds, (size_t)1));
}

void monitor_hooks_tell(struct monitor *m, const char *event, const Migrate__Progress *p,
	const struct err *why)
{
	autoarena struct arena *a = arena_new();
	Migrate__HookRun run = MIGRATE__HOOK_RUN__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	struct hook_job *job;
	struct err *e;

	if (!hooks_count(m->config.hooks_dir))
		return;
	run.event = (char *)(uintptr_t)event;
	run.told_only = true;
	run.progress = (Migrate__Progress *)(uintptr_t)p;
	run.error = why ? err_to_wire(a, why, p->side, p->state) : NULL;
	run.hooks_dir = m->config.hooks_dir;
	run.limit_us = (uint64_t)m->config.hook_limit_us;
	ipc.body_case = MIGRATE__IPC__BODY_HOOK_RUN;
	ipc.hook_run = &run;
	job = xcalloc(1, sizeof(*job));
	*job = (struct hook_job){ .next = m->answered, .monitor = m };
	m->answered = job;
	e = child_start(m->base, (struct child_spec){ ROLE_HOOKS, monitor_debug(m), &hooks_ops },
		job, &job->child);
	if (e) {
		autofree char *line = err_line(e);

		log_error("hooks id=%s event=%s error=\"%s\"", p->id, event, line);
		err_free(e);
		forget(job);
		return;
	}
	child_post(job->child, &ipc, NULL, 0);
}

void move_hook_stop(void *arg, struct ipc_msg *msg)
{
	struct move *v = arg;

	/* None: it has just answered. */
	if (v->hooks)
		child_post(v->hooks->child, msg->m, NULL, 0);
}

void move_hooks_fini(struct move *v)
{
	if (v->hooks)
		child_free(v->hooks->child);
	free(v->hooks);
	v->hooks = NULL;
}

void monitor_hooks_fini(struct monitor *m)
{
	while (m->answered) {
		child_free(m->answered->child);
		forget(m->answered);
	}
}
