// SPDX-License-Identifier: Apache-2.0
/*
 * Processes that job control has stopped (SIGSTOP, Ctrl-Z). They arrive stopped, and go on by the
 * next SIGCONT. STAGE_LIMIT: behind the actions, by which a parent that wants no signal of it gets
 * none, and before pending signals, which are left alone by the one that stops it.
 */
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kinds/kind.h"
#include "stop.pb-c.h"

static bool stops(int sig)
{
	return sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;
}

/* Whether the parent has waited for this stop (WUNTRACED): else it still can. */
static struct err *ask_parent(struct task *parent, pid_t pid, bool *waited)
{
	siginfo_t info = { 0 };

	TRY(remote_put(parent, 0, &info, sizeof(info)));
	TRY(REMOTE(parent, task_leader(parent), NULL, "ask about a child that is stopped",
		SYS_waitid, P_PID, (uint64_t)pid, remote_scratch(parent).v,
		WSTOPPED | WNOHANG | WNOWAIT | __WALL));
	TRY(remote_get(parent, 0, &info, sizeof(info)));
	*waited = info.si_pid != pid;
	return NULL;
}

static struct err *stop_capture(struct capture *c)
{
	Migrate__Kind__Stop m = MIGRATE__KIND__STOP__INIT;
	struct task *parent = capture_task(c, c->stat->ppid);
	bool waited = true;

	if (!c->task->stop_signal)
		return NULL;
	if (parent) {
		TRY(ask_parent(parent, c->task->pid, &waited));
		m.parent = parent->pid;
	}
	m.signal = c->task->stop_signal;
	m.waited = waited;
	capture_emit(c, 0, &m.base);
	return NULL;
}

static struct err *stop_check(
	struct rebuild *r unused_arg, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Stop *m = msg;

	return stops(m->signal) ? NULL
				: err_new(ERR_PEER, "a process stopped by signal %d", m->signal);
}

/* Which signal it was matters to nobody who knows of the stop, and SIGSTOP stops everybody. */
static struct err *stop_finish(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__Stop *m = msg;
	struct task *parent = rebuild_task(r, m->parent);

	TRY(stop_check(r, o, msg));
	if (parent == r->task)
		return err_new(ERR_PEER, "process %d is its own parent", m->parent);
	return seedling_stop(r->task, m->waited ? SIGSTOP : m->signal, parent, m->waited);
}

const struct kind kind_stop = {
	.id = 14,
	.name = "job control stop",
	.scope = KIND_PROCESS,
	.stage = STAGE_LIMIT,
	.msg = &migrate__kind__stop__descriptor,
	.capture = stop_capture,
	.check = stop_check,
	.finish = stop_finish,
};
