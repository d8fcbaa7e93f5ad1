// SPDX-License-Identifier: Apache-2.0
/* How long the source goes on, and what it says when that is over. */
#include <errno.h>
#include <unistd.h>

#include "engine/patience.h"
#include "engine/source.h"

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

/* When the process ends, any of our calls may be the one that finds nothing: what the user has to
 * know is that it has ended. */
static struct err *ended_instead(const struct source *s, struct err *e)
{
	struct deadline d = deadline_in(ENDING_US);
	int no = err_sysno(e);

	if (s->peer.failed_there || !s->task ||
		(err_code(e) != ERR_GONE && no != ESRCH && no != ENOENT))
		return e;
	do {
		autoerr struct err *gone = task_check_alive(s->task);

		if (gone) {
			err_free(e);
			return err_new(ERR_GONE, "process %d has ended", s->opt->pid);
		}
		usleep(1000);
	} while (!deadline_passed(d));
	return e;
}

struct err *source_reason(const struct source *s, struct err *e)
{
	return late_instead(s, ended_instead(s, e));
}
