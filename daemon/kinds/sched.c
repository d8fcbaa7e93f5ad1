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

static struct err *capture_thread(struct capture *c, pid_t tid, const struct cpu_set_bits *online)
{
	Migrate__Kind__Sched m = MIGRATE__KIND__SCHED__INIT;
	struct cpu_set_bits cpus;
	struct attr attr;

	TRY(attr_get(tid, &attr));
	TRY(ioprio_get(tid, &m.ioprio));
	TRY(cpus_get(tid, online, &cpus, &m.cpus.len));
	m.cpus.data = cpus.bits;
	m.tid = tid;
	m.policy = attr.policy;
	m.flags = attr.flags;
	m.nice = attr.nice;
	m.priority = attr.priority;
	m.runtime_ns = attr.runtime;
	m.deadline_ns = attr.deadline;
	m.period_ns = attr.period;
	m.util_min = attr.util_min;
	m.util_max = attr.util_max;
	if (attr.policy > POLICY_MAX)
		capture_refuse(c,
			err_new(ERR_UNSUPPORTED, "thread %d has the unknown scheduling policy %u",
				(int)tid, attr.policy));
	capture_emit(c, (uint64_t)tid, &m.base);
	return NULL;
}

static struct err *sched_capture(struct capture *c)
{
	struct cpu_set_bits online;

	TRY(cpus_online(c->arena, &online));
	for (size_t i = 0; i < c->task->n_threads; i++)
		TRY(capture_thread(c, c->task->threads[i]->tid, &online));
	return NULL;
}

static struct err *sched_check(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__Sched *m = msg;
	struct cpu_set_bits online;
	unsigned here = 0, wanted = 0;

	if ((uint64_t)m->tid != o->id || m->cpus.len > CPUS_BYTES || m->policy > POLICY_MAX ||
		m->nice < -20 || m->nice > 19)
		return err_new(ERR_PEER, "scheduling of thread %d makes no sense", m->tid);
	TRY(cpus_online(r->arena, &online));
	for (unsigned cpu = 0; cpu < m->cpus.len * 8; cpu++) {
		bool bit = m->cpus.data[cpu / 8] >> cpu % 8 & 1;

		wanted += bit;
		here += bit && cpu_in(&online, cpu);
	}
	if (wanted && !here)
		return err_hint(
			err_new(ERR_MISMATCH, "thread %d may run only on CPUs that are not there",
				m->tid),
			"change its CPUs first: taskset -p");
	if (here < wanted)
		rebuild_warn(r, "thread %d may run on %u CPUs here and finds %u of them there",
			m->tid, wanted, here);
	return NULL;
}

static struct err *set_cpus(const Migrate__Kind__Sched *m)
{
	struct cpu_set_bits want;

	memset(&want, m->cpus.len ? 0 : 0xff, sizeof(want));
	if (m->cpus.len)
		memcpy(want.bits, m->cpus.data, m->cpus.len);
	if (syscall(SYS_sched_setaffinity, m->tid, sizeof(want.bits), want.bits) < 0)
		return err_errno(errno, "set the CPUs of thread %d", m->tid);
	return NULL;
}

static struct err *set_attr(const Migrate__Kind__Sched *m)
{
	struct attr now, want = { .size = sizeof(want),
		.policy = m->policy,
		.flags = m->flags & FLAGS_KEPT,
		.nice = m->nice,
		.priority = m->priority,
		.runtime = m->runtime_ns,
		.deadline = m->deadline_ns,
		.period = m->period_ns,
		.util_min = m->util_min,
		.util_max = m->util_max };

	TRY(attr_get(m->tid, &now));
	if (memcmp(&now, &want, sizeof(now)) == 0)
		return NULL;
	if (want.nice != now.nice && setpriority(PRIO_PROCESS, (id_t)m->tid, want.nice) < 0)
		return err_errno(errno, "set nice %d for thread %d", want.nice, m->tid);
	if (want.policy != POLICY_DEADLINE && want.runtime == now.runtime)
		want.runtime = 0; /* not its own slice, but the host's */
	if (syscall(SYS_sched_setattr, m->tid, &want, 0) < 0)
		return err_errno(errno, "set the scheduling policy of thread %d", m->tid);
	TRY(attr_get(m->tid, &now));
	if (now.util_min == want.util_min && now.util_max == want.util_max)
		return NULL;
	want.flags |= FLAG_UTIL_MIN | FLAG_UTIL_MAX;
	if (syscall(SYS_sched_setattr, m->tid, &want, 0) < 0)
		return err_errno(errno, "set the utilisation clamps of thread %d", m->tid);
	return NULL;
}

static struct err *sched_finish(
	struct rebuild *r unused_arg, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Sched *m = msg;
	uint32_t ioprio = 0;

	if (m->tid <= 1 || m->cpus.len > CPUS_BYTES || !task_thread(r->task, m->tid))
		return err_new(ERR_PEER, "there is no thread %d", m->tid);
	TRY(set_cpus(m));
	TRY(set_attr(m));
	TRY(ioprio_get(m->tid, &ioprio));
	if (ioprio != m->ioprio &&
		syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, m->tid, m->ioprio) < 0)
		return err_errno(errno, "set the I/O priority of thread %d", m->tid);
	return NULL;
}

const struct kind kind_sched = {
	.id = 3,
	.name = "scheduling",
	.scope = KIND_PROCESS, /* one object per thread, but the host's CPUs are read once */
	.stage = STAGE_LAST,
	.needs_stop = true,
	.msg = &migrate__kind__sched__descriptor,
	.capture = sched_capture,
	.check = sched_check,
	.finish = sched_finish,
};
