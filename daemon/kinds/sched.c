// SPDX-License-Identifier: Apache-2.0
/*
 * How a thread is scheduled: policy with its parameters, nice, utilisation clamps, the CPUs it may
 * use, I/O priority. All of it is read and set from outside, last of all, so that a thread that
 * yields to everybody does not slow its own rebuild down.
 *
 * sched_getattr(2): a fair thread shows its slice as runtime since 6.12, which set again would
 * become the thread's own for ever; so only what differs from a fresh thread's is set. A real-time
 * thread shows nice 0 there although it keeps its own: getpriority(2) has it. A thread that may use
 * all of its host's CPUs may use all of the new host's. Core scheduling cookies mean nothing
 * elsewhere.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "kinds/kind.h"
#include "sched.pb-c.h"

/* struct sched_attr of Linux 5.3 (with clamps); libc has another. */
struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
};

#define POLICY_FIFO     1
#define POLICY_RR       2
#define POLICY_DEADLINE 6
#define POLICY_MAX      7 /* SCHED_EXT */
#define FLAG_UTIL_MIN   0x20
#define FLAG_UTIL_MAX   0x40
/* Reset on fork, reclaim, overrun signal: the ones that a thread keeps. */
#define FLAGS_KEPT 0x07

#define CPUS_BYTES         1024
#define CPUS_MAX           (CPUS_BYTES * 8)
#define IOPRIO_WHO_PROCESS 1

struct cpu_set_bits {
	uint8_t bits[CPUS_BYTES] __attribute__((aligned(8)));
};

static bool cpu_in(const struct cpu_set_bits *s, unsigned cpu)
{
	return s->bits[cpu / 8] >> cpu % 8 & 1;
}

/* "0-3,8" of /sys/devices/system/cpu/online. */
static struct err *cpus_online(struct arena *a, struct cpu_set_bits *ret)
{
	const char *p;
	char *text;

	memset(ret, 0, sizeof(*ret));
	TRY(io_read_file(a, "/sys/devices/system/cpu/online", 4096, &text, NULL));
	for (p = text; *p && *p != '\n';) {
		uint64_t first, last;

		if (!text_scan_u64(&p, 10, &first))
			return err_new(ERR_KERNEL, "the list of CPUs reads \"%s\"", text);
		last = first;
		if (text_scan_lit(&p, "-") && !text_scan_u64(&p, 10, &last))
			return err_new(ERR_KERNEL, "the list of CPUs reads \"%s\"", text);
		for (; first <= last && first < CPUS_MAX; first++)
			ret->bits[first / 8] |= (uint8_t)(1u << first % 8);
		text_scan_lit(&p, ",");
	}
	return NULL;
}

static struct err *attr_get(pid_t tid, struct attr *ret)
{
	int nice;

	memset(ret, 0, sizeof(*ret));
	if (syscall(SYS_sched_getattr, tid, ret, sizeof(*ret), 0) < 0)
		return err_errno(errno, "ask how thread %d is scheduled", (int)tid);
	errno = 0;
	nice = getpriority(PRIO_PROCESS, (id_t)tid);
	if (nice == -1 && errno)
		return err_errno(errno, "ask for the nice value of thread %d", (int)tid);
	ret->nice = nice;
	ret->flags &= FLAGS_KEPT;
	ret->size = sizeof(*ret);
	return NULL;
}

static struct err *ioprio_get(pid_t tid, uint32_t *ret)
{
	long prio = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid);

	if (prio < 0)
		return err_errno(errno, "ask for the I/O priority of thread %d", (int)tid);
	*ret = (uint32_t)prio;
	return NULL;
}

/* How many leading bytes of `now` must travel; 0 when it may use every CPU that is online. */
static struct err *cpus_get(
	pid_t tid, const struct cpu_set_bits *online, struct cpu_set_bits *now, size_t *len)
{
	bool all = true;

	memset(now, 0, sizeof(*now));
	if (syscall(SYS_sched_getaffinity, tid, sizeof(now->bits), now->bits) < 0)
		return err_errno(errno, "ask for the CPUs of thread %d", (int)tid);
	for (size_t i = 0; i < sizeof(now->bits); i++)
		if (online->bits[i] & ~now->bits[i])
			all = false;
	*len = 0;
	for (size_t i = 0; !all && i < sizeof(now->bits); i++)
		if (now->bits[i])
			*len = i + 1;
	return NULL;
}

