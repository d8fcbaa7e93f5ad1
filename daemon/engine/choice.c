// SPDX-License-Identifier: Apache-2.0
/*
 * How pages leave the process: by reference where the stream carries them so to the encryption,
 * else by a copy, which then is the only one (HACKING has the figures).
 */
#include <string.h>

#include "engine/source.h"

static bool wants_pump(const struct source *s)
{
	return s->opt->pages ? strcmp(s->opt->pages, source_pump.name) == 0
			     : channel_splices_out(&s->peer.ch);
}

static struct err *open_pump(struct source *s)
{
	if (!channel_splices_out(&s->peer.ch))
		return err_new(ERR_UNSUPPORTED, "this connection takes nothing by reference");
	return source_pump.open(s->task, &s->pages);
}

static void note(struct source *s, const struct page_source_ops *ops)
{
	struct engine_stats *st = &s->out->stats;
	struct source_facts f = { 0 };

	if (ops->facts)
		ops->facts(s->pages, &f);
	s->pages_ops = ops;
	st->source = ops->name;
	st->source_fds = f.fds;
	st->source_pipe_bytes = f.pipe_bytes;
	st->stall_us = MAX(st->stall_us, f.stop_us);
}

struct err *source_pages_open(struct source *s)
{
	autoerr struct err *e = NULL;
	autofree char *why = NULL;

	if (wants_pump(s)) {
		e = open_pump(s);
		if (!e) {
			note(s, &source_pump);
			return NULL;
		}
		TRY(task_check_alive(s->task));
		why = err_line(e);
		notes_warnf(&s->out->notes, "memory is copied out of it: %s", why);
	}
	TRY(source_copy.open(s->task, &s->pages));
	note(s, &source_copy);
	return NULL;
}

struct err *source_pages_leave(struct source *s)
{
	return s->pages_ops->leave ? s->pages_ops->leave(s->pages) : NULL;
}
