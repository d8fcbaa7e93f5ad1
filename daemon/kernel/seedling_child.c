// SPDX-License-Identifier: Apache-2.0
/*
 * Children of seedlings. The maker clones one that shares its memory for a moment, is traced from
 * its first instruction on (CLONE_PTRACE), gives up all descriptors but two, and becomes the image
 * by an exec: so nothing of the maker stays in it, however large that is by then.
 *
 * Until the exec its calls are made one by one with the vdso's instruction; what they point to lies
 * in the maker's memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/seedling_priv.h"
#include "kernel/trace.h"

/* Of the maker's lent descriptors. */
#define LENT_IMAGE (SEEDLING_LENT_MAX + 1)
#define LENT_SOCK  SEEDLING_LENT_MAX
/* Descriptors of the child while it becomes the image. */
#define SOCK_FD  0
#define IMAGE_FD 1
/* In the maker's private memory. */
#define AT_ARGS  0
#define AT_TID   128
#define AT_EMPTY 144 /* an empty text; as a list, nothing */

#define SIGNALS 64

static struct err *take_back_one(struct task *t, unsigned which)
{
	int number = t->remote->lent[which];

	if (number < 0)
		return NULL;
	t->remote->lent[which] = -1;
	return REMOTE(
		t, task_leader(t), NULL, "close what was lent to it", SYS_close, (uint64_t)number);
}

static struct err *lend_both(struct task *maker, int sock)
{
	autoclose int image = -1;

	TRY(seedling_image(&image));
	TRY(seedling_lend_any(maker, LENT_IMAGE, image));
	return seedling_lend_any(maker, LENT_SOCK, sock);
}

static struct err *clone_child(struct task *maker, const struct seedling_child_spec *spec)
{
	const uint64_t at = maker->remote->private_at, none[2] = { 0 };
	const pid_t set_tid = spec->pid;
	struct clone_args args = {
		.flags = CLONE_VM | CLONE_PTRACE | CLONE_CLEAR_SIGHAND |
			 (spec->sibling ? CLONE_PARENT : 0),
		.exit_signal = spec->sibling ? 0 : SIGCHLD,
		.set_tid = at + AT_TID,
		.set_tid_size = 1,
	};
	struct call c = { .nr = SYS_clone3, .args = { at + AT_ARGS, sizeof(args) } };

	_Static_assert(sizeof(args) <= AT_TID, "clone_args");
	TRY(task_write(maker, at + AT_ARGS, &args, sizeof(args)));
	TRY(task_write(maker, at + AT_TID, &set_tid, sizeof(set_tid)));
	TRY(task_write(maker, at + AT_EMPTY, none, sizeof(none)));
	TRY(remote_run(maker, task_leader(maker), &c, 1));
	if (c.ret == -EEXIST)
		return seedling_pid_taken(spec->pid);
	if (c.ret < 0)
		return err_errno((int)-c.ret, "make process %d", (int)spec->pid);
	if (c.ret != spec->pid)
		return err_new(ERR_BUG, "asked for process id %d, got %lld", (int)spec->pid,
			(long long)c.ret);
	return NULL;
}

/* One call of the child while it still has the maker's memory. */
static struct err *single(struct task *t, const char *what, struct call c)
{
	TRY_IN(remote_single(t, task_leader(t), &c), "%s", what);
	return c.ret < 0 ? err_errno((int)-c.ret, "%s in process %d", what, (int)t->pid) : NULL;
}

/* Its copies of the maker's descriptors go, but for two. */
static struct err *choose_fds(struct task *t, const struct task *maker)
{
	uint64_t sock = (uint64_t)maker->remote->lent[LENT_SOCK];
	uint64_t image = (uint64_t)maker->remote->lent[LENT_IMAGE];

	if (sock <= IMAGE_FD || image <= IMAGE_FD)
		return err_new(ERR_BUG, "descriptors of the seedling's own below 2");
	TRY(single(t, "place its socket", (struct call){ SYS_dup3, { sock, SOCK_FD, 0 }, 0 }));
	TRY(single(t, "place its image",
		(struct call){ SYS_dup3, { image, IMAGE_FD, O_CLOEXEC }, 0 }));
	return single(t, "close descriptors",
		(struct call){ SYS_close_range, { IMAGE_FD + 1, ~0U, 0 }, 0 });
}

