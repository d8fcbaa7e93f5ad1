// SPDX-License-Identifier: Apache-2.0
/* The source's first state: who is it, and what do the hosts have? */
#include <stdio.h>
#include <string.h>

#include "engine/clocks.h"
#include "engine/facts.h"
#include "engine/source.h"
#include "session.pb-c.h"

/* An earlier migration may have left it in its group: held because its outcome is in doubt, then
 * another copy may run elsewhere; or running because the daemon died before that. */
static struct err *leave_old_hold(pid_t pid)
{
	struct freezer old AUTO(freezer_fini) = { 0 };
	bool frozen = false;
	struct err *e = freezer_current(pid, &old.dir);
	char *name;

	if (e && err_code(e) == ERR_UNSUPPORTED) {
		err_free(e);
		return NULL;
	}
	TRY(e);
	name = strrchr(old.dir, '/');
	if (!name || strncmp(name + 1, ENGINE_HOLD_GROUP, strlen(ENGINE_HOLD_GROUP)) != 0)
		return NULL;
	TRY(freezer_get(&old, &frozen));
	if (frozen)
		return err_hint(err_new(ERR_LIMIT,
					"process %d is held: the outcome of migration %s is in "
					"doubt",
					pid, name + 1 + strlen(ENGINE_HOLD_GROUP)),
			"migratectl resolve %s here|there", name + 1 + strlen(ENGINE_HOLD_GROUP));
	old.home = xstrdup(old.dir);
	old.home[name - old.dir] = '\0';
	return freezer_undo(&old, pid);
}

static struct err *open_process(struct source *s)
{
	const struct send_options *o = s->opt;

	TRY(source_tree_open(s));
	if (o->start_time && s->task->start_time != o->start_time)
		return err_new(ERR_GONE, "process %d ended and another one has its number", o->pid);
	return leave_old_hold(o->pid);
}

/* All processes that there are now. Shared memory is counted for each of them. */
static struct err *tree_need(struct source *s, uint64_t *bytes)
{
	autoarena struct arena *a = arena_new();

	*bytes = 0;
	TRY(tree_look(&s->tree));
	for (size_t i = 0; i < s->tree.n; i++) {
		struct proc_status status;
		struct err *e = proc_status(a, s->tree.v[i]->pid, 0, &status);

		if (e && (i == 0 || err_code(e) != ERR_GONE))
			return e;
		if (!e)
			*bytes += status.vm_rss_bytes + status.vm_swap_bytes;
		err_free(e);
	}
	return NULL;
}

static struct err *fill_begin(struct source *s, struct arena *a, Migrate__Begin *m)
{
	struct proc_stat st;
	struct proc_status status;
	char *exe;
	pid_t *tids;
	int *fds;
	size_t n_fds;

	TRY(proc_stat(a, s->opt->pid, 0, &st));
	TRY(proc_status(a, s->opt->pid, 0, &status));
	TRY(proc_link(a, s->opt->pid, "exe", &exe));
	TRY(proc_tids(a, s->opt->pid, &tids, &m->n_tids));
	TRY(proc_fds(a, s->opt->pid, &fds, &n_fds));
	m->id = arena_strdup(a, s->opt->id);
	m->pid = s->opt->pid;
	m->comm = arena_strdup(a, st.comm);
	m->exe = exe;
	m->uid = status.uid[0];
	m->resident_bytes = status.vm_rss_bytes;
	TRY(tree_need(s, &m->need_bytes));
	m->start_time = s->task->start_time;
	m->dry_run = s->opt->dry_run;
	m->unit = arena_strdup(a, s->opt->unit ? s->opt->unit : "");
	m->fd_max = n_fds ? (uint32_t)fds[n_fds - 1] : 0;
	m->tids = arena_array(a, m->n_tids, sizeof(*m->tids));
	for (size_t i = 0; i < m->n_tids; i++)
		m->tids[i] = tids[i];
	s->out->stats.resident_bytes = m->need_bytes;
	TRY(facts_fill_begin(a, s->opt->pid, m));
	return clock_process_offsets(s->opt->pid, &m->monotonic_offset_ns, &m->boottime_offset_ns);
}

struct err *source_hello(void *ctx)
{
	struct source *s = ctx;
	autoarena struct arena *a = arena_new();
	Migrate__Begin m = MIGRATE__BEGIN__INIT;
	Migrate__Facts facts = MIGRATE__FACTS__INIT;
	Migrate__Accept *accept;
	void *msg;

	TRY(open_process(s));
	TRY(fill_begin(s, a, &m));
	facts_fill(a, &facts);
	m.facts = &facts;
	m.streams = source_streams_offer(s, facts.cpus);
	if (!s->io->stream)
		return NULL;
	source_wait(s);
	TRY(peer_sync_clock(&s->peer, &s->clock));
	m.monotonic_offset_ns -= s->clock.offset_ns;
	m.boottime_offset_ns -= s->clock.boottime_offset_ns;
	TRY(peer_send(&s->peer, FRAME_BEGIN, &m.base));
	TRY(peer_expect(&s->peer, a, FRAME_ACCEPT, &migrate__accept__descriptor, &msg));
	accept = msg;
	if (!accept->facts)
		return err_new(ERR_PEER, "the other host says nothing about itself");
	facts_compare(&m, accept->facts, s->clock.realtime_offset_ns, &s->out->notes);
	return source_streams_agree(s, &m, accept);
}
