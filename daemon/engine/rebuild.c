// SPDX-License-Identifier: Apache-2.0
/* Stages, groups and references on the destination; also what kinds call (rebuild_* of kind.h). */
#include "engine/rebuild.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/freezer.h"
#include "kinds/cache.h"
#include "kinds/thread.h"

#define STASH_SLOTS 4
/* Descriptors made here before they are handed over; the seedling takes this many at a time. */
#define INSTALL_BATCH 100

struct stash {
	uint64_t group;
	int fds[STASH_SLOTS];
};

struct space {
	uint64_t id;
	int fd;
};

struct rebuild_priv {
	struct site *site;
};

/* What a source may have us keep of the descriptions that it sends, in the whole migration: 60,000
 * mappings and 10,000 descriptors, each told twice, are a tenth of it. */
#define DESCRIPTIONS_BYTES_MAX (128u << 20)
/* And of memory for them: a million descriptors take half of it. */
#define SITE_BYTES_MAX (1u << 30)

struct site {
	struct site_spec spec;
	uint64_t kept_bytes; /* of descriptions */
	struct arena *arena;
	struct kind_cache *cache;
	struct task *task;
	struct object_set objects;
	size_t n_threads; /* of the objects */
	bool *gone;       /* while objects are removed: which of them */
	struct layout_state *layout;
	struct bytes_list {
		const uint8_t **v;
		size_t *len;
		size_t n, cap, cap_len;
	} layouts; /* LAYOUT bodies that came before the seedling was made */
	struct stash *stash;
	size_t n_stash, cap_stash;
	struct space *spaces;
	size_t n_spaces, cap_spaces;
	struct freezer freezer;
	bool built, frozen, running;
	struct rebuild_priv priv;
	/* made here, not yet installed */
	struct pending {
		int fd, number;
		bool cloexec;
	} * pending;
	size_t n_pending, cap_pending;
};

struct site *site_new(const struct site_spec *spec)
{
	struct site *s = xcalloc(1, sizeof(*s));

	s->spec = *spec;
	s->arena = arena_new();
	s->cache = kind_cache_new();
	s->priv.site = s;
	return s;
}

static void context(struct site *s, struct rebuild *r)
{
	*r = (struct rebuild){
		.task = s->task,
		.thread = s->task && s->task->held ? task_leader(s->task) : NULL,
		.arena = s->arena,
		.cache = s->cache,
		.scratch_dir = s->spec.scratch_dir,
		.clock_offset_ns = s->spec.monotonic_offset_ns,
		.priv = &s->priv,
	};
}

/* ---- what kinds call ---- */

static struct stash *stash_of(struct site *s, uint64_t group)
{
	for (size_t i = 0; i < s->n_stash; i++)
		if (s->stash[i].group == group)
			return &s->stash[i];
	return NULL;
}

int rebuild_stash_get(struct rebuild *r, uint64_t group, unsigned slot)
{
	struct stash *st = stash_of(r->priv->site, group);

	return st && slot < STASH_SLOTS ? st->fds[slot] : -1;
}

void rebuild_stash_put(struct rebuild *r, uint64_t group, unsigned slot, int fd)
{
	struct site *s = r->priv->site;
	struct stash *st = stash_of(s, group);

	if (!st) {
		s->stash = arena_grow(
			s->arena, s->stash, &s->cap_stash, s->n_stash + 1, sizeof(*s->stash));
		st = &s->stash[s->n_stash++];
		*st = (struct stash){ .group = group, .fds = { -1, -1, -1, -1 } };
	}
	if (slot >= STASH_SLOTS)
		abort();
	fd_closep(&st->fds[slot]);
	st->fds[slot] = fd;
}

/* Groups are done when all objects of one delta are built. */
static void stash_clear(struct site *s)
{
	for (size_t i = 0; i < s->n_stash; i++)
		for (size_t j = 0; j < STASH_SLOTS; j++)
			fd_closep(&s->stash[i].fds[j]);
	s->n_stash = 0;
}

int site_space_fd(void *arg, uint64_t id)
{
	struct site *s = arg;

	for (size_t i = 0; i < s->n_spaces; i++)
		if (s->spaces[i].id == id)
			return s->spaces[i].fd;
	return -1;
}

