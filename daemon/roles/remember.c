// SPDX-License-Identifier: Apache-2.0
#include "roles/remember.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "engine/network.h"
#include "engine/undo.h"
#include "kernel/netlock.h"
#include "roles/subject.h"

static void put_text(char *to, size_t room, const char *from)
{
	snprintf(to, room, "%s", from ? from : "");
}

struct err *remember_begin(const Migrate__Work *k, const struct remembered *what,
	enum engine_mark mark, struct journal *ret)
{
	struct journal_record r = { .mark = mark,
		.destination = k->receive,
		.pid = what->pid,
		.start_time = k->start_time,
		.asker = k->asker,
		.port = k->peer_port };
	AUTO(subject_fini) struct subject s = { .pid = 0 };

	if (k->receive) {
		TRY(subject_read(what->pid, &s));
		r.start_time = s.start_time;
	}
	put_text(r.id, sizeof(r.id), what->id);
	put_text(r.comm, sizeof(r.comm), what->comm);
	put_text(r.boot_id, sizeof(r.boot_id), k->boot_id);
	put_text(r.peer_boot_id, sizeof(r.peer_boot_id), k->peer_boot_id);
	put_text(r.peer, sizeof(r.peer), k->peer);
	put_text(r.key, sizeof(r.key), k->peer_key);
	put_text(r.host, sizeof(r.host), k->peer_host);
	return err_in(journal_create(k->state_dir, &r, ret), "remember migration %s", what->id);
}

/* ---- after the death of another worker ---- */

static void forget_undo(void *work)
{
	const Migrate__Work *k = work;

	journal_drop_aside(k->state_dir, k->id, k->receive, ASIDE_UNDO);
}

static struct err *get_list(
	struct arena *a, const Migrate__Work *k, enum journal_aside what, struct journal_list *ret)
{
	struct journal_name of = { .destination = k->receive };

	put_text(of.id, sizeof(of.id), k->id);
	return journal_get_aside(a, k->state_dir, &of, what, ret);
}

static struct err *take_back(struct arena *a, const Migrate__Work *k, struct notes *notes)
{
	struct journal_list list;
	struct undo_spec spec = { .pid = k->undo_pid,
		.start_time = k->start_time,
		.group = k->undo_group,
		.on_undone = forget_undo,
		.arg = (void *)(uintptr_t)k };

	TRY(get_list(a, k, ASIDE_UNDO, &list));
	spec.list = list.v;
	spec.len = list.len;
	if (!spec.list)
		return NULL;
	return k->undo_leaves ? engine_undo_moved(&spec, notes) : engine_undo(&spec, notes);
}

static struct err *settle_network(struct arena *a, const Migrate__Work *k, struct notes *notes)
{
	struct journal_list list;
	struct network_settle spec = { .id = k->id,
		.stays = !k->undo_leaves,
		.runs = k->undo_runs,
		.pid = k->undo_pid,
		.start_time = k->start_time };

	TRY(get_list(a, k, ASIDE_NETWORK, &list));
	spec.list = list.v;
	spec.len = list.len;
	if (!spec.list)
		return NULL;
	TRY(engine_network_settle(&spec, notes));
	journal_drop_aside(k->state_dir, k->id, k->receive, ASIDE_NETWORK);
	return NULL;
}

/* Connections first: what is taken back may let it run for a moment. */
static struct err *undo(const Migrate__Work *k, struct notes *notes)
{
	autoarena struct arena *a = arena_new();

	TRY(settle_network(a, k, notes));
	return take_back(a, k, notes);
}

/* ---- after the death of everybody ---- */

static bool is_known(const struct journal_name *names, size_t n, const char *id)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i].id, id) == 0)
			return true;
	return false;
}

/* Locks of migrations of which no journal knows: the disk was lost, or somebody has tidied up. */
static struct err *sweep(const char *state_dir)
{
	autoarena struct arena *a = arena_new();
	struct journal_name *names;
	size_t n_names, n;
	char **ids;

	TRY(journal_names(a, state_dir, &names, &n_names));
	TRY(netlock_list(a, &ids, &n));
	for (size_t i = 0; i < n; i++) {
		if (is_known(names, n_names, ids[i]))
			continue;
		TRY(netlock_remove(ids[i]));
		log_warn("sweep lock=%s", ids[i]);
	}
	return NULL;
}

int remember_sweep(const Migrate__Work *k)
{
	autoerr struct err *e = sweep(k->state_dir);

	/* A kernel without nf_tables has none. */
	return e ? 1 : 0;
}

/* Its exit status is all that it says. */
int remember_undo(const Migrate__Work *k)
{
	struct notes notes = { .n_blockers = 0 };
	autoerr struct err *e = undo(k, &notes);
	autofree char *line = e ? err_line(e) : NULL;

	for (size_t i = 0; i < notes.n_warnings; i++)
		log_warn("undo id=%s warning=\"%s\"", k->id, notes.warnings[i]);
	if (line)
		log_error("undo id=%s pid=%d error=\"%s\"", k->id, k->undo_pid, line);
	notes_fini(&notes);
	return e && err_code(e) != ERR_GONE ? 1 : 0;
}
