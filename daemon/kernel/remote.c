// SPDX-License-Identifier: Apache-2.0
/*
 * A batch: the calls are written into the task, the thread's registers are set to the agent, all
 * its signals but one are blocked, it runs. The last call of a batch sends that one signal to the
 * thread itself; the tracer sees the thread stop before delivery and drops the signal. Of a
 * breakpoint the thread would die if we were dead; this signal is ignored by default, and after it
 * the agent returns to where the thread was, by the rt_sigreturn frame that was written before all
 * else.
 *
 * If we die, every thread goes on with the registers it has then. So the order is: frame and code
 * are in place before a thread gets the agent's registers, and it has its own back before they
 * change; there is one frame, so one thread at a time. The mask changes while the registers are the
 * agent's: rt_sigreturn restores both.
 *
 * A real signal of that number may come just then: it stops the thread elsewhere, or with another
 * sender. It is queued again afterwards, from inside the thread (only there any si_code is
 * allowed). If both numbers are pending, the batch runs with system call stops instead: slower, no
 * signal.
 *
 * PTRACE_SINGLESTEP is used nowhere: its SIGTRAP is forced, and forcing a blocked or ignored signal
 * sets its action back to the default.
 */
#include "kernel/remote_priv.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/trace.h"

#define REQUEUE_INFO_AT 256 /* behind the call that refers to it */
#define BATCH_US        15000000
#define STOP_US         1000000

struct remote *remote_new(void)
{
	struct remote *r = xcalloc(1, sizeof(*r));

	r->sock = r->sock_number = -1;
	for (size_t i = 0; i < SEEDLING_LENT_ALL; i++)
		r->lent[i] = -1;
	return r;
}

void remote_free(struct remote *r)
{
	if (!r)
		return;
	free(r->saved_code.bytes);
	free(r->saved_data.bytes);
	fd_closep(&r->sock);
	free(r);
}

static struct err *ensure_place(struct task *t)
{
	if (!t->held)
		return err_new(ERR_BUG, "remote call in process %d that is not held", (int)t->pid);
	if (t->remote->started)
		return err_new(ERR_BUG, "remote call in process %d before the last has ended",
			(int)t->pid);
	if (t->remote->place != PLACE_NONE)
		return NULL;
	return remote_place(t);
}

/* ---- running ---- */

/* The thread has stopped by the run's signal: is it the end? */
static struct err *on_signal(struct task *t, struct thread *th, struct run *run)
{
	siginfo_t info;
	bool ours, done;

	TRY(arch_get_regs(th->tid, &t->remote->work));
	done = arch_agent_done(&t->remote->work, t->remote->code);
	if (ptrace(PTRACE_GETSIGINFO, th->tid, NULL, &info) < 0)
		return err_errno(errno, "read signal %d of thread %d", run->sig, (int)th->tid);
	/* without sender: the queue was full (RLIMIT_SIGPENDING) and only the number came through
	 */
	ours = info.si_pid == t->pid ? info.si_code == SI_TKILL
				     : info.si_pid == 0 && info.si_code == SI_USER;
	if (done)
		run->left = 0;
	if (done && ours)
		return NULL;
	run->stolen = true; /* two of one number are one, as always with these signals */
	run->info = info;
	return NULL;
}

static struct err *on_stop(struct task *t, struct thread *th, int status, struct run *run)
{
	if (!WIFSTOPPED(status)) {
		th->stopped = false;
		return err_new(ERR_GONE, "thread %d ended during a remote call", (int)th->tid);
	}
	if (trace_event(status))
		return NULL; /* a clone of the thread's own, SIGCONT from outside */
	if (WSTOPSIG(status) == TRACE_SYSCALL_STOP) {
		run->left--;
		return NULL;
	}
	if (WSTOPSIG(status) == SIGSTOP) {
		t->remote->stop_seen = true;
		return NULL;
	}
	if (run->sig && WSTOPSIG(status) == run->sig)
		return on_signal(t, th, run);
	return err_new(ERR_BUG, "signal %d in thread %d during a remote call", WSTOPSIG(status),
		(int)th->tid);
}

/* The batch does not end (a call that blocks, a control group frozen by somebody): the thread is
 * stopped where it is, so that its own registers can come back. Takes and returns `late`. */
static struct err *stop_batch(struct thread *th, struct err *late)
{
	int status;
	struct err *e = NULL;

