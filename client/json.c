// SPDX-License-Identifier: Apache-2.0
#include "client/json.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

static json_t *ms(uint64_t us)
{
	return json_real((double)us / 1000);
}

/* As on a terminal, where it may be shown: a process may have any name. */
static json_t *str(const char *s)
{
	autofree char *plain = xstrdup(s);

	text_plain(plain);
	return json_string(plain);
}

static json_t *error_object(const Migrate__Error *e)
{
	json_t *j = json_object(), *causes = json_array();

	json_object_set_new(j, "code", str(err_code_name((enum err_code)e->code)));
	json_object_set_new(j, "side", str(e->side));
	json_object_set_new(j, "state", str(e->state));
	json_object_set_new(j, "message", str(e->n_texts ? e->texts[0] : ""));
	for (size_t i = 1; i < e->n_texts; i++)
		json_array_append_new(causes, str(e->texts[i]));
	json_object_set_new(j, "causes", causes);
	json_object_set_new(j, "hint", str(e->hint));
	return j;
}

/* The same object from an error that arose here. */
static json_t *own_error_object(const struct err *e)
{
	json_t *j = json_object(), *causes = json_array();
	const char *s;

	json_object_set_new(j, "code", str(err_code_name(err_code(e))));
	json_object_set_new(j, "side", str("source"));
	json_object_set_new(j, "state", str(""));
	json_object_set_new(j, "message", str(err_text(e, 0)));
	for (size_t i = 1; (s = err_text(e, i)); i++)
		json_array_append_new(causes, str(s));
	json_object_set_new(j, "causes", causes);
	json_object_set_new(j, "hint", str(err_hint_text(e) ? err_hint_text(e) : ""));
	return j;
}

static void add_source(json_t *j, const Migrate__Progress *p)
{
	json_object_set_new(j, "stream", str(p->stream));
	json_object_set_new(j, "source", str(p->source));
	json_object_set_new(j, "sink", str(p->sink));
	json_object_set_new(j, "bytes_copied", json_integer((json_int_t)p->bytes_copied));
	json_object_set_new(j, "source_fds", json_integer(p->source_fds));
	json_object_set_new(j, "source_pipe_bytes", json_integer((json_int_t)p->source_pipe_bytes));
	json_object_set_new(j, "streams", json_integer(p->streams));
	json_object_set_new(j, "connections", json_integer((json_int_t)p->connections));
}

json_t *json_progress(const Migrate__Progress *p)
{
	json_t *j = json_object();

	json_object_set_new(j, "event", str(p->round_end ? "round" : "progress"));
	json_object_set_new(j, "id", str(p->id));
	json_object_set_new(j, "side", str(p->side));
	json_object_set_new(j, "state", str(p->state));
	json_object_set_new(j, "owner", str(p->owner));
	json_object_set_new(j, "pid", json_integer(p->pid));
	json_object_set_new(j, "comm", str(p->comm));
	json_object_set_new(j, "host", str(p->peer));
	json_object_set_new(j, "round", json_integer(p->round));
	json_object_set_new(j, "processes", json_integer(p->processes));
	json_object_set_new(j, "bytes_resident", json_integer((json_int_t)p->resident_bytes));
	json_object_set_new(j, "bytes_sent", json_integer((json_int_t)p->bytes_sent));
	json_object_set_new(j, "bytes_sent_frozen", json_integer((json_int_t)p->bytes_sent_frozen));
	json_object_set_new(j, "round_dirty_bytes", json_integer((json_int_t)p->round_dirty_bytes));
	json_object_set_new(j, "round_sent_bytes", json_integer((json_int_t)p->round_sent_bytes));
	json_object_set_new(j, "dirty_bytes_s", json_integer((json_int_t)p->dirty_rate_bytes_s));
	json_object_set_new(j, "bandwidth_bytes_s", json_integer((json_int_t)p->bandwidth_bytes_s));
	json_object_set_new(j, "total_ms", ms(p->total_us));
	json_object_set_new(j, "downtime_ms", ms(p->downtime_us));
	json_object_set_new(j, "predicted_downtime_ms", ms(p->predicted_downtime_us));
	json_object_set_new(j, "stop_rule", str(p->stop_rule));
	json_object_set_new(j, "stall_ms", ms(p->stall_us));
	json_object_set_new(j, "objects", json_integer((json_int_t)p->objects));
	json_object_set_new(j, "tracker", str(p->tracker));
	add_source(j, p);
	return j;
}

static void add_notes(json_t *j, const Migrate__Done *d)
{
	json_t *blockers = json_array(), *warnings = json_array();

	if (d->error)
		json_object_set_new(j, "error", error_object(d->error));
	else if (d->n_blockers)
		json_object_set_new(j, "error", error_object(d->blockers[0]));
	for (size_t i = 0; i < d->n_blockers; i++)
		json_array_append_new(blockers, error_object(d->blockers[i]));
	for (size_t i = 0; i < d->n_warnings; i++)
		json_array_append_new(warnings, str(d->warnings[i]));
	json_object_set_new(j, "blockers", blockers);
	json_object_set_new(j, "warnings", warnings);
}

