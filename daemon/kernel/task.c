// SPDX-License-Identifier: Apache-2.0
/*
 * Holding: PTRACE_SEIZE, PTRACE_INTERRUPT, wait for the stop, for each thread, until a listing of
 * /proc/PID/task shows no thread that we do not hold. A stopped thread makes no other, so this
 * ends.
 *
 * A thread may show another stop before the one we asked for: a signal that was just delivered.
 * Going on with that signal is what the kernel would have done, and the stop still comes. Once
 * stopped, signals only queue up.
 *
 * rseq: the kernel aborts a critical section when the thread returns to user space, by looking at
 * the registers it then finds. A remote call would make it look at ours and forget the section, so
 * the abort is done here, at the stop.
 */
#include "kernel/task.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "kernel/proc.h"
#include "kernel/remote_priv.h"
#include "kernel/restart.h"
#include "kernel/trace.h"

#define REAP_US    1000000
#define BETWEEN_US 1000 /* job control ends what it does */
#define PF_KTHREAD 0x00200000

/* struct rseq and struct rseq_cs of linux/rseq.h, the fields that we need. */
#define RSEQ_CS_AT 8
struct rseq_section {
	uint32_t version, flags;
	uint64_t start, length, abort;
};

/* ---- open, free ---- */

static struct err *open_mem(struct task *t)
{
	autoclose int fd = -1;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)t->pid);
	TRY(io_open(path, O_RDWR, &fd));
	if (t->mem_fd < 0) {
		t->mem_fd = take_fd(&fd);
		return NULL;
	}
	if (dup3(fd, t->mem_fd, O_CLOEXEC) < 0)
		return err_errno(errno, "open %s again", path);
	return NULL;
}

/* A zombie: the process, or its main thread alone. */
static struct err *leader_ended(const struct task *t, const struct proc_stat *st)
{
	if (st->num_threads > 1)
		return err_new(ERR_UNSUPPORTED,
			"the main thread of process %d has ended and others go on", (int)t->pid);
	return err_new(ERR_GONE, "process %d has ended", (int)t->pid);
}

static bool is_dead(const struct proc_stat *st)
{
	return st->state == 'Z' || st->state == 'X';
}

struct err *task_pin(struct task *t)
{
	autoarena struct arena *a = arena_new();
	struct proc_stat st;

	TRY(proc_stat(a, t->pid, 0, &st));
	if (is_dead(&st))
		return leader_ended(t, &st);
	if (st.flags & PF_KTHREAD)
		return err_new(ERR_UNSUPPORTED, "%d is a thread of the kernel", (int)t->pid);
	TRY(task_check_alive(t)); /* so the text was of the process behind the pidfd */
	t->start_time = st.start_time;
	return open_mem(t);
}

struct err *task_open(pid_t pid, struct task **ret)
{
	autotask struct task *t = xcalloc(1, sizeof(*t));

	t->pid = pid;
	t->pidfd = t->mem_fd = -1;
	if (pid <= 0)
		return err_new(ERR_INVALID, "%d is no process id", (int)pid);
	t->pidfd = pidfd_open(pid, 0);
	if (t->pidfd < 0 && (errno == EINVAL || errno == ENOENT))
		return err_new(ERR_INVALID, "%d is a thread, not a process", (int)pid);
	if (t->pidfd < 0)
		return err_errno(errno, "open process %d", (int)pid);
	TRY(task_pin(t));
	t->remote = remote_new();
	*ret = take(&t);
	return NULL;
}

static void free_thread(struct thread *th)
{
	remote_forget_filters(th);
	free(th);
}

static void forget_threads(struct task *t)
{
	for (size_t i = 0; i < t->n_threads; i++)
		free_thread(t->threads[i]);
	free(t->threads);
	t->threads = NULL;
	t->n_threads = 0;
	t->held = false;
}

/* Its pid is free for the next attempt only when init has reaped it. */
static void bury(struct task *t)
{
	struct deadline d = deadline_in(REAP_US);

	err_free(task_kill(t));
	err_free(task_wait_end(t, d));
	while (pidfd_send_signal(t->pidfd, 0, NULL, 0) == 0 && !deadline_passed(d))
		usleep(100);
}

void task_free(struct task *t)
{
	if (!t)
		return;
	if (t->remote && t->remote->kill_on_free)
		bury(t);
	if (t->held)
		err_free(task_let_go(t));
	forget_threads(t);
	restart_forget(t);
	remote_free(t->remote);
	fd_closep(&t->mem_fd);
	fd_closep(&t->pidfd);
	free(t);
}