int rebuild_space_get(struct rebuild *r, uint64_t space)
{
	return site_space_fd(r->priv->site, space);
}

void rebuild_space_put(struct rebuild *r, uint64_t id, int fd)
{
	struct site *s = r->priv->site;

	for (size_t i = 0; i < s->n_spaces; i++) {
		if (s->spaces[i].id == id) {
			fd_closep(&s->spaces[i].fd);
			s->spaces[i].fd = fd;
			return;
		}
	}
	s->spaces = arena_grow(
		s->arena, s->spaces, &s->cap_spaces, s->n_spaces + 1, sizeof(*s->spaces));
	s->spaces[s->n_spaces++] = (struct space){ id, fd };
}

bool rebuild_locked(struct rebuild *r, const struct net_pair *pair)
{
	const struct site_spec *spec = &r->priv->site->spec;

	return spec->locked && spec->locked(spec->arg, pair);
}

void rebuild_refuse(struct rebuild *r, struct err *e)
{
	notes_refuse(r->priv->site->spec.notes, e);
}

void rebuild_warn(struct rebuild *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	notes_vwarn(r->priv->site->spec.notes, fmt, ap);
	va_end(ap);
}

/* ---- descriptors ---- */

static int by_number(const void *pa, const void *pb)
{
	const struct pending *a = pa, *b = pb;

	return a->number < b->number ? -1 : a->number > b->number;
}

/* Hands over what is pending, ascending, as seedling_install wants it; closes ours. */
static struct err *install_pending(struct site *s)
{
	autofree int *fds = xcalloc(s->n_pending, sizeof(*fds));
	autofree int *numbers = xcalloc(s->n_pending, sizeof(*numbers));
	autofree bool *cloexec = xcalloc(s->n_pending, sizeof(*cloexec));
	struct err *e = NULL;

	if (!s->n_pending)
		return NULL;
	qsort(s->pending, s->n_pending, sizeof(*s->pending), by_number);
	for (size_t i = 0; i < s->n_pending; i++) {
		fds[i] = s->pending[i].fd;
		numbers[i] = s->pending[i].number;
		cloexec[i] = s->pending[i].cloexec;
	}
	e = seedling_install(s->task, fds, numbers, cloexec, s->n_pending);
	for (size_t i = 0; i < s->n_pending; i++)
		close(fds[i]);
	s->n_pending = 0;
	return e;
}

/* One more descriptor of ours per slot: each is handed over by itself. */
static struct err *add_pending(struct site *s, const struct object *o, int fd)
{
	autoclose int owned = fd;

	for (size_t i = 0; i < o->n_slots; i++) {
		int copy = i + 1 < o->n_slots ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : take_fd(&owned);

		if (copy < 0)
			return err_errno(errno, "duplicate a descriptor");
		s->pending = arena_grow(s->arena, s->pending, &s->cap_pending, s->n_pending + 1,
			sizeof(*s->pending));
		s->pending[s->n_pending++] =
			(struct pending){ copy, o->slots[i].number, o->slots[i].cloexec };
	}
	return s->n_pending >= INSTALL_BATCH ? install_pending(s) : NULL;
}

static struct err *close_slots(struct site *s, const struct object *o)
{
	autofree int *numbers = xcalloc(o->n_slots + 1, sizeof(*numbers));

	for (size_t i = 0; i < o->n_slots; i++)
		numbers[i] = o->slots[i].number;
	return seedling_close(s->task, numbers, o->n_slots);
}

/* ---- building ---- */

static struct err *too_much(unsigned bytes)
{
	return err_new(
		ERR_LIMIT, "the description of the process takes more than %u MiB", bytes >> 20);
}

static struct err *object_error(struct err *e, const struct object *o, const char *doing)
{
	if (!e)
		return NULL;
	if (o->kind->scope == KIND_FILE || o->kind->scope == KIND_LATE)
		return err_in(e, "%s descriptor %d (%s)", doing, o->slots[0].number, o->kind->name);
	if (o->kind->scope == KIND_THREAD)
		return err_in(e, "%s %s of thread %ju", doing, o->kind->name, (uintmax_t)o->id);
	return err_in(e, "%s %s", doing, o->kind->name);
}

