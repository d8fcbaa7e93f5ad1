// SPDX-License-Identifier: Apache-2.0
/*
 * A timer behind a descriptor. What travels is the point in time at which it expires next, on a
 * clock that goes on without a jump in the moved process (its time namespace), not what is left of
 * it: so nothing is lost between capture and finish.
 *
 * The kernel shows what is left (fdinfo, timerfd_gettime). An interval timer that has expired is
 * stopped until somebody reads the descriptor or asks timerfd_gettime, which then counts the
 * expirations missed so far and starts it again at its old phase: fdinfo alone would lose the
 * phase. It is armed by a remote call, because absolute times count in the caller's time namespace,
 * and a relative timer stays one (absolute ones follow when the realtime clock is set).
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "kinds/kind.h"
#include "timerfd.pb-c.h"

#define NS_PER_S      1000000000LL
#define STATUS_FLAGS  (SETFL_FLAGS | O_ASYNC)
#define SETTIME_FLAGS (TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)
#define ARM_TRIES     4
#define LOOK_TRIES    4
/* linux/timerfd.h, which clashes with the library's header. Since Linux 3.17, with
 * CONFIG_CHECKPOINT_RESTORE. */
#define IOC_SET_TICKS _IOW('T', 0, uint64_t)

static bool timerfd_claims(const struct file *f)
{
	return strcmp(f->link, "anon_inode:[timerfd]") == 0;
}

/* "it_value: (1, 500000000)" */
static struct err *parse_time(const char *fdinfo, const char *field, int64_t *ns)
{
	const char *p = strstr(fdinfo, field);
	uint64_t s, frac;

	if (!p)
		return err_new(ERR_UNSUPPORTED, "no %s in fdinfo", field);
	p += strlen(field);
	if (!text_scan_lit(&p, ": (") || !text_scan_u64(&p, 10, &s) || !text_scan_lit(&p, ", ") ||
		!text_scan_u64(&p, 10, &frac) || s > INT64_MAX / NS_PER_S - 1)
		return err_new(ERR_KERNEL, "%s in fdinfo does not parse", field);
	*ns = (int64_t)s * NS_PER_S + (int64_t)frac;
	return NULL;
}

/* The offset of one of a process's clocks in its time namespace; 0 where there are none. */
static struct err *clock_offset(struct arena *a, const char *who, const char *name, int64_t *ret)
{
	char path[64], *text;
	const char *p;
	long long s, ns;

	*ret = 0;
	snprintf(path, sizeof(path), "/proc/%s/timens_offsets", who);
	if (access(path, F_OK) < 0)
		return NULL;
	TRY(io_read_file(a, path, 4096, &text, NULL));
	p = strstr(text, name);
	if (!p || sscanf(p + strlen(name), "%lld %lld", &s, &ns) != 2)
		return err_new(ERR_KERNEL, "%s does not parse", path);
	*ret = s * NS_PER_S + ns;
	return NULL;
}

static clockid_t reference_clock(int clock, uint32_t settime_flags)
{
	if (!(settime_flags & TFD_TIMER_ABSTIME))
		return CLOCK_MONOTONIC;
	if (clock == CLOCK_BOOTTIME_ALARM)
		return CLOCK_BOOTTIME;
	if (clock == CLOCK_REALTIME_ALARM)
		return CLOCK_REALTIME;
	return clock;
}

/* The process's clock minus ours. */
static struct err *clock_ahead(struct arena *a, pid_t pid, clockid_t clock, int64_t *ret)
{
	const char *name = clock == CLOCK_BOOTTIME ? "boottime" : "monotonic";
	int64_t theirs, ours;
	char who[16];

	*ret = 0;
	if (clock == CLOCK_REALTIME)
		return NULL;
	snprintf(who, sizeof(who), "%d", pid);
	TRY(clock_offset(a, who, name, &theirs));
	TRY(clock_offset(a, "self", name, &ours));
	*ret = theirs - ours;
	return NULL;
}

