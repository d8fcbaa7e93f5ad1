// SPDX-License-Identifier: Apache-2.0
#include "engine/sinks.h"

#include <stdlib.h>

static struct sink *sink_of(const struct sinks *s, pid_t pid)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].pid == pid)
			return &s->v[i];
	return NULL;
}

static uint64_t space_of(const struct sinks *s, pid_t pid)
{
	return pid == site_task(s->site)->pid ? SPACE_PRIVATE : space_private(pid);
}

struct page_sink *sinks_main(const struct sinks *s)
{
	const struct sink *k = sink_of(s, s->main);

	return k ? k->sink : NULL;
}

static struct err *open_one(struct sinks *s, pid_t pid, enum page_sink_way way)
{
	const struct page_sink_spec spec = {
		.t = site_task_of(s->site, pid),
		.space_fd = site_space_fd,
		.arg = s->site,
		.way = way,
		.round_bytes_max = s->round_bytes_max,
		.space = space_of(s, pid),
	};
	struct page_sink *sink;

	if (!spec.t)
		return err_new(ERR_PEER, "pages for process %d, which there is not", pid);
	TRY(page_sink_open(&spec, &sink));
	if (s->n == s->cap) {
		s->cap = s->cap * 2 + 8;
		s->v = xrealloc_array(s->v, s->cap, sizeof(*s->v));
	}
	s->v[s->n++] = (struct sink){ pid, sink };
	return NULL;
}

struct err *sinks_open_main(struct sinks *s, pid_t main, enum page_sink_way way)
{
	s->main = main;
	return open_one(s, main, way);
}

struct err *sinks_layout(struct sinks *s, pid_t pid)
{
	const struct vma_list *vmas = site_vmas(s->site, pid);
	const struct sink *k;

	if (!vmas)
		return NULL;
	if (!sink_of(s, pid))
		TRY(open_one(s, pid, SINK_COPY));
	k = sink_of(s, pid);
	return k ? page_sink_layout(k->sink, vmas) : NULL;
}

void sinks_forget(struct sinks *s, pid_t pid)
{
	struct sink *k = sink_of(s, pid);

	if (!k)
		return;
	if (s->active == k->sink)
		s->active = NULL;
	s->copied += page_sink_copied(k->sink);
	page_sink_close(k->sink);
	*k = s->v[--s->n];
}

/* Shared memory belongs to all of them: to the main one as long as it is there. */
static struct page_sink *sink_for(const struct sinks *s, uint64_t space)
{
	struct page_sink *main = sinks_main(s);

	if (!space_is_private(space))
		return main || !s->n ? main : s->v[0].sink;
	for (size_t i = 0; i < s->n; i++)
		if (space_of(s, s->v[i].pid) == space)
			return s->v[i].sink;
	return NULL;
}

struct err *sinks_frame(struct sinks *s, const struct frame_head *head, struct channel *ch)
{
	struct page_sink *sink = sink_for(s, head->arg);

	if (!sink)
		return err_new(ERR_PEER, "pages for a process that there is not");
	if (s->active != sink)
		TRY(sinks_settle(s));
	s->active = sink;
	return page_sink_frame(sink, head, ch);
}

struct err *sinks_settle(struct sinks *s)
{
	struct page_sink *active = take(&s->active);

	return active ? page_sink_settle(active) : NULL;
}

void sinks_round(struct sinks *s)
{
	for (size_t i = 0; i < s->n; i++)
		page_sink_round(s->v[i].sink);
}

uint64_t sinks_copied(const struct sinks *s)
{
	uint64_t bytes = s->copied;

	for (size_t i = 0; i < s->n; i++)
		bytes += page_sink_copied(s->v[i].sink);
	return bytes;
}

struct err *sinks_leave(struct sinks *s)
{
	for (size_t i = 0; i < s->n; i++)
		TRY(page_sink_leave(s->v[i].sink));
	return NULL;
}

void sinks_close(struct sinks *s)
{
	s->copied = sinks_copied(s);
	for (size_t i = 0; i < s->n; i++)
		page_sink_close(s->v[i].sink);
	free(s->v);
	s->v = NULL;
	s->n = s->cap = 0;
	s->active = NULL;
}
