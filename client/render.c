// SPDX-License-Identifier: Apache-2.0
#include "client/render.h"

#include <string.h>
#include <time.h>

/* States in which the process stands still: an error there means that a stop was undone. */
static const char *const frozen_states[] = { "freeze", "final", "offered", "ready", "rebuild",
	"hold", "commit" };

void render_bytes(struct text *out, uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double n = (double)bytes;
	size_t u = 0;

	for (; n >= 1024 && u + 1 < ARRAY_LEN(units); u++)
		n /= 1024;
	text_addf(out, "%.*f %s", u && n < 1000 ? 1 : 0, n, units[u]);
}

void render_us(struct text *out, uint64_t us)
{
	if (us < 10000)
		text_addf(out, "%.1f ms", (double)us / 1e3);
	else if (us < 1000000)
		text_addf(out, "%.0f ms", (double)us / 1e3);
	else if (us < 100000000)
		text_addf(out, "%.2f s", (double)us / 1e6);
	else
		text_addf(out, "%.0f s", (double)us / 1e6);
}

/* Everything that comes from elsewhere may hold control characters; a terminal obeys those. */
static void add_plain(struct text *out, const char *s)
{
	autofree char *plain = xstrdup(s);

	text_plain(plain);
	text_addf(out, "%s", plain);
}

void render_progress(struct text *out, const Migrate__Progress *p, unsigned width)
{
	autotext struct text t = { 0 };

	text_addf(&t, "%d ", p->pid);
	add_plain(&t, p->comm);
	text_addf(&t, " -> ");
	add_plain(&t, p->peer);
	text_addf(&t, "  ");
	add_plain(&t, p->state);
	if (p->round)
		text_addf(&t, " %u", p->round);
	text_addf(&t, "  ");
	render_bytes(&t, p->bytes_sent);
	text_addf(&t, " of ");
	render_bytes(&t, p->resident_bytes);
	if (p->bandwidth_bytes_s) {
		text_addf(&t, "  ");
		render_bytes(&t, p->bandwidth_bytes_s);
		text_addf(&t, "/s");
	}
	if (p->dirty_rate_bytes_s) {
		text_addf(&t, "  dirty ");
		render_bytes(&t, p->dirty_rate_bytes_s);
		text_addf(&t, "/s");
	}
	if (p->predicted_downtime_us) {
		text_addf(&t, "  downtime ~");
		render_us(&t, p->predicted_downtime_us);
	}
	text_add(out, text_str(&t), width && t.len > width ? width : t.len);
}

void render_round(struct text *out, const Migrate__Progress *p)
{
	text_addf(out, "round %u: sent ", p->round + 1);
	render_bytes(out, p->round_sent_bytes);
	text_addf(out, " at ");
	render_bytes(out, p->bandwidth_bytes_s);
	text_addf(out, "/s");
	if (p->predicted_downtime_us) { /* not known in the first one */
		text_addf(out, ", dirty ");
		render_bytes(out, p->dirty_rate_bytes_s);
		text_addf(out, "/s, stopping now would take ");
		render_us(out, p->predicted_downtime_us);
	}
	text_addf(out, "\n");
}

/* The sentences of an error, outermost first, and its hint. */
static void add_error(struct text *out, const Migrate__Error *e, bool nested)
{
	for (size_t i = 0; i < e->n_texts; i++) {
		text_addf(out, nested && i ? "    " : "  ");
		add_plain(out, e->texts[i]);
		text_addf(out, "\n");
	}
	if (*e->hint) {
		text_addf(out, nested ? "    try: " : "try: ");
		add_plain(out, e->hint);
		text_addf(out, "\n");
	}
}

static void add_warnings(struct text *out, const Migrate__Done *d)
{
	for (size_t i = 0; i < d->n_warnings; i++) {
		text_addf(out, "  note: ");
		add_plain(out, d->warnings[i]);
		text_addf(out, "\n");
	}
}