	if (ptrace(PTRACE_INTERRUPT, th->tid, NULL, NULL) == 0)
		e = trace_wait(th->tid, deadline_in(STOP_US), &status);
	err_free(e);
	return err_hint(late, "is its control group frozen by somebody else?");
}

typedef struct err *(*wait_fn)(pid_t tid, struct deadline d, int *status);

/* It has been resumed: its next stop. */
static struct err *await_stop(struct task *t, struct thread *th, struct run *run, wait_fn wait)
{
	int status;
	struct err *e = wait(th->tid, deadline_in(BATCH_US), &status);

	if (e && err_code(e) == ERR_TIMEOUT)
		return stop_batch(th, e);
	return e ? e : on_stop(t, th, status, run);
}

static struct err *resume(struct thread *th, const struct run *run)
{
	return trace_resume(th->tid, run->sig ? PTRACE_CONT : PTRACE_SYSCALL, 0);
}

/* Until so many of its stops are left. */
static struct err *drive_to(struct task *t, struct thread *th, struct run *run, size_t left)
{
	while (run->left > left) {
		TRY(resume(th, run));
		TRY(await_stop(t, th, run, trace_wait));
	}
	return NULL;
}

static struct err *drive(struct task *t, struct thread *th, struct run *run)
{
	return drive_to(t, th, run, 0);
}

/* Registers for the next run start from the thread's own (segments, flags). */
static struct arch_state *work_regs(struct task *t, const struct thread *th)
{
	struct arch_state *w = &t->remote->work;

	w->regs_len = th->state.regs_len;
	memcpy(w->regs, th->state.regs, w->regs_len);
	return w;
}

/* The way back, written before the first foreign instruction. */
static struct err *ensure_frame(struct task *t, struct thread *th)
{
	struct remote *r = t->remote;
	uint8_t buf[ARCH_FRAME_MAX] __attribute__((aligned(64)));
	size_t n;

	if (r->place != PLACE_GUEST || r->frame_tid == th->tid)
		return NULL;
	if (th->state.xstate_len > task_leader(t)->state.xstate_len)
		return err_new(ERR_UNSUPPORTED, "extended state of %zu bytes in thread %d",
			th->state.xstate_len, (int)th->tid);
	TRY(remote_clear_frame(t));
	n = arch_sigreturn_frame(&th->state, r->frame, buf);
	TRY(task_write(t, r->frame, buf, n));
	r->frame_tid = th->tid;
	return NULL;
}

/* Makes ready to run n calls that lie in the task, the one that sends run->sig included. */
static struct err *load(struct task *t, struct thread *th, size_t n, struct run *run)
{
	struct remote *r = t->remote;
	struct arch_state *w;

	TRY(ensure_frame(t, th));
	w = work_regs(t, th);
	arch_agent_regs(w, r->code, r->calls, n, r->frame);
	th->touched = true;
	TRY(arch_put_regs(th->tid, w));
	TRY(task_mask(th, run->sig));
	run->left = run->sig ? 1 : 2 * n;
	return NULL;
}

/* To the thread or to the process; the info lies behind the call. */
static struct call requeue(const struct task *t, const struct thread *th, int sig, bool to_thread)
{
	uint64_t at = t->remote->calls + REQUEUE_INFO_AT;

	if (!to_thread)
		return (struct call){ .nr = SYS_rt_sigqueueinfo,
			.args = { (uint64_t)t->pid, (uint64_t)sig, at } };
	return (struct call){ .nr = SYS_rt_tgsigqueueinfo,
		.args = { (uint64_t)t->pid, (uint64_t)th->tid, (uint64_t)sig, at } };
}

/* Its filters were asked before the batch (load_batch): by now there is no way back. */
static struct err *queue_again(struct task *t, struct thread *th, const siginfo_t *info)
{
	struct remote *r = t->remote;
	uint64_t at = r->calls + REQUEUE_INFO_AT;
	struct run run = { 0 };
	struct call c = requeue(t, th, info->si_signo, info->si_code == SI_TKILL);

	TRY(task_write(t, r->calls, &c, sizeof(c)));
	TRY(task_write(t, at, info, sizeof(*info)));
	TRY(load(t, th, 1, &run));
	TRY(drive(t, th, &run));
	TRY(task_read(t, r->calls, &c, sizeof(c)));
	if (c.ret < 0)
		return err_errno((int)-c.ret, "queue signal %d again", info->si_signo);
	return NULL;
}

