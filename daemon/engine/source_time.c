// SPDX-License-Identifier: Apache-2.0
/* How long the source goes on, and what it says when that is over. */
#include <errno.h>
#include <unistd.h>

#include "engine/patience.h"
#include "engine/source.h"
#include "kernel/proc.h"
#include "kernel/trace.h"

#define SECOND_US 1000000
/* A process that ends is gone a moment after its threads are. */
#define ENDING_US 100000

void source_begin_time(struct source *s)
{
	s->until = s->opt->timeout_us ? deadline_in(s->opt->timeout_us - s->opt->spent_us)
				      : DEADLINE_NEVER;
}

static int64_t frozen_limit_us(const struct source *s)
{
	int64_t limit = s->opt->frozen_us ? s->opt->frozen_us : ENGINE_FROZEN_LIMIT_US, more;

	if (__builtin_mul_overflow(
		    s->out->stats.predicted_downtime_us, ENGINE_FROZEN_PER_PREDICTED, &more) ||
		__builtin_add_overflow(limit, more, &limit))
		return INT64_MAX / 2;
	return limit;
}

void source_begin_still(struct source *s)
{
	s->still_us = clock_us();
	s->until = deadline_in(frozen_limit_us(s));
	source_wait(s);
}

int64_t source_silence_us(const struct source *s)
{
	return s->still_us ? ENGINE_FROZEN_TIMEOUT_US : ENGINE_PEER_TIMEOUT_US;
}

void source_wait(struct source *s)
{
	channel_wait(&s->peer.ch, source_silence_us(s), s->until);
}

struct err *source_in_time(const struct source *s)
{
	return deadline_passed(s->until) ? err_new(ERR_TIMEOUT, "its time is up") : NULL;
}

/* Whatever was waited for when the time was up, it is the limit that the user has to know. */
static struct err *late_instead(const struct source *s, struct err *e)
{
	autofree char *line = NULL;
	struct err *why;

	if (err_code(e) != ERR_TIMEOUT || s->peer.failed_there || !deadline_passed(s->until))
		return e;
	line = err_line(e);
	why = err_new(ERR_TIMEOUT, "%s", line);
	err_free(e);
	if (s->still_us)
		return err_hint(
			err_in(why, "%d stood still for %jd s, as long as it may", s->opt->pid,
				(intmax_t)((clock_us() - s->still_us) / SECOND_US)),
			"see how busy both hosts are and the link between them; frozen_timeout in "
			"migrated.conf allows more");
	return err_hint(err_in(why, "not ready to freeze after %jd s",
				(intmax_t)(s->opt->timeout_us / SECOND_US)),
		"allow it more time with --timeout");
}

/* A thread that has SIGKILL pending answers to no ptrace request, before it has ended. Its pidfd
 * may tell only when we have let go of all threads. */
static bool has_ended(const struct source *s)
{
	uint64_t mask;
	autoerr struct err *gone = task_check_alive(s->task);

	if (!gone && s->task->held)
		gone = trace_get_mask(s->opt->pid, &mask);
	return gone;
}

/* When the process ends, any of our calls may be the one that finds nothing: what the user has to
 * know is that it has ended. */
static struct err *ended_instead(const struct source *s, struct err *e)
{
	struct deadline d = deadline_in(ENDING_US);
	int no = err_sysno(e);
	bool soon = err_code(e) == ERR_GONE || no == ESRCH || no == ENOENT, ended = has_ended(s);

	while (!ended && soon && !deadline_passed(d)) {
		usleep(1000);
		ended = has_ended(s);
	}
	if (!ended)
		return e;
	err_free(e);
	return err_new(ERR_GONE, "process %d has ended", s->opt->pid);
}

/* Another program has another address space: what was known of the one before is gone, though the
 * process is not. */
static struct err *executed_instead(const struct source *s, struct err *e)
{
	autoarena struct arena *a = arena_new();
	struct proc_stat now;
	autoerr struct err *no = proc_stat(a, s->opt->pid, 0, &now);

	if (no || now.start_time != s->task->start_time || !now.start_stack ||
		now.start_stack == s->members[0]->start_stack)
		return e;
	if (err_code(e) == ERR_GONE) {
		err_free(e);
		e = NULL;
	}
	if (!e)
		e = err_new(ERR_GONE, "what it was before is there no more");
	return err_hint(err_in(e, "process %d has executed another program (%s) meanwhile",
				s->opt->pid, now.comm),
		"send it again");
}

struct err *source_reason(const struct source *s, struct err *e)
{
	bool local = !s->peer.failed_there && s->task && err_code(e) != ERR_CANCELLED &&
		     err_code(e) != ERR_PEER && err_code(e) != ERR_TIMEOUT;

	if (!local)
		return late_instead(s, e);
	return executed_instead(s, ended_instead(s, e));
}
