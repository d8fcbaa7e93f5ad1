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
	struct object *o = objects_add(s->arena, &s->objects, c->priv->kind, id);

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

void capture_context(struct capture *c, struct capture_priv *p, struct task *t, struct snapshot *s)
{
	*p = (struct capture_priv){ .snapshot = s, .home = -1 };
	*c = (struct capture){
		.task = t,
		.stopped = t->held,
		.thread = t->held ? task_leader(t) : NULL,
		.files = &s->files,
		.stat = &s->stat,
		.status = &s->status,
		.arena = s->arena,
		.cache = s->cache,
		.thread_facts = &s->thread_facts,
		.priv = p,
	};
}

static struct err *read_process(struct task *t, struct snapshot *s)
{
	TRY(proc_stat(s->arena, t->pid, 0, &s->stat));
	TRY(proc_status(s->arena, t->pid, 0, &s->status));
	return file_table_read(s->arena, t, &s->files);
}

/* Would its signals go to the process itself there, too? */
static bool owned_by_itself(const struct task *t, const struct f_owner_ex *owner)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d", t->pid, owner->pid);
	return owner->type == F_OWNER_TID ? access(path, F_OK) == 0 : owner->pid == t->pid;
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
	if (owner.pid && !owned_by_itself(c->task, &owner))
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

static struct err *capture_files(struct task *t, struct snapshot *s)
{
	struct capture_priv p;
	struct capture c;

	capture_context(&c, &p, t, s);
	for (size_t i = 0; i < s->files.n; i++)
		capture_file(&c, &s->files.v[i]);
	return task_check_alive(t);
}

struct err *capture_running(struct task *t, struct snapshot *s)
{
	struct capture_priv p;
	struct capture c;

	TRY(read_process(t, s));
	TRY(capture_files(t, s));
	capture_context(&c, &p, t, s);
	return shared_outside(&c);
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

struct err *capture_stopped(struct task *t, struct snapshot *s)
{
	size_t n;
	const struct kind *const *kinds = kinds_all(&n);
	struct err *e;
	char byte;

	e = remote_get(t, 0, &byte, sizeof(byte));
	if (e) {
		capture_from_outside(t, s, e);
		return task_check_alive(t);
	}
	for (size_t i = 0; i < n; i++) {
		if (kinds[i]->scope == KIND_PROCESS)
			capture_process_kind(t, s, kinds[i]);
		if (kinds[i]->scope == KIND_THREAD)
			capture_thread_kind(t, s, kinds[i]);
	}
	objects_sort(&s->objects);
	if (s->objects.n > OBJECTS_MAX)
		return err_new(ERR_LIMIT, "%zu kernel objects, at most %d can be moved",
			s->objects.n, OBJECTS_MAX);
	return task_check_alive(t);
}

struct err *capture_all(struct task *t, struct snapshot *s)
{
	TRY(read_process(t, s));
	TRY(capture_files(t, s));
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

struct err *capture_late(struct task *t, const struct snapshot *of, struct snapshot *s)
{
	size_t n;
	const struct kind *const *kinds = kinds_all(&n);
	struct capture_priv p;
	struct capture c;

	s->files = of->files;
	s->stat = of->stat;
	s->status = of->status;
	capture_context(&c, &p, t, s);
	for (size_t k = 0; k < n; k++)
		for (size_t i = 0; kinds[k]->scope == KIND_LATE && i < s->files.n; i++)
			if (kinds[k]->claims(&s->files.v[i]))
				TRY(capture_late_kind(&c, kinds[k], &s->files.v[i]));
	objects_sort(&s->objects);
	return NULL;
}

/* ---- giving up and taking back ---- */

struct err *capture_yield(struct task *t, struct snapshot *s, size_t *yielded)
{
	struct capture_priv p;
	struct capture c;

	capture_context(&c, &p, t, s);
	for (*yielded = 0; *yielded < s->objects.n;) {
		const struct object *o = s->objects.v[(*yielded)++];
		void *msg;

		if (!o->kind->yield)
			continue;
		TRY(kind_unpack(s->arena, o, &msg));
		TRY_IN(o->kind->yield(&c, o, msg), "give up %s", o->kind->name);
	}
	return NULL;
}

void capture_release(struct task *t, struct snapshot *s, size_t n, enum outcome out)
{
	struct capture_priv p;
	struct capture c;

	capture_context(&c, &p, t, s);
	for (size_t i = MIN(n, s->objects.n); i-- > 0;) {
		const struct object *o = s->objects.v[i];
		autoerr struct err *e = NULL;
		void *msg;

		if (!o->kind->release)
			continue;
		e = kind_unpack(s->arena, o, &msg);
		if (!e)
			o->kind->release(&c, o, msg, out);
	}
}
