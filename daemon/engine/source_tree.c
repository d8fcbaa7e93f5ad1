// SPDX-License-Identifier: Apache-2.0
/*
 * The source's processes. Those that the rehearsal has found are tracked, and rebuilt early; who is
 * born later is taken along when all stand still. So a tree that starts processes all the time can
 * be moved, and what lives long costs no downtime.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/process_list.h"
#include "engine/source.h"

struct source_member *source_next(const struct source *s, const struct source_member *m)
{
	size_t i = 0;

	while (m && s->members[i++] != m)
		;
	for (; i < s->n_members; i++)
		if (!s->members[i]->gone)
			return s->members[i];
	return NULL;
}

uint64_t source_space(const struct source *s, const struct source_member *m)
{
	return m->task == s->task ? SPACE_PRIVATE : space_private(m->task->pid);
}

static struct source_member *member_of(const struct source *s, const struct task *t)
{
	for (size_t i = 0; i < s->n_members; i++)
		if (s->members[i]->task == t)
			return s->members[i];
	return NULL;
}

static void close_trackers(struct source *s, struct source_member *m)
{
	if (m->dirty)
		s->ops->close(take(&m->dirty));
	if (m->everything)
		dirty_none.close(take(&m->everything));
}

static void forget_memory(struct source *s, struct source_member *m)
{
	close_trackers(s, m);
	fd_closep(&m->mm_fd);
	snapshot_fini(&m->layout_of);
	snapshot_init(&m->layout_of, &s->out->notes, s->cache);
	ranges_clear(&m->fresh);
	m->layout = NULL;
	m->looked_at = false;
}

static struct source_member *member_new(struct source *s, struct task *t)
{
	struct source_member *m = xcalloc(1, sizeof(*m));

	m->task = t;
	m->mm_fd = -1;
	m->generation = ++s->generations;
	snapshot_init(&m->layout_of, &s->out->notes, s->cache);
	if (s->n_members == s->cap_members) {
		s->cap_members = s->cap_members * 2 + 8;
		s->members = xrealloc_array(s->members, s->cap_members, sizeof(*s->members));
	}
	s->members[s->n_members++] = m;
	return m;
}

struct err *source_tree_open(struct source *s)
{
	TRY(tree_open(s->opt->pid, &s->tree));
	s->task = s->tree.v[0];
	s->main = member_new(s, s->task);
	return NULL;
}

void source_untrack(struct source *s)
{
	for (size_t i = 0; i < s->n_members; i++)
		close_trackers(s, s->members[i]);
}

void source_tree_fini(struct source *s)
{
	source_untrack(s);
	for (size_t i = 0; i < s->n_members; i++) {
		fd_closep(&s->members[i]->mm_fd);
		snapshot_fini(&s->members[i]->layout_of);
		ranges_fini(&s->members[i]->fresh);
		free(s->members[i]);
	}
	free(s->members);
	s->members = NULL;
	s->n_members = 0;
	if (s->list_of)
		arena_free(s->list_of);
	/* In doubt they stay held without us. */
	tree_fini(&s->tree);
	s->task = NULL;
}

/* ---- who there is ---- */

static void lose(struct source *s, struct source_member *m)
{
	m->gone = true;
	objects_stale(&s->sent.objects, m->task->pid); /* the number may be another one's soon */
	forget_memory(s, m);
	spaces_unsettle(s);
	if (s->main == m) {
		source_pages_close(s);
		s->main = s->members[0];
	}
}

bool source_member_ended(struct source *s, struct source_member *m)
{
	autoerr struct err *e = m->task == s->task ? NULL : task_check_alive(m->task);

	if (e)
		lose(s, m);
	return e != NULL;
}

/* Its parent has ended, and it has become a child of somebody outside. */
static struct err *has_left(pid_t pid)
{
	return err_hint(err_new(ERR_GONE,
				"process %d is a child of this tree no more: its parent has ended "
				"meanwhile",
				pid),
		"send it again, and that process by itself");
}

static void say_tree(const struct source *s)
{
	autoarena struct arena *a = arena_new();
	const struct pids pids = tree_pids(a, &s->tree, false);

	if (s->io->on_tree)
		s->io->on_tree(s->io->arg, &pids);
}

