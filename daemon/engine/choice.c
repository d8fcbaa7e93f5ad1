// SPDX-License-Identifier: Apache-2.0
/*
 * How pages leave the process: by reference where the stream carries them so to the encryption,
 * else by a copy, which then is the only one (HACKING has the figures).
 */
#include <string.h>

#include "engine/source.h"

static bool splices(const struct source *s)
{
	for (unsigned i = 0; i < s->lanes.n; i++)
		if (!channel_splices_out(&s->lanes.v[i].ch))
			return false;
	return channel_splices_out(&s->peer.ch);
}

static bool wants_pump(const struct source *s)
{
	return s->opt->pages ? strcmp(s->opt->pages, source_pump.name) == 0 : splices(s);
}

/* One for the engine's own thread, and one for each page stream's. */
static struct err *open_all(struct source *s, const struct page_source_ops *ops)
{
	s->pages_ops = ops;
	TRY(ops->open(s->main->task, source_space(s, s->main), &s->pages));
	for (unsigned i = 0; i < s->lanes.n; i++)
		TRY(ops->another(s->pages, &s->lane_pages[i]));
	return NULL;
}

static struct err *open_pump(struct source *s)
{
	if (!splices(s))
		return err_new(ERR_UNSUPPORTED, "this connection takes nothing by reference");
	return open_all(s, &source_pump);
}

void source_pages_close(struct source *s)
{
	for (unsigned i = 0; i < ENGINE_STREAMS_MAX; i++)
		if (s->lane_pages[i])
			s->pages_ops->close(take(&s->lane_pages[i]));
	if (s->pages)
		s->pages_ops->close(take(&s->pages));
}

static void add_facts(struct source *s, const struct page_source *of)
{
	struct engine_stats *st = &s->out->stats;
	struct source_facts f = { 0 };

	if (s->pages_ops->facts)
		s->pages_ops->facts(of, &f);
	st->source_fds += f.fds;
	st->source_pipe_bytes += f.pipe_bytes;
	st->stall_us = MAX(st->stall_us, f.stop_us);
}

static void note(struct source *s)
{
	s->out->stats.source = s->pages_ops->name;
	add_facts(s, s->pages);
	for (unsigned i = 0; i < s->lanes.n; i++)
		add_facts(s, s->lane_pages[i]);
}

struct err *source_pages_open(struct source *s)
{
	autoerr struct err *e = NULL;
	autofree char *why = NULL;

	if (wants_pump(s)) {
		e = open_pump(s);
		if (!e) {
			note(s);
			return NULL;
		}
		source_pages_close(s);
		TRY(task_check_alive(s->main->task));
		/* Something of ours may be there yet: it is gone some time after us. */
		if (err_code(e) == ERR_TIMEOUT)
			return err_hint(take(&e), "try again when this host has less to do");
		why = err_line(e);
		notes_warnf(&s->out->notes, "memory is copied out of it: %s", why);
	}
	TRY(open_all(s, &source_copy));
	note(s);
	return NULL;
}

struct err *source_pages_leave(struct source *s)
{
	return s->pages_ops->leave ? s->pages_ops->leave(s->pages) : NULL;
}
