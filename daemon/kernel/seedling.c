// SPDX-License-Identifier: Apache-2.0
/*
 * Making the seedling. Two processes are born:
 *
 *   worker -- fork --> helper: unshare(CLONE_NEWTIME), writes the offsets
 *                        +-- clone3(set_tid) --> seedling: waits, is seized, then becomes the image
 *                      exits, so that the seedling is a child of init
 *
 * Offsets of a time namespace can be written until its first task exists, and clone3(CLONE_NEWTIME)
 * would make both at once: so unshare and a child. They count from the initial namespace: our own
 * are added.
 *
 * The seedling runs no instruction of the image before it is ours: the exec stops it. Between
 * clone3 and the seize it waits on a pipe whose other end only we have, so it ends if we do.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "kernel/proc.h"
#include "kernel/seedling_priv.h"
#include "kernel/trace.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

#define PID_FREE_US 200000  /* a pid whose process was reaped just now */
#define NSEC        1000000000LL
/* Descriptors of the seedling while it becomes the image. */
#define SOCK_FD  0
#define IMAGE_FD 1

enum step {
	STEP_DONE,
	STEP_UNSHARE,
	STEP_OFFSETS,
	STEP_CLONE,
	STEP_SESSION,
	STEP_FILES,
	STEP_EXEC
};

static const char *const step_names[] = {
	[STEP_DONE] = "done",
	[STEP_UNSHARE] = "make a time namespace",
	[STEP_OFFSETS] = "set the offsets of the time namespace",
	[STEP_CLONE] = "make a process",
	[STEP_SESSION] = "make a session",
	[STEP_FILES] = "close descriptors",
	[STEP_EXEC] = "start the seedling",
};

struct report {
	int32_t step, error;
	pid_t pid;
};

/* What helper and seedling need; all of it made before the fork, where allocating is safe. */
struct birth {
	pid_t pid;
	char offsets[128];
	int image, sock; /* the seedling's end */
	int report[2], go[2];
};

/* ---- in the helper and the seedling: async-signal-safe calls only ---- */

__attribute__((noreturn)) static void tell(
	const struct birth *b, enum step step, int error, pid_t pid)
{
	struct report r = { .step = step, .error = error, .pid = pid };

	if (write(b->report[1], &r, sizeof(r)) != sizeof(r))
		_exit(2);
	_exit(step == STEP_DONE ? 0 : 1);
}

/* Handlers become the default by exec, ignored signals do not; libc's sigaction hides two. */
static void default_signals(void)
{
	const uint64_t action[4] = { 0 }, none = 0;

	for (int sig = 1; sig <= 64; sig++)
		syscall(SYS_rt_sigaction, sig, action, NULL, sizeof(uint64_t));
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof(none));
}

__attribute__((noreturn)) static void become_seedling(const struct birth *b)
{
	char *const empty[] = { NULL };
	char name[] = "", go;
	char *const argv[] = { name, NULL };
	int image, sock, report;

	close(b->go[1]);
	if (read(b->go[0], &go, 1) != 1)
		_exit(1); /* the worker has died or changed its mind */
	if (setsid() < 0)
		tell(b, STEP_SESSION, errno, 0);
	default_signals();
	/* first all out of the way of the final numbers */
	image = fcntl(b->image, F_DUPFD_CLOEXEC, 3);
	sock = fcntl(b->sock, F_DUPFD_CLOEXEC, 3);
	report = fcntl(b->report[1], F_DUPFD_CLOEXEC, 3);
	if (image < 0 || sock < 0 || report < 0 || dup2(sock, SOCK_FD) < 0 ||
		dup3(image, IMAGE_FD, O_CLOEXEC) < 0 || dup3(report, 2, O_CLOEXEC) < 0 ||
		close_range(3, ~0U, 0) < 0)
		tell(b, STEP_FILES, errno, 0);
	syscall(SYS_execveat, IMAGE_FD, "", argv, empty, AT_EMPTY_PATH);
	{
		struct birth moved = { .report = { -1, 2 } };

		tell(&moved, STEP_EXEC, errno, 0);
	}
}

__attribute__((noreturn)) static void helper(const struct birth *b)
{
	struct clone_args args = {
		.exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&b->pid, .set_tid_size = 1
	};
	int fd;
	long pid;

	if (unshare(CLONE_NEWTIME) < 0)
		tell(b, STEP_UNSHARE, errno, 0);
	fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, b->offsets, strlen(b->offsets)) != (ssize_t)strlen(b->offsets))
		tell(b, STEP_OFFSETS, errno, 0);
	close(fd);
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		become_seedling(b);
	if (pid < 0)
		tell(b, STEP_CLONE, errno, 0);
	tell(b, STEP_DONE, 0, (pid_t)pid);
}