/* All of one thread; without padding, so that it can be compared as bytes. */
struct how {
	struct attr attr;
	uint32_t ioprio, pad;
	size_t cpus_len;
	struct cpu_set_bits cpus;
};

static struct err *how_get(pid_t tid, const struct cpu_set_bits *online, struct how *ret)
{
	memset(ret, 0, sizeof(*ret));
	TRY(attr_get(tid, &ret->attr));
	TRY(ioprio_get(tid, &ret->ioprio));
	return cpus_get(tid, online, &ret->cpus, &ret->cpus_len);
}

static void emit(struct capture *c, int32_t *tids, size_t n, struct how *how)
{
	Migrate__Kind__Sched m = MIGRATE__KIND__SCHED__INIT;

	m.tids = tids;
	m.n_tids = n;
	m.policy = how->attr.policy;
	m.flags = how->attr.flags;
	m.nice = how->attr.nice;
	m.priority = how->attr.priority;
	m.runtime_ns = how->attr.runtime;
	m.deadline_ns = how->attr.deadline;
	m.period_ns = how->attr.period;
	m.util_min = how->attr.util_min;
	m.util_max = how->attr.util_max;
	m.ioprio = how->ioprio;
	m.cpus.data = how->cpus.bits;
	m.cpus.len = how->cpus_len;
	if (m.policy > POLICY_MAX)
		capture_refuse(c,
			err_new(ERR_UNSUPPORTED, "thread %d has the unknown scheduling policy %u",
				tids[0], m.policy));
	capture_emit(c, (uint64_t)tids[0], &m.base);
}

static struct err *sched_capture(struct capture *c)
{
	const struct task *t = c->task;
	struct how *hows = arena_array(c->arena, t->n_threads, sizeof(*hows));
	bool *said = arena_array(c->arena, t->n_threads, sizeof(*said));
	int32_t *tids = arena_array(c->arena, t->n_threads, sizeof(*tids));
	struct cpu_set_bits online;

	TRY(cpus_online(c->arena, &online));
	for (size_t i = 0; i < t->n_threads; i++)
		TRY(how_get(t->threads[i]->tid, &online, &hows[i]));
	for (size_t i = 0; i < t->n_threads; i++) {
		size_t n = 0;

		for (size_t j = i; !said[i] && j < t->n_threads; j++)
			if (!said[j] && memcmp(&hows[i], &hows[j], sizeof(hows[i])) == 0)
				tids[n++] = t->threads[j]->tid;
		for (size_t j = i, k = 0; k < n; j++)
			if (t->threads[j]->tid == tids[k]) {
				said[j] = true;
				k++;
			}
		if (n)
			emit(c, tids, n, &hows[i]);
	}
	return NULL;
}

static bool makes_sense(const Migrate__Kind__Sched *m)
{
	return m->n_tids && m->cpus.len <= CPUS_BYTES && m->policy <= POLICY_MAX &&
	       m->nice >= -20 && m->nice <= 19;
}

static struct err *sched_check(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__Sched *m = msg;
	struct cpu_set_bits online;
	unsigned here = 0, wanted = 0;

	if (!makes_sense(m) || (uint64_t)m->tids[0] != o->id)
		return err_new(ERR_PEER, "scheduling makes no sense");
	TRY(cpus_online(r->arena, &online));
	for (unsigned cpu = 0; cpu < m->cpus.len * 8; cpu++) {
		bool bit = m->cpus.data[cpu / 8] >> cpu % 8 & 1;

		wanted += bit;
		here += bit && cpu_in(&online, cpu);
	}
	if (wanted && !here)
		return err_hint(
			err_new(ERR_MISMATCH, "thread %d may run only on CPUs that are not there",
				m->tids[0]),
			"change its CPUs first: taskset -p");
	if (here < wanted)
		rebuild_warn(r, "thread %d may run on %u CPUs here and finds %u of them there",
			m->tids[0], wanted, here);
	return NULL;
}