static int64_t clock_now(clockid_t clock)
{
	struct timespec ts = { 0 };

	clock_gettime(clock, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static struct err *parse_state(const char *fdinfo, Migrate__Kind__Timerfd *m, int64_t *left)
{
	int64_t interval;

	TRY(parse_time(fdinfo, "it_value", left));
	TRY(parse_time(fdinfo, "it_interval", &interval));
	TRY(fdinfo_u64(fdinfo, "ticks", 10, &m->ticks));
	m->interval_ns = (uint64_t)interval;
	/* An interval timer that has expired is due again. */
	m->armed = *left > 0 || (interval > 0 && m->ticks > 0);
	return NULL;
}

/* What is left, and the ticks. While it runs, only looked at; frozen, exactly: again when it
 * expires between the question, which makes an interval timer go on, and the look. */
static struct err *read_left(struct capture *c, Migrate__Kind__Timerfd *m, int64_t *left)
{
	struct itimerspec now;
	char *fresh;
	int home;

	TRY(parse_state(c->file->fdinfo, m, left));
	if (!c->stopped)
		return NULL;
	TRY(capture_home(c, &home));
	for (int i = 0; i < LOOK_TRIES; i++) {
		if (timerfd_gettime(home, &now) < 0)
			return err_errno(errno, "ask a timer");
		TRY(proc_fdinfo(c->arena, c->task->pid, c->file->slots[0].number, &fresh));
		TRY(parse_state(fresh, m, left));
		if (*left > 0 || !m->interval_ns)
			break;
	}
	return NULL;
}

static struct err *timerfd_capture(struct capture *c)
{
	Migrate__Kind__Timerfd m = MIGRATE__KIND__TIMERFD__INIT;
	uint64_t clock, settime_flags;
	int64_t left = 0, ahead = 0;
	clockid_t reference;

	TRY(fdinfo_u64(c->file->fdinfo, "clockid", 10, &clock));
	TRY(fdinfo_u64(c->file->fdinfo, "settime flags", 8, &settime_flags));
	m.clock = (int32_t)clock;
	m.settime_flags = (uint32_t)settime_flags & SETTIME_FLAGS;
	m.flags = c->file->flags & STATUS_FLAGS;
	reference = reference_clock(m.clock, m.settime_flags);
	TRY(clock_ahead(c->arena, c->task->pid, reference, &ahead));
	TRY(read_left(c, &m, &left));
	if (m.armed)
		m.expiry_ns = clock_now(reference) + ahead + left;
	capture_emit(c, c->file->id, &m.base);
	return NULL;
}

static struct err *timerfd_rebuild(
	struct rebuild *r unused_arg, const struct object *o unused_arg, const void *msg, int *fd)
{
	const Migrate__Kind__Timerfd *m = msg;
	autoclose int made = timerfd_create(m->clock, TFD_CLOEXEC);

	if (made < 0)
		return err_errno(errno, "make a timer of clock %d", m->clock);
	if (fcntl(made, F_SETFL, (int)(m->flags & STATUS_FLAGS)) < 0)
		return err_errno(errno, "set the flags of a timer");
	*fd = take_fd(&made);
	return NULL;
}

static struct timespec to_timespec(int64_t ns)
{
	return (struct timespec){ .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S };
}

/* What the remote calls point to. */
struct arming {
	struct itimerspec spec;
	uint64_t ticks;
};

/* The next expiry after `now`; those that are due already are counted. */
static int64_t next_expiry(const Migrate__Kind__Timerfd *m, int64_t now, uint64_t *ticks)
{
	int64_t interval = (int64_t)m->interval_ns, missed = 0;

	*ticks = m->ticks;
	if (interval > 0 && now >= m->expiry_ns)
		missed = (now - m->expiry_ns) / interval + 1;
	*ticks += (uint64_t)missed;
	return m->expiry_ns + missed * interval;
}

static struct err *arm(struct rebuild *r, uint64_t fd, uint64_t flags, const struct arming *a)
{
	uint64_t at = remote_scratch(r->task).v;
	struct call calls[] = {
		{ SYS_timerfd_settime, { fd, flags, at + offsetof(struct arming, spec), 0 }, 0 },
		{ SYS_ioctl, { fd, IOC_SET_TICKS, at + offsetof(struct arming, ticks) }, 0 },
	};

	TRY(remote_put(r->task, 0, a, sizeof(*a)));
	/* The kernel takes no 0; settime has set it to that. */
	TRY(remote_run(r->task, r->thread, calls, a->ticks ? 2 : 1));
	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		if (calls[i].ret < 0)
			return err_errno((int)-calls[i].ret,
				i ? "set the expirations of a timer" : "arm a timer");
	return NULL;
}

/* Setting the ticks overwrites an expiration that came right after arming: so it is done again
 * until the timer was surely not due meanwhile. (A very fast one never gets there, and is within
 * one expiration anyhow.) */
static struct err *timerfd_finish(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__Timerfd *m = msg;
	uint64_t flags = m->settime_flags & SETTIME_FLAGS;
	clockid_t reference = reference_clock(m->clock, m->settime_flags);
	struct arming a = { .ticks = m->ticks };
	int64_t ahead, next = 0;

	if (m->expiry_ns < 0 || m->interval_ns > INT64_MAX / 2 || m->expiry_ns > INT64_MAX / 2)
		return err_new(ERR_PEER, "timer out of range");
	TRY(clock_ahead(r->arena, r->task->pid, reference, &ahead));
	a.spec.it_interval = to_timespec((int64_t)m->interval_ns);
	for (int i = 0; i < ARM_TRIES; i++) {
		int64_t now = clock_now(reference) + ahead;

		if (m->armed) {
			next = next_expiry(m, now, &a.ticks);
			a.spec.it_value =
				to_timespec(MAX(flags & TFD_TIMER_ABSTIME ? next : next - now, 1));
		}
		TRY(arm(r, (uint64_t)o->slots[0].number, flags, &a));
		if (!m->armed || !a.ticks || clock_now(reference) + ahead < next)
			break;
	}
	return NULL;
}

const struct kind kind_timerfd = {
	.id = 27,
	.name = "timerfd",
	.scope = KIND_FILE,
	.stage = STAGE_FILE,
	.msg = &migrate__kind__timerfd__descriptor,
	.claims = timerfd_claims,
	.capture = timerfd_capture,
	.rebuild = timerfd_rebuild,
	.finish = timerfd_finish,
};