void task_freep(struct task **t)
{
	task_free(take(t));
}

struct err *task_check_alive(const struct task *t)
{
	struct pollfd p = { .fd = t->pidfd, .events = POLLIN };

	if (poll(&p, 1, 0) != 0)
		return err_new(ERR_GONE, "process %d has ended", (int)t->pid);
	return NULL;
}

struct thread *task_thread(const struct task *t, pid_t tid)
{
	for (size_t i = 0; i < t->n_threads; i++)
		if (t->threads[i]->tid == tid)
			return t->threads[i];
	return NULL;
}

bool task_pump_is(const struct task *t, pid_t tid)
{
	autoarena struct arena *a = arena_new();
	autoerr struct err *e = NULL;
	struct proc_stat st;

	if (!t->pump.tid || tid != t->pump.tid)
		return false;
	e = proc_stat(a, t->pid, tid, &st);
	return !e && st.start_time == t->pump.start_time;
}

/* ---- hold ---- */

static struct thread *add_thread(struct task *t, pid_t tid)
{
	struct thread *th = xcalloc(1, sizeof(*th));

	th->tid = tid;
	t->threads = xrealloc_array(t->threads, t->n_threads + 1, sizeof(t->threads[0]));
	t->threads[t->n_threads++] = th;
	if (tid == t->pid) {
		t->threads[t->n_threads - 1] = t->threads[0];
		t->threads[0] = th;
	}
	return th;
}

void task_drop(struct task *t, struct thread *th)
{
	for (size_t i = 0; i < t->n_threads; i++)
		if (t->threads[i] == th) {
			t->n_threads--;
			memmove(&t->threads[i], &t->threads[i + 1],
				(t->n_threads - i) * sizeof(t->threads[0]));
			free_thread(th);
			return;
		}
}

struct err *task_adopt(struct task *t, pid_t tid, bool fresh, struct thread **ret)
{
	struct thread *th = add_thread(t, tid);

	th->fresh = fresh;
	th->stopped = true;
	*ret = th;
	return arch_get_state(tid, &th->state);
}

/* PTRACE_SEIZE failed with EPERM: says why. NULL when the thread is just ending, or *ours: we have
 * traced it since an earlier hold in which it did not stop. */
static struct err *why_not_seized(struct task *t, pid_t tid, bool *ours)
{
	autoarena struct arena *a = arena_new();
	struct proc_stat st;
	struct proc_status status;
	struct err *e = proc_stat(a, t->pid, tid, &st);

	if (e && err_code(e) == ERR_GONE) {
		err_free(e);
		return NULL;
	}
	if (e)
		return e;
	if (is_dead(&st))
		return tid == t->pid ? leader_ended(t, &st) : NULL;
	TRY(proc_status(a, t->pid, tid, &status));
	*ours = status.tracer == gettid();
	if (*ours)
		return NULL;
	if (status.tracer)
		return err_new(ERR_DENIED, "thread %d is traced by process %d already", (int)tid,
			(int)status.tracer);
	return err_new(ERR_DENIED, "no permission to trace thread %d", (int)tid);
}

static struct err *seize(struct task *t, pid_t tid, bool *ended)
{
	const long options = TASK_OPTIONS;
	bool ours = false;

	*ended = false;
	if (ptrace(PTRACE_SEIZE, tid, NULL, (void *)options) < 0) {
		if (errno == ESRCH && tid != t->pid) {
			*ended = true;
			return NULL;
		}
		if (errno != EPERM)
			return err_errno(errno, "trace thread %d", (int)tid);
		TRY(why_not_seized(t, tid, &ours));
		*ended = !ours;
		if (*ended)
			return NULL;
	}
	if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0 && errno != ESRCH)
		return err_errno(errno, "interrupt thread %d", (int)tid);
	return NULL;
}

static struct err *leave_rseq(struct task *t, struct thread *th)
{
	struct __ptrace_rseq_configuration conf = { 0 };
	struct rseq_section cs;
	uint64_t at = 0, pc = arch_pc(&th->state), none = 0;

	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, th->tid, sizeof(conf), &conf) < 0 ||
		!conf.rseq_abi_pointer)
		return NULL; /* before Linux 5.13 one cannot know */
	TRY(task_read(t, conf.rseq_abi_pointer + RSEQ_CS_AT, &at, sizeof(at)));
	if (!at)
		return NULL;
	TRY(task_read(t, at, &cs, sizeof(cs)));
	if (pc - cs.start >= cs.length)
		return NULL;
	arch_set_pc(&th->state, cs.abort);
	TRY(arch_put_regs(th->tid, &th->state));
	return task_write(t, conf.rseq_abi_pointer + RSEQ_CS_AT, &none, sizeof(none));
}

