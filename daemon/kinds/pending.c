// SPDX-License-Identifier: Apache-2.0
/*
 * Signals that were sent and not yet taken, with all that came with them (siginfo): one object for
 * the process and one for each thread that has some. PTRACE_PEEKSIGINFO reads the queues without
 * touching them; a signal whose siginfo the kernel had no room for shows in status alone.
 *
 * They are queued again by the threads themselves, which may say any origin for a signal to
 * themselves, with everything blocked, as late as can be.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "kinds/calls.h"
#include "kinds/thread_facts.h"
#include "pending.pb-c.h"

#define INFO_BYTES     128
#define REAL_TIME_FROM 32 /* the kernel's; libc keeps the first ones to itself */
/* Of one queue; RLIMIT_SIGPENDING can allow more. */
#define INFOS_MAX 65536
/* How many are read or queued at once. */
#define AT_ONCE (REMOTE_SCRATCH_BYTES / INFO_BYTES)

struct info {
	int32_t signal, error, code, pad;
	uint8_t rest[INFO_BYTES - 16];
};
_Static_assert(sizeof(struct info) == INFO_BYTES, "siginfo_t");

struct queue {
	struct info *v;
	size_t n, cap;
};

static struct err *queue_read(struct arena *a, pid_t tid, bool shared, struct queue *q)
{
	for (;;) {
		struct __ptrace_peeksiginfo_args args = {
			.off = q->n, .flags = shared ? PTRACE_PEEKSIGINFO_SHARED : 0, .nr = AT_ONCE
		};
		long got;

		q->v = arena_grow(a, q->v, &q->cap, q->n + AT_ONCE, sizeof(*q->v));
		got = ptrace(PTRACE_PEEKSIGINFO, tid, &args, q->v + q->n);
		if (got < 0)
			return err_errno(errno, "read the pending signals of thread %d", (int)tid);
		if (got == 0)
			return NULL;
		q->n += (size_t)got;
		if (q->n > INFOS_MAX)
			return err_new(ERR_LIMIT, "more than %d signals are pending", INFOS_MAX);
	}
}

/* Signals that status shows and the queue does not. */
static void queue_complete(struct arena *a, uint64_t pending, struct queue *q)
{
	for (size_t i = 0; i < q->n; i++)
		if (q->v[i].signal >= 1 && q->v[i].signal <= 64)
			pending &= ~(1ULL << (q->v[i].signal - 1));
	for (int sig = 1; sig <= 64; sig++) {
		if (!(pending >> (sig - 1) & 1))
			continue;
		q->v = arena_grow(a, q->v, &q->cap, q->n + 1, sizeof(*q->v));
		memset(&q->v[q->n], 0, sizeof(*q->v));
		q->v[q->n].signal = sig;
		q->v[q->n].code = SI_USER;
		q->n++;
	}
}

static size_t count_real_time(const struct queue *q)
{
	size_t n = 0;

	for (size_t i = 0; i < q->n; i++)
		n += q->v[i].signal >= REAL_TIME_FROM;
	return n;
}

/* They were queued when its limit was higher: nobody can queue them again under the present one,
 * which is found out in the last moment otherwise. */
static void refuse_too_many(struct capture *c, size_t n)
{
	struct rlimit limit;

	if (!n || prlimit(c->task->pid, RLIMIT_SIGPENDING, NULL, &limit) < 0 || n <= limit.rlim_cur)
		return;
	capture_refuse(c,
		err_hint(err_new(ERR_LIMIT,
				 "%zu real-time signals wait to be taken, and its limit allows %ju",
				 n, (uintmax_t)limit.rlim_cur),
			"let it take them, or prlimit --pid %d --sigpending=%zu", c->task->pid, n));
}

static struct err *capture_queue(
	struct capture *c, pid_t tid, bool shared, uint64_t pending, size_t *real_time)
{
	Migrate__Kind__Pending m = MIGRATE__KIND__PENDING__INIT;
	struct queue q = { 0 };