static void add_all_errors(struct text *out, const Migrate__Done *d)
{
	if (d->n_blockers == 1 && !d->error) {
		add_error(out, d->blockers[0], false);
		return;
	}
	for (size_t i = 0; i < d->n_blockers; i++)
		add_error(out, d->blockers[i], true);
	/* with blockers, the error only says that there are some */
	if (d->error && !d->n_blockers)
		add_error(out, d->error, false);
}

static bool was_frozen(const char *state)
{
	for (size_t i = 0; i < ARRAY_LEN(frozen_states); i++)
		if (strcmp(frozen_states[i], state) == 0)
			return true;
	return false;
}

static const char *const where_words[] = {
	[HERE_RUNS] = "keeps running here",
	[HERE_HELD] = "stands still here",
	[HERE_GONE] = "does not run here",
};

static void add_kept(struct text *out, const Migrate__Done *d, int32_t pid, enum whereabouts w)
{
	text_addf(
		out, "%d %s%s: not moved", pid, where_words[w], w == HERE_GONE ? " any more" : "");
	if (d->error && *d->error->state) {
		text_addf(out, " (ended in ");
		add_plain(out, d->error->state);
		if (strcmp(d->error->side, "destination") == 0)
			text_addf(out, " at the destination");
		text_addf(out, was_frozen(d->error->state) ? ", the stop was undone)"
							   : ", before any freeze)");
	}
	text_addf(out, "\n");
	add_all_errors(out, d);
}

static void add_network(struct text *out, const Migrate__Progress *p, const Migrate__Done *d)
{
	if (p->connections)
		text_addf(out, ", %ju connection%s", (uintmax_t)p->connections,
			p->connections == 1 ? "" : "s");
	for (size_t i = 0; i < d->n_addresses; i++) {
		text_addf(out, i ? ", " : ", with ");
		add_plain(out, d->addresses[i]);
	}
}

static void add_moved(struct text *out, const Migrate__Progress *p, const Migrate__Done *d)
{
	text_addf(out, "%d runs on ", p->pid);
	add_plain(out, p->peer);
	if (p->processes > 1)
		text_addf(out, " with %u descendants", p->processes - 1);
	/* When its answer was lost and asked for later, nobody knows. */
	text_addf(out, p->downtime_us ? " now: downtime " : " now: downtime unknown");
	if (p->downtime_us)
		render_us(out, p->downtime_us);
	text_addf(out, ", %u rounds, ", p->round);
	render_us(out, p->total_us);
	text_addf(out, " in all, ");
	render_bytes(out, p->bytes_sent);
	text_addf(out, " sent (");
	render_bytes(out, p->resident_bytes);
	text_addf(out, " resident)");
	add_network(out, p, d);
	text_addf(out, "\n");
}

static const Migrate__Progress *last_of(const Migrate__Done *d, Migrate__Progress *empty)
{
	migrate__progress__init(empty);
	return d->last ? d->last : empty;
}

void render_done(struct text *out, const Migrate__Done *d, enum whereabouts w)
{
	Migrate__Progress empty;
	const Migrate__Progress *p = last_of(d, &empty);

	if (strcmp(d->outcome, "moved") == 0) {
		add_moved(out, p, d);
	} else if (strcmp(d->outcome, "in_doubt") == 0) {
		text_addf(out, "%d stands still here and may run on ", p->pid);
		add_plain(out, p->peer);
		text_addf(out, ": in doubt\n");
		if (d->error)
			add_error(out, d->error, false);
		text_addf(out,
			"try: wait, it is asked again and again; or look there, then: migratectl "
			"resolve %s here|there\n",
			p->id);
	} else {
		add_kept(out, d, p->pid, w);
	}
	add_warnings(out, d);
}

void render_answers(struct text *out, const Migrate__Done *d)
{
	Migrate__Progress empty;
	const Migrate__Progress *p = last_of(d, &empty);

	text_addf(out,
		"migratectl resolve %s here\n  it goes on here, as it was when it was stopped. If "
		"it "
		"runs on ",
		p->id);
	add_plain(out, p->peer);
	text_addf(out,
		" as well, there are two of it: make sure that it does not\n"
		"migratectl resolve %s there\n  what stands still here is ended. If it does not "
		"run on ",
		p->id);
	add_plain(out, p->peer);
	text_addf(out, ", it is lost: make sure that it does\n");
}