/* ---- in the worker ---- */

static struct err *own_offset(const char *text, const char *name, int64_t *ns)
{
	const char *line = strstr(text, name);
	long long s, n;

	if (!line || sscanf(line + strlen(name), "%lld %lld", &s, &n) != 2)
		return err_new(ERR_UNSUPPORTED, "this kernel has no time namespaces");
	*ns = s * NSEC + n;
	return NULL;
}

static struct err *offsets_text(const struct seedling_spec *spec, char *buf, size_t room)
{
	autoarena struct arena *a = arena_new();
	int64_t mono, boot, mono_s, boot_s;
	char *text;

	TRY(io_read_file(a, "/proc/self/timens_offsets", 4096, &text, NULL));
	TRY(own_offset(text, "monotonic", &mono));
	TRY(own_offset(text, "boottime", &boot));
	mono += spec->monotonic_offset_ns;
	boot += spec->boottime_offset_ns;
	/* nanoseconds are written as 0..999999999: round seconds down */
	mono_s = mono / NSEC - (mono % NSEC < 0);
	boot_s = boot / NSEC - (boot % NSEC < 0);
	snprintf(buf, room, "monotonic %lld %lld\nboottime %lld %lld\n", (long long)mono_s,
		(long long)(mono - mono_s * NSEC), (long long)boot_s,
		(long long)(boot - boot_s * NSEC));
	return NULL;
}

struct err *seedling_image(int *fd)
{
	uint8_t image[4096];
	size_t n = arch_seedling_image(image, sizeof(image));
	autoclose int got = memfd_create("seedling", MFD_CLOEXEC | MFD_EXEC);

	if (got < 0 && errno == EINVAL) /* before Linux 6.3: always executable */
		got = memfd_create("seedling", MFD_CLOEXEC);
	if (got < 0 && errno == EACCES)
		return err_hint(err_errno(errno, "make the seedling's image"),
			"sysctl vm.memfd_noexec must not be 2");
	if (got < 0)
		return err_errno(errno, "make the seedling's image");
	TRY(io_write_full(got, image, n, "the seedling's image"));
	*fd = take_fd(&got);
	return NULL;
}

struct err *seedling_pid_taken(pid_t pid)
{
	autoarena struct arena *a = arena_new();
	autoerr struct err *e = NULL;
	struct proc_stat st;

	e = proc_stat(a, pid, 0, &st);
	if (e)
		return err_new(ERR_LIMIT,
			"process id %d is taken here by a process group or a "
			"session",
			(int)pid);
	return err_hint(err_new(ERR_LIMIT, "process id %d is taken here by %s", (int)pid, st.comm),
		"end or move that process first");
}

static struct err *report_err(const struct seedling_spec *spec, const struct report *r)
{
	if (r->step == STEP_CLONE && r->error == EEXIST)
		return seedling_pid_taken(spec->pid);
	if (r->step == STEP_CLONE && r->error == EINVAL)
		return err_hint(
			err_new(ERR_LIMIT, "process id %d is not possible here", (int)spec->pid),
			"raise kernel.pid_max");
	if (r->step <= STEP_DONE || r->step > STEP_EXEC)
		return err_new(ERR_BUG, "the seedling's helper says %d", (int)r->step);
	return err_errno(r->error, "%s", step_names[r->step]);
}

/* Makes the waiting process; its parent has ended when this returns. */
static struct err *give_birth(const struct seedling_spec *spec, struct birth *b)
{
	struct report r;
	ssize_t n;
	pid_t helper_pid = fork();

