// SPDX-License-Identifier: Apache-2.0
/*
 * The original, still standing, when its copy runs already: did anything reach it that the copy
 * cannot know? Signals that somebody sent meanwhile, and flags of mappings that were set between
 * the last look at them (smaps is too slow for the frozen stretch) and the freeze. Nothing can be
 * added to a process that runs, so they are named.
 *
 * Its own timers go on expiring here as they do there: their signals are none that were lost.
 */
#include "engine/late.h"

#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>

#include "kinds/thread_facts.h"

#define INFOS 32

/* Was it sent by somebody, not by a timer or the kernel? What cannot be told counts as sent. */
static bool was_sent(pid_t tid, bool shared, int sig)
{
	siginfo_t v[INFOS];
	struct __ptrace_peeksiginfo_args args = { .flags = shared ? PTRACE_PEEKSIGINFO_SHARED : 0,
		.nr = INFOS };
	long n = ptrace(PTRACE_PEEKSIGINFO, tid, &args, v);

	for (long i = 0; i < n; i++)
		if (v[i].si_signo == sig)
			return v[i].si_code == SI_USER || v[i].si_code == SI_QUEUE ||
			       v[i].si_code == SI_TKILL;
	return true;
}

static void signals(struct source *s, pid_t tid, bool shared, uint64_t came)
{
	for (int sig = 1; sig <= 64; sig++)
		if (came >> (sig - 1) & 1 && was_sent(tid, shared, sig))
			notes_warnf(&s->out->notes,
				"signal %d (%s) reached the original while it stood still: it is "
				"lost, send it again",
				sig, sigabbrev_np(sig) ? sigabbrev_np(sig) : "real-time");
}

/* Compared with what the frozen capture saw; asks nothing of the process itself. */
static void late_signals(struct source *s, struct task *t)
{
	autoarena struct arena *a = arena_new();
	struct capture_priv p;
	struct capture c;

	capture_context(&c, &p, t, &s->frozen);
	for (size_t i = 0; i < t->n_threads; i++) {
		struct thread *th = t->threads[i];
		const struct thread_facts *was = thread_facts_known(&c, th);
		struct proc_status now;
		struct err *e = was ? proc_status(a, t->pid, th->tid, &now) : NULL;

		if (!was || e) {
			err_free(e);
			continue;
		}
		signals(s, th->tid, false, now.sig_pending & ~was->status.sig_pending);
		if (th == task_leader(t))
			signals(s, th->tid, true,
				now.sig_shared_pending & ~was->status.sig_shared_pending);
	}
}

static void say_flag(void *arg, struct range where, const char *what)
{
	struct source *s = arg;

	notes_warnf(&s->out->notes,
		"memory at %#jx-%#jx: \"%s\" changed in the last moment, and is not so there",
		(uintmax_t)where.start, (uintmax_t)where.end, what);
}

static void late_flags(struct source *s, const struct source_member *m)
{
	struct notes unused = { 0 };
	struct snapshot snap;
	struct capture_priv p;
	struct capture c;
	struct layout *now;
	struct err *e;

	snapshot_init(&snap, &unused, s->cache);
	snapshot_see(&snap, &s->frozen);
	capture_context(&c, &p, m->task, &snap);
	e = layout_capture(&c, true, m->layout, &now);
	if (!e)
		layout_flags_differ(m->layout, now, say_flag, s);
	err_free(e); /* it has ended: then nobody sees a difference */
	snapshot_fini(&snap);
	notes_fini(&unused);
}

static void look(struct source *s, const struct source_member *m)
{
	autoerr struct err *e = task_check_alive(m->task);

	if (e) {
		notes_warnf(&s->out->notes,
			"the original %d was killed while it stood still; the moved process runs",
			m->task->pid);
		return;
	}
	late_signals(s, m->task);
	late_flags(s, m);
}

void late_look(struct source *s)
{
	for (struct source_member *m = NULL; (m = source_next(s, m));)
		look(s, m);
}