static void thread_context(struct site *s, struct rebuild *r, const struct object *o)
{
	context(s, r);
	if (o->kind->scope == KIND_THREAD && s->task && s->task->held)
		r->thread = task_thread(s->task, (pid_t)o->id);
}

static void alive(const struct site *s)
{
	if (s->spec.alive)
		s->spec.alive(s->spec.arg);
}

/* Between two objects: each may take a while, a file is read to compare it. */
static struct err *still_wanted(const struct site *s)
{
	struct pollfd p = { s->spec.interrupt_fd, POLLIN, 0 };

	alive(s);
	if (arena_bytes(s->arena) > SITE_BYTES_MAX)
		return too_much(SITE_BYTES_MAX);
	if (p.fd >= 0 && poll(&p, 1, 0) > 0)
		return err_new(ERR_CANCELLED, "cancelled");
	return NULL;
}

static struct err *build_object(struct site *s, const struct object *o)
{
	struct rebuild r;
	void *msg;
	int fd = -1;

	if (!o->kind->rebuild)
		return NULL;
	TRY(still_wanted(s));
	thread_context(s, &r, o);
	TRY(object_error(kind_unpack(s->arena, o, &msg), o, "read"));
	TRY(object_error(o->kind->rebuild(&r, o, msg, &fd), o, "rebuild"));
	if (o->kind->scope != KIND_FILE)
		return NULL;
	if (fd < 0)
		return err_new(ERR_BUG, "%s was rebuilt without a descriptor", o->kind->name);
	return object_error(add_pending(s, o, fd), o, "install");
}

typedef struct err *(*object_fn)(struct rebuild *, const struct object *, const void *);

static struct err *call_object(
	struct site *s, const struct object *o, object_fn fn, int64_t elapsed_ns, const char *doing)
{
	struct rebuild r;
	void *msg;

	if (!fn)
		return NULL;
	alive(s);
	thread_context(s, &r, o);
	r.elapsed_ns = elapsed_ns;
	TRY(object_error(kind_unpack(s->arena, o, &msg), o, "read"));
	return object_error(fn(&r, o, msg), o, doing);
}

static struct err *build_stage(struct site *s, const struct objects_plan *p, enum stage stage)
{
	for (size_t i = 0; i < s->objects.n; i++)
		if (p->build[i] && s->objects.v[i]->kind->stage == stage)
			TRY(build_object(s, s->objects.v[i]));
	return install_pending(s);
}

/* F_SETSIG and F_SETOWN_EX, when the threads exist that may be the owners. */
static struct err *set_owner(struct site *s, const struct object *o)
{
	struct f_owner_ex owner = { .type = (int)o->owner_type, .pid = o->owner_pid };
	struct thread *th = task_leader(s->task);
	uint64_t fd;

	if (!o->owner_signal && !o->owner_pid)
		return NULL;
	fd = (uint64_t)o->slots[0].number;
	if (o->owner_signal)
		TRY(REMOTE(s->task, th, NULL, "choose its signal", SYS_fcntl, fd, F_SETSIG,
			(uint64_t)o->owner_signal));
	if (!o->owner_pid)
		return NULL;
	TRY(remote_put(s->task, 0, &owner, sizeof(owner)));
	return REMOTE(s->task, th, NULL, "choose who gets its signals", SYS_fcntl, fd, F_SETOWN_EX,
		remote_scratch(s->task).v);
}

static struct err *run_plan(struct site *s, const struct objects_plan *p)
{
	for (enum stage st = 0; st < STAGE_COUNT; st++)
		TRY(build_stage(s, p, st));
	stash_clear(s);
	for (size_t i = 0; i < s->objects.n; i++)
		if (p->build[i] && s->objects.v[i]->kind->scope == KIND_FILE)
			TRY(object_error(
				set_owner(s, s->objects.v[i]), s->objects.v[i], "rebuild"));
	for (size_t i = 0; i < s->objects.n; i++)
		if (p->link[i])
			TRY(call_object(
				s, s->objects.v[i], s->objects.v[i]->kind->link, 0, "link"));
	return NULL;
}

/* ---- a delta ---- */

/* The caller closes the gap. */
static struct err *remove_object(struct site *s, const struct object *key)
{
	size_t i = objects_index(&s->objects, key->kind->id, key->id);
	struct object *o = i < s->objects.n ? s->objects.v[i] : NULL;

