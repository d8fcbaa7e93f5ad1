// SPDX-License-Identifier: Apache-2.0
/* The source's walk over kinds; also what kinds call (capture_* of kinds/kind.h). */
#include "engine/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kinds/files.h"
#include "kinds/process.h"
#include "kinds/refused.h"
#include "kinds/shared.h"

/* Where processes end all the time. */
#define LOOKS_MAX 50

void snapshot_init(struct snapshot *s, struct notes *notes, struct kind_cache *cache)
{
	*s = (struct snapshot){ .arena = arena_new(), .notes = notes, .cache = cache };
}

void snapshot_fini(struct snapshot *s)
{
	arena_free(s->arena);
	*s = (struct snapshot){ 0 };
}

/* ---- what kinds call ---- */

struct object *capture_emit(struct capture *c, uint64_t id, const ProtobufCMessage *msg)
{
	struct snapshot *s = c->priv->snapshot;
	struct object *o =
		objects_add(s->arena, &s->objects, c->priv->kind, c->file ? 0 : c->task->pid, id);

	kind_pack(s->arena, msg, &o->body, &o->body_len);
	if (c->file) {
		o->slots = c->file->slots;
		o->n_slots = c->file->n_slots;
	}
	return o;
}

void capture_ref(struct capture *c, struct object *o, int number)
{
	const struct file *f = file_by_number(c->files, number);
	size_t cap = o->n_refs;

	if (!f)
		return;
	/* Doubled at the powers of two: nobody else appends. */
	if ((cap & (cap - 1)) == 0) {
		uint64_t *refs = arena_array(c->arena, MAX(cap * 2, (size_t)1), sizeof(*refs));

		if (cap)
			memcpy(refs, o->refs, cap * sizeof(*refs));
		o->refs = refs;
	}
	o->refs[o->n_refs++] = f->id;
}

struct err *capture_home(struct capture *c, int *fd)
{
	if (c->priv->home < 0)
		TRY(remote_fd_home(c->task, c->file->slots[0].number, &c->priv->home));
	*fd = c->priv->home;
	return NULL;
}

struct task *capture_task(const struct capture *c, pid_t pid)
{
	const struct snapshot *s = c->priv->snapshot;
	size_t i = pids_index(&s->seen, pid);

	return i < s->seen.n ? s->views[i].task : NULL;
}

void capture_refuse(struct capture *c, struct err *e)
{
	notes_refuse(c->priv->snapshot->notes, e);
}

void capture_warn(struct capture *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	notes_vwarn(c->priv->snapshot->notes, fmt, ap);
	va_end(ap);
}

/* ---- the walk ---- */

static struct view *view_of(const struct snapshot *s, const struct task *t)
{
	size_t i = pids_index(&s->seen, t->pid);

	return i < s->seen.n ? &s->views[i] : NULL;
}

void capture_context(struct capture *c, struct capture_priv *p, struct task *t, struct snapshot *s)
{
	static struct view unknown;
	struct view *v = view_of(s, t);

	if (!v)
		v = &unknown;
	*p = (struct capture_priv){ .snapshot = s, .home = -1 };
	*c = (struct capture){
		.task = t,
		.stopped = t->held,
		.thread = t->held ? task_leader(t) : NULL,
		.files = &v->files,
		.all = &s->files,
		.inside = s->inside.n ? &s->inside : NULL,
		.stat = &v->stat,
		.status = &v->status,
		.arena = s->arena,
		.cache = s->cache,
		.thread_facts = v == &unknown ? NULL : &v->thread_facts,
		.priv = p,
	};
}

void snapshot_see(struct snapshot *s, const struct snapshot *of)
{
	s->inside = of->inside;
	s->seen = of->seen;
	s->views = arena_dup(s->arena, of->views, of->seen.n * sizeof(*of->views));
	for (size_t i = 0; i < of->seen.n; i++)
		s->views[i].thread_facts = NULL;
	s->files = of->files;
}

static struct pids choose(struct arena *a, const struct tree *t, const struct capture_choice *which)
{
	pid_t *v = arena_array(a, t->n, sizeof(*v));
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++)
		if (!which || which->fn(which->arg, t->v[i]))
			v[n++] = t->v[i]->pid;
	return pids_sort(v, n);
}

