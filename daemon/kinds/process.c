// SPDX-License-Identifier: Apache-2.0
/*
 * The process as a whole: what makes it unmovable altogether, and the few attributes that must be
 * set last because other stages would disturb them: dumpable and the death signal (any change of
 * credentials resets them), personality (READ_IMPLIES_EXEC changes what mmap does),
 * child_subreaper, the switch against transparent huge pages.
 *
 * What the kernel gives no way to see, and nobody can refuse: Landlock domains, MCL_FUTURE.
 */
#include <elf.h>
#include <errno.h>
#include <linux/kcmp.h>
#include <linux/prctl.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "kinds/calls.h"
#include "kinds/kind.h"
#include "process.pb-c.h"

#define PF_EXITING 0x4u
#define PF_KTHREAD 0x200000u

#ifndef NT_386_IOPERM
#define NT_386_IOPERM 0x201
#endif
#ifndef PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
#define PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG 0x4211 /* Linux 6.4 */
#endif
#define ARCH_GET_CPUID    0x1011
#define ARCH_SHSTK_STATUS 0x5005 /* Linux 6.6 */
#define LOGINUID_UNSET    "4294967295"

/* Children that are named in the refusal. */
#define CHILDREN_NAMED 8
#define DUMPABLE_MAX   1 /* 2 cannot be asked for: it comes from fs.suid_dumpable */
#define SUID_DUMPABLE  2

/* ---- source: what makes it unmovable ---- */

static struct err *check_children(struct capture *c)
{
	autotext struct text list = { 0 };
	pid_t *pids;
	size_t n;

	TRY(proc_children(c->arena, c->task->pid, &pids, &n));
	if (n == 0)
		return NULL;
	for (size_t i = 0; i < n && i < CHILDREN_NAMED; i++)
		text_addf(&list, "%s%d", i ? ", " : "", (int)pids[i]);
	if (n > CHILDREN_NAMED)
		text_addf(&list, " and %zu more", n - CHILDREN_NAMED);
	capture_refuse(c, err_new(ERR_UNSUPPORTED, "it has child processes: %s", text_str(&list)));
	return NULL;
}

/* The time namespace may differ: a process that was moved before has its own. */
static const char *const namespaces[] = { "cgroup", "ipc", "mnt", "net", "pid", "pid_for_children",
	"user", "uts" };
/* What one thread can change for itself without giving up CLONE_FS. */
static const char *const thread_namespaces[] = { "ipc", "net", "uts" };

/* false also when this kernel has no such namespace. */
static bool link_differs(struct arena *a, const char *one, const char *other)
{
	char *x = arena_alloc(a, 64), *y = arena_alloc(a, 64);

	if (readlink(one, x, 63) < 0 || readlink(other, y, 63) < 0)
		return false;
	return strcmp(x, y) != 0;
}

static void check_namespaces(struct capture *c)
{
	int pid = (int)c->task->pid;

	for (size_t i = 0; i < ARRAY_LEN(namespaces); i++)
		if (link_differs(c->arena,
			    arena_printf(c->arena, "/proc/%d/ns/%s", pid, namespaces[i]),
			    arena_printf(c->arena, "/proc/self/ns/%s", namespaces[i])))
			capture_refuse(c, err_new(ERR_UNSUPPORTED,
						  "it is in another %s namespace than the daemon",
						  namespaces[i]));
	if (link_differs(c->arena, arena_printf(c->arena, "/proc/%d/ns/time", pid),
		    arena_printf(c->arena, "/proc/%d/ns/time_for_children", pid)))
		capture_refuse(c, err_new(ERR_UNSUPPORTED,
					  "its children would be in another time namespace"));
}

static struct err *kcmp_same(pid_t a, pid_t b, int type, bool *same)
{
	long got = syscall(SYS_kcmp, a, b, type, 0, 0);

	if (got < 0)
		return err_errno(errno, "compare %d with %d (kcmp)", (int)a, (int)b);
	*same = got == 0;
	return NULL;
}

