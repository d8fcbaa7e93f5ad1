// SPDX-License-Identifier: Apache-2.0
#include "client/again.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "client/conn.h"
#include "client/look.h"

/* A daemon that nobody can connect to is gone: whoever starts it anew gets so long. The socket of
 * one that lives takes connections, whatever becomes of its control role. */
#define AGAIN_US  3000000
#define SETTLE_US 12000000 /* a process that stands still by our doing is soon let go, or never */
#define NAP_US    100000

static struct err *ask_again(struct follow *f, Migrate__Request *req, struct deadline *d,
	struct arena *a, Migrate__Reply **ret)
{
	autoclose int fd = -1;

	TRY(conn_open(f->opt->control, &fd));
	*d = deadline_in(AGAIN_US);
	TRY(conn_send(fd, req));
	return follow(f, fd, a, ret);
}

static bool is_ours(const struct follow *f, const Migrate__Progress *p)
{
	return p && p->pid == f->opt->pid && strcmp(p->side, "source") == 0;
}

/* What a list says of our process: what goes on before what is over, the latest last. */
static const Migrate__Progress *listed(const struct follow *f, const Migrate__Reply *r)
{
	for (size_t i = 0; i < r->n_migrations; i++)
		if (is_ours(f, r->migrations[i]))
			return r->migrations[i];
	/* One that is over is another one, if the process still runs here. */
	for (size_t i = r->n_ended; look(f->opt->pid) != HERE_RUNS && i-- > 0;)
		if (is_ours(f, r->ended[i]->last))
			return r->ended[i]->last;
	return NULL;
}

/* The connection ended before the daemon said an id: it may have begun all the same. A daemon whose
 * control is new has done what the old one had asked for: what it does not list was not begun. */
static struct err *find_id(struct follow *f, struct deadline *d, bool *none)
{
	Migrate__ListRequest list = MIGRATE__LIST_REQUEST__INIT;
	Migrate__Request req = MIGRATE__REQUEST__INIT;
	autoarena struct arena *a = arena_new();
	const Migrate__Progress *p;
	Migrate__Reply *r;

	req.verb_case = MIGRATE__REQUEST__VERB_LIST;
	req.list = &list;
	TRY(ask_again(f, &req, d, a, &r));
	p = r ? listed(f, r) : NULL;
	*none = !p;
	if (p)
		snprintf(f->id, sizeof(f->id), "%s", p->id);
	return NULL;
}

static struct err *watch(
	struct follow *f, struct deadline *d, struct arena *a, Migrate__Reply **ret)
{
	Migrate__WatchRequest m = MIGRATE__WATCH_REQUEST__INIT;
	Migrate__Request req = MIGRATE__REQUEST__INIT;

	m.id = f->id;
	req.verb_case = MIGRATE__REQUEST__VERB_WATCH;
	req.watch = &m;
	return ask_again(f, &req, d, a, ret);
}

void again(struct follow *f, struct arena *a, Migrate__Reply **ret)
{
	struct deadline d = deadline_in(AGAIN_US);

	for (;;) {
		autoerr struct err *e = NULL;
		bool none = false;

		*ret = NULL;
		if (!f->id[0])
			e = find_id(f, &d, &none);
		if (none || f->abandoned)
			return;
		if (!e)
			e = watch(f, &d, a, ret);
		if (!e && *ret && (*ret)->error)
			*ret = NULL;
		if (!e || deadline_passed(d))
			return;
		usleep(NAP_US);
	}
}

enum whereabouts again_look(int32_t pid)
{
	struct deadline d = deadline_in(SETTLE_US);
	enum whereabouts w = look(pid);

	for (; w == HERE_HELD && !deadline_passed(d); w = look(pid))
		usleep(NAP_US);
	return w;
}
