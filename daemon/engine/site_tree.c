// SPDX-License-Identifier: Apache-2.0
/*
 * The tree that is built: seedlings in their places, each made by its parent, so that sessions and
 * groups come by themselves. Where the leader of a session or group has ended long ago, somebody of
 * that number is there meanwhile, and ends without a trace when all others are there (GONE); who
 * has ended and was not waited for ends when its parent stands (ZOMBIE).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/mark.h"
#include "engine/site_priv.h"

#define END_US 1000000

struct member *site_member(const struct site *s, pid_t pid)
{
	for (size_t i = 0; i < s->n_members; i++)
		if (s->members[i]->is.pid == pid)
			return s->members[i];
	return NULL;
}

struct task *site_task_of(const struct site *s, pid_t pid)
{
	const struct member *m = site_member(s, pid);

	return m ? m->task : NULL;
}

static struct member *member_new(struct site *s, const struct process *is)
{
	struct member *m = arena_alloc(s->arena, sizeof(*m));

	*m = (struct member){ .is = *is };
	return m;
}

void site_tree_init(struct site *s)
{
	const struct site_spec *spec = &s->spec;
	struct process *root = arena_alloc(s->arena, sizeof(*root));

	*root = (struct process){
		.pid = spec->pid,
		.group = spec->pid,
		.session = spec->pid,
		.life = MIGRATE__LIFE__LIVE,
		.fd_max = spec->fd_max,
		.tids = arena_dup(s->arena, spec->tids, spec->n_tids * sizeof(*spec->tids)),
		.n_tids = spec->n_tids,
	};
	s->list = (struct process_list){ root, 1, spec->pid };
	s->members = arena_array(s->arena, 1, sizeof(*s->members));
	s->members[s->n_members++] = member_new(s, root);
}

/* ---- a new list ---- */

/* It ends, and its parent knows nothing of it. */
static struct err *remove_member(struct site *s, struct member *m)
{
	struct task *parent = site_task_of(s, m->is.parent), *t = m->task;

	if (t && s->spec.leaving)
		s->spec.leaving(s->spec.arg, m->is.pid);
	m->task = NULL;
	if (m->layout)
		layout_state_free(take(&m->layout));
	m->layouts = (struct bytes_list){ NULL, NULL, 0, 0, 0 };
	m->emptied = m->lived = m->ended = false;
	objects_stale(&s->objects, m->is.pid);
	if (!t)
		return NULL;
	if (!parent) {
		task_free(t);
		return err_new(ERR_BUG, "process %d is removed after its parent", m->is.pid);
	}
	return seedling_drop(parent, t);
}

/* In the new list, and not as another one. Its parent may be another: the old one ends here as it
 * has there, and the kernel gives the child to the same subreaper (check_place). */
static bool stays(const struct site *s, const struct process_list *l, const struct member *m)
{
	const struct process *p = process_find(l, m->is.pid);

	return p && (m == site_root(s) || !process_is_another(&m->is, p));
}

static struct err *remove_others(struct site *s, const struct process_list *l)
{
	for (size_t i = s->n_members; i-- > 1;)
		if (!stays(s, l, s->members[i]))
			TRY(remove_member(s, s->members[i]));
	return NULL;
}

static void take_list(struct site *s, const struct process_list *l)
{
	struct member **v = arena_array(s->arena, l->n, sizeof(*v));

	for (size_t i = 0; i < l->n; i++) {
		v[i] = site_member(s, l->v[i].pid);
		if (!v[i])
			v[i] = member_new(s, &l->v[i]);
		v[i]->is = l->v[i];
	}
	s->members = v;
	s->n_members = l->n;
	s->list = *l;
}

struct err *site_tree(struct site *s, const uint8_t *body, size_t len)
{
	struct process_list l;

	TRY(site_keep(s, len));
	TRY(processes_parse(s->arena, s->spec.pid, body, len, &l));
	TRY(remove_others(s, &l));
	take_list(s, &l);
	return NULL;
}

