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

#include "base/clock.h"
#include "base/io.h"
#include "base/text.h"
#include "kinds/kind.h"
#include "timerfd.pb-c.h"

#define NS_PER_S      1000000000LL
#define STATUS_FLAGS  (O_NONBLOCK | O_ASYNC)
#define SETTIME_FLAGS (TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)
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

/* Now, as the process sees the clock. */
static struct err *process_now(struct arena *a, pid_t pid, clockid_t clock, int64_t *ret)
{
	const char *name = clock == CLOCK_BOOTTIME ? "boottime" : "monotonic";
	int64_t theirs = 0, ours = 0;
	char who[16];
	struct timespec ts;

	if (clock != CLOCK_REALTIME) {
		snprintf(who, sizeof(who), "%d", pid);
		TRY(clock_offset(a, who, name, &theirs));
		TRY(clock_offset(a, "self", name, &ours));
	}
	if (clock_gettime(clock, &ts) < 0)
		return err_errno(errno, "read clock %d", clock);
	*ret = ts.tv_sec * NS_PER_S + ts.tv_nsec + theirs - ours;
	return NULL;
}

/* What is left, and the ticks. While it runs, only looked at; frozen, exactly. */
static struct err *read_left(struct capture *c, Migrate__Kind__Timerfd *m, int64_t *left)
{
	const char *fdinfo = c->file->fdinfo;
	int64_t interval;
	char *fresh;

	if (c->stopped) {
		struct itimerspec now;
		int home;

		TRY(capture_home(c, &home));
		if (timerfd_gettime(home, &now) < 0)
			return err_errno(errno, "ask a timer");
		TRY(proc_fdinfo(c->arena, c->task->pid, c->file->slots[0].number, &fresh));
		fdinfo = fresh;
	}
	TRY(parse_time(fdinfo, "it_value", left));
	TRY(parse_time(fdinfo, "it_interval", &interval));
	TRY(fdinfo_u64(fdinfo, "ticks", 10, &m->ticks));
	m->interval_ns = (uint64_t)interval;
	/* An interval timer that is seen expired and stopped is due. */
	m->armed = *left > 0 || (interval > 0 && m->ticks > 0);
	return NULL;
}

static struct err *timerfd_capture(struct capture *c)
{
	Migrate__Kind__Timerfd m = MIGRATE__KIND__TIMERFD__INIT;
	uint64_t clock, settime_flags;
	int64_t left = 0, now = 0;

	TRY(fdinfo_u64(c->file->fdinfo, "clockid", 10, &clock));
	TRY(fdinfo_u64(c->file->fdinfo, "settime flags", 8, &settime_flags));
	m.clock = (int32_t)clock;
	m.settime_flags = (uint32_t)settime_flags & SETTIME_FLAGS;
	m.flags = c->file->flags & STATUS_FLAGS;
	TRY(read_left(c, &m, &left));
	TRY(process_now(c->arena, c->task->pid, reference_clock(m.clock, m.settime_flags), &now));
	if (m.armed)
		m.expiry_ns = now + left;
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

/* A relative timer: what is left by now, and the expirations that are due already. */
static void count_down(const Migrate__Kind__Timerfd *m, int64_t now, struct arming *a)
{
	int64_t left = m->expiry_ns - now, interval = (int64_t)m->interval_ns;

	if (left <= 0 && interval > 0) {
		int64_t missed = -left / interval + 1;

		a->ticks += (uint64_t)missed;
		left += missed * interval;
	}
	a->spec.it_value = to_timespec(MAX(left, 1));
}

static struct err *timerfd_finish(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__Timerfd *m = msg;
	uint64_t at = remote_scratch(r->task).v, fd = (uint64_t)o->slots[0].number;
	uint64_t flags = m->settime_flags & SETTIME_FLAGS;
	struct arming a = { .ticks = m->ticks };

	if (m->expiry_ns < 0 || m->interval_ns > INT64_MAX)
		return err_new(ERR_PEER, "timer out of range");
	a.spec.it_interval = to_timespec((int64_t)m->interval_ns);
	if (m->armed && (flags & TFD_TIMER_ABSTIME))
		a.spec.it_value = to_timespec(MAX(m->expiry_ns, 1));
	else if (m->armed)
		count_down(m, clock_ns() + r->clock_offset_ns, &a);
	TRY(remote_put(r->task, 0, &a, sizeof(a)));
	TRY(REMOTE(r->task, r->thread, NULL, "arm a timer", SYS_timerfd_settime, fd, flags,
		at + offsetof(struct arming, spec), 0));
	if (!a.ticks)
		return NULL;
	return REMOTE(r->task, r->thread, NULL, "set the expirations of a timer", SYS_ioctl, fd,
		IOC_SET_TICKS, at + offsetof(struct arming, ticks));
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
