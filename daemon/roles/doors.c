// SPDX-License-Identifier: Apache-2.0
#include "roles/doors.h"

#include <stdlib.h>

#include "base/clock.h"

#define AGAIN_US 100000

struct door {
	struct waiting waiting;
	struct doors *doors;
	struct event *ev;
	int fd;
	struct deadline deadline;
	bool said;
};

static struct door *door_of(struct waiting *w)
{
	return (struct door *)(void *)((char *)w - offsetof(struct door, waiting));
}

static void close_door(struct door *o)
{
	admission_remove(&o->doors->waiting, &o->waiting);
	event_free(o->ev);
	fd_closep(&o->fd);
	free(o);
}

static void on_door(evutil_socket_t fd, short what, void *arg);

static void wait_for(struct door *o, short what, int64_t us)
{
	struct doors *d = o->doors;
	const struct timeval limit = { us / 1000000, us % 1000000 };

	o->ev = event_new(d->base, what ? o->fd : -1, what, on_door, o);
	if (!o->ev || event_priority_set(o->ev, d->priority) < 0 || event_add(o->ev, &limit) < 0)
		abort();
}

static void on_door(evutil_socket_t fd unused_arg, short what, void *arg)
{
	struct door *o = arg;
	struct doors *d = o->doors;
	bool said = (what & EV_READ) || o->said;

	if (!said || deadline_passed(o->deadline)) {
		d->silent(d->arg, o->fd);
		close_door(o);
		return;
	}
	o->said = true;
	/* Not to be closed for others in that call; afterwards it is the one that came last. */
	admission_remove(&d->waiting, &o->waiting);
	if (d->knocked(d->arg, o->fd, &o->waiting.source)) {
		o->fd = -1;
		close_door(o);
		return;
	}
	admission_add(&d->waiting, &o->waiting);
	event_free(o->ev);
	wait_for(o, 0, AGAIN_US);
}

void doors_init(struct doors *d, size_t max, size_t max_per_source)
{
	admission_init(&d->waiting, max, max_per_source);
}

static bool drop(struct doors *d, struct waiting *victim)
{
	if (!victim)
		return false;
	close_door(door_of(victim));
	d->dropped(d->arg);
	return true;
}

bool doors_drop(struct doors *d)
{
	return drop(d, admission_crowd(&d->waiting));
}

void doors_open(struct doors *d, int fd, const struct in6_addr *source)
{
	struct door *o = xcalloc(1, sizeof(*o));

	(void)drop(d, admission_victim(&d->waiting, source));
	*o = (struct door){ .waiting = { .source = *source }, .doors = d, .fd = fd };
	o->deadline = deadline_in(d->limit_us);
	wait_for(o, EV_READ, d->limit_us);
	admission_add(&d->waiting, &o->waiting);
}

void doors_fini(struct doors *d)
{
	while (d->waiting.first)
		close_door(door_of(d->waiting.first));
}