struct err *site_grow(struct site *s)
{
	return s->built ? site_tree_make(s) : NULL;
}

const struct process_list *site_processes(const struct site *s)
{
	return &s->list;
}

/* ---- making ---- */

static void check_pid(struct site *s, pid_t tid, bool process)
{
	autoarena struct arena *a = arena_new();
	struct proc_stat st;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d", tid);
	if (access(path, F_OK) < 0)
		return;
	if (proc_stat(a, tid, 0, &st))
		strcpy(st.comm, "?");
	notes_refuse(s->spec.notes,
		err_hint(err_new(ERR_LIMIT, "%s %d is taken at the destination by \"%s\"",
				 process ? "pid" : "thread id", tid, st.comm),
			"end that process, or try again later"));
}

void site_tree_check(struct site *s)
{
	for (size_t i = 0; i < s->n_members; i++) {
		const struct process *p = &s->members[i]->is;

		if (!p->n_tids)
			check_pid(s, p->pid, true);
		for (size_t k = 0; k < p->n_tids; k++)
			check_pid(s, p->tids[k], p->tids[k] == p->pid);
	}
}

static struct err *make_root(struct site *s)
{
	struct seedling_spec spec = {
		.pid = s->spec.pid,
		.monotonic_offset_ns = s->spec.monotonic_offset_ns,
		.boottime_offset_ns = s->spec.boottime_offset_ns,
	};
	char name[64];

	if (s->spec.cgroup_dir) {
		snprintf(name, sizeof(name), ENGINE_SITE_GROUP "%d", s->spec.pid);
		TRY(freezer_make(s->spec.cgroup_dir, name, &s->freezer));
		spec.cgroup_dir = s->freezer.dir;
	}
	return seedling_make(&spec, &site_root(s)->task);
}

static struct err *make_child(struct site *s, struct member *m)
{
	const struct process *by = process_maker(&s->list, &m->is);
	const struct seedling_child_spec spec = {
		.pid = m->is.pid,
		.sibling = by->pid != m->is.parent,
		.session = m->is.session == m->is.pid,
	};
	struct task *maker = site_task_of(s, by->pid);

	if (!maker)
		return err_new(ERR_PEER,
			"process %d comes after the leader of its session, %d, has gone", m->is.pid,
			by->pid);
	return seedling_child(maker, &spec, &m->task);
}

static struct err *prepare(struct site *s, struct member *m)
{
	struct thread *th = task_leader(m->task);

	/* Who loses its parent while the tree is built goes where it went at the source. */
	TRY(REMOTE(m->task, th, NULL, "set whether it is a subreaper", SYS_prctl,
		PR_SET_CHILD_SUBREAPER, m->is.subreaper));
	m->lived = m->is.life == MIGRATE__LIFE__LIVE;
	return m->lived ? site_prepare(s, m) : NULL;
}

static struct err *join_group(const struct member *m, bool leaders)
{
	autoarena struct arena *a = arena_new();
	struct proc_stat st;

	if ((m->is.group == m->is.pid) != leaders || !m->task)
		return NULL;
	TRY(proc_stat(a, m->is.pid, 0, &st));
	if (st.sid != m->is.session && m->is.session == m->is.pid)
		TRY(REMOTE(m->task, task_leader(m->task), NULL, "make a session", SYS_setsid, 0));
	if (st.pgrp == m->is.group)
		return NULL;
	return REMOTE(m->task, task_leader(m->task), NULL, "join its process group", SYS_setpgid, 0,
		(uint64_t)m->is.group);
}

/* It is where it should be: else somebody above it has died in another way than at the source. */
static struct err *check_place(const struct member *m)
{
	autoarena struct arena *a = arena_new();
	struct proc_stat st;

