// SPDX-License-Identifier: Apache-2.0
/* send and check: the two verbs that name a process. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "client/again.h"
#include "client/conn.h"
#include "client/follow.h"
#include "client/json.h"
#include "client/look.h"
#include "client/render.h"
#include "client/verbs.h"

/* The request was refused, or never reached the daemon. */
static enum exit_status not_begun(const struct options *o, struct err *err)
{
	autoerr struct err *e = err;
	autotext struct text t = { 0 };

	if (o->json)
		verb_print_json(json_not_begun(o->pid, o->args[1], e));
	render_not_begun(&t, o->pid, e, look(o->pid));
	fputs(text_str(&t), stderr);
	return err_code(e) == ERR_INVALID ? EXIT_USAGE : EXIT_KEPT;
}

static enum exit_status moved_exit(const Migrate__Done *d)
{
	if (strcmp(d->outcome, "moved") == 0 || strcmp(d->outcome, "movable") == 0)
		return EXIT_DONE;
	return strcmp(d->outcome, "in_doubt") == 0 ? EXIT_IN_DOUBT : EXIT_KEPT;
}

static enum exit_status show_done(const struct options *o, const Migrate__Done *d)
{
	const char *host = o->args[1] ? o->args[1] : "";
	bool check = o->verb == VERB_CHECK || o->dry_run;
	enum exit_status status = moved_exit(d);
	autotext struct text t = { 0 };

	if (o->json) {
		verb_print_json(json_done(d, host));
		return status;
	}
	if (check)
		render_check(&t, d, host);
	else
		render_done(&t, d, look(o->pid));
	fputs(text_str(&t), status == EXIT_DONE || check ? stdout : stderr);
	return status;
}

/* The daemon went away in the middle, and nobody can say what became of it. A migration whose
 * daemon dies is given up, unless it was past that: then the process does not run here. */
static enum exit_status lost_daemon(const struct options *o, const struct follow *f, struct err *e)
{
	autotext struct text t = { 0 };

	e = err_hint(e, "look at %s and at migratectl %s %s, once migrated runs again",
		o->args[1] ? o->args[1] : "it", f->id[0] ? "status" : "list", f->id);
	if (!o->args[1] || again_look(o->pid) == HERE_RUNS)
		return not_begun(o, e);
	if (o->json)
		verb_print_json(json_lost(f->id, o->pid, o->args[1], e));
	text_addf(&t, "%d stands still here or runs on %s: in doubt\n", o->pid, o->args[1]);
	render_error(&t, e);
	err_free(e);
	fputs(text_str(&t), stderr);
	return EXIT_IN_DOUBT;
}

/* It was told to stay before, so if it runs here it does stay. */
static enum exit_status gave_up(const struct options *o, const struct follow *f)
{
	bool runs = look(o->pid) == HERE_RUNS;

	fprintf(stderr,
		runs ? "%d runs here\n  the end of the migration was not waited for\n"
		     : "%d stands still here or runs on the other host\n"
		       "  the outcome was not waited for\n",
		o->pid);
	fprintf(stderr, "try: migratectl status %s\n", f->id);
	return runs ? EXIT_KEPT : EXIT_IN_DOUBT;
}

static enum exit_status ask(const struct options *o, const Migrate__Request *req)
{
	struct follow f = { .opt = o, .cancels = true };
	autoarena struct arena *a = arena_new();
	autoclose int fd = -1;
	Migrate__Reply *r;
	struct err *e;

	e = conn_open(o->control, &fd);
	if (!e)
		e = conn_send(fd, req);
	if (e)
		return not_begun(o, e);
	e = follow(&f, fd, a, &r);
	if (e) {
		again(&f, a, &r);
		if (!r && !f.abandoned)
			return lost_daemon(o, &f, e);
		err_free(e);
	}
	if (!r)
		return gave_up(o, &f);
	if (r->error)
		return not_begun(o, conn_error(r->error));
	if (!r->done)
		return not_begun(o, err_new(ERR_BUG, "the daemon gave no outcome"));
	return show_done(o, r->done);
}

enum exit_status verb_send(const struct options *o)
{
	Migrate__SendRequest m = MIGRATE__SEND_REQUEST__INIT;
	Migrate__Request req = MIGRATE__REQUEST__INIT;

	m.pid = o->pid;
	m.host = (char *)o->args[1];
	m.downtime_us = o->downtime_us;
	m.force_switch = o->force_switch;
	m.max_rounds = o->max_rounds;
	m.streams = o->streams;
	m.timeout_us = o->timeout_us;
	m.bandwidth = o->bandwidth;
	m.unit_policy = (char *)o->unit;
	if (o->take_address)
		m.take_address = (char *)o->take_address;
	if (o->accept_queue)
		m.accept_queue = (char *)o->accept_queue;
	m.dry_run = o->dry_run;
	req.verb_case = MIGRATE__REQUEST__VERB_SEND;
	req.send = &m;
	return ask(o, &req);
}

enum exit_status verb_check(const struct options *o)
{
	Migrate__CheckRequest m = MIGRATE__CHECK_REQUEST__INIT;
	Migrate__Request req = MIGRATE__REQUEST__INIT;

	m.pid = o->pid;
	if (o->args[1])
		m.host = (char *)o->args[1];
	if (o->take_address)
		m.take_address = (char *)o->take_address;
	req.verb_case = MIGRATE__REQUEST__VERB_CHECK;
	req.check = &m;
	return ask(o, &req);
}
