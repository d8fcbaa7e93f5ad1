// SPDX-License-Identifier: Apache-2.0
/* The control group in which the source holds the process, so that our own death does not let it
 * go. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/source.h"

/* All of them come back into the one that the root is in, should they stay. */
static struct err *check_home(const struct source *s, const struct task *t, const char *home)
{
	autofree char *dir = NULL;

	TRY(freezer_current(t->pid, &dir));
	if (strcmp(dir, home) == 0 || (s->freezer.dir && strcmp(dir, s->freezer.dir) == 0))
		return NULL;
	return err_hint(
		err_new(ERR_UNSUPPORTED, "process %d is in control group %s, process %d in %s",
			s->opt->pid, home, t->pid, dir),
		"only processes of one control group move together");
}

static bool is_stopped(pid_t pid)
{
	autoarena struct arena *a = arena_new();
	struct proc_stat st;
	autoerr struct err *e = proc_stat(a, pid, 0, &st);

	return !e && st.state == 'T';
}

void source_check_groups(struct source *s)
{
	autofree char *home = NULL;
	struct err *e = freezer_current(s->opt->pid, &home);

	if (e && !source_next(s, s->members[0])) { /* one alone can be held without */
		err_free(e);
		if (is_stopped(s->opt->pid))
			notes_refuse(&s->out->notes,
				err_hint(err_new(ERR_UNSUPPORTED,
						 "process %d is stopped by job control, which "
						 "takes cgroup v2 to keep",
						 s->opt->pid),
					"let it go on first: kill -CONT %d", s->opt->pid));
		return;
	}
	for (struct source_member *m = NULL; !e && (m = source_next(s, m));) {
		e = check_home(s, m->task, home);
		if (e && source_member_ended(s, m)) {
			err_free(e);
			e = NULL;
		}
	}
	if (e)
		notes_refuse(&s->out->notes, err_in(e, "several processes must be held together"));
}

/* The group in which it will be held. It moves in while it still runs: that takes the kernel 10 ms
 * and more (it waits for all processors), and freezing the group later takes microseconds. */
static struct err *join(struct source *s, const struct task *t)
{
	struct err *e = s->freezer.home ? check_home(s, t, s->freezer.home) : NULL;

	if (!e)
		e = freezer_join(&s->freezer, t->pid);
	autoerr struct err *gone = e && t != s->task ? task_check_alive(t) : NULL;

	if (!gone)
		return e;
	err_free(e);
	return NULL;
}

struct err *source_join_group(struct source *s)
{
	autofree char *parent = NULL;
	char name[128];

	TRY(freezer_current(s->opt->pid, &parent));
	snprintf(name, sizeof(name), ENGINE_HOLD_GROUP "%s", s->opt->id);
	TRY(freezer_make(parent, name, &s->freezer));
	for (struct source_member *m = NULL; (m = source_next(s, m));)
		TRY(join(s, m->task));
	return NULL;
}

/* Who was born meanwhile, in the old group, or came from elsewhere. All stand still. */
struct err *source_join_rest(struct source *s)
{
	if (!s->freezer.dir)
		return source_next(s, s->members[0])
			       ? err_new(ERR_UNSUPPORTED, "several processes can only be held "
							  "by cgroup v2, which is not there")
			       : NULL;
	for (size_t i = 0; i < s->tree.n; i++) {
		autofree char *dir = NULL;

		TRY(freezer_current(s->tree.v[i]->pid, &dir));
		if (strcmp(dir, s->freezer.dir) == 0)
			continue;
		TRY(check_home(s, s->tree.v[i], s->freezer.home));
		TRY(freezer_join(&s->freezer, s->tree.v[i]->pid));
	}
	return NULL;
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

static struct err *check_group(const struct source *s)
{
	autoarena struct arena *a = arena_new();
	const struct pids pids = tree_pids(a, &s->tree, false);

	return freezer_check(&s->freezer, &pids);
}

struct err *source_hold_group(struct source *s)
{
	if (!s->freezer.dir)
		return NULL;
	if (!s->group_frozen)
		TRY(freezer_set(&s->freezer, true, false));
	s->group_frozen = true;
	/* Somebody may have moved it: then freezing the group holds nobody. */
	return err_in(check_group(s), "hold %d", s->opt->pid);
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