	if (!o || s->gone[i])
		return err_new(ERR_PEER, "removal of an unknown %s", key->kind->name);
	s->gone[i] = true;
	if (o->kind->scope == KIND_THREAD)
		s->n_threads--;
	if (!s->task)
		return NULL;
	TRY(close_slots(s, o));
	return call_object(s, o, o->kind->remove, 0, "remove");
}

static struct err *remove_objects(struct site *s, const struct objects_delta *d)
{
	autofree bool *gone = xcalloc(s->objects.n + 1, sizeof(*gone));
	struct err *e = NULL;
	size_t n = 0;

	if (!d->n_removed)
		return NULL;
	objects_sort(&s->objects);
	s->gone = gone;
	for (size_t i = 0; i < d->n_removed && !e; i++)
		e = remove_object(s, &d->removed[i]);
	s->gone = NULL;
	for (size_t i = 0; i < s->objects.n; i++)
		if (!gone[i])
			s->objects.v[n++] = s->objects.v[i];
	s->objects.n = n;
	return e;
}

static struct err *add_object(struct site *s, struct object *o)
{
	if (s->objects.n == OBJECTS_MAX)
		return err_new(ERR_LIMIT, "more than %d kernel objects", OBJECTS_MAX);
	if (o->kind->scope == KIND_THREAD && ++s->n_threads > PROC_THREADS_MAX)
		return err_new(ERR_LIMIT, "more than %d threads", PROC_THREADS_MAX);
	s->objects.v = arena_grow(
		s->arena, s->objects.v, &s->objects.cap, s->objects.n + 1, sizeof(*s->objects.v));
	s->objects.v[s->objects.n++] = o;
	s->objects.sorted = false;
	return NULL;
}

/* New ones, and new ones in place of old ones. Before anything is built two of one key may come,
 * which site_check refuses. */
static struct err *put_objects(struct site *s, const struct objects_delta *d)
{
	const struct object_set before = s->objects;

	for (size_t i = 0; i < d->n_changed; i++) {
		struct object *o = d->changed[i];
		size_t at = s->task ? objects_index(&before, o->kind->id, o->id) : before.n;

		if (at == before.n) {
			TRY(add_object(s, o));
			continue;
		}
		TRY(close_slots(s, s->objects.v[at]));
		s->objects.v[at] = o;
	}
	return NULL;
}

static struct err *build_delta(struct site *s, struct object *const *changed, size_t n)
{
	autofree bool *build = xcalloc(s->objects.n + 1, sizeof(*build));
	autofree bool *link = xcalloc(s->objects.n + 1, sizeof(*link));
	struct objects_plan p = { build, link };

	objects_sort(&s->objects);
	for (size_t i = 0; i < n; i++)
		build[objects_index(&s->objects, changed[i]->kind->id, changed[i]->id)] = true;
	objects_plan_close(&s->objects, &p, n);
	/* What is built again leaves its numbers first: seedling_install wants them free. */
	for (size_t i = 0; i < s->objects.n; i++)
		if (build[i] && s->objects.v[i]->kind->scope == KIND_FILE)
			TRY(close_slots(s, s->objects.v[i]));
	return run_plan(s, &p);
}

/* The descriptions, and all that was made of them. */
static struct err *keep(struct site *s, size_t len)
{
	s->kept_bytes += len;
	if (s->kept_bytes > DESCRIPTIONS_BYTES_MAX)
		return too_much(DESCRIPTIONS_BYTES_MAX);
	return arena_bytes(s->arena) > SITE_BYTES_MAX ? too_much(SITE_BYTES_MAX) : NULL;
}

struct err *site_objects(struct site *s, const uint8_t *body, size_t len)
{
	struct objects_delta d;

	TRY(keep(s, len));
	TRY(objects_parse(s->arena, body, len, &d));
	TRY(remove_objects(s, &d));
	TRY(put_objects(s, &d));
	return s->task ? build_delta(s, d.changed, d.n_changed) : NULL;
}

static struct err *apply_layout(struct site *s, const uint8_t *body, size_t len)
{
	struct rebuild r;

	context(s, &r);
	return layout_apply(&r, body, len, &s->layout);
}