/* Signals that a batch sends itself (pending ones are rebuilt so). */
static uint64_t sent_by(const struct call *calls, size_t n)
{
	static const struct {
		uint64_t nr;
		unsigned arg;
	} senders[] = { { SYS_rt_tgsigqueueinfo, 2 }, { SYS_rt_sigqueueinfo, 1 }, { SYS_tgkill, 2 },
		{ SYS_tkill, 1 }, { SYS_kill, 1 } };
	uint64_t mask = 0;

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < ARRAY_LEN(senders); k++) {
			uint64_t sig = calls[i].args[senders[k].arg];

			if (calls[i].nr == senders[k].nr && sig >= 1 && sig <= 64)
				mask |= MASK_BIT(sig);
		}
	return mask;
}

/* The signal that ends the next batch; 0 if neither is free. */
static struct err *pick_signal(struct task *t, struct thread *th, uint64_t avoid, int *sig)
{
	const int *s = t->remote->signals;
	uint64_t pending;

	TRY(trace_pending(th->tid, &pending));
	pending |= avoid;
	*sig = 0;
	for (size_t i = ARRAY_LEN(t->remote->signals); i-- > 0;)
		if (s[i] && !(pending & MASK_BIT(s[i])))
			*sig = s[i];
	return NULL;
}

/* n <= REMOTE_CALLS_MAX */
static struct err *load_batch(
	struct task *t, struct thread *th, const struct call *calls, size_t n, struct run *run)
{
	struct call stop = { .nr = SYS_tgkill, .args = { (uint64_t)t->pid, (uint64_t)th->tid } };
	struct call list[REMOTE_CALLS_MAX + 1];

	TRY(pick_signal(t, th, sent_by(calls, n), &run->sig));
	stop.args[2] = (uint64_t)run->sig;
	memcpy(list, calls, n * sizeof(list[0]));
	list[n] = stop;
	TRY(remote_judge(t, th, list, n + 1));
	for (int to_thread = 0; to_thread < 2; to_thread++) {
		struct call again = requeue(t, th, run->sig, to_thread);

		TRY(remote_judge(t, th, &again, 1));
	}
	TRY(task_write(t, t->remote->calls, list, (n + 1) * sizeof(list[0])));
	return load(t, th, n + (run->sig != 0), run);
}

static struct err *results(
	struct task *t, struct thread *th, struct call *calls, size_t n, const struct run *run)
{
	struct remote *r = t->remote;
	struct call list[REMOTE_CALLS_MAX];

	TRY(task_read(t, r->calls, list, n * sizeof(list[0])));
	/* counted runs stop before the agent has stored the last result */
	if (!run->sig) {
		TRY(arch_get_regs(th->tid, &r->work));
		list[n - 1].ret = arch_call_result(&r->work);
	}
	for (size_t i = 0; i < n; i++)
		calls[i].ret = list[i].ret;
	return run->stolen ? queue_again(t, th, &run->info) : NULL;
}

static struct err *run_batch(struct task *t, struct thread *th, struct call *calls, size_t n)
{
	struct run run = { 0 };

	TRY(load_batch(t, th, calls, n, &run));
	TRY(drive(t, th, &run));
	return results(t, th, calls, n, &run);
}

struct err *remote_start(struct task *t, struct thread *th, const struct call *calls, size_t n)
{
	struct remote *r = t->remote;

	TRY(ensure_place(t));
	if (r->place == PLACE_SEALED || !n || n > REMOTE_CALLS_MAX)
		return err_new(ERR_BUG, "%zu remote calls to be started", n);
	r->run = (struct run){ 0 };
	TRY_IN(load_batch(t, th, calls, n, &r->run), "remote calls in thread %d", (int)th->tid);
	TRY(resume(th, &r->run));
	r->started = th;
	return NULL;
}

struct err *remote_collect(struct task *t, struct call *calls, size_t n)
{
	struct remote *r = t->remote;
	struct thread *th = r->started;

	if (!th)
		return err_new(ERR_BUG, "no remote calls were started");
	r->started = NULL;
	TRY_IN(await_stop(t, th, &r->run, trace_wait_long), "remote calls in thread %d",
		(int)th->tid);
	TRY_IN(drive(t, th, &r->run), "remote calls in thread %d", (int)th->tid);
	return results(t, th, calls, n, &r->run);
}

