// SPDX-License-Identifier: Apache-2.0
#include "engine/process_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/text.h"
#include "engine/mark.h"
#include "kernel/proc.h"
#include "kinds/kind.h"

const struct process *process_find(const struct process_list *l, pid_t pid)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].pid == pid)
			return &l->v[i];
	return NULL;
}

const struct process *process_maker(const struct process_list *l, const struct process *p)
{
	const struct process *parent = process_find(l, p->parent);
	const struct process *leader = process_find(l, p->session);

	if (!parent)
		return NULL;
	if (p->session == p->pid || p->session == parent->session)
		return parent;
	return leader && leader->parent == p->parent && leader < p ? leader : NULL;
}

struct err *begin_check(const Migrate__Begin *m)
{
	if (!text_is_id(m->id, ENGINE_ID_MAX))
		return err_new(
			ERR_PEER, "a migration's id is 1 to %d letters and digits", ENGINE_ID_MAX);
	if (m->pid <= 1 || !m->n_tids || m->n_tids > PROC_THREADS_MAX)
		return err_new(ERR_PEER, "process %d with %zu threads", m->pid, m->n_tids);
	for (size_t i = 0; i < m->n_tids; i++)
		if (m->tids[i] <= 1)
			return err_new(ERR_PEER, "thread id %d", m->tids[i]);
	if (m->fd_max >= PROC_FDS_MAX)
		return err_new(ERR_PEER, "descriptor number %u", m->fd_max);
	return NULL;
}

struct pids processes_living(struct arena *a, const struct process_list *l)
{
	pid_t *v = arena_array(a, l->n, sizeof(*v));
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].life == MIGRATE__LIFE__LIVE)
			v[n++] = l->v[i].pid;
	return pids_sort(v, n);
}

const uint32_t *processes_uids(struct arena *a, const struct process_list *l)
{
	uint32_t *v = arena_array(a, l->n, sizeof(*v));
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].life == MIGRATE__LIFE__LIVE)
			v[n++] = l->v[i].uid;
	return v;
}

/* ---- to the wire ---- */

static Migrate__Process *pack_one(struct arena *a, const struct process *p)
{
	Migrate__Process *m = arena_alloc(a, sizeof(*m));

	migrate__process__init(m);
	m->pid = p->pid;
	m->parent = p->parent;
	m->group = p->group;
	m->session = p->session;
	m->subreaper = p->subreaper;
	m->life = p->life;
	m->status = p->status;
	m->fd_max = (uint32_t)p->fd_max;
	m->resident_bytes = p->resident_bytes;
	m->generation = p->generation;
	m->uid = p->uid;
	m->comm = arena_strdup(a, p->comm);
	m->n_tids = p->n_tids;
	m->tids = arena_dup(a, p->tids, p->n_tids * sizeof(*p->tids));
	return m;
}

void processes_pack(
	struct arena *a, const struct process_list *l, const uint8_t **bytes, size_t *len)
{
	Migrate__Tree m = MIGRATE__TREE__INIT;
	uint8_t *buf;

	m.main = l->main;
	m.n_processes = l->n;
	m.processes = arena_array(a, l->n, sizeof(*m.processes));
	for (size_t i = 0; i < l->n; i++)
		m.processes[i] = pack_one(a, &l->v[i]);
	*len = migrate__tree__get_packed_size(&m);
	buf = arena_alloc(a, *len + 1);
	migrate__tree__pack(&m, buf);
	*bytes = buf;
}

/* ---- from the wire ---- */

static struct err *no_process(const Migrate__Process *m, const char *why)
{
	return err_new(ERR_PEER, "process %d of a tree %s", m->pid, why);
}