/* The thread is in the stop that we asked for; sig: SIGTRAP, or by which job control stops it. */
static struct err *take_state(struct task *t, struct thread *th, int sig)
{
	th->stopped = true;
	th->stop_signal = sig == SIGTRAP ? 0 : sig;
	TRY(arch_get_state(th->tid, &th->state));
	restart_recall(t, th);
	if (arch_syscall_hide_stop(&th->state))
		TRY(arch_put_regs(th->tid, &th->state));
	return leave_rseq(t, th);
}

/* A thread that never stops: is it a dead leader? */
static struct err *why_no_stop(struct task *t, pid_t tid, struct err *timeout)
{
	autoerr struct err *e = NULL;
	autoarena struct arena *a = arena_new();
	struct proc_stat st;

	e = proc_stat(a, t->pid, tid, &st);
	if (e)
		return timeout;
	if (!is_dead(&st))
		return err_in(timeout, "stop process %d (a thread is in state %c)", (int)t->pid,
			st.state);
	err_free(timeout);
	return leader_ended(t, &st);
}

/* Waits for the stop. *ended: the thread is no more. */
static struct err *await_stop(struct task *t, struct thread *th, struct deadline d, bool *ended)
{
	struct err *e;
	int status, sig;

	*ended = false;
	for (;;) {
		e = trace_wait(th->tid, d, &status);
		if (e && err_code(e) == ERR_TIMEOUT)
			return why_no_stop(t, th->tid, e);
		if ((e && err_code(e) == ERR_GONE) || (!e && !WIFSTOPPED(status))) {
			err_free(e);
			*ended = true;
			return NULL;
		}
		if (e)
			return e;
		sig = WSTOPSIG(status);
		if (trace_event(status) == PTRACE_EVENT_STOP)
			return take_state(t, th, sig);
		e = trace_resume(th->tid, PTRACE_CONT, trace_event(status) ? 0 : sig);
		if (e && err_code(e) != ERR_GONE)
			return e;
		err_free(e);
	}
}

/* One listing; adds and stops what is new. */
static struct err *hold_pass(struct task *t, struct deadline d, size_t *added)
{
	autoarena struct arena *a = arena_new();
	size_t n, first = t->n_threads;
	pid_t *tids;
	bool ended;

	TRY(proc_tids(a, t->pid, &tids, &n));
	for (size_t i = 0; i < n; i++) {
		if (task_thread(t, tids[i]) || task_pump_is(t, tids[i]))
			continue;
		TRY(seize(t, tids[i], &ended));
		if (!ended)
			add_thread(t, tids[i]);
	}
	*added = t->n_threads - first;
	for (size_t i = 0; i < t->n_threads;) {
		struct thread *th = t->threads[i];

		ended = false;
		if (!th->stopped)
			TRY(await_stop(t, th, d, &ended));
		if (ended)
			task_drop(t, th);
		else
			i++;
	}
	return NULL;
}

static struct err *hold_all(struct task *t, struct deadline d)
{
	autoarena struct arena *a = arena_new();
	struct proc_stat st;
	size_t added;

	TRY(task_check_alive(t));
	TRY(proc_stat(a, t->pid, 0, &st));
	if (is_dead(&st))
		return leader_ended(t, &st);
	TRY(open_mem(t)); /* an exec since then has made another address space */
	do {
		TRY(hold_pass(t, d, &added));
	} while (added > 0);
	if (t->n_threads == 0 || t->threads[0]->tid != t->pid)
		return err_new(ERR_GONE, "process %d has ended", (int)t->pid);
	for (size_t i = 0; i < t->n_threads; i++)
		TRY_IN(arch_check_state(&t->threads[i]->state), "thread %d of %d",
			(int)t->threads[i]->tid, (int)t->pid);
	return NULL;
}

/* A hold that failed half way: threads may be in any stop, or in none yet. */
static void give_up(struct task *t)
{
	struct deadline d = deadline_in(REAP_US / 100);
	struct err *e;

	for (size_t i = 0; i < t->n_threads; i++) {
		struct thread *th = t->threads[i];
		int status;

		if (ptrace(PTRACE_DETACH, th->tid, NULL, NULL) == 0)
			continue;
		e = trace_wait(th->tid, d, &status);
		if (!e && WIFSTOPPED(status))
			e = trace_resume(
				th->tid, PTRACE_DETACH, trace_event(status) ? 0 : WSTOPSIG(status));
		err_free(e);
	}
	forget_threads(t);
}