	if (helper_pid < 0)
		return err_errno(errno, "fork");
	if (helper_pid == 0)
		helper(b);
	fd_closep(&b->report[1]);
	fd_closep(&b->go[0]);
	fd_closep(&b->sock);
	do {
		n = read(b->report[0], &r, sizeof(r));
	} while (n < 0 && errno == EINTR);
	while (waitpid(helper_pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (n != sizeof(r))
		return err_new(ERR_GONE, "the helper that makes a process died");
	if (r.step != STEP_DONE)
		return report_err(spec, &r);
	if (r.pid != spec->pid)
		return err_new(
			ERR_BUG, "asked for process id %d, got %d", (int)spec->pid, (int)r.pid);
	return NULL;
}

static struct err *join_cgroup(const char *dir, pid_t pid)
{
	autotext struct text path = { 0 }, number = { 0 };

	if (!dir)
		return NULL;
	text_addf(&path, "%s/cgroup.procs", dir);
	text_addf(&number, "%d", (int)pid);
	return io_write_file(text_str(&path), text_str(&number));
}

/* The soft limit of descriptors up to the hard one: the target's own comes later. */
static void lift_nofile(pid_t pid)
{
	struct rlimit l;

	if (prlimit(pid, RLIMIT_NOFILE, NULL, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		prlimit(pid, RLIMIT_NOFILE, &l, NULL);
	}
}

/* Waits for one event stop; the process must not end. */
static struct err *await_event(struct birth *b, const struct seedling_spec *spec, int event)
{
	struct deadline d = deadline_in(SEEDLING_MAKE_US);
	int status;

	for (;;) {
		struct report r;

		TRY(trace_wait(spec->pid, d, &status));
		if (!WIFSTOPPED(status) && read(b->report[0], &r, sizeof(r)) == sizeof(r))
			return report_err(spec, &r);
		if (!WIFSTOPPED(status))
			return err_new(
				ERR_GONE, "the seedling died (status %#x)", (unsigned)status);
		if (trace_event(status) == event)
			return NULL;
		TRY(trace_resume(spec->pid, PTRACE_CONT, 0));
	}
}

/* From waiting to the first instruction of the image, which it does not run. */
static struct err *hatch(struct birth *b, const struct seedling_spec *spec)
{
	const long with_exec = SEEDLING_OPTIONS | PTRACE_O_TRACEEXEC, options = SEEDLING_OPTIONS;

	if (ptrace(PTRACE_SEIZE, spec->pid, NULL, (void *)with_exec) < 0)
		return err_errno(errno, "trace the seedling");
	TRY(io_write_full(b->go[1], "g", 1, "the seedling's pipe"));
	TRY(await_event(b, spec, PTRACE_EVENT_EXEC));
	/* That stop is inside execve(), whose return would change a register. */
	if (ptrace(PTRACE_SETOPTIONS, spec->pid, NULL, (void *)options) < 0 ||
		ptrace(PTRACE_INTERRUPT, spec->pid, NULL, NULL) < 0)
		return err_errno(errno, "trace the seedling");
	TRY(trace_resume(spec->pid, PTRACE_CONT, 0));
	return await_event(b, spec, PTRACE_EVENT_STOP);
}

static void birth_fini(struct birth *b)
{
	fd_closep(&b->image);
	fd_closep(&b->sock);
	for (int i = 0; i < 2; i++) {
		fd_closep(&b->report[i]);
		fd_closep(&b->go[i]);
	}
}

static struct err *prepare(const struct seedling_spec *spec, struct birth *b, int *our_sock)
{
	int pair[2];

	b->pid = spec->pid;
	TRY(offsets_text(spec, b->offsets, sizeof(b->offsets)));
	TRY(seedling_image(&b->image));
	if (pipe2(b->report, O_CLOEXEC) < 0 || pipe2(b->go, O_CLOEXEC) < 0)
		return err_errno(errno, "make a pipe");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(errno, "make a socket pair");
	*our_sock = pair[0];
	b->sock = pair[1];
	return NULL;
}

struct task *seedling_task(pid_t pid, int sock, int sock_number)
{
	struct task *t = xcalloc(1, sizeof(*t));

	t->pid = pid;
	t->pidfd = t->mem_fd = -1;
	t->remote = remote_new();
	t->remote->sock = sock;
	t->remote->sock_number = sock_number;
	return t;
}

struct err *seedling_hatched(struct task *t)
{
	struct thread *leader;

	TRY(task_adopt(t, t->pid, true, &leader));
	TRY(task_pin(t));
	t->held = true;
	TRY(task_mask(leader, 0));
	return seedling_first_area(t);
}

/* The process is there and waits: from here on t owns it. */
static struct err *raise_seedling(const struct seedling_spec *spec, struct birth *b, struct task *t)
{
	t->pidfd = pidfd_open(spec->pid, 0);
	if (t->pidfd < 0)
		return err_errno(errno, "open process %d", (int)spec->pid);
	TRY(join_cgroup(spec->cgroup_dir, spec->pid));
	lift_nofile(spec->pid);
	TRY(hatch(b, spec));
	return seedling_hatched(t);
}

static struct err *make_once(const struct seedling_spec *spec, struct task **ret)
{
	struct birth b = { .image = -1, .sock = -1, .report = { -1, -1 }, .go = { -1, -1 } };
	autotask struct task *t = seedling_task(spec->pid, -1, SOCK_FD);
	struct err *e;

	e = prepare(spec, &b, &t->remote->sock);
	if (!e)
		e = give_birth(spec, &b);
	if (!e) {
		t->remote->kill_on_free = true;
		e = raise_seedling(spec, &b, t);
	}
	birth_fini(&b);
	if (e)
		return e;
	*ret = take(&t);
	return NULL;
}

/* Whether the pid is about to be free: nobody is seen under it, or a zombie. */
static bool pid_is_going(pid_t pid)
{
	autoarena struct arena *a = arena_new();
	autoerr struct err *e = NULL;
	struct proc_stat st;

	e = proc_stat(a, pid, 0, &st);
	return e || st.state == 'Z' || st.state == 'X';
}

struct err *seedling_make(const struct seedling_spec *spec, struct task **ret)
{
	struct deadline d = deadline_in(PID_FREE_US);
	struct err *e;

	if (spec->pid <= 1)
		return err_new(ERR_INVALID, "%d is no process id to make", (int)spec->pid);
	for (;;) {
		e = make_once(spec, ret);
		if (!e)
			return NULL;
		if (err_code(e) != ERR_LIMIT || !pid_is_going(spec->pid) || deadline_passed(d))
			return err_in(e, "make process %d", (int)spec->pid);
		err_free(e);
		usleep(1000);
	}
}

struct err *seedling_release(struct task *t)
{
	const long options = SEEDLING_OPTIONS & ~PTRACE_O_EXITKILL;

	for (size_t i = 0; i < t->n_threads; i++)
		if (ptrace(PTRACE_SETOPTIONS, t->threads[i]->tid, NULL, (void *)options) < 0)
			return err_errno(errno, "release thread %d", (int)t->threads[i]->tid);
	t->remote->kill_on_free = false;
	return NULL;
}

/* ---- threads ---- */

struct err *seedling_thread(struct task *t, pid_t tid, struct thread **ret)
{
	const uint64_t at = t->remote->private_at;
	const pid_t set_tid = tid;
	struct clone_args args = { .flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
					    CLONE_THREAD | CLONE_SYSVSEM,
		.set_tid = at + sizeof(args),
		.set_tid_size = 1 };
	struct call c = { .nr = SYS_clone3, .args = { at, sizeof(args) } };
	int status;

	if (t->remote->place != PLACE_AREA)
		return err_new(ERR_BUG, "a new thread in a process that is no open seedling");
	TRY(task_write(t, at, &args, sizeof(args)));
	TRY(task_write(t, at + sizeof(args), &set_tid, sizeof(set_tid)));
	TRY(remote_run(t, task_leader(t), &c, 1));
	if (c.ret == -EEXIST)
		return seedling_pid_taken(tid);
	if (c.ret < 0)
		return err_errno((int)-c.ret, "make thread %d", (int)tid);
	if (c.ret != tid)
		return err_new(
			ERR_BUG, "asked for thread %d, got %lld", (int)tid, (long long)c.ret);
	TRY(trace_wait(tid, deadline_in(SEEDLING_MAKE_US), &status));
	if (!WIFSTOPPED(status))
		return err_new(ERR_GONE, "thread %d died", (int)tid);
	TRY(task_adopt(t, tid, true, ret));
	return task_mask(*ret, 0);
}

struct err *seedling_thread_end(struct task *t, pid_t tid)
{
	struct thread *th = task_thread(t, tid);
	struct call forget[] = { { .nr = SYS_set_tid_address },
		{ .nr = SYS_set_robust_list, .args = { 0, 3 * sizeof(uint64_t) } } };
	struct call end = { .nr = SYS_exit };
	struct arch_state *w = &t->remote->work;
	int status;

	if (!th || th == task_leader(t) || t->remote->place == PLACE_GUEST)
		return err_new(ERR_BUG, "end of thread %d", (int)tid);
	TRY(remote_run(t, th, forget, ARRAY_LEN(forget))); /* its end must write nothing */
	memcpy(w, &th->state, offsetof(struct arch_state, xstate));
	arch_call_regs(w, t->remote->syscall_pc, &end);
	TRY(arch_put_regs(tid, w));
	do {
		TRY(trace_resume(tid, PTRACE_CONT, 0));
		TRY(trace_wait(tid, deadline_in(SEEDLING_MAKE_US), &status));
	} while (WIFSTOPPED(status));
	task_drop(t, th);
	return NULL;
}