struct err *remote_single(struct task *t, struct thread *th, struct call *c)
{
	struct remote *r = t->remote;
	struct run run = { .left = 2 };
	struct arch_state *w;

	w = work_regs(t, th);
	arch_call_regs(w, r->syscall_pc, c);
	TRY(arch_put_regs(th->tid, w));
	TRY(task_mask(th, 0));
	TRY(drive(t, th, &run));
	TRY(arch_get_regs(th->tid, w));
	c->ret = arch_call_result(w);
	return NULL;
}

struct err *remote_run(struct task *t, struct thread *th, struct call *calls, size_t n)
{
	TRY(ensure_place(t));
	if (t->remote->place == PLACE_SEALED) {
		for (size_t i = 0; i < n; i++)
			TRY_IN(remote_single(t, th, &calls[i]), "remote calls in thread %d",
				(int)th->tid);
		return NULL;
	}
	for (size_t i = 0; i < n; i += REMOTE_CALLS_MAX)
		TRY_IN(run_batch(t, th, calls + i, MIN(n - i, (size_t)REMOTE_CALLS_MAX)),
			"remote calls in thread %d", (int)th->tid);
	return NULL;
}

/* With system call stops: two for each call. */
struct err *remote_run_around(struct task *t, struct thread *th, struct call *calls, size_t n,
	const struct remote_between *between)
{
	struct remote *r = t->remote;
	struct run run = { 0 };
	struct err *e, *rest;

	TRY(ensure_place(t));
	if (r->place == PLACE_SEALED || !n || n > REMOTE_CALLS_MAX)
		return err_new(ERR_BUG, "%zu remote calls around something", n);
	TRY(remote_judge(t, th, calls, n));
	TRY(task_write(t, r->calls, calls, n * sizeof(calls[0])));
	TRY(load(t, th, n, &run));
	TRY(drive_to(t, th, &run, 2 * (n - 1)));
	TRY(arch_get_regs(th->tid, &r->work));
	calls[0].ret = arch_call_result(&r->work);
	e = between->fn(between->arg, calls);
	rest = task_write(t, r->calls + sizeof(calls[0]), calls + 1, (n - 1) * sizeof(calls[0]));
	if (!rest)
		rest = drive(t, th, &run);
	if (!rest)
		rest = results(t, th, calls, n, &run);
	if (!e)
		return rest;
	err_free(rest);
	return e;
}

struct err *remote_call(
	struct task *t, struct thread *th, const struct call *c, const char *what, int64_t *ret)
{
	struct call one = *c;

	TRY_IN(remote_run(t, th, &one, 1), "%s", what);
	/* no call returns an address in the last page */
	if (one.ret < 0 && one.ret > -4096)
		return err_errno((int)-one.ret, "%s in process %d", what, (int)t->pid);
	if (ret)
		*ret = one.ret;
	return NULL;
}

/* ---- a thread of ours ---- */

#define IMAGE_AT 64 /* in the scratch memory; before it the word by which the thread tells */
#define YIELDS   20
#define NAP_US   20
/* The process stands still meanwhile, but a thread that is half there cannot be taken back. */
#define ARRIVE_US 5000000

static struct err *clone_by(struct task *t, const struct remote_launch *l, pid_t *tid)
{
	struct thread *th = task_leader(t);
	struct remote *r = t->remote;
	struct run run = { .left = 2 };
	struct arch_state *w;
	int64_t ret;

	TRY(ensure_frame(t, th));
	w = work_regs(t, th);
	arch_launch_regs(w, &(struct arch_launch){ .code = r->code,
				    .frame = r->frame,
				    .stack = arch_sp(&th->state),
				    .image = r->scratch + IMAGE_AT,
				    .image_len = l->image_len,
				    .area_bytes = l->area_bytes,
				    .tell = r->scratch });
	th->touched = true;
	TRY(arch_put_regs(th->tid, w));
	TRY(task_mask(th, 0)); /* the new thread inherits it: no signal ever reaches it */
	TRY(drive(t, th, &run));
	TRY(arch_get_regs(th->tid, w));
	ret = arch_call_result(w);
	if (ret < 0)
		return err_errno((int)-ret, "start a thread in process %d", (int)t->pid);
	*tid = (pid_t)ret;
	return NULL;
}

static bool thread_exists(const struct task *t, pid_t tid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d", (int)t->pid, (int)tid);
	return access(path, F_OK) == 0;
}