static struct err *await_stop(struct task *t, int event)
{
	struct deadline d = deadline_in(SEEDLING_MAKE_US);
	int status;

	for (;;) {
		TRY(trace_wait(t->pid, d, &status));
		if (!WIFSTOPPED(status))
			return err_new(ERR_GONE, "process %d died (status %#x)", (int)t->pid,
				(unsigned)status);
		if (trace_event(status) == event)
			return NULL;
		TRY(trace_resume(t->pid, PTRACE_CONT, 0));
	}
}

/* The exec, up to the stop before the image's first instruction. */
static struct err *become_image(struct task *t, const struct task *maker)
{
	const long with_exec = SEEDLING_OPTIONS | PTRACE_O_TRACEEXEC, options = SEEDLING_OPTIONS;
	const uint64_t empty = maker->remote->private_at + AT_EMPTY;
	const struct call exec = { .nr = SYS_execveat,
		.args = { IMAGE_FD, empty, empty, empty, AT_EMPTY_PATH } };
	struct arch_state *w = &t->remote->work;

	if (ptrace(PTRACE_SETOPTIONS, t->pid, NULL, (void *)with_exec) < 0)
		return err_errno(errno, "trace process %d", (int)t->pid);
	TRY(arch_get_regs(t->pid, w));
	arch_call_regs(w, t->remote->syscall_pc, &exec);
	TRY(arch_put_regs(t->pid, w));
	TRY(trace_resume(t->pid, PTRACE_CONT, 0));
	TRY(await_stop(t, PTRACE_EVENT_EXEC));
	if (ptrace(PTRACE_SETOPTIONS, t->pid, NULL, (void *)options) < 0 ||
		ptrace(PTRACE_INTERRUPT, t->pid, NULL, NULL) < 0)
		return err_errno(errno, "trace process %d", (int)t->pid);
	TRY(trace_resume(t->pid, PTRACE_CONT, 0));
	return await_stop(t, PTRACE_EVENT_STOP);
}

/* Handlers are gone by CLONE_CLEAR_SIGHAND, but what the maker ignores stays ignored. */
static struct err *default_signals(struct task *t)
{
	const uint64_t action[4] = { 0 }, at = remote_scratch(t).v;
	struct call calls[SIGNALS];

	for (size_t i = 0; i < SIGNALS; i++)
		calls[i] = (struct call){ .nr = SYS_rt_sigaction,
			.args = { i + 1, at, 0, sizeof(uint64_t) } };
	TRY(remote_put(t, 0, action, sizeof(action)));
	return remote_run(t, task_leader(t), calls, SIGNALS);
}

/* It is there, in the stop before its first instruction. */
static struct err *raise_child(struct task *t, struct task *maker, bool session)
{
	struct thread *leader;

	t->pidfd = pidfd_open(t->pid, 0);
	if (t->pidfd < 0)
		return err_errno(errno, "open process %d", (int)t->pid);
	TRY(await_stop(t, PTRACE_EVENT_STOP));
	TRY(task_adopt(t, t->pid, true, &leader));
	t->remote->syscall_pc = maker->remote->syscall_pc;
	TRY(task_mask(leader, 0));
	TRY(choose_fds(t, maker));
	if (session)
		TRY(single(t, "make a session", (struct call){ .nr = SYS_setsid }));
	TRY(become_image(t, maker));
	task_drop(t, leader); /* its registers were those of the maker */
	TRY(seedling_hatched(t));
	return default_signals(t);
}

struct err *seedling_child(
	struct task *maker, const struct seedling_child_spec *spec, struct task **ret)
{
	autotask struct task *t = NULL;
	struct err *e, *back;
	int pair[2];