/* Is it the last user of any semaphore of this host? */
static bool semaphores_last_used_by(pid_t pid)
{
	union {
		int val;
		struct seminfo *info;
		struct semid_ds *ds;
	} arg;
	struct seminfo info;
	struct semid_ds ds;
	int last;

	arg.info = &info;
	last = semctl(0, 0, SEM_INFO, arg);
	for (int i = 0; i <= last; i++) {
		arg.ds = &ds;
		int id = semctl(i, 0, SEM_STAT, arg);

		for (unsigned short n = 0; id >= 0 && n < ds.sem_nsems; n++)
			if (semctl(id, n, GETPID) == pid)
				return true;
	}
	return false;
}

static struct err *check_shared(struct capture *c)
{
	pid_t pid = c->task->pid;
	bool same;

	/* kcmp compares undo lists, and we have none. Every process with threads has a list, mostly
	 * an empty one; its contents cannot be read. They can only be of semaphores that exist. */
	TRY(kcmp_same(pid, getpid(), KCMP_SYSVSEM, &same));
	if (!same && semaphores_last_used_by(pid))
		capture_refuse(c, err_new(ERR_UNSUPPORTED,
					  "it uses System V semaphores and may have undo values"));
	if (c->stat->ppid <= 1)
		return NULL;
	/* A parent may be out of our sight or be gone by now. */
	if (syscall(SYS_kcmp, pid, c->stat->ppid, KCMP_VM, 0, 0) == 0)
		capture_refuse(c, err_new(ERR_UNSUPPORTED,
					  "it shares its memory with its parent %d (vfork in "
					  "progress, or CLONE_VM)",
					  (int)c->stat->ppid));
	return NULL;
}

static void check_session(struct capture *c)
{
	const struct proc_stat *s = c->stat;

	if (s->tty_nr)
		capture_refuse(c,
			err_hint(err_new(ERR_UNSUPPORTED, "it has a controlling terminal (%u:%u)",
					 (unsigned)s->tty_nr >> 8 & 0xfff,
					 (unsigned)s->tty_nr & 0xff),
				"start it with setsid, or under tmux on the host it moves to"));
	if (s->sid != c->task->pid)
		capture_warn(c, "its session leader %d stays behind: it gets a session of its own",
			(int)s->sid);
	if (s->pgrp != c->task->pid)
		capture_warn(c,
			"its process group leader %d stays behind: it gets a group of its own",
			(int)s->pgrp);
}

static struct err *check_loginuid(struct capture *c)
{
	char *text;
	autoerr struct err *e = io_read_file(c->arena,
		arena_printf(c->arena, "/proc/%d/loginuid", (int)c->task->pid), 64, &text, NULL);

	if (e) /* a kernel without audit */
		return err_sysno(e) == ENOENT ? NULL : take(&e);
	text[strcspn(text, "\n")] = 0;
	if (strcmp(text, LOGINUID_UNSET) != 0)
		capture_warn(c, "its login uid %s (audit) is not carried", text);
	return NULL;
}

/* Keyrings that the process can reach and that do not exist on the other host. */
static struct err *check_keyrings(struct capture *c)
{
	static const struct {
		int special;
		const char *name;
	} rings[] = { { -1, "thread" }, { -2, "process" } };
	struct call calls[ARRAY_LEN(rings)];

	for (size_t i = 0; i < ARRAY_LEN(rings); i++)
		calls[i] = (struct call){ .nr = SYS_keyctl,
			.args = { 0 /* KEYCTL_GET_KEYRING_ID */, (uint64_t)rings[i].special, 0 } };
	TRY(remote_run(c->task, c->thread, calls, ARRAY_LEN(calls)));
	for (size_t i = 0; i < ARRAY_LEN(rings); i++)
		if (calls[i].ret > 0)
			capture_warn(
				c, "the keys in its %s keyring are not carried", rings[i].name);
	return NULL;
}

static struct err *check_process(struct capture *c)
{
	if (c->stat->flags & PF_KTHREAD)
		return err_new(ERR_UNSUPPORTED, "it is a kernel thread");
	if (c->stat->flags & PF_EXITING)
		return err_new(ERR_GONE, "it is ending");
	if (c->status->coredump)
		return err_new(ERR_GONE, "it is dumping core");
	TRY(check_children(c));
	check_namespaces(c);
	TRY(check_shared(c));
	check_session(c);
	TRY(check_loginuid(c));
	return check_keyrings(c);
}