void render_not_begun(struct text *out, int32_t pid, const struct err *e, enum whereabouts w)
{
	text_addf(out, "%d %s: not moved\n", pid, where_words[w]);
	render_error(out, e);
}

void render_error(struct text *out, const struct err *e)
{
	const char *s;

	for (size_t i = 0; (s = err_text(e, i)); i++) {
		text_addf(out, "  ");
		add_plain(out, s);
		text_addf(out, "\n");
	}
	if (err_hint_text(e)) {
		text_addf(out, "try: ");
		add_plain(out, err_hint_text(e));
		text_addf(out, "\n");
	}
}

struct prediction render_predict(const Migrate__Progress *p, uint64_t downtime_us)
{
	struct prediction r = { .rounds = 1 };
	double rate = (double)p->bandwidth_bytes_s, dirty = (double)p->dirty_rate_bytes_s;
	double left = (double)p->resident_bytes, us;

	if (rate <= 0)
		return r;
	r.converges = dirty < rate;
	us = left / rate * 1e6;
	for (;;) {
		left = MIN(dirty * us / 1e6, (double)p->resident_bytes);
		r.total_us += (uint64_t)us;
		us = left / rate * 1e6;
		if (us <= (double)downtime_us || !r.converges || r.rounds == 30)
			break;
		r.rounds++;
	}
	r.downtime_us = (uint64_t)us;
	r.total_us += r.downtime_us;
	return r;
}

static void add_prediction(struct text *out, const Migrate__Progress *p)
{
	struct prediction r = render_predict(p, 50000);

	text_addf(out, "  size       ");
	render_bytes(out, p->resident_bytes);
	text_addf(out, "\n  dirty rate ");
	render_bytes(out, p->dirty_rate_bytes_s);
	text_addf(out, "/s\n");
	if (!p->bandwidth_bytes_s)
		return;
	text_addf(out, "  link       ");
	render_bytes(out, p->bandwidth_bytes_s);
	text_addf(out, "/s\n  predicted  %u round%s, ", r.rounds, r.rounds == 1 ? "" : "s");
	render_us(out, r.total_us);
	text_addf(out, " in all, downtime ");
	/* the daemon knows what it costs beyond memory */
	render_us(out, MAX(r.downtime_us, p->predicted_downtime_us));
	text_addf(out, "\n");
	if (!r.converges)
		text_addf(out, "  note: it writes faster than the link carries; send will need "
			       "--force-switch, or give up\n");
}

void render_check(struct text *out, const Migrate__Done *d, const char *host)
{
	Migrate__Progress empty;
	const Migrate__Progress *p = last_of(d, &empty);
	bool movable = strcmp(d->outcome, "movable") == 0;

	text_addf(out, "%d ", p->pid);
	if (*p->comm) {
		text_addf(out, "(");
		add_plain(out, p->comm);
		text_addf(out, ") ");
	}
	text_addf(out, movable ? "can move" : "cannot move");
	if (*host) {
		text_addf(out, " to ");
		add_plain(out, host);
	}
	if (d->n_blockers > 1)
		text_addf(out, ": %zu things hinder it", d->n_blockers);
	text_addf(out, "\n");
	add_all_errors(out, d);
	if (p->resident_bytes)
		add_prediction(out, p);
	add_warnings(out, d);
}

static void list_line(struct text *out, const Migrate__Progress *p, const char *state)
{
	autotext struct text comm = { 0 }, sent = { 0 }, down = { 0 };

	add_plain(&comm, p->comm);
	render_bytes(&sent, p->bytes_sent);
	if (p->downtime_us)
		render_us(&down, p->downtime_us);
	text_addf(out, "%-12s %7d %-15s %-11s %-16s %-10s %5u %10s  %s\n", p->id, p->pid,
		text_str(&comm), p->side, p->peer, state, p->round, text_str(&sent),
		text_str(&down));
}