static struct err *parse_one(struct arena *a, const Migrate__Process *m, struct process *p)
{
	*p = (struct process){
		.pid = m->pid,
		.parent = m->parent,
		.group = m->group,
		.session = m->session,
		.subreaper = m->subreaper,
		.life = m->life,
		.status = m->status,
		.fd_max = (int)m->fd_max,
		.resident_bytes = m->resident_bytes,
		.generation = m->generation,
		.uid = m->uid,
		.tids = arena_dup(a, m->tids, m->n_tids * sizeof(*m->tids)),
		.n_tids = m->n_tids,
	};
	snprintf(p->comm, sizeof(p->comm), "%s", m->comm);
	if (m->pid <= 1)
		return no_process(m, "has an impossible number");
	if (m->fd_max >= PROC_FDS_MAX || m->n_tids > PROC_THREADS_MAX)
		return no_process(m, "has too many descriptors or threads");
	if (m->life > MIGRATE__LIFE__GONE || (m->life == MIGRATE__LIFE__LIVE) != (m->n_tids > 0))
		return no_process(m, "lives in an unknown way");
	if (m->life == MIGRATE__LIFE__ZOMBIE && !WIFEXITED(m->status) && !WIFSIGNALED(m->status))
		return no_process(m, "has not ended as processes do");
	for (size_t i = 0; i < m->n_tids; i++)
		if (m->tids[i] <= 1)
			return no_process(m, "has a thread without a number");
	return NULL;
}

static int by_pid(const void *a, const void *b)
{
	const pid_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static struct err *check_unique(struct arena *a, const struct process_list *l)
{
	pid_t *v = arena_array(a, l->n, sizeof(*v));

	for (size_t i = 0; i < l->n; i++)
		v[i] = l->v[i].pid;
	qsort(v, l->n, sizeof(*v), by_pid);
	for (size_t i = 1; i < l->n; i++)
		if (v[i] == v[i - 1])
			return err_new(ERR_PEER, "process %d is in the tree twice", v[i]);
	return NULL;
}

/* Group and session exist, and somebody can make it. */
static struct err *check_place(const struct process_list *l, const struct process *p)
{
	const struct process *parent = process_find(l, p->parent);
	const struct process *group = process_find(l, p->group);
	const struct process *session = process_find(l, p->session);

	if (p == l->v ? p->parent != 0 : !parent || parent >= p)
		return err_new(ERR_PEER, "process %d of a tree has no parent in it", p->pid);
	if (parent && parent->life != MIGRATE__LIFE__LIVE)
		return err_new(ERR_PEER, "process %d has a parent that has ended", p->pid);
	if (!group || !session || group->session != p->session || group->group != group->pid ||
		session->session != session->pid)
		return err_new(ERR_PEER, "process %d is in group %d and session %d, which are none",
			p->pid, p->group, p->session);
	if (p == l->v && p->session != p->pid)
		return err_new(ERR_PEER, "the root of a tree leads no session");
	if (p->session == p->pid && p->group != p->pid)
		return err_new(ERR_PEER, "process %d leads a session, and no group", p->pid);
	if (p != l->v && !process_maker(l, p))
		return err_new(
			ERR_PEER, "nobody can make process %d in session %d", p->pid, p->session);
	return NULL;
}

struct err *processes_parse(
	struct arena *a, pid_t root, const uint8_t *bytes, size_t len, struct process_list *ret)
{
	autoarena struct arena *tmp = arena_new();
	const Migrate__Tree *m =
		(const Migrate__Tree *)message_unpack(tmp, &migrate__tree__descriptor, bytes, len);
	struct process_list l = { .n = 0 };

	if (!m)
		return err_new(ERR_PEER, "TREE frame that does not parse");
	if (!m->n_processes || m->n_processes > PROCESSES_MAX)
		return err_new(ERR_PEER, "a tree of %zu processes, at most %d can be moved",
			m->n_processes, PROCESSES_MAX);
	l.main = m->main;
	l.n = m->n_processes;
	l.v = arena_array(a, l.n, sizeof(*l.v));
	for (size_t i = 0; i < l.n; i++)
		TRY(parse_one(a, m->processes[i], &l.v[i]));
	if (l.v[0].pid != root || l.v[0].life != MIGRATE__LIFE__LIVE)
		return err_new(ERR_PEER, "a tree of %d, not of %d", l.v[0].pid, root);
	TRY(check_unique(tmp, &l));
	for (size_t i = 0; i < l.n; i++)
		TRY(check_place(&l, &l.v[i]));
	if (!process_find(&l, l.main))
		return err_new(ERR_PEER, "the main process %d is not in the tree", l.main);
	*ret = l;
	return NULL;
}