struct err *source_tree_sync(struct source *s)
{
	for (size_t i = 0; i < s->n_members; i++) {
		struct source_member *m = s->members[i];

		if (m->gone || tree_task(&s->tree, m->task->pid) == m->task)
			continue;
		if (!source_member_ended(s, m) && m->told)
			return has_left(m->task->pid);
		if (!m->gone)
			lose(s, m);
	}
	for (size_t i = 0; i < s->tree.n; i++)
		if (!member_of(s, s->tree.v[i]))
			member_new(s, s->tree.v[i]);
	say_tree(s);
	return NULL;
}

/* A process that is younger than that, and than half as old as the root, may be one of many that
 * come and go. */
#define SETTLED_S 1
#define NSEC      1000000000LL

static int64_t age_ticks(const struct task *t)
{
	const int64_t ticks = sysconf(_SC_CLK_TCK);
	struct timespec now;

	if (clock_gettime(CLOCK_BOOTTIME, &now) < 0)
		return 0;
	return now.tv_sec * ticks + now.tv_nsec / (NSEC / ticks) - (int64_t)t->start_time;
}

bool source_has_settled(void *source, const struct task *t)
{
	const struct source *s = source;
	int64_t age = age_ticks(t);

	return t == s->task || age >= SETTLED_S * sysconf(_SC_CLK_TCK) ||
	       age * 2 >= age_ticks(s->task);
}

void source_choose_main(struct source *s)
{
	uint64_t most = 0;

	for (struct source_member *m = NULL; (m = source_next(s, m));) {
		autoarena struct arena *a = arena_new();
		struct proc_stat st;
		autoerr struct err *e = m->told ? proc_stat(a, m->task->pid, 0, &st) : NULL;

		if (!m->told || e || st.rss_pages <= most)
			continue;
		most = st.rss_pages;
		s->main = m;
	}
}

/* ---- what the peer is told ---- */

struct listing {
	struct source *s;
	struct arena *arena;
	struct process_list l;
	size_t cap;
	struct proc_stat root;
};

static struct process *add(struct listing *g, const struct process *p)
{
	g->l.v = arena_grow(g->arena, g->l.v, &g->cap, g->l.n + 1, sizeof(*g->l.v));
	g->l.v[g->l.n] = *p;
	return &g->l.v[g->l.n++];
}

static struct err *ask_subreaper(struct task *t, bool *ret)
{
	int32_t subreaper = 0;

	if (t->n_threads == 0)
		return err_new(ERR_BUG, "process %d is not held", t->pid);
	TRY(REMOTE(t, task_leader(t), NULL, "ask whether it is a subreaper", SYS_prctl,
		PR_GET_CHILD_SUBREAPER, remote_scratch(t).v));
	TRY(remote_get(t, 0, &subreaper, sizeof(subreaper)));
	*ret = subreaper != 0;
	return NULL;
}

/* An exec makes it SIGCHLD, and seedlings are executed. */
static struct err *check_exit_signal(pid_t parent, pid_t pid, const struct proc_stat *st)
{
	if (!parent || st->exit_signal == SIGCHLD)
		return NULL;
	return err_new(ERR_UNSUPPORTED,
		"the end of process %d (%.16s) is told by signal %d, not by SIGCHLD", pid, st->comm,
		st->exit_signal);
}

static struct err *add_live(struct listing *g, const struct source_member *m, pid_t parent)
{
	struct task *t = m->task;
	struct process p = {
		.pid = t->pid,
		.parent = parent,
		.life = MIGRATE__LIFE__LIVE,
		.generation = m->generation,
	};
	struct proc_stat st;
	struct proc_status status;
	size_t n_fds;
	int *fds;

	TRY(proc_stat(g->arena, t->pid, 0, &st));
	TRY(proc_status(g->arena, t->pid, 0, &status));
	TRY(proc_fds(g->arena, t->pid, &fds, &n_fds));
	TRY(ask_subreaper(t, &p.subreaper));
	if (!parent)
		g->root = st;
	p.group = st.pgrp;
	p.session = st.sid;
	TRY(check_exit_signal(parent, t->pid, &st));
	p.fd_max = n_fds ? fds[n_fds - 1] : 0;
	p.resident_bytes = status.vm_rss_bytes + status.vm_swap_bytes;
	p.uid = status.uid[0];
	memcpy(p.comm, st.comm, sizeof(p.comm));
	p.n_tids = t->n_threads;
	p.tids = arena_array(g->arena, t->n_threads, sizeof(*p.tids));
	for (size_t i = 0; i < t->n_threads; i++)
		p.tids[i] = t->threads[i]->tid;
	add(g, &p);
	return NULL;
}

