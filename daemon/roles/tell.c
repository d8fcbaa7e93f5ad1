// SPDX-License-Identifier: Apache-2.0
#include "roles/tell.h"

#include <stdlib.h>
#include <unistd.h>

#include "engine/network.h"

/* Behind the first time, which was the worker's. */
static const unsigned pauses_ms[] = { 100, 250, 500, 1000 };

struct tell {
	struct tell *next;
	struct monitor *monitor;
	struct event *again;
	unsigned round;
	size_t n;
	struct told {
		struct net_ip ip;
		unsigned index;
	} v[NETWORK_ADDRESSES_MAX];
};

static void tell_free(struct tell *t)
{
	struct tell **link = &t->monitor->tells;

	while (*link != t)
		link = &(*link)->next;
	*link = t->next;
	event_free(t->again);
	free(t);
}

static void say(const struct tell *t)
{
	autoclose int teller = -1;
	bool local;

	err_free(netaddr_teller(&teller));
	for (size_t i = 0; teller >= 0 && i < t->n; i++) {
		/* It may have gone on meanwhile. */
		struct err *e = netaddr_is_local(&t->v[i].ip, &local);

		if (!e && local)
			e = netaddr_announce(teller, &t->v[i].ip, t->v[i].index);
		err_free(e);
	}
}

static void rearm(struct tell *t)
{
	const struct timeval tv = { pauses_ms[t->round] / 1000,
		(suseconds_t)(pauses_ms[t->round] % 1000 * 1000) };

	event_add(t->again, &tv);
}

static void on_again(evutil_socket_t fd unused_arg, short what unused_arg, void *arg)
{
	struct tell *t = arg;

	say(t);
	if (++t->round < ARRAY_LEN(pauses_ms))
		rearm(t);
	else
		tell_free(t);
}

void tell_begin(struct monitor *m, const Migrate__Tell *msg)
{
	struct tell *t = xcalloc(1, sizeof(*t));

	t->monitor = m;
	for (size_t i = 0; i < msg->n_ips && i < msg->n_interfaces && t->n < ARRAY_LEN(t->v); i++) {
		struct told *told = &t->v[t->n];
		struct err *e = network_unpack_ip(&msg->ips[i], &told->ip);

		told->index = msg->interfaces[i];
		t->n += !e;
		err_free(e);
	}
	t->again = evtimer_new(m->base, on_again, t);
	if (!t->again)
		abort();
	t->next = m->tells;
	m->tells = t;
	rearm(t);
}

void tell_fini(struct monitor *m)
{
	while (m->tells)
		tell_free(m->tells);
}