struct err *site_layout(struct site *s, const uint8_t *body, size_t len)
{
	struct bytes_list *l = &s->layouts;

	if (s->task)
		return apply_layout(s, body, len);
	TRY(keep(s, len));
	l->v = arena_grow(s->arena, l->v, &l->cap, l->n + 1, sizeof(*l->v));
	l->len = arena_grow(s->arena, l->len, &l->cap_len, l->n + 1, sizeof(*l->len));
	l->v[l->n] = arena_dup(s->arena, body, len);
	l->len[l->n++] = len;
	return NULL;
}

/* ---- check and build ---- */

static void check_pids(struct site *s)
{
	char path[64];

	for (size_t i = 0; i < s->spec.n_tids; i++) {
		autoarena struct arena *a = arena_new();
		struct proc_stat st;

		snprintf(path, sizeof(path), "/proc/%d", s->spec.tids[i]);
		if (access(path, F_OK) < 0)
			continue;
		if (proc_stat(a, s->spec.tids[i], 0, &st))
			strcpy(st.comm, "?");
		notes_refuse(s->spec.notes,
			err_hint(err_new(ERR_LIMIT, "%s %d is taken at the destination by \"%s\"",
					 s->spec.tids[i] == s->spec.pid ? "pid" : "thread id",
					 s->spec.tids[i], st.comm),
				"end that process, or try again later"));
	}
}

struct err *site_check(struct site *s)
{
	struct rebuild r;

	check_pids(s);
	objects_sort(&s->objects);
	TRY(objects_unique(&s->objects));
	context(s, &r);
	for (size_t i = 0; i < s->layouts.n; i++)
		TRY(layout_check(&r, s->layouts.v[i], s->layouts.len[i]));
	for (size_t i = 0; i < s->objects.n; i++) {
		struct object *o = s->objects.v[i];
		struct err *e;

		TRY(still_wanted(s));
		e = call_object(s, o, o->kind->check, 0, "check");
		if (e)
			notes_refuse(s->spec.notes, e);
	}
	return NULL;
}

static struct err *make_seedling(struct site *s)
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
	return seedling_make(&spec, &s->task);
}

struct err *site_build(struct site *s)
{
	autofree bool *all = xcalloc(s->objects.n + 1, sizeof(*all));
	struct objects_plan p = { all, all };
	struct seedling_vdso vdso;
	uint64_t area;

	if (!s->layouts.n)
		return err_new(ERR_PEER, "no memory layout was sent");
	TRY(layout_vdso(s->layouts.v[0], s->layouts.len[0], &vdso));
	TRY_IN(make_seedling(s), "make process %d", s->spec.pid);
	TRY(seedling_reserve(s->task, s->spec.fd_max));
	TRY(layout_area(s->layouts.v[0], s->layouts.len[0], SEEDLING_AREA_BYTES, &area));
	TRY(seedling_move_area(s->task, area));
	TRY_IN(seedling_clear(s->task, &vdso), "empty process %d", s->spec.pid);
	memset(all, true, s->objects.n);
	objects_sort(&s->objects);
	s->built = true;
	/* Shared memory objects first: the layout maps them. */
	TRY(build_stage(s, &p, STAGE_MEMORY));
	for (size_t i = 0; i < s->layouts.n; i++)
		TRY(apply_layout(s, s->layouts.v[i], s->layouts.len[i]));
	for (size_t i = 0; i < s->objects.n; i++)
		all[i] = s->objects.v[i]->kind->stage != STAGE_MEMORY;
	return run_plan(s, &p);
}

struct task *site_task(const struct site *s)
{
	return s->task;
}

const struct vma_list *site_vmas(const struct site *s)
{
	return layout_state_vmas(s->layout);
}

size_t site_objects_count(const struct site *s)
{
	return s->objects.n;
}

struct err *site_memory(const struct site *s, uint64_t *bytes)
{
	autoarena struct arena *a = arena_new();
	struct proc_status status;
	struct stat st;

	TRY(proc_status(a, s->task->pid, 0, &status));
	*bytes = status.vm_rss_bytes + status.vm_swap_bytes;
	for (size_t i = 0; i < s->n_spaces; i++)
		if (fstat(s->spaces[i].fd, &st) == 0)
			*bytes += (uint64_t)st.st_blocks * 512;
	return NULL;
}