/* Job control stops all threads or none, but not at once: it may have been in the middle. */
static bool between_stops(const struct task *t)
{
	for (size_t i = 1; i < t->n_threads; i++)
		if (t->threads[i]->stop_signal != t->threads[0]->stop_signal)
			return true;
	return false;
}

struct err *task_hold(struct task *t, struct deadline d)
{
	struct err *e;

	if (t->held)
		return NULL;
	for (;;) {
		e = hold_all(t, d);
		if (!e && !between_stops(t))
			break;
		give_up(t);
		if (e)
			return e;
		if (deadline_passed(d))
			return err_new(ERR_TIMEOUT,
				"process %d is stopped and continued all the time", (int)t->pid);
		usleep(BETWEEN_US);
	}
	t->stop_signal = t->threads[0]->stop_signal;
	t->held = true;
	return NULL;
}

/* ---- let go ---- */

struct err *task_mask(struct thread *th, int open)
{
	uint64_t mask = open ? MASK_ALL & ~MASK_BIT(open) : MASK_ALL;

	/* whoever rebuilds a thread may have set its mask meanwhile */
	if (th->masked && th->mask == mask && !th->fresh)
		return NULL;
	th->touched = th->masked = true;
	th->mask = mask;
	return trace_set_mask(th->tid, mask);
}

struct err *task_untouch(struct thread *th)
{
	if (!th->touched)
		return NULL;
	TRY(arch_set_regs(th->tid, &th->state));
	th->touched = th->masked = false;
	return NULL;
}

/* A thread of a killed process stays a zombie until its tracer has seen it. */
static void reap(struct task *t, struct deadline d)
{
	for (size_t i = t->n_threads; i-- > 0;) {
		int status = 0;
		struct err *e;

		do {
			e = trace_wait(t->threads[i]->tid, d, &status);
		} while (!e && WIFSTOPPED(status));
		err_free(e);
	}
}

struct err *task_let_go(struct task *t)
{
	struct err *first, *e;

	if (!t->held)
		return NULL;
	restart_remember(t);
	first = remote_put_back(t);
	for (size_t i = t->n_threads; i-- > 0;) {
		struct thread *th = t->threads[i];

		e = th->fresh ? arch_set_state(th->tid, &th->state) : task_untouch(th);
		if (!e)
			e = trace_resume(th->tid, PTRACE_DETACH, 0);
		else /* it stays stopped no longer than the others */
			err_free(trace_resume(th->tid, PTRACE_DETACH, 0));
		if (!first)
			first = take(&e);
		err_free(e);
	}
	if (first && err_code(first) == ERR_GONE)
		reap(t, deadline_in(REAP_US));
	forget_threads(t);
	return first;
}

/* ---- end ---- */

struct err *task_kill(struct task *t)
{
	if (pidfd_send_signal(t->pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return err_errno(errno, "kill process %d", (int)t->pid);
	return NULL;
}

struct err *task_wait_end(struct task *t, struct deadline d)
{
	struct pollfd p = { .fd = t->pidfd, .events = POLLIN };
	int n;

	if (t->held) {
		reap(t, d);
		forget_threads(t);
	}
	do {
		n = poll(&p, 1, deadline_poll_ms(d));
	} while (n < 0 && errno == EINTR && !deadline_passed(d));
	if (n <= 0)
		return err_new(ERR_TIMEOUT, "process %d does not end", (int)t->pid);
	return NULL;
}

/* ---- memory ---- */

struct err *task_read(const struct task *t, uint64_t addr, void *buf, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = pread(t->mem_fd, (char *)buf + done, n - done, (off_t)(addr + done));

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return err_errno(r < 0 && errno != EIO ? errno : EFAULT,
				"read %zu bytes at %#llx of process %d", n,
				(unsigned long long)addr, (int)t->pid);
		done += (size_t)r;
	}
	return NULL;
}

struct err *task_write(const struct task *t, uint64_t addr, const void *buf, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t r =
			pwrite(t->mem_fd, (const char *)buf + done, n - done, (off_t)(addr + done));

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return err_errno(r < 0 && errno != EIO ? errno : EFAULT,
				"write %zu bytes at %#llx of process %d", n,
				(unsigned long long)addr, (int)t->pid);
		done += (size_t)r;
	}
	return NULL;
}
