// SPDX-License-Identifier: Apache-2.0
/* list, status, watch, cancel: the verbs that look at migrations or end them. */
#include <stdio.h>
#include <string.h>

#include "client/conn.h"
#include "client/follow.h"
#include "client/json.h"
#include "client/render.h"
#include "client/verbs.h"

enum exit_status verb_list(const struct options *o)
{
	Migrate__ListRequest m = MIGRATE__LIST_REQUEST__INIT;
	Migrate__Request req = MIGRATE__REQUEST__INIT;
	autoarena struct arena *a = arena_new();
	autotext struct text t = { 0 };
	Migrate__Reply *r;
	struct err *e;

	req.verb_case = MIGRATE__REQUEST__VERB_LIST;
	req.list = &m;
	e = conn_ask(o->control, &req, a, &r);
	if (e)
		return verb_failed(o, e);
	if (o->json) {
		verb_print_json(json_list(r));
		return EXIT_DONE;
	}
	render_list(&t, r);
	fputs(text_str(&t), stdout);
	return EXIT_DONE;
}

static void show_status(const struct options *o, const Migrate__Reply *r)
{
	autotext struct text t = { 0 };

	if (o->json) {
		verb_print_json(json_list(r));
		return;
	}
	for (size_t i = 0; i < r->n_migrations; i++)
		render_status(&t, r->migrations[i]);
	for (size_t i = 0; i < r->n_ended; i++) {
		if (r->ended[i]->last)
			render_status(&t, r->ended[i]->last);
		text_addf(&t, "outcome      %s\n", r->ended[i]->outcome);
		render_done(&t, r->ended[i], HERE_RUNS);
	}
	if (!r->n_migrations && !r->n_ended)
		text_addf(&t, "no migrations\n");
	fputs(text_str(&t), stdout);
}

enum exit_status verb_status(const struct options *o)
{
	Migrate__StatusRequest m = MIGRATE__STATUS_REQUEST__INIT;
	Migrate__Request req = MIGRATE__REQUEST__INIT;
	autoarena struct arena *a = arena_new();
	Migrate__Reply *r;
	struct err *e;

	if (o->args[0])
		m.id = (char *)o->args[0];
	req.verb_case = MIGRATE__REQUEST__VERB_STATUS;
	req.status = &m;
	e = conn_ask(o->control, &req, a, &r);
	if (e)
		return verb_failed(o, e);
	show_status(o, r);
	return EXIT_DONE;
}

static void watched_done(const struct follow *f, const Migrate__Done *d)
{
	autotext struct text t = { 0 };

	if (f->opt->json) {
		verb_print_json(json_done(d, NULL));
		return;
	}
	render_done(&t, d, HERE_RUNS);
	fputs(text_str(&t), stdout);
}

enum exit_status verb_watch(const struct options *o)
{
	Migrate__WatchRequest m = MIGRATE__WATCH_REQUEST__INIT;
	Migrate__Request req = MIGRATE__REQUEST__INIT;
	struct follow f = { .opt = o, .on_done = watched_done };
	autoarena struct arena *a = arena_new();
	autoclose int fd = -1;
	Migrate__Reply *r = NULL;
	struct err *e;

	if (o->args[0])
		m.id = (char *)o->args[0];
	req.verb_case = MIGRATE__REQUEST__VERB_WATCH;
	req.watch = &m;
	e = conn_open(o->control, &fd);
	if (!e)
		e = conn_send(fd, &req);
	if (!e)
		e = follow(&f, fd, a, &r);
	if (!e && r && r->error)
		e = conn_error(r->error);
	if (e)
		return verb_failed(o, e);
	if (r && r->done)
		watched_done(&f, r->done);
	return EXIT_DONE;
}

enum exit_status verb_cancel(const struct options *o)
{
	Migrate__CancelRequest m = MIGRATE__CANCEL_REQUEST__INIT;
	Migrate__Request req = MIGRATE__REQUEST__INIT;
	autoarena struct arena *a = arena_new();
	Migrate__Reply *r;
	struct err *e;

	m.id = (char *)o->args[0];
	req.verb_case = MIGRATE__REQUEST__VERB_CANCEL;
	req.cancel = &m;
	e = conn_ask(o->control, &req, a, &r);
	return e ? verb_failed(o, e) : EXIT_DONE;
}