static struct err *add_zombie(struct listing *g, const struct tree_zombie *z)
{
	struct process p = {
		.pid = z->pid,
		.parent = z->stat.ppid,
		.group = z->stat.pgrp,
		.session = z->stat.sid,
		.life = MIGRATE__LIFE__ZOMBIE,
		.status = z->stat.exit_code,
	};

	TRY(check_exit_signal(p.parent, p.pid, &z->stat));
	memcpy(p.comm, z->stat.comm, sizeof(p.comm));
	if (process_find(&g->l, p.parent))
		add(g, &p);
	return NULL;
}

/* What is outside of the tree is the root's: it gets a session and a group of its own. */
static void take_in(const struct listing *g, struct process *p)
{
	const struct process *root = &g->l.v[0];

	if (p == root || (p->session == g->root.sid && !process_find(&g->l, p->session)))
		p->session = root->pid;
	if (p == root || (p->group == g->root.pgrp && !process_find(&g->l, p->group)))
		p->group = root->pid;
}

/* The list, put together anew so that whoever leads a session comes before those in it. */
struct ordering {
	const struct listing *from;
	struct process_list l;
	size_t cap;
};

static void append(struct ordering *o, const struct process *p)
{
	o->l.v = arena_grow(o->from->arena, o->l.v, &o->cap, o->l.n + 1, sizeof(*o->l.v));
	o->l.v[o->l.n++] = *p;
}

/* A leader that has ended, waited for or not. Only its children can be in its session, or in its
 * group, that are not below somebody who is: it was a child of the same parent. */
static void need_leader(struct ordering *o, const struct process *of, pid_t pid, bool session)
{
	const struct process *there = process_find(&o->from->l, pid);

	if (process_find(&o->l, pid))
		return;
	if (there && there->life == MIGRATE__LIFE__ZOMBIE)
		append(o, there);
	if (there)
		return;
	append(o, &(struct process){
			  .pid = pid,
			  .parent = of->parent,
			  .group = pid,
			  .session = session ? pid : of->session,
			  .life = MIGRATE__LIFE__GONE,
		  });
}

static void order(const struct listing *g, struct process_list *ret)
{
	struct ordering o = { .from = g };

	for (size_t i = 0; i < g->l.n; i++) {
		const struct process *p = &g->l.v[i];

		if (i) {
			need_leader(&o, p, p->session, true);
			need_leader(&o, p, p->group, false);
		}
		if (!process_find(&o.l, p->pid))
			append(&o, p);
	}
	o.l.main = g->s->main->task->pid;
	*ret = o.l;
}

static struct err *check_makers(const struct process_list *l)
{
	for (size_t i = 1; i < l->n; i++)
		if (!process_maker(l, &l->v[i]))
			return err_new(ERR_UNSUPPORTED,
				"process %d (%s) is in the session of %d, but not below it",
				l->v[i].pid, l->v[i].comm, l->v[i].session);
	if (l->n > PROCESSES_MAX)
		return err_new(
			ERR_LIMIT, "%zu processes, at most %d can be moved", l->n, PROCESSES_MAX);
	return NULL;
}

static struct err *make_list(struct source *s, struct arena *a, bool late, struct process_list *ret)
{
	struct listing g = { .s = s, .arena = a };

	for (size_t i = 0; i < s->tree.n; i++) {
		const struct source_member *m = member_of(s, s->tree.v[i]);

		if (m && (late || m->told))
			TRY(add_live(&g, m, s->tree.parents[i]));
	}
	for (size_t i = 0; late && i < s->tree.n_zombies; i++)
		TRY(add_zombie(&g, &s->tree.zombies[i]));
	for (size_t i = 0; i < g.l.n; i++)
		take_in(&g, &g.l.v[i]);
	order(&g, ret);
	return check_makers(ret);
}

/* A tree of one needs no list: BEGIN has said it all. Takes `of`, which holds the list. */
static struct err *tell_list(struct source *s, struct arena *of, const struct process_list *l)
{
	const uint8_t *bytes;
	size_t len;