/* ---- source: each thread ---- */

static struct err *check_thread_shared(struct capture *c, pid_t tid)
{
	static const struct {
		int type;
		const char *what;
	} parts[] = { { KCMP_FILES, "descriptor table" }, { KCMP_FS, "working directory" } };
	bool same;

	if (tid == c->task->pid)
		return NULL;
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		TRY(kcmp_same(c->task->pid, tid, parts[i].type, &same));
		if (!same)
			capture_refuse(c, err_new(ERR_UNSUPPORTED, "thread %d has a %s of its own",
						  (int)tid, parts[i].what));
	}
	for (size_t i = 0; i < ARRAY_LEN(thread_namespaces); i++)
		if (link_differs(c->arena,
			    arena_printf(c->arena, "/proc/%d/task/%d/ns/%s", (int)c->task->pid,
				    (int)tid, thread_namespaces[i]),
			    arena_printf(c->arena, "/proc/self/ns/%s", thread_namespaces[i])))
			capture_refuse(
				c, err_new(ERR_UNSUPPORTED, "thread %d is in another %s namespace",
					   (int)tid, thread_namespaces[i]));
	return NULL;
}

/* What ptrace shows of a thread and we cannot carry. */
static void check_thread_ptrace(struct capture *c, pid_t tid)
{
	struct {
		uint64_t mode, selector, offset, len;
	} dispatch = { 0 };
	uint8_t ports[8192];
	struct iovec io = { ports, sizeof(ports) };

	if (ptrace((enum __ptrace_request)PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, tid,
		    (void *)sizeof(dispatch), &dispatch) == 0 &&
		dispatch.mode)
		capture_refuse(c,
			err_new(ERR_UNSUPPORTED, "thread %d uses syscall user dispatch", (int)tid));
	if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_386_IOPERM, &io) == 0 && io.iov_len)
		capture_refuse(
			c, err_new(ERR_UNSUPPORTED, "thread %d may use I/O ports", (int)tid));
}

/* Where thread results lie in the scratch memory. */
struct thread_scratch {
	uint64_t shadow_stack;
	int32_t death_signal, pad;
	uint8_t ldt[16];
};

static struct err *thread_remote(
	struct capture *c, struct thread *th, Migrate__Kind__Process__Thread *m)
{
	uint64_t scratch = remote_scratch(c->task).v;
	struct call calls[] = {
		{ .nr = SYS_prctl,
			.args = { PR_GET_PDEATHSIG,
				scratch + offsetof(struct thread_scratch, death_signal) } },
		{ .nr = SYS_personality, .args = { 0xffffffff } },
#ifdef SYS_arch_prctl
		{ .nr = SYS_arch_prctl,
			.args = { ARCH_SHSTK_STATUS,
				scratch + offsetof(struct thread_scratch, shadow_stack) } },
		{ .nr = SYS_arch_prctl, .args = { ARCH_GET_CPUID } },
		{ .nr = SYS_modify_ldt,
			.args = { 0, scratch + offsetof(struct thread_scratch, ldt),
				sizeof(((struct thread_scratch *)0)->ldt) } },
#endif
	};
	struct thread_scratch s = { 0 };

	TRY(remote_put(c->task, 0, &s, sizeof(s)));
	TRY(remote_run(c->task, th, calls, ARRAY_LEN(calls)));
	TRY(remote_get(c->task, 0, &s, sizeof(s)));
	if (calls[0].ret < 0)
		return err_errno((int)-calls[0].ret, "ask for the death signal");
	if (calls[1].ret < 0)
		return err_errno((int)-calls[1].ret, "ask for the personality");
	m->death_signal = s.death_signal;
	m->personality = (uint32_t)calls[1].ret;
#ifdef SYS_arch_prctl
	if (calls[2].ret == 0 && s.shadow_stack)
		capture_refuse(
			c, err_new(ERR_UNSUPPORTED, "thread %d has a shadow stack", (int)th->tid));
	if (calls[3].ret == 0)
		capture_refuse(c,
			err_new(ERR_UNSUPPORTED, "thread %d has the CPUID instruction switched off",
				(int)th->tid));
	if (calls[4].ret > 0 && th->tid == c->task->pid)
		capture_refuse(
			c, err_new(ERR_UNSUPPORTED, "it has a local descriptor table (LDT)"));
#endif
	return NULL;
}