void render_list(struct text *out, const Migrate__Reply *r)
{
	Migrate__Progress empty;

	if (!r->n_migrations && !r->n_ended) {
		text_addf(out, "no migrations\n");
		return;
	}
	text_addf(out, "%-12s %7s %-15s %-11s %-16s %-10s %5s %10s  %s\n", "ID", "PID", "COMMAND",
		"SIDE", "PEER", "STATE", "ROUND", "SENT", "DOWNTIME");
	for (size_t i = 0; i < r->n_migrations; i++)
		list_line(out, r->migrations[i], r->migrations[i]->state);
	for (size_t i = 0; i < r->n_ended; i++)
		list_line(out, last_of(r->ended[i], &empty), r->ended[i]->outcome);
}

void render_status(struct text *out, const Migrate__Progress *p)
{
	const struct {
		const char *name;
		uint64_t bytes;
	} sizes[] = { { "resident", p->resident_bytes }, { "sent", p->bytes_sent },
		{ "sent frozen", p->bytes_sent_frozen }, { "copied", p->bytes_copied },
		{ "dirty per s", p->dirty_rate_bytes_s }, { "link per s", p->bandwidth_bytes_s } };
	const struct {
		const char *name;
		uint64_t us;
	} times[] = { { "total", p->total_us }, { "downtime", p->downtime_us },
		{ "predicted", p->predicted_downtime_us }, { "stall", p->stall_us } };

	text_addf(out, "id           %s\nprocess      %d (", p->id, p->pid);
	add_plain(out, p->comm);
	text_addf(out, ")\nside         %s\npeer         ", p->side);
	add_plain(out, p->peer);
	text_addf(out, "\nprocesses    %u", p->processes);
	text_addf(out, "\nstate        %s\nrun by       %s\nround        %u\n", p->state, p->owner,
		p->round);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		text_addf(out, "%-12s ", sizes[i].name);
		render_bytes(out, sizes[i].bytes);
		text_addf(out, "\n");
	}
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		text_addf(out, "%-12s ", times[i].name);
		render_us(out, times[i].us);
		text_addf(out, "\n");
	}
	text_addf(out, "objects      %ju\ntracker      %s\n", (uintmax_t)p->objects, p->tracker);
	if (*p->stream)
		text_addf(out, "carried by   %s\n", p->stream);
	if (*p->source)
		text_addf(out, "pages by     %s\n", p->source);
	if (p->connections)
		text_addf(out, "connections  %ju\n", (uintmax_t)p->connections);
	if (p->streams > 1)
		text_addf(out, "pages over   %u streams\n", p->streams);
	if (*p->sink)
		text_addf(out, "pages by     %s\n", p->sink);
}

static void add_seen(struct text *out, const Migrate__Peer *p)
{
	time_t when = (time_t)p->seen_s;
	struct tm tm;
	char day[32] = "";

	if (!p->seen_s || !gmtime_r(&when, &tm) ||
		!strftime(day, sizeof(day), "%Y-%m-%d %H:%M UTC", &tm)) {
		text_addf(out, "never seen\n");
		return;
	}
	text_addf(out, "seen %s with ", day);
	add_plain(out, p->seen_key);
	text_addf(out, ", knows ");
	add_plain(out, p->seen_own);
	text_addf(out, "\n");
}

void render_peers(struct text *out, const Migrate__Reply *r)
{
	for (size_t i = 0; i < r->n_peers; i++) {
		const Migrate__Peer *p = r->peers[i];

		add_plain(out, p->name);
		text_addf(out, "\t");
		add_plain(out, p->host);
		text_addf(out, "\t");
		for (size_t k = 0; k < p->n_fingerprints; k++) {
			text_addf(out, k ? "," : "");
			add_plain(out, p->fingerprints[k]);
		}
		text_addf(out, "\t");
		add_seen(out, p);
	}
}
