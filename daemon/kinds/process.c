// SPDX-License-Identifier: Apache-2.0
/*
 * The process as a whole: what makes it unmovable altogether, and the few attributes that must be
 * set last because other stages would disturb them: dumpable and the death signal (any change of
 * credentials resets them), personality (READ_IMPLIES_EXEC changes what mmap does),
 * child_subreaper, the switch against transparent huge pages.
 *
 * What the kernel gives no way to see, and nobody can refuse: Landlock domains, whom Yama lets
 * trace it (PR_SET_PTRACER).
 */
#include "kinds/process.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <linux/prctl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "kinds/calls.h"
#include "kinds/thread_facts.h"
#include "process.pb-c.h"

#define PF_EXITING 0x4u
#define PF_KTHREAD 0x200000u

#ifndef PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
#define PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG 0x4211 /* Linux 6.4 */
#endif
#define LOGINUID_UNSET "4294967295"

#define DUMPABLE_MAX   1 /* 2 cannot be asked for: it comes from fs.suid_dumpable */
#define SUID_DUMPABLE  2
/* What PR_GET_THP_DISABLE answers; above it are flags, since Linux 6.18. */
#define THP_OFF 1u

/* ---- source: what makes it unmovable ---- */

/* The time namespace may differ: a process that was moved before has its own. The first ones are
 * those that one thread can change for itself without giving up CLONE_FS. */
static const char *const namespaces[] = { "ipc", "net", "uts", "cgroup", "pid_for_children", "mnt",
	"pid", "user" };
#define THREAD_NAMESPACES 5

#define LINK_BYTES 64

struct own_namespaces {
	char link[ARRAY_LEN(namespaces)][LINK_BYTES]; /* "" where the kernel has no such thing */
};

static void read_link(const char *path, char link[LINK_BYTES])
{
	ssize_t n = readlink(path, link, LINK_BYTES - 1);

	link[MAX(n, 0)] = 0;
}

static void read_own(struct own_namespaces *own)
{
	for (size_t i = 0; i < ARRAY_LEN(namespaces); i++) {
		char path[LINK_BYTES];

		snprintf(path, sizeof(path), "/proc/self/ns/%s", namespaces[i]);
		read_link(path, own->link[i]);
	}
}

/* `dir`: the process's directory below /proc, or that of one thread. */
static void check_namespaces(struct capture *c, const char *dir, size_t n, const char *who,
	const struct own_namespaces *own)
{
	char path[LINK_BYTES], link[LINK_BYTES];

	for (size_t i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "/proc/%s/ns/%s", dir, namespaces[i]);
		read_link(path, link);
		/* pid_for_children cannot be read before its first child. */
		if (*own->link[i] && strcmp(link, own->link[i]) != 0)
			capture_refuse(c, err_new(ERR_UNSUPPORTED,
						  "%s is in another %s namespace than the daemon",
						  who, namespaces[i]));
	}
}

