// SPDX-License-Identifier: Apache-2.0
/* The control group in which the source holds the process, so that our own death does not let it
 * go. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/source.h"

/* The group in which it will be held. It moves in while it still runs: that takes the kernel 10 ms
 * and more (it waits for all processors), and freezing the group later takes microseconds. */
struct err *source_join_group(struct source *s)
{
	autofree char *parent = NULL;
	char name[128];

	TRY(freezer_current(s->opt->pid, &parent));
	snprintf(name, sizeof(name), ENGINE_HOLD_GROUP "%s", s->opt->id);
	TRY(freezer_make(parent, name, &s->freezer));
	return freezer_join(&s->freezer, s->opt->pid);
}

void source_not_undone(struct source *s, struct err *e)
{
	autofree char *line = e ? err_line(e) : NULL;
	autoerr struct err *gone = e ? task_check_alive(s->task) : NULL;

	if (line && !gone)
		notes_warnf(&s->out->notes,
			"process %d may stand still here or be in a control group of migrated: %s; "
			"restart migrated, which cleans up after itself",
			s->opt->pid, line);
	err_free(e);
}

struct err *source_hold_group(struct source *s)
{
	if (!s->freezer.dir)
		return NULL;
	if (!s->group_frozen)
		TRY(freezer_set(&s->freezer, true, false));
	s->group_frozen = true;
	/* Somebody may have moved it: then freezing the group holds nobody. */
	return err_in(freezer_check(&s->freezer, s->opt->pid), "hold %d", s->opt->pid);
}

void source_thaw(struct source *s)
{
	if (s->group_frozen)
		source_not_undone(s, freezer_set(&s->freezer, false, false));
	s->group_frozen = false;
}

/* Our hold, and the group that was made for the process when it came here by a move itself. */
void source_remove_groups(struct source *s)
{
	char name[32];
	const char *base = s->freezer.home ? strrchr(s->freezer.home, '/') : NULL;

	if (!s->freezer.dir)
		return;
	err_free(freezer_remove(&s->freezer));
	snprintf(name, sizeof(name), "/" ENGINE_SITE_GROUP "%d", s->opt->pid);
	if (base && strcmp(base, name) == 0)
		rmdir(s->freezer.home); /* stays if somebody else is in it */
}