	/* Nearly always: spares a system call per thread. */
	if (pending == 0)
		return NULL;
	TRY(queue_read(c->arena, tid, shared, &q));
	queue_complete(c->arena, pending, &q);
	*real_time += count_real_time(&q);
	m.tid = shared ? 0 : tid;
	m.infos = arena_array(c->arena, q.n, sizeof(*m.infos));
	m.n_infos = q.n;
	for (size_t i = 0; i < q.n; i++)
		m.infos[i] = (ProtobufCBinaryData){ INFO_BYTES, (uint8_t *)&q.v[i] };
	capture_emit(c, (uint64_t)m.tid, &m.base);
	return NULL;
}

static struct err *pending_capture(struct capture *c)
{
	size_t real_time = 0;

	for (size_t i = 0; i < c->task->n_threads; i++) {
		pid_t tid = c->task->threads[i]->tid;
		const struct thread_facts *f;

		TRY(thread_facts(c, c->task->threads[i], &f));
		if (tid == c->task->pid)
			TRY(capture_queue(c, tid, true, f->status.sig_shared_pending, &real_time));
		TRY(capture_queue(c, tid, false, f->status.sig_pending, &real_time));
	}
	refuse_too_many(c, real_time);
	return NULL;
}

static struct err *pending_check(
	struct rebuild *r unused_arg, const struct object *o, const void *msg)
{
	const Migrate__Kind__Pending *m = msg;

	if (m->tid < 0 || (uint64_t)m->tid != o->id || m->n_infos > INFOS_MAX)
		return err_new(ERR_PEER, "pending signals of thread %d make no sense", m->tid);
	for (size_t i = 0; i < m->n_infos; i++) {
		struct info info;

		if (m->infos[i].len != INFO_BYTES)
			return err_new(ERR_PEER, "a pending signal of %zu bytes", m->infos[i].len);
		memcpy(&info, m->infos[i].data, sizeof(info));
		if (info.signal < 1 || info.signal > 64 || info.signal == SIGKILL)
			return err_new(ERR_PEER, "a pending signal %d", info.signal);
	}
	return NULL;
}

static void call_queue(struct calls *l, const struct rebuild *r, const Migrate__Kind__Pending *m,
	const struct info *info, size_t place)
{
	uint64_t at = remote_scratch(r->task).v + place * INFO_BYTES;
	uint64_t pid = (uint64_t)r->task->pid, sig = (uint64_t)info->signal;

	if (m->tid == 0)
		CALL(l, "queue a signal of the process", SYS_rt_sigqueueinfo, pid, sig, at);
	else
		CALL(l, "queue a signal of a thread", SYS_rt_tgsigqueueinfo, pid, (uint64_t)m->tid,
			sig, at);
}

static struct err *pending_finish(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__Pending *m = msg;
	struct thread *th = m->tid ? task_thread(r->task, m->tid) : task_leader(r->task);
	struct info some[AT_ONCE];
	struct err *e;

	TRY(pending_check(r, o, msg));
	if (!th)
		return err_new(ERR_PEER, "signals for a thread %d that is not there", m->tid);
	for (size_t at = 0; at < m->n_infos; at += AT_ONCE) {
		size_t n = MIN(m->n_infos - at, (size_t)AT_ONCE);
		struct calls calls = { 0 };

		for (size_t i = 0; i < n; i++) {
			memcpy(&some[i], m->infos[at + i].data, INFO_BYTES);
			call_queue(&calls, r, m, &some[i], i);
		}
		TRY(remote_put(r->task, 0, some, n * INFO_BYTES));
		e = calls_run(&calls, r->task, th);
		if (e && err_sysno(e) == EAGAIN)
			return err_hint(e, "its user may not have so many signals waiting: "
					   "prlimit --sigpending");
		if (e)
			return e;
	}
	return NULL;
}

const struct kind kind_pending = {
	.id = 6,
	.name = "pending signals",
	.scope = KIND_PROCESS,
	.stage = STAGE_LAST,
	.msg = &migrate__kind__pending__descriptor,
	.capture = pending_capture,
	.check = pending_check,
	.finish = pending_finish,
};