/* What it tells: the address of its area, or why it has none; then it ends, which takes our code
 * once more. */
static struct err *await_arrival(struct task *t, pid_t tid, uint64_t *area)
{
	struct deadline d = deadline_in(ARRIVE_US);
	int64_t told = 0;

	for (unsigned naps = 0; !deadline_passed(d); naps++) {
		TRY(remote_get(t, 0, &told, sizeof(told)));
		*area = (uint64_t)told;
		if (told > 0)
			return NULL;
		if (told < 0 && !thread_exists(t, tid))
			return err_errno(
				(int)-told, "make memory for a thread in process %d", (int)t->pid);
		if (naps < YIELDS)
			sched_yield();
		else
			usleep(NAP_US);
	}
	return err_new(ERR_TIMEOUT, "a new thread in process %d does not run", (int)t->pid);
}

struct err *remote_launch(struct task *t, const struct remote_launch *l, pid_t *tid, uint64_t *area)
{
	const struct seccomp_filters *filters;
	const uint64_t nothing = 0;
	struct err *e, *back;

	*tid = 0;
	TRY(remote_put(t, 0, &nothing, sizeof(nothing)));
	TRY(remote_put(t, IMAGE_AT, l->image, l->image_len));
	if (t->remote->place != PLACE_GUEST)
		return err_new(ERR_BUG, "a thread of ours in a process of ours");
	TRY(remote_filters(task_leader(t), &filters));
	if (filters->n) /* it would be judged by them, as nobody traces it */
		return err_new(ERR_UNSUPPORTED, "process %d has seccomp filters", (int)t->pid);
	/* No thread may have the agent's registers while its code is not there. */
	TRY(remote_clear_frame(t));
	TRY(remote_write_code(t, arch_launch_code));
	e = clone_by(t, l, tid);
	if (!e)
		e = await_arrival(t, *tid, area);
	back = remote_clear_frame(t);
	if (e && err_code(e) == ERR_TIMEOUT) {
		/* It will run this code yet: it must stay, and what it copies. */
		t->remote->saved_code.n = t->remote->saved_data.n = 0;
		t->remote->place = PLACE_NONE;
		err_free(back);
		return e;
	}
	if (!back)
		back = remote_write_code(t, arch_agent_code);
	if (!e)
		return back;
	err_free(back);
	return e;
}

/* ---- scratch ---- */

static struct err *scratch_range(struct task *t, size_t offset, size_t n)
{
	TRY(ensure_place(t));
	if (t->remote->place == PLACE_SEALED || offset > REMOTE_SCRATCH_BYTES ||
		n > REMOTE_SCRATCH_BYTES - offset)
		return err_new(ERR_BUG, "%zu bytes at %zu of the scratch memory", n, offset);
	return NULL;
}

raddr remote_scratch(const struct task *t)
{
	/* Placing changes only what is private; the call that will use it fails the same way. */
	err_free(ensure_place((struct task *)(uintptr_t)t));
	return (raddr){ t->remote->scratch };
}

/* Memory of a process that has ended is not there: says so instead. Takes e. */
static struct err *or_gone(const struct task *t, struct err *e)
{
	struct err *gone = e ? task_check_alive(t) : NULL;

	if (!gone)
		return e;
	err_free(e);
	return gone;
}

struct err *remote_put(struct task *t, size_t offset, const void *buf, size_t n)
{
	TRY(scratch_range(t, offset, n));
	return or_gone(t, task_write(t, t->remote->scratch + offset, buf, n));
}

struct err *remote_get(struct task *t, size_t offset, void *buf, size_t n)
{
	TRY(scratch_range(t, offset, n));
	return or_gone(t, task_read(t, t->remote->scratch + offset, buf, n));
}

struct err *remote_fd_home(struct task *t, int number, int *fd)
{
	int got = pidfd_getfd(t->pidfd, number, 0);

	if (got < 0 && errno == EBADF)
		return err_new(
			ERR_GONE, "descriptor %d of process %d is closed", number, (int)t->pid);
	/* On its way out it has no descriptors already, and its pidfd does not say so yet. */
	if (got < 0 && errno == ESRCH)
		return err_new(ERR_GONE, "process %d has ended", (int)t->pid);
	if (got < 0)
		return err_errno(errno, "copy descriptor %d of process %d", number, (int)t->pid);
	*fd = got;
	return NULL;
}