static void check_time_namespace(struct capture *c)
{
	char path[LINK_BYTES], now[LINK_BYTES], later[LINK_BYTES];

	snprintf(path, sizeof(path), "/proc/%d/ns/time", (int)c->task->pid);
	read_link(path, now);
	snprintf(path, sizeof(path), "/proc/%d/ns/time_for_children", (int)c->task->pid);
	read_link(path, later);
	if (strcmp(now, later) != 0)
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

static void check_session(struct capture *c)
{
	const struct proc_stat *s = c->stat;

	if (s->tty_nr)
		capture_refuse(c,
			err_hint(err_new(ERR_UNSUPPORTED, "it has a controlling terminal (%u:%u)",
					 (unsigned)s->tty_nr >> 8 & 0xfff,
					 (unsigned)s->tty_nr & 0xff),
				"start it with setsid, or under tmux on the host it moves to"));
	/* What is within the tree stays as it is. */
	if (capture_inside(c, s->ppid))
		return;
	if (s->ppid > 1)
		capture_warn(c,
			"its parent %d stays behind, and is told that it was killed; process 1 "
			"there becomes its parent",
			(int)s->ppid);
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

static struct err *check_process(struct capture *c, const struct own_namespaces *own)
{
	char dir[16];

	snprintf(dir, sizeof(dir), "%d", (int)c->task->pid);
	if (c->stat->flags & PF_KTHREAD)
		return err_new(ERR_UNSUPPORTED, "it is a kernel thread");
	if (c->stat->flags & PF_EXITING)
		return err_new(ERR_GONE, "it is ending");
	if (c->status->coredump)
		return err_new(ERR_GONE, "it is dumping core");
	check_namespaces(c, dir, ARRAY_LEN(namespaces), "it", own);
	check_time_namespace(c);
	check_session(c);
	return check_loginuid(c);
}

/* ---- source: each thread ---- */

static struct err *check_thread_shared(
	struct capture *c, pid_t tid, const struct own_namespaces *own)
{
	static const struct {
		int type;
		const char *what;
	} parts[] = { { KCMP_FILES, "descriptor table" }, { KCMP_FS, "working directory" } };
	char dir[32], who[32];
	bool same = false;

	if (tid == c->task->pid)
		return NULL;
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		TRY(kcmp_same(c->task->pid, tid, parts[i].type, &same));
		if (!same)
			capture_refuse(c, err_new(ERR_UNSUPPORTED, "thread %d has a %s of its own",
						  (int)tid, parts[i].what));
	}
	snprintf(dir, sizeof(dir), "%d/task/%d", (int)c->task->pid, (int)tid);
	snprintf(who, sizeof(who), "thread %d", (int)tid);
	check_namespaces(c, dir, THREAD_NAMESPACES, who, own);
	return NULL;
}

/* What ptrace shows of a thread and we cannot carry. */
static void check_thread_ptrace(struct capture *c, pid_t tid)
{
	struct {
		uint64_t mode, selector, offset, len;
	} dispatch = { 0 };
	const char *extra = arch_extra(tid);

	if (ptrace((enum __ptrace_request)PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, tid,
		    (void *)sizeof(dispatch), &dispatch) == 0 &&
		dispatch.mode)
		capture_refuse(c,
			err_new(ERR_UNSUPPORTED, "thread %d uses syscall user dispatch", (int)tid));
	if (extra)
		capture_refuse(c, err_new(ERR_UNSUPPORTED, "thread %d %s", (int)tid, extra));
}

static struct err *capture_thread(struct capture *c, struct thread *th,
	Migrate__Kind__Process__Thread *m, const struct own_namespaces *own)
{
	const struct thread_facts *f;

	TRY(thread_facts(c, th, &f));
	migrate__kind__process__thread__init(m);
	m->tid = th->tid;
	m->death_signal = f->death_signal;
	m->personality = f->personality;
	if (f->refusal)
		capture_refuse(c, err_new(ERR_UNSUPPORTED, "thread %d cannot be carried: %s",
					  (int)th->tid, f->refusal));
	TRY(check_thread_shared(c, th->tid, own));
	check_thread_ptrace(c, th->tid);
	return NULL;
}

/* ---- source ---- */

static struct err *process_capture(struct capture *c)
{
	Migrate__Kind__Process m = MIGRATE__KIND__PROCESS__INIT;
	Migrate__Kind__Process__Thread *threads =
		arena_array(c->arena, c->task->n_threads, sizeof(*threads));
	struct calls calls = { 0 };
	struct own_namespaces own;
	uint64_t scratch;
	int32_t subreaper;

	read_own(&own);
	TRY(check_process(c, &own));
	if (!c->thread)
		return NULL;
	TRY(check_keyrings(c));
	scratch = remote_scratch(c->task).v;
	m.n_threads = c->task->n_threads;
	m.threads = arena_array(c->arena, m.n_threads, sizeof(*m.threads));
	for (size_t i = 0; i < m.n_threads; i++) {
		m.threads[i] = &threads[i];
		TRY(capture_thread(c, c->task->threads[i], m.threads[i], &own));
	}
	CALL(&calls, "ask whether it is dumpable", SYS_prctl, PR_GET_DUMPABLE);
	CALL(&calls, "ask whether it is a subreaper", SYS_prctl, PR_GET_CHILD_SUBREAPER, scratch);
	CALL(&calls, "ask whether it has huge pages", SYS_prctl, PR_GET_THP_DISABLE);
	TRY(calls_run(&calls, c->task, c->thread));
	TRY(remote_get(c->task, 0, &subreaper, sizeof(subreaper)));
	m.dumpable = (int32_t)calls.v[0].ret;
	m.child_subreaper = subreaper != 0;
	m.thp_disable = (uint32_t)calls.v[2].ret;
	if (m.dumpable > DUMPABLE_MAX)
		capture_warn(c,
			"it is not dumpable but by root (fs.suid_dumpable), and will not be "
			"dumpable at all");
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
	/* Threads of the seedling have ours. */
	if (m->personality != (uint32_t)personality(0xffffffff))
		CALL(&calls, "set the personality", SYS_personality, m->personality);
	/* Its parent is init by now: it will not get it because its maker ended. */
	if (m->death_signal || m->tid == r->task->pid)
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
		CALL(&calls, "switch its huge pages off", SYS_prctl, PR_SET_THP_DISABLE, THP_OFF,
			m->thp_disable & ~THP_OFF);
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
	.msg = &migrate__kind__process__descriptor,
	.capture = process_capture,
	.finish = process_finish,
};