static struct err *read_views(
	const struct tree *t, const struct capture_choice *which, struct snapshot *s)
{
	s->inside = tree_pids(s->arena, t, false);
	s->seen = choose(s->arena, t, which);
	s->views = arena_array(s->arena, s->seen.n, sizeof(*s->views));
	for (size_t i = 0; i < s->seen.n; i++) {
		struct view *v = &s->views[i];

		v->task = tree_task(t, s->seen.v[i]);
		TRY(proc_stat(s->arena, v->task->pid, 0, &v->stat));
		TRY(proc_status(s->arena, v->task->pid, 0, &v->status));
	}
	return NULL;
}

static struct err *read_files(struct snapshot *s)
{
	struct file_table *own = arena_array(s->arena, s->seen.n, sizeof(*own));

	TRY(file_tables_read(s->arena, &s->seen, own, &s->files));
	for (size_t i = 0; i < s->seen.n; i++)
		s->views[i].files = own[i];
	return NULL;
}

static struct err *look(
	const struct tree *t, const struct capture_choice *which, struct snapshot *s)
{
	TRY(read_views(t, which, s));
	return read_files(s);
}

static bool is_thread(const struct pids *inside, pid_t tid)
{
	char path[64];

	for (size_t i = 0; i < inside->n; i++) {
		snprintf(path, sizeof(path), "/proc/%d/task/%d", inside->v[i], tid);
		if (access(path, F_OK) == 0)
			return true;
	}
	return false;
}

/* Would its signals go to one of the processes there, too? */
static bool owned_inside(const struct capture *c, const struct f_owner_ex *owner)
{
	return owner->type == F_OWNER_TID ? is_thread(c->inside, owner->pid)
					  : capture_inside(c, owner->pid);
}

/* F_SETOWN and F_SETSIG: only where a signal can be asked for, which may still come. */
static struct err *capture_owner(struct capture *c, struct object *o)
{
	const mode_t mode = c->file->st.st_mode;
	struct f_owner_ex owner;
	int fd, sig;

	if (!(c->file->flags & O_ASYNC) && !S_ISSOCK(mode) && !S_ISFIFO(mode) && !S_ISCHR(mode))
		return NULL;
	if (c->file->flags & O_PATH)
		return NULL;
	TRY(capture_home(c, &fd));
	sig = fcntl(fd, F_GETSIG);
	if (sig < 0 || fcntl(fd, F_GETOWN_EX, &owner) < 0)
		return err_errno(errno, "ask who gets its signals");
	o->owner_signal = sig;
	if (owner.pid && !owned_inside(c, &owner))
		return err_new(ERR_UNSUPPORTED, "its signals go to %s %d",
			owner.type == F_OWNER_PGRP ? "process group" : "process", owner.pid);
	o->owner_pid = owner.pid;
	o->owner_type = owner.pid ? (int32_t)owner.type : 0;
	return NULL;
}

static struct err *capture_file_kind(struct capture *c, const struct kind *k)
{
	struct snapshot *s = c->priv->snapshot;
	size_t before = s->objects.n;
	struct err *e;

	c->priv->kind = k;
	e = k->capture(c);
	if (!e && s->objects.n > before)
		e = capture_owner(c, s->objects.v[s->objects.n - 1]);
	fd_closep(&c->priv->home);
	return e;
}

static struct err *nobody_claims(const struct file *f)
{
	const char *hint = NULL, *reason = refused_reason(f, &hint);
	struct err *e = err_new(
		ERR_UNSUPPORTED, "%s", reason ? reason : "an object of this kind cannot be moved");

	return hint ? err_hint(e, "%s", hint) : e;
}

/* Does its number lead to something else by now, or to nothing? The link is compared too: it was
 * read before the rest. */
static bool changed_meanwhile(const struct capture *c, const struct file *f)
{
	char path[64], link[PATH_MAX];
	struct stat st;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", c->task->pid, f->slots[0].number);
	n = readlink(path, link, sizeof(link) - 1);
	link[MAX(n, 0)] = '\0';
	return strcmp(link, f->link) != 0 || stat(path, &st) < 0 || st.st_ino != f->st.st_ino ||
	       st.st_dev != f->st.st_dev;
}

/* What is wrong with a descriptor of a running process is asked twice: it may have been closed in
 * between, and its number have led elsewhere for a moment. */