	processes_pack(of, l, &bytes, &len);
	if ((l->n == 1 && !s->list) ||
		(s->list && len == s->list_len && memcmp(bytes, s->list, len) == 0)) {
		arena_free(of);
		return NULL;
	}
	if (s->list_of)
		arena_free(s->list_of);
	s->list_of = of;
	s->told = *l;
	s->list = bytes;
	s->list_len = len;
	return s->io->stream
		       ? peer_reason(&s->peer, channel_send(&s->peer.ch, FRAME_TREE, 0, bytes, len))
		       : NULL;
}

struct err *source_tree_tell(struct source *s, bool late)
{
	struct arena *of = arena_new();
	struct process_list l;
	struct err *e = make_list(s, of, late, &l);

	if (!e)
		return tell_list(s, of, &l);
	arena_free(of);
	return e;
}

static bool has_ended(const struct source *s, pid_t pid)
{
	for (size_t i = 0; i < s->n_members; i++)
		if (s->members[i]->task->pid == pid && !s->members[i]->gone)
			return false;
	return true;
}

/* Of those in the list. */
static const struct process *child_of(const struct process_list *l, pid_t pid)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].parent == pid && l->v[i].life == MIGRATE__LIFE__LIVE)
			return &l->v[i];
	return NULL;
}

static bool leads(const struct process_list *l, pid_t pid)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].pid != pid && (l->v[i].session == pid || l->v[i].group == pid))
			return true;
	return false;
}

/* Without it; who leads others' session or group is told as somebody who has ended. */
static void drop_process(struct process_list *l, size_t i)
{
	const struct process was = l->v[i];

	if (leads(l, was.pid)) {
		l->v[i] = (struct process){ .pid = was.pid,
			.parent = was.parent,
			.group = was.group,
			.session = was.session,
			.life = MIGRATE__LIFE__GONE };
		return;
	}
	memmove(&l->v[i], &l->v[i + 1], (l->n - i - 1) * sizeof(*l->v));
	l->n--;
}

struct err *source_tree_tell_ended(struct source *s)
{
	struct arena *of;
	struct process_list l = s->told;
	bool any = false;

	for (size_t i = 0; s->list && i < l.n; i++)
		any |= l.v[i].life == MIGRATE__LIFE__LIVE && has_ended(s, l.v[i].pid);
	if (!any)
		return NULL;
	of = arena_new();
	l.v = arena_dup(of, l.v, l.n * sizeof(*l.v));
	for (size_t i = 0; i < l.n; i++)
		if (l.v[i].n_tids)
			l.v[i].tids =
				arena_dup(of, l.v[i].tids, l.v[i].n_tids * sizeof(*l.v[i].tids));
	for (size_t i = l.n; i-- > 0;) {
		const struct process *p = &l.v[i], *child = child_of(&l, p->pid);

		if (p->life != MIGRATE__LIFE__LIVE || !has_ended(s, p->pid))
			continue;
		if (child) {
			struct err *e = has_left(child->pid);

			arena_free(of);
			return e;
		}
		drop_process(&l, i);
	}
	l.main = s->main->task->pid;
	return tell_list(s, of, &l);
}

/* ---- other programs ---- */

static bool has_children(const struct source *s, pid_t pid)
{
	for (size_t i = 0; i < s->tree.n; i++)
		if (s->tree.parents[i] == pid)
			return true;
	return false;
}

/* What the peer has of it is worth nothing: it makes it anew, and is told everything. */
static void renew(struct source *s, struct source_member *m)
{
	m->generation = ++s->generations;
	m->told = false;
	forget_memory(s, m);
	objects_stale(&s->sent.objects, m->task->pid);
}

/* The address space that it had then is nobody's any more: reading ends at once (fs/proc/base.c,
 * mem_rw), where an address that is not mapped is an error. */
static bool is_another_program(const struct source_member *m)
{
	char byte;

	return m->mm_fd >= 0 && pread(m->mm_fd, &byte, 1, (off_t)m->start_stack) == 0;
}

static struct err *executed(const struct source_member *m)
{
	autoarena struct arena *a = arena_new();
	struct proc_stat st;

	TRY(proc_stat(a, m->task->pid, 0, &st));
	return err_hint(err_new(ERR_GONE, "process %d has executed another program (%s) meanwhile",
				m->task->pid, st.comm),
		"send it again");
}

struct err *source_tree_renew(struct source *s)
{
	for (struct source_member *m = NULL; (m = source_next(s, m));) {
		if (!is_another_program(m))
			continue;
		if (m->task == s->task || has_children(s, m->task->pid))
			return executed(m);
		renew(s, m);
	}
	return NULL;
}
