// SPDX-License-Identifier: Apache-2.0
#include "roles/groups.h"

#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/arena.h"
#include "engine/engine.h"
#include "roles/place.h"

#define EVENTS_BYTES 4096

struct groups {
	struct monitor *m;
	char *dir;  /* they are below it */
	bool ours;  /* dir is made by us as well */
	int notify; /* inotify */
	struct event *ev;
};

static bool building(const struct monitor *m)
{
	for (const struct move *v = m->moves; v; v = v->next)
		if (v->receive)
			return true;
	return false;
}

/* Removes one, or hears of it when that may be possible. A group with processes, or with a group
 * in it, cannot be removed. */
static void tidy_one(struct groups *g, const char *name)
{
	autoarena struct arena *a = arena_new();
	const char *dir = arena_printf(a, "%s/%s", g->dir, name);

	if (rmdir(dir) < 0 && errno == EBUSY)
		(void)inotify_add_watch(
			g->notify, arena_printf(a, "%s/cgroup.events", dir), IN_MODIFY);
}

void groups_tidy(struct groups *g)
{
	const struct dirent *entry;
	DIR *d;

	if (!g || building(g->m))
		return;
	d = opendir(g->dir);
	if (!d)
		return;
	while ((entry = readdir(d)))
		if (strncmp(entry->d_name, ENGINE_SITE_GROUP, strlen(ENGINE_SITE_GROUP)) == 0)
			tidy_one(g, entry->d_name);
	closedir(d);
	if (g->ours)
		(void)rmdir(g->dir); /* it stays as long as there is one in it */
}

static void on_event(evutil_socket_t fd, short what unused_arg, void *arg)
{
	char events[EVENTS_BYTES];

	while (read(fd, events, sizeof(events)) > 0)
		;
	groups_tidy(arg);
}

struct groups *groups_new(struct monitor *m)
{
	const char *configured = m->config.cgroup_dir ? m->config.cgroup_dir : "";
	struct groups *g = xcalloc(1, sizeof(*g));
	struct err *e = place_group(configured, &g->dir);

	g->m = m;
	g->ours = !configured[0];
	g->notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (e || !g->dir || g->notify < 0) {
		err_free(e);
		groups_free(g);
		return NULL;
	}
	g->ev = event_new(m->base, g->notify, EV_READ | EV_PERSIST, on_event, g);
	if (g->ev)
		event_add(g->ev, NULL);
	groups_tidy(g);
	return g;
}

void groups_free(struct groups *g)
{
	if (!g)
		return;
	if (g->ev)
		event_free(g->ev);
	fd_closep(&g->notify);
	free(g->dir);
	free(g);
}