static struct err *capture_current(struct capture *c, const struct kind *k, const struct file *f)
{
	struct err *e = capture_file_kind(c, k);

	if (!e || c->stopped)
		return e;
	if (err_code(e) != ERR_GONE && !changed_meanwhile(c, f)) {
		err_free(e);
		e = capture_file_kind(c, k);
	}
	if (e && (err_code(e) == ERR_GONE || changed_meanwhile(c, f))) {
		err_free(e);
		return NULL;
	}
	return e;
}

/* A descriptor that cannot be captured is a blocker; one that is gone meanwhile is not. */
static void capture_file(struct capture *c, const struct file *f)
{
	const struct kind *k = kind_for_file(f);
	struct err *e;

	c->file = f;
	e = k ? capture_current(c, k, f) : nobody_claims(f);
	if (e && !k && !c->stopped && changed_meanwhile(c, f))
		err_free(e);
	else if (e)
		capture_refuse(c, err_in(e, "descriptor %d of %d (%s)", f->slots[0].number,
					  c->task->pid, k ? k->name : f->link));
}

/* The process that has the first of its descriptors. */
static void file_context(
	struct capture *c, struct capture_priv *p, struct snapshot *s, const struct file *f)
{
	capture_context(c, p, s->views[pids_index(&s->seen, f->slots[0].pid)].task, s);
}

static struct err *all_alive(const struct tree *t)
{
	for (size_t i = 0; i < t->n; i++)
		TRY(task_check_alive(t->v[i]));
	return NULL;
}

static void capture_files(struct snapshot *s)
{
	for (size_t i = 0; i < s->files.n; i++) {
		struct capture_priv p;
		struct capture c;

		file_context(&c, &p, s, &s->files.v[i]);
		capture_file(&c, &s->files.v[i]);
	}
}

const struct file *capture_waits(struct snapshot *s)
{
	for (size_t i = 0; i < s->files.n; i++) {
		const struct kind *k = kind_for_file(&s->files.v[i]);
		struct capture_priv p;
		struct capture c;
		bool yes;

		if (!k || !k->waits)
			continue;
		file_context(&c, &p, s, &s->files.v[i]);
		c.file = &s->files.v[i];
		yes = k->waits(&c);
		fd_closep(&p.home);
		if (yes)
			return &s->files.v[i];
	}
	return NULL;
}

/* Some may end while they are looked at. */
static struct err *look_running(
	struct tree *t, const struct capture_choice *which, struct snapshot *s)
{
	struct err *e;

	for (unsigned tries = 0;; tries++) {
		autoerr struct err *gone = NULL;

		TRY(tree_look(t));
		e = look(t, which, s);
		if (!e || t->n == 1 || tries == LOOKS_MAX)
			return e;
		gone = all_alive(t);
		if (!gone)
			return e;
		err_free(take(&e));
	}
}

struct err *capture_look(struct tree *t, struct snapshot *s)
{
	return look_running(t, NULL, s);
}

struct err *capture_running(struct tree *t, const struct capture_choice *which, struct snapshot *s)
{
	struct capture_priv p;
	struct capture c;

	TRY(look_running(t, which, s));
	capture_files(s);
	capture_context(&c, &p, t->v[0], s);
	TRY(shared_outside(&c));
	return task_check_alive(t->v[0]);
}

static void capture_process_kind(struct task *t, struct snapshot *s, const struct kind *k)
{
	struct capture_priv p;
	struct capture c;
	struct err *e;

	capture_context(&c, &p, t, s);
	p.kind = k;
	e = k->capture(&c);
	if (e)
		capture_refuse(&c, err_in(e, "%s of %d", k->name, t->pid));
}

static void capture_thread_kind(struct task *t, struct snapshot *s, const struct kind *k)
{
	struct capture_priv p;
	struct capture c;

	capture_context(&c, &p, t, s);
	p.kind = k;
	for (size_t i = 0; i < t->n_threads; i++) {
		struct err *e;

		c.thread = t->threads[i];
		e = k->capture(&c);
		if (e)
			capture_refuse(&c, err_in(e, "%s of thread %d", k->name, c.thread->tid));
	}
}

/* No remote call can be made in it (seccomp): said once, with all that shows from outside. */
static void capture_from_outside(struct task *t, struct snapshot *s, struct err *reason)
{
	struct capture_priv p;
	struct capture c;
	struct err *e;

	capture_context(&c, &p, t, s);
	capture_refuse(&c, reason);
	c.thread = NULL;
	p.kind = &kind_process;
	e = kind_process.capture(&c);
	if (e)
		capture_refuse(&c, e);
}

