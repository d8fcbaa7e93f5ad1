// SPDX-License-Identifier: Apache-2.0
/* Blockers and warnings of a migration, and the names of its outcomes. */
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

/* A process with more blockers than this is not shown them all; the last one says so. */
#define NOTES_MAX 1000

void notes_refuse(struct notes *n, struct err *e)
{
	if (n->n_blockers == NOTES_MAX) {
		err_free(e);
		return;
	}
	if (n->n_blockers == n->cap_blockers) {
		n->cap_blockers = n->cap_blockers * 2 + 8;
		n->blockers = xrealloc_array(n->blockers, n->cap_blockers, sizeof(*n->blockers));
	}
	n->blockers[n->n_blockers++] = e;
	if (n->n_blockers == NOTES_MAX)
		n->blockers[NOTES_MAX - 1] =
			err_in(n->blockers[NOTES_MAX - 1], "and more; the last one shown is");
}

void notes_forget_blockers(struct notes *n, size_t keep)
{
	while (n->n_blockers > keep)
		err_free(n->blockers[--n->n_blockers]);
}

void notes_warn(struct notes *n, const char *text)
{
	if (n->n_warnings == NOTES_MAX)
		return;
	for (size_t i = 0; i < n->n_warnings; i++)
		if (!strcmp(n->warnings[i], text))
			return;
	if (n->n_warnings == n->cap_warnings) {
		n->cap_warnings = n->cap_warnings * 2 + 8;
		n->warnings = xrealloc_array(n->warnings, n->cap_warnings, sizeof(*n->warnings));
	}
	n->warnings[n->n_warnings++] = xstrdup(text);
}

void notes_vwarn(struct notes *n, const char *fmt, va_list ap)
{
	autofree char *text = xvprintf(fmt, ap);

	notes_warn(n, text);
}

void notes_warnf(struct notes *n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	notes_vwarn(n, fmt, ap);
	va_end(ap);
}

void notes_fini(struct notes *n)
{
	for (size_t i = 0; i < n->n_blockers; i++)
		err_free(n->blockers[i]);
	for (size_t i = 0; i < n->n_warnings; i++)
		free(n->warnings[i]);
	free(n->blockers);
	free(n->warnings);
	*n = (struct notes){ 0 };
}

void engine_outcome_fini(struct engine_outcome *o)
{
	err_free(o->error);
	o->error = NULL;
	notes_fini(&o->notes);
}

static const char *const owners[] = {
	[OWNER_NOBODY] = "nobody",
	[OWNER_SOURCE] = "source",
	[OWNER_DESTINATION] = "destination",
	[OWNER_UNKNOWN] = "unknown",
};

const char *owner_name(enum owner o)
{
	return owners[o];
}

static const char *const results[] = {
	[RESULT_MOVED] = "moved",
	[RESULT_KEPT] = "kept",
	[RESULT_IN_DOUBT] = "in_doubt",
};

const char *engine_result_name(enum engine_result r)
{
	return results[r];
}