	if (maker->remote->place != PLACE_AREA)
		return err_new(ERR_BUG, "a new process from one that is no open seedling");
	if (spec->pid <= 1)
		return err_new(ERR_INVALID, "no process %d can be made", (int)spec->pid);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(errno, "make a socket pair");
	t = seedling_task(spec->pid, pair[0], SOCK_FD);
	e = lend_both(maker, pair[1]);
	close(pair[1]);
	if (!e)
		e = clone_child(maker, spec);
	if (!e) {
		t->remote->kill_on_free = true;
		e = raise_child(t, maker, spec->session);
	}
	back = take_back_one(maker, LENT_SOCK);
	if (!back)
		back = take_back_one(maker, LENT_IMAGE);
	if (!e)
		e = take(&back);
	err_free(back);
	if (e)
		return err_in(e, "make process %d", (int)spec->pid);
	*ret = take(&t);
	return NULL;
}

/* ---- their ends ---- */

struct err *seedling_forget_child(struct task *parent)
{
	uint64_t set = MASK_BIT(SIGCHLD);
	const uint64_t none[2] = { 0 };
	struct call c = { .nr = SYS_rt_sigtimedwait };
	uint64_t at = parent->remote->private_at;

	c.args[0] = at;
	c.args[2] = at + sizeof(set);
	c.args[3] = sizeof(set);
	TRY(task_write(parent, at, &set, sizeof(set)));
	TRY(task_write(parent, at + sizeof(set), none, sizeof(none)));
	return remote_run(parent, task_leader(parent), &c, 1);
}

struct err *seedling_drop(struct task *parent, struct task *t)
{
	autotask struct task *dying = t;
	struct call wait = { .nr = SYS_wait4, .args = { (uint64_t)t->pid, 0, WNOHANG | __WALL } };

	TRY(task_kill(dying));
	TRY(task_wait_end(dying, deadline_in(SEEDLING_MAKE_US)));
	TRY(remote_run(parent, task_leader(parent), &wait, 1));
	if (wait.ret != t->pid)
		return err_errno(wait.ret < 0 ? (int)-wait.ret : EAGAIN,
			"wait for process %d in process %d", (int)t->pid, (int)parent->pid);
	return seedling_forget_child(parent);
}

/* It calls exit_group() when it goes on; a signal comes before that. */
static struct err *prepare_end(struct task *t, int status)
{
	struct call end = { .nr = SYS_exit_group, .args = { (uint64_t)WEXITSTATUS(status) } };
	struct arch_state *w = &t->remote->work;

	/* No core is dumped again. */
	TRY(REMOTE(t, task_leader(t), NULL, "end", SYS_prctl, PR_SET_DUMPABLE, 0));
	memcpy(w, &task_leader(t)->state, offsetof(struct arch_state, xstate));
	arch_call_regs(w, t->remote->syscall_pc, &end);
	TRY(arch_put_regs(t->pid, w));
	if (!WIFSIGNALED(status))
		return NULL;
	TRY(trace_set_mask(t->pid, ~MASK_BIT(WTERMSIG(status))));
	if (pidfd_send_signal(t->pidfd, WTERMSIG(status), NULL, 0) < 0)
		return err_errno(
			errno, "end process %d by signal %d", (int)t->pid, WTERMSIG(status));
	return NULL;
}

static struct err *end_as(struct task *t, int status)
{
	int got, sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	TRY(prepare_end(t, status));
	do {
		if (sig != SIGKILL)
			TRY(trace_resume(t->pid, PTRACE_CONT, sig));
		TRY(trace_wait(t->pid, deadline_in(SEEDLING_MAKE_US), &got));
	} while (WIFSTOPPED(got));
	task_leader(t)->stopped = false;
	if ((got & 0x7f) != (status & 0x7f) || WEXITSTATUS(got) != WEXITSTATUS(status))
		return err_new(ERR_BUG, "process %d ended with %#x, not %#x", (int)t->pid,
			(unsigned)got, (unsigned)status);
	return NULL;
}

struct err *seedling_end(struct task *parent, struct task *t, int status)
{
	autotask struct task *dying = t;

	while (dying->n_threads > 1)
		TRY(seedling_thread_end(dying, dying->threads[dying->n_threads - 1]->tid));
	TRY(end_as(dying, status));
	dying->remote->kill_on_free = false; /* its parent is not to wait for it */
	dying->held = false;
	return seedling_forget_child(parent);
}