	if (!m->task || !m->is.parent)
		return NULL;
	TRY(proc_stat(a, m->is.pid, 0, &st));
	if (st.ppid == m->is.parent && st.sid == m->is.session && st.pgrp == m->is.group)
		return NULL;
	return err_hint(
		err_new(ERR_KERNEL,
			"process %d is a child of %d, in session %d and group %d, and not of %d, "
			"in %d and %d",
			m->is.pid, st.ppid, st.sid, st.pgrp, m->is.parent, m->is.session,
			m->is.group),
		"send it again");
}

/* ---- zombies, and who is not to be seen ---- */

static struct err *check_zombie(pid_t pid)
{
	autoarena struct arena *a = arena_new();
	struct proc_stat st;

	TRY(proc_stat(a, pid, 0, &st));
	return st.state == 'Z' ? NULL
			       : err_new(ERR_KERNEL, "process %d has ended, and is no zombie", pid);
}

static struct err *settle_one(struct site *s, struct member *m)
{
	struct task *parent = site_task_of(s, m->is.parent), *t = m->task;

	if (!t || m->is.life == MIGRATE__LIFE__LIVE)
		return NULL;
	if (s->spec.leaving)
		s->spec.leaving(s->spec.arg, m->is.pid);
	m->task = NULL;
	m->ended = true;
	if (m->is.life == MIGRATE__LIFE__GONE)
		return seedling_drop(parent, t);
	TRY(seedling_end(parent, t, m->is.status));
	return check_zombie(m->is.pid);
}

/* Who lived here already: only its end gives its children to those who have them at the source. */
static struct err *end_lived(struct site *s)
{
	for (size_t i = s->n_members; i-- > 1;)
		if (s->members[i]->lived)
			TRY(settle_one(s, s->members[i]));
	return NULL;
}

struct err *site_tree_make(struct site *s)
{
	for (size_t i = 0; i < s->n_members; i++) {
		struct member *m = s->members[i];

		if (m->task || m->ended)
			continue;
		TRY_IN(i ? make_child(s, m) : make_root(s), "make process %d", m->is.pid);
		TRY_IN(prepare(s, m), "process %d", m->is.pid);
	}
	for (size_t i = 0; i < s->n_members; i++)
		TRY(join_group(s->members[i], true));
	for (size_t i = 0; i < s->n_members; i++)
		TRY(join_group(s->members[i], false));
	TRY(end_lived(s));
	for (size_t i = 0; i < s->n_members; i++)
		TRY(check_place(s->members[i]));
	return NULL;
}

/* ---- the ends ---- */

struct err *site_tree_settle(struct site *s)
{
	for (size_t i = s->n_members; i-- > 1;)
		TRY(settle_one(s, s->members[i]));
	return NULL;
}

void site_tree_kill(struct site *s)
{
	for (size_t i = 0; i < s->n_members; i++)
		if (s->members[i]->task)
			err_free(task_kill(s->members[i]->task));
	for (size_t i = 0; i < s->n_members; i++)
		if (s->members[i]->task)
			err_free(task_wait_end(s->members[i]->task, deadline_in(END_US)));
}

void site_tree_free(struct site *s)
{
	/* Children are waited for by init when their parents are gone. */
	for (size_t i = 0; i < s->n_members; i++) {
		task_free(take(&s->members[i]->task));
		if (s->members[i]->layout)
			layout_state_free(take(&s->members[i]->layout));
	}
}

static struct err *member_memory(const struct member *m, uint64_t *bytes)
{
	autoarena struct arena *a = arena_new();
	struct proc_status status;

	if (!m->task)
		return NULL;
	TRY(proc_status(a, m->is.pid, 0, &status));
	*bytes += status.vm_rss_bytes + status.vm_swap_bytes;
	return NULL;
}

struct err *site_memory(const struct site *s, uint64_t *bytes)
{
	*bytes = site_spaces_bytes(s);
	for (size_t i = 0; i < s->n_members; i++)
		TRY(member_memory(s->members[i], bytes));
	return NULL;
}