static void capture_process(struct task *t, struct snapshot *s)
{
	size_t n;
	const struct kind *const *kinds = kinds_all(&n);
	char byte;
	struct err *e = remote_get(t, 0, &byte, sizeof(byte));

	if (e) {
		capture_from_outside(t, s, e);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (kinds[i]->scope == KIND_PROCESS)
			capture_process_kind(t, s, kinds[i]);
		if (kinds[i]->scope == KIND_THREAD)
			capture_thread_kind(t, s, kinds[i]);
	}
}

struct err *capture_stopped(const struct tree *t, struct snapshot *s)
{
	struct capture_priv p;
	struct capture c;

	for (size_t i = 0; i < t->n; i++)
		if (view_of(s, t->v[i]))
			capture_process(t->v[i], s);
	capture_context(&c, &p, t->v[0], s);
	shared_inside(&c);
	objects_sort(&s->objects);
	if (s->objects.n > OBJECTS_MAX)
		return err_new(ERR_LIMIT, "%zu kernel objects, at most %d can be moved",
			s->objects.n, OBJECTS_MAX);
	return all_alive(t);
}

struct err *capture_all(const struct tree *t, struct snapshot *s)
{
	TRY(look(t, NULL, s));
	capture_files(s);
	return capture_stopped(t, s);
}

/* ---- in the last moment ---- */

static struct err *capture_late_kind(struct capture *c, const struct kind *k, const struct file *f)
{
	struct err *e;

	c->file = f;
	c->priv->kind = k;
	e = k->capture(c);
	fd_closep(&c->priv->home);
	return err_in(e, "descriptor %d of %d (%s)", f->slots[0].number, c->task->pid, k->name);
}

struct err *capture_late(const struct snapshot *of, struct snapshot *s)
{
	size_t n;
	const struct kind *const *kinds = kinds_all(&n);
	struct capture_priv p;
	struct capture c;

	snapshot_see(s, of);
	for (size_t k = 0; k < n; k++)
		for (size_t i = 0; kinds[k]->scope == KIND_LATE && i < s->files.n; i++) {
			if (!kinds[k]->claims(&s->files.v[i]))
				continue;
			file_context(&c, &p, s, &s->files.v[i]);
			TRY(capture_late_kind(&c, kinds[k], &s->files.v[i]));
		}
	objects_sort(&s->objects);
	return NULL;
}

/* ---- giving up and taking back ---- */

/* The process that it belongs to; that of the first descriptor. NULL: it is not known. */
static struct task *task_of(const struct snapshot *s, const struct object *o)
{
	pid_t pid = object_is_file(o) ? o->slots[0].pid : o->pid;
	size_t i = pids_index(&s->seen, pid);

	return i < s->seen.n ? s->views[i].task : NULL;
}

static struct err *yield(struct snapshot *s, const struct object *o)
{
	struct task *t = task_of(s, o);
	struct capture_priv p;
	struct capture c;
	void *msg;

	if (!t)
		return err_new(ERR_BUG, "%s of no process", o->kind->name);
	capture_context(&c, &p, t, s);
	TRY(kind_unpack(s->arena, o, &msg));
	return err_in(o->kind->yield(&c, o, msg), "give up %s", o->kind->name);
}

struct err *capture_yield(struct snapshot *s, size_t *yielded)
{
	for (*yielded = 0; *yielded < s->objects.n;) {
		const struct object *o = s->objects.v[(*yielded)++];

		if (o->kind->yield)
			TRY(yield(s, o));
	}
	return NULL;
}

void capture_release(struct snapshot *s, size_t n, enum outcome out)
{
	for (size_t i = MIN(n, s->objects.n); i-- > 0;) {
		const struct object *o = s->objects.v[i];
		struct task *t = o->kind->release ? task_of(s, o) : NULL;
		autoerr struct err *e = NULL;
		struct capture_priv p;
		struct capture c;
		void *msg;

		if (!t)
			continue;
		capture_context(&c, &p, t, s);
		e = kind_unpack(s->arena, o, &msg);
		if (!e)
			o->kind->release(&c, o, msg, out);
	}
}
