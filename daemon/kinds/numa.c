// SPDX-License-Identifier: Apache-2.0
/*
 * A line of numa_maps is "ADDRESS POLICY FACTS...". A mapping without a policy of its own shows
 * that of its process, and so does the stack, on which nobody sets one: what differs from the
 * stack's was set by mbind.
 */
#include "kinds/numa.h"

#include <errno.h>
#include <string.h>

#include "base/io.h"

struct line {
	const char *address, *policy;
	bool stack;
};

/* Reads one line at *p and moves behind it; false at the end of the text. */
static bool next_line(struct arena *a, const char **p, struct line *l)
{
	size_t len = strcspn(*p, "\n");
	char *line = arena_dup(a, *p, len + 1), *save = NULL;

	if (!**p)
		return false;
	*p += len + ((*p)[len] == '\n');
	line[len] = '\0';
	l->address = strtok_r(line, " ", &save);
	l->policy = strtok_r(NULL, " ", &save);
	l->stack = save && strncmp(save, "stack", strlen("stack")) == 0;
	return true;
}

bool numa_own_policy(struct arena *a, const char *text, const char **address, const char **policy)
{
	const char *usual = "default", *p = text;
	struct line l;

	while (next_line(a, &p, &l))
		if (l.stack && l.policy)
			usual = l.policy;
	for (p = text; next_line(a, &p, &l);) {
		if (!l.policy || strcmp(l.policy, usual) == 0)
			continue;
		*address = l.address;
		*policy = l.policy;
		return true;
	}
	return false;
}

struct err *numa_check(struct capture *c)
{
	autoarena struct arena *a = arena_new();
	const char *address, *policy;
	char *text;
	struct err *e = io_read_file(a, arena_printf(a, "/proc/%d/numa_maps", (int)c->task->pid),
		PROC_TEXT_BYTES, &text, NULL);

	if (e && err_sysno(e) == ENOENT) {
		err_free(e);
		return NULL;
	}
	TRY(e);
	if (numa_own_policy(a, text, &address, &policy))
		capture_refuse(c, err_new(ERR_UNSUPPORTED,
					  "memory at %s has a NUMA policy of its own (%s, mbind)",
					  address, policy));
	return NULL;
}