static bool of_check(const Migrate__Done *d)
{
	return strcmp(d->outcome, "movable") == 0 || strcmp(d->outcome, "blocked") == 0;
}

/* Of one that is kept none has moved. */
static json_t *addresses(const Migrate__Done *d)
{
	bool kept = strcmp(d->outcome, "kept") == 0 || strcmp(d->outcome, "blocked") == 0;
	json_t *list = json_array();

	for (size_t i = 0; !kept && i < d->n_addresses; i++)
		json_array_append_new(list, str(d->addresses[i]));
	return list;
}

json_t *json_done(const Migrate__Done *d, const char *host)
{
	Migrate__Progress empty = MIGRATE__PROGRESS__INIT;
	const Migrate__Progress *p = d->last ? d->last : &empty;
	json_t *j = json_object();

	json_object_set_new(j, "event", str(of_check(d) ? "check" : "done"));
	json_object_set_new(j, "id", str(p->id));
	json_object_set_new(j, "outcome", str(d->outcome));
	json_object_set_new(j, "pid", json_integer(p->pid));
	json_object_set_new(j, "host", str(host && *host ? host : p->peer));
	json_object_set_new(j, "rounds", json_integer(p->round));
	json_object_set_new(j, "total_ms", ms(p->total_us));
	json_object_set_new(j, "downtime_ms", ms(p->downtime_us));
	json_object_set_new(j, "bytes_sent", json_integer((json_int_t)p->bytes_sent));
	json_object_set_new(j, "bytes_resident", json_integer((json_int_t)p->resident_bytes));
	json_object_set_new(j, "stall_ms", ms(p->stall_us));
	json_object_set_new(j, "processes", json_integer(p->processes));
	json_object_set_new(j, "bytes_sent_frozen", json_integer((json_int_t)p->bytes_sent_frozen));
	json_object_set_new(j, "dirty_bytes_s", json_integer((json_int_t)p->dirty_rate_bytes_s));
	json_object_set_new(j, "bandwidth_bytes_s", json_integer((json_int_t)p->bandwidth_bytes_s));
	json_object_set_new(j, "predicted_downtime_ms", ms(p->predicted_downtime_us));
	json_object_set_new(j, "stop_rule", str(p->stop_rule));
	json_object_set_new(j, "objects", json_integer((json_int_t)p->objects));
	json_object_set_new(j, "tracker", str(p->tracker));
	add_source(j, p);
	json_object_set_new(j, "addresses", addresses(d));
	add_notes(j, d);
	return j;
}

static json_t *no_outcome(
	const char *outcome, const char *id, int32_t pid, const char *host, const struct err *e)
{
	json_t *j = json_object();

	json_object_set_new(j, "event", str("done"));
	json_object_set_new(j, "id", str(id));
	json_object_set_new(j, "outcome", str(outcome));
	json_object_set_new(j, "pid", json_integer(pid));
	json_object_set_new(j, "host", str(host ? host : ""));
	json_object_set_new(j, "error", own_error_object(e));
	return j;
}

json_t *json_lost(const char *id, int32_t pid, const char *host, const struct err *e)
{
	return no_outcome("in_doubt", id, pid, host, e);
}

json_t *json_not_begun(int32_t pid, const char *host, const struct err *e)
{
	return no_outcome("kept", "", pid, host, e);
}

json_t *json_error(const struct err *e)
{
	json_t *j = json_object();

	json_object_set_new(j, "event", str("error"));
	json_object_set_new(j, "error", own_error_object(e));
	return j;
}

json_t *json_list(const Migrate__Reply *r)
{
	json_t *j = json_object(), *running = json_array(), *ended = json_array();

	json_object_set_new(j, "event", str("list"));
	for (size_t i = 0; i < r->n_migrations; i++)
		json_array_append_new(running, json_progress(r->migrations[i]));
	for (size_t i = 0; i < r->n_ended; i++)
		json_array_append_new(ended, json_done(r->ended[i], NULL));
	json_object_set_new(j, "migrations", running);
	json_object_set_new(j, "ended", ended);
	return j;
}

json_t *json_peer(const Migrate__Peer *p)
{
	json_t *j = json_object(), *keys = json_array();

	json_object_set_new(j, "event", str("peer"));
	json_object_set_new(j, "name", str(p->name));
	json_object_set_new(j, "host", str(p->host));
	for (size_t i = 0; i < p->n_fingerprints; i++)
		json_array_append_new(keys, str(p->fingerprints[i]));
	if (p->n_fingerprints)
		json_object_set_new(j, "fingerprint", str(p->fingerprints[0]));
	json_object_set_new(j, "fingerprints", keys);
	if (p->seen_s) {
		json_object_set_new(j, "seen", json_integer((json_int_t)p->seen_s));
		json_object_set_new(j, "seen_key", str(p->seen_key));
		json_object_set_new(j, "seen_own_key", str(p->seen_own));
	}
	return j;
}

char *json_line(json_t *j)
{
	char *s = json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(12));

	json_decref(j);
	return s ? s : xstrdup("{}");
}