static struct err *set_cpus(const struct how *want, const struct how *now, pid_t tid)
{
	struct cpu_set_bits all;

	if (want->cpus_len == now->cpus_len && memcmp(&want->cpus, &now->cpus, want->cpus_len) == 0)
		return NULL;
	memset(&all, 0xff, sizeof(all));
	if (syscall(SYS_sched_setaffinity, tid, sizeof(all.bits),
		    want->cpus_len ? want->cpus.bits : all.bits) < 0)
		return err_errno(errno, "set the CPUs of thread %d", (int)tid);
	return NULL;
}

static struct err *set_attr(const struct attr *wanted, const struct attr *was, pid_t tid)
{
	struct attr want = *wanted, now;

	if (memcmp(was, &want, sizeof(want)) == 0)
		return NULL;
	if (want.nice != was->nice && setpriority(PRIO_PROCESS, (id_t)tid, want.nice) < 0)
		return err_errno(errno, "set nice %d for thread %d", want.nice, (int)tid);
	if (want.policy != POLICY_DEADLINE && want.runtime == was->runtime)
		want.runtime = 0; /* not its own slice, but the host's */
	if (syscall(SYS_sched_setattr, tid, &want, 0) < 0)
		return err_errno(errno, "set the scheduling policy of thread %d", (int)tid);
	TRY(attr_get(tid, &now));
	if (now.util_min == want.util_min && now.util_max == want.util_max)
		return NULL;
	want.flags |= FLAG_UTIL_MIN | FLAG_UTIL_MAX;
	if (syscall(SYS_sched_setattr, tid, &want, 0) < 0)
		return err_errno(errno, "set the utilisation clamps of thread %d", (int)tid);
	return NULL;
}

static void how_of(const Migrate__Kind__Sched *m, struct how *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->attr = (struct attr){ .size = sizeof(ret->attr),
		.policy = m->policy,
		.flags = m->flags & FLAGS_KEPT,
		.nice = m->nice,
		.priority = m->priority,
		.runtime = m->runtime_ns,
		.deadline = m->deadline_ns,
		.period = m->period_ns,
		.util_min = m->util_min,
		.util_max = m->util_max };
	ret->ioprio = m->ioprio;
	ret->cpus_len = m->cpus.len;
	if (m->cpus.len)
		memcpy(ret->cpus.bits, m->cpus.data, m->cpus.len);
}

static struct err *set_thread(const struct rebuild *r, pid_t tid, const struct how *want,
	const struct cpu_set_bits *online)
{
	struct how now;

	if (!task_thread(r->task, tid))
		return err_new(ERR_PEER, "scheduling of a thread %d that is not there", (int)tid);
	TRY(how_get(tid, online, &now));
	TRY(set_cpus(want, &now, tid));
	TRY(set_attr(&want->attr, &now.attr, tid));
	if (now.ioprio != want->ioprio &&
		syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, tid, want->ioprio) < 0)
		return err_errno(errno, "set the I/O priority of thread %d", (int)tid);
	return NULL;
}

static struct err *sched_finish(
	struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Sched *m = msg;
	struct cpu_set_bits online;
	struct how want;

	if (!makes_sense(m))
		return err_new(ERR_PEER, "scheduling makes no sense");
	TRY(cpus_online(r->arena, &online));
	how_of(m, &want);
	for (size_t i = 0; i < m->n_tids; i++)
		TRY(set_thread(r, m->tids[i], &want, &online));
	return NULL;
}

const struct kind kind_sched = {
	.id = 3,
	.name = "scheduling",
	.scope = KIND_PROCESS,
	.stage = STAGE_LAST,
	.msg = &migrate__kind__sched__descriptor,
	.capture = sched_capture,
	.check = sched_check,
	.finish = sched_finish,
};