struct err *site_settle(struct site *s)
{
	struct rebuild r;

	if (!s->layout)
		return NULL;
	context(s, &r);
	return layout_settle(&r, s->layout);
}

/* ---- the end ---- */

static struct err *set_registers(struct site *s, const struct object *o)
{
	return o->kind == &kind_thread
		       ? call_object(s, o, thread_set_registers, 0, "set the registers of")
		       : NULL;
}

struct err *site_finish(struct site *s, int64_t elapsed_ns)
{
	struct rebuild r;

	context(s, &r);
	TRY_IN(layout_finish(&r, s->layout), "finish the memory layout");
	for (enum stage st = 0; st < STAGE_COUNT; st++)
		for (size_t i = 0; i < s->objects.n; i++)
			if (s->objects.v[i]->kind->stage == st)
				TRY(call_object(s, s->objects.v[i], s->objects.v[i]->kind->finish,
					elapsed_ns, "finish"));
	TRY(seedling_seal(s->task));
	for (size_t i = 0; i < s->objects.n; i++)
		TRY(set_registers(s, s->objects.v[i]));
	return NULL;
}

struct err *site_hold(struct site *s)
{
	if (!s->freezer.dir)
		return NULL;
	TRY(freezer_set(&s->freezer, true, false));
	s->frozen = true;
	/* Somebody may have moved it while it was built (a daemon with rules, by its user): nothing
	 * but the group holds it from here on. */
	TRY_IN(freezer_check(&s->freezer, s->spec.pid), "hold process %d", s->spec.pid);
	TRY(seedling_release(s->task));
	return task_let_go(s->task);
}

struct err *site_start(struct site *s)
{
	s->running = true;
	if (s->frozen)
		return freezer_set(&s->freezer, false, false);
	TRY(seedling_release(s->task));
	return task_let_go(s->task);
}

void site_publish(struct site *s)
{
	for (size_t i = 0; i < s->objects.n; i++) {
		autoerr struct err *e = call_object(
			s, s->objects.v[i], s->objects.v[i]->kind->publish, 0, "publish");
		autofree char *line = NULL;

		if (!e)
			continue;
		line = err_line(e);
		notes_warn(s->spec.notes, line);
	}
}

/* Names that kinds put there and did not move into place. */
static void remove_scratch(const char *dir)
{
	DIR *d = opendir(dir);

	for (const struct dirent *de; d && (de = readdir(d));)
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
			unlinkat(dirfd(d), de->d_name, 0);
	if (d)
		closedir(d);
	rmdir(dir);
}

static void discard_objects(struct site *s)
{
	for (size_t i = 0; i < s->objects.n; i++) {
		const struct object *o = s->objects.v[i];
		autoerr struct err *e = NULL;
		struct rebuild r;
		void *msg;

		if (!o->kind->discard)
			continue;
		context(s, &r);
		e = kind_unpack(s->arena, o, &msg);
		if (!e)
			o->kind->discard(&r, o, msg);
	}
}

/* The seedling ends before its group and its names do. */
static void discard(struct site *s)
{
	struct rebuild r;

	context(s, &r);
	if (s->built) {
		discard_objects(s);
		layout_discard(&r);
	}
	if (s->task) {
		err_free(task_kill(s->task));
		err_free(task_wait_end(s->task, deadline_in(1000000)));
	}
	if (s->freezer.dir && s->frozen)
		err_free(freezer_set(&s->freezer, false, false));
}

void site_free(struct site *s)
{
	if (!s)
		return;
	stash_clear(s);
	for (size_t i = 0; i < s->n_pending; i++)
		close(s->pending[i].fd);
	for (size_t i = 0; i < s->n_spaces; i++)
		fd_closep(&s->spaces[i].fd);
	if (!s->running)
		discard(s);
	task_free(s->task);
	if (s->layout)
		layout_state_free(s->layout);
	if (!s->running && s->freezer.dir)
		rmdir(s->freezer.dir);
	freezer_fini(&s->freezer);
	if (s->spec.scratch_dir)
		remove_scratch(s->spec.scratch_dir);
	kind_cache_free(s->cache);
	arena_free(s->arena);
	free(s);
}
