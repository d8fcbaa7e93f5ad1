// SPDX-License-Identifier: Apache-2.0
#include "roles/migrations.h"

#include <stdlib.h>
#include <string.h>

static const char *known_side(const char *side)
{
	return strcmp(side, "destination") == 0 ? "destination" : "source";
}

static void entry_free(struct migration *m)
{
	if (m->progress)
		migrate__progress__free_unpacked(m->progress, NULL);
	if (m->done)
		migrate__done__free_unpacked(m->done, NULL);
	free(m->id);
	free(m);
}

static void remove_entry(struct migrations *ms, struct migration *m)
{
	struct migration **link = &ms->first;

	while (*link != m)
		link = &(*link)->next;
	*link = m->next;
	ms->n--;
	ms->n_ended -= m->done ? 1 : 0;
	entry_free(m);
}

struct migration *migrations_find(const struct migrations *ms, const char *id, const char *side)
{
	struct migration *found = NULL;

	for (struct migration *m = ms->first; m; m = m->next)
		if (strcmp(m->id, id) == 0 && (!side || strcmp(m->side, known_side(side)) == 0))
			found = m;
	return found;
}

struct migration *migrations_latest(const struct migrations *ms)
{
	struct migration *m = ms->first;

	while (m && m->next)
		m = m->next;
	return m;
}

struct err *migrations_unknown(const char *id)
{
	if (!id[0])
		return err_new(ERR_INVALID, "there was no migration yet");
	return err_hint(err_new(ERR_INVALID, "no migration %s is known", id),
		"migratectl list shows all of them");
}

static struct migration *find_or_add(struct migrations *ms, const char *id, const char *side)
{
	struct migration *m = migrations_find(ms, id, side), **end = &ms->first;

	if (m)
		return m;
	m = xcalloc(1, sizeof(*m));
	m->id = xstrdup(id);
	m->side = known_side(side);
	while (*end)
		end = &(*end)->next;
	*end = m;
	ms->n++;
	return m;
}

void migrations_progress(struct migrations *ms, Migrate__Progress *p)
{
	struct migration *m = find_or_add(ms, p->id, p->side);

	if (m->progress)
		migrate__progress__free_unpacked(m->progress, NULL);
	m->progress = p;
}

/* What is in doubt somebody still has to settle. */
static void forget_oldest(struct migrations *ms)
{
	struct migration *oldest = NULL;

	for (struct migration *m = ms->first; m; m = m->next) {
		if (!m->done)
			continue;
		if (!oldest)
			oldest = m;
		if (strcmp(m->done->outcome, "in_doubt") != 0) {
			oldest = m;
			break;
		}
	}
	if (oldest)
		remove_entry(ms, oldest);
}

void migrations_done(struct migrations *ms, Migrate__Done *d)
{
	struct migration *m = find_or_add(ms, d->last->id, d->last->side);
	bool check = strcmp(d->outcome, "movable") == 0 || strcmp(d->outcome, "blocked") == 0;

	if (m->done)
		migrate__done__free_unpacked(m->done, NULL);
	else
		ms->n_ended++;
	m->done = d;
	if (m->progress)
		migrate__progress__free_unpacked(m->progress, NULL);
	m->progress = NULL;
	if (check)
		remove_entry(ms, m);
	else if (ms->n_ended > MIGRATIONS_ENDED_MAX)
		forget_oldest(ms);
}

void migrations_fini(struct migrations *ms)
{
	while (ms->first)
		remove_entry(ms, ms->first);
}
