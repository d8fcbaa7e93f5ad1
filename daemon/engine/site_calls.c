// SPDX-License-Identifier: Apache-2.0
/* What kinds call at the destination: rebuild_* of kinds/rebuild.h. */
#include <stdlib.h>
#include <sys/stat.h>

#include "engine/site_priv.h"

#define STASH_SLOTS 4

struct stash {
	uint64_t group;
	int fds[STASH_SLOTS];
};

struct space {
	uint64_t id;
	int fd;
};

static struct stash *stash_of(struct site *s, uint64_t group)
{
	for (size_t i = 0; i < s->n_stash; i++)
		if (s->stash[i].group == group)
			return &s->stash[i];
	return NULL;
}

int rebuild_stash_get(struct rebuild *r, uint64_t group, unsigned slot)
{
	struct stash *st = stash_of(r->priv->site, group);

	return st && slot < STASH_SLOTS ? st->fds[slot] : -1;
}

void rebuild_stash_put(struct rebuild *r, uint64_t group, unsigned slot, int fd)
{
	struct site *s = r->priv->site;
	struct stash *st = stash_of(s, group);

	if (!st) {
		s->stash = arena_grow(
			s->arena, s->stash, &s->cap_stash, s->n_stash + 1, sizeof(*s->stash));
		st = &s->stash[s->n_stash++];
		*st = (struct stash){ .group = group, .fds = { -1, -1, -1, -1 } };
	}
	if (slot >= STASH_SLOTS)
		abort();
	fd_closep(&st->fds[slot]);
	st->fds[slot] = fd;
}

void site_calls_done(struct site *s)
{
	for (size_t i = 0; i < s->n_stash; i++)
		for (size_t j = 0; j < STASH_SLOTS; j++)
			fd_closep(&s->stash[i].fds[j]);
	s->n_stash = 0;
}

int site_space_fd(void *arg, uint64_t id)
{
	struct site *s = arg;

	for (size_t i = 0; i < s->n_spaces; i++)
		if (s->spaces[i].id == id)
			return s->spaces[i].fd;
	return -1;
}

int rebuild_space_get(struct rebuild *r, uint64_t space)
{
	return site_space_fd(r->priv->site, space);
}

void rebuild_space_put(struct rebuild *r, uint64_t id, int fd)
{
	struct site *s = r->priv->site;

	for (size_t i = 0; i < s->n_spaces; i++) {
		if (s->spaces[i].id == id) {
			fd_closep(&s->spaces[i].fd);
			s->spaces[i].fd = fd;
			return;
		}
	}
	s->spaces = arena_grow(
		s->arena, s->spaces, &s->cap_spaces, s->n_spaces + 1, sizeof(*s->spaces));
	s->spaces[s->n_spaces++] = (struct space){ id, fd };
}

bool rebuild_locked(struct rebuild *r, const struct net_pair *pair)
{
	const struct site_spec *spec = &r->priv->site->spec;

	return spec->locked && spec->locked(spec->arg, pair);
}

struct task *rebuild_task(struct rebuild *r, pid_t pid)
{
	return site_task_of(r->priv->site, pid);
}

void rebuild_refuse(struct rebuild *r, struct err *e)
{
	notes_refuse(r->priv->site->spec.notes, e);
}

void rebuild_warn(struct rebuild *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	notes_vwarn(r->priv->site->spec.notes, fmt, ap);
	va_end(ap);
}

uint64_t site_spaces_bytes(const struct site *s)
{
	uint64_t bytes = 0;
	struct stat st;

	for (size_t i = 0; i < s->n_spaces; i++)
		if (fstat(s->spaces[i].fd, &st) == 0)
			bytes += (uint64_t)st.st_blocks * 512;
	return bytes;
}

void site_calls_fini(struct site *s)
{
	site_calls_done(s);
	for (size_t i = 0; i < s->n_spaces; i++)
		fd_closep(&s->spaces[i].fd);
}