static struct err *capture_thread(
	struct capture *c, struct thread *th, Migrate__Kind__Process__Thread *m)
{
	struct proc_status s;

	migrate__kind__process__thread__init(m);
	m->tid = th->tid;
	TRY(proc_status(c->arena, c->task->pid, th->tid, &s));
	if (s.seccomp)
		capture_refuse(c, err_new(ERR_UNSUPPORTED, "thread %d is under seccomp (mode %d)",
					  (int)th->tid, s.seccomp));
	TRY(check_thread_shared(c, th->tid));
	check_thread_ptrace(c, th->tid);
	return thread_remote(c, th, m);
}

/* ---- source ---- */

static struct err *process_capture(struct capture *c)
{
	Migrate__Kind__Process m = MIGRATE__KIND__PROCESS__INIT;
	Migrate__Kind__Process__Thread *threads =
		arena_array(c->arena, c->task->n_threads, sizeof(*threads));
	uint64_t scratch = remote_scratch(c->task).v;
	struct calls calls = { 0 };
	int32_t subreaper;

	TRY(check_process(c));
	m.n_threads = c->task->n_threads;
	m.threads = arena_array(c->arena, m.n_threads, sizeof(*m.threads));
	for (size_t i = 0; i < m.n_threads; i++) {
		m.threads[i] = &threads[i];
		TRY(capture_thread(c, c->task->threads[i], m.threads[i]));
	}
	CALL(&calls, "ask whether it is dumpable", SYS_prctl, PR_GET_DUMPABLE);
	CALL(&calls, "ask whether it is a subreaper", SYS_prctl, PR_GET_CHILD_SUBREAPER, scratch);
	CALL(&calls, "ask whether it has huge pages", SYS_prctl, PR_GET_THP_DISABLE);
	TRY(calls_run(&calls, c->task, c->thread));
	TRY(remote_get(c->task, 0, &subreaper, sizeof(subreaper)));
	m.dumpable = (int32_t)calls.v[0].ret;
	m.child_subreaper = subreaper != 0;
	m.thp_disable = calls.v[2].ret != 0;
	capture_emit(c, 0, &m.base);
	return NULL;
}

/* ---- destination ---- */

static struct err *finish_thread(struct rebuild *r, const Migrate__Kind__Process__Thread *m)
{
	struct thread *th = task_thread(r->task, m->tid);
	struct calls calls = { 0 };

	if (!th)
		return err_new(ERR_PEER, "there is no thread %d", m->tid);
	CALL(&calls, "set the personality", SYS_personality, m->personality);
	/* Its parent is init by now: it will not get it because its maker ended. */
	CALL(&calls, "set the death signal", SYS_prctl, PR_SET_PDEATHSIG,
		(uint64_t)m->death_signal);
	return calls_run(&calls, r->task, th);
}

static struct err *process_finish(
	struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Process *m = msg;
	struct calls calls = { 0 };

	if (m->dumpable < 0 || m->dumpable > SUID_DUMPABLE)
		return err_new(ERR_PEER, "dumpable %d makes no sense", m->dumpable);
	CALL(&calls, "set whether it is a subreaper", SYS_prctl, PR_SET_CHILD_SUBREAPER,
		m->child_subreaper);
	if (m->thp_disable)
		CALL(&calls, "switch its huge pages off", SYS_prctl, PR_SET_THP_DISABLE, 1);
	CALL(&calls, "set whether it is dumpable", SYS_prctl, PR_SET_DUMPABLE,
		m->dumpable > DUMPABLE_MAX ? 0 : (uint64_t)m->dumpable);
	TRY(calls_run(&calls, r->task, r->thread));
	for (size_t i = 0; i < m->n_threads; i++)
		TRY(finish_thread(r, m->threads[i]));
	return NULL;
}

const struct kind kind_process = {
	.id = 1,
	.name = "process",
	.scope = KIND_PROCESS,
	.stage = STAGE_LAST,
	.needs_stop = true,
	.msg = &migrate__kind__process__descriptor,
	.capture = process_capture,
	.finish = process_finish,
};
