// SPDX-License-Identifier: Apache-2.0
/* Stages, groups and references on the destination. */
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

#include "engine/site_priv.h"
#include "kinds/cache.h"
#include "kinds/thread.h"

#define STASH_SLOTS 4
/* Descriptors made here before they are handed over; the seedling takes this many at a time. */
#define INSTALL_BATCH 100

/* What a source may have us keep of the descriptions that it sends, in the whole migration: 60,000
 * mappings and 10,000 descriptors, each told twice, are a tenth of it. */
#define DESCRIPTIONS_BYTES_MAX (128u << 20)
/* And of memory for them: a million descriptors take half of it. */
#define SITE_BYTES_MAX (1u << 30)

struct pending {
	pid_t pid;
	int fd, number;
	bool cloexec;
};

struct site *site_new(const struct site_spec *spec)
{
	struct site *s = xcalloc(1, sizeof(*s));

	s->spec = *spec;
	s->arena = arena_new();
	s->cache = kind_cache_new();
	s->priv.site = s;
	site_tree_init(s);
	return s;
}

/* t: the process in which it is done; NULL: it is not there yet. */
static void context(struct site *s, struct rebuild *r, struct task *t)
{
	*r = (struct rebuild){
		.task = t,
		.thread = t && t->held ? task_leader(t) : NULL,
		.arena = s->arena,
		.cache = s->cache,
		.scratch_dir = s->spec.scratch_dir,
		.clock_offset_ns = s->spec.monotonic_offset_ns,
		.priv = &s->priv,
	};
}

/* ---- descriptors ---- */

static int by_number(const void *pa, const void *pb)
{
	const struct pending *a = pa, *b = pb;

	if (a->pid != b->pid)
		return a->pid < b->pid ? -1 : 1;
	return a->number < b->number ? -1 : a->number > b->number;
}

static struct err *install(struct site *s, const struct pending *v, size_t n)
{
	autofree int *fds = xcalloc(n, sizeof(*fds));
	autofree int *numbers = xcalloc(n, sizeof(*numbers));
	autofree bool *cloexec = xcalloc(n, sizeof(*cloexec));
	struct task *t = site_task_of(s, v->pid);

	if (!t)
		return err_new(ERR_PEER, "a descriptor of process %d, which there is not", v->pid);
	for (size_t i = 0; i < n; i++) {
		fds[i] = v[i].fd;
		numbers[i] = v[i].number;
		cloexec[i] = v[i].cloexec;
	}
	return seedling_install(t, fds, numbers, cloexec, n);
}

/* Hands over what is pending, ascending, as seedling_install wants it; closes ours. */
static struct err *install_pending(struct site *s)
{
	struct err *e = NULL;

	if (!s->n_pending)
		return NULL;
	qsort(s->pending, s->n_pending, sizeof(*s->pending), by_number);
	for (size_t i = 0, n; i < s->n_pending && !e; i += n) {
		for (n = 1; i + n < s->n_pending && s->pending[i + n].pid == s->pending[i].pid;)
			n++;
		e = install(s, s->pending + i, n);
	}
	for (size_t i = 0; i < s->n_pending; i++)
		close(s->pending[i].fd);
	s->n_pending = 0;
	return e;
}

/* One more descriptor of ours per slot: each is handed over by itself. */
static struct err *add_pending(struct site *s, const struct object *o, int fd)
{
	autoclose int owned = fd;

	for (size_t i = 0; i < o->n_slots; i++) {
		const struct fd_slot *slot = &o->slots[i];
		int copy = i + 1 < o->n_slots ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : take_fd(&owned);

		if (copy < 0)
			return err_errno(errno, "duplicate a descriptor");
		s->pending = arena_grow(s->arena, s->pending, &s->cap_pending, s->n_pending + 1,
			sizeof(*s->pending));
		s->pending[s->n_pending++] =
			(struct pending){ slot->pid, copy, slot->number, slot->cloexec };
	}
	return s->n_pending >= INSTALL_BATCH ? install_pending(s) : NULL;
}

/* Of a process that has gone there is nothing to close. */
static struct err *close_slots(struct site *s, const struct object *o)
{
	autofree int *numbers = xcalloc(o->n_slots + 1, sizeof(*numbers));

	for (size_t i = 0, n; i < o->n_slots; i += n) {
		struct task *t = site_task_of(s, o->slots[i].pid);

		for (n = 0; i + n < o->n_slots && o->slots[i + n].pid == o->slots[i].pid; n++)
			numbers[n] = o->slots[i + n].number;
		if (t)
			TRY(seedling_close(t, numbers, n));
	}
	return NULL;
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
	if (object_is_file(o))
		return err_in(e, "%s descriptor %d of %d (%s)", doing, o->slots[0].number,
			o->slots[0].pid, o->kind->name);
	if (o->kind->scope == KIND_THREAD)
		return err_in(e, "%s %s of thread %ju", doing, o->kind->name, (uintmax_t)o->id);
	return err_in(e, "%s %s of %d", doing, o->kind->name, o->pid);
}

/* The process that the object belongs to, or that has the first of its descriptors. */
static struct task *task_for(const struct site *s, const struct object *o)
{
	return site_task_of(s, object_is_file(o) ? o->slots[0].pid : o->pid);
}

static void object_context(struct site *s, struct rebuild *r, const struct object *o)
{
	struct task *t = task_for(s, o);

	context(s, r, t);
	if (o->kind->scope == KIND_THREAD && t && t->held)
		r->thread = task_thread(t, (pid_t)o->id);
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
	object_context(s, &r, o);
	if (!r.task)
		return err_new(ERR_PEER, "%s of a process that there is not", o->kind->name);
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
	object_context(s, &r, o);
	if (s->built && !r.task)
		return err_new(ERR_PEER, "%s of a process that there is not", o->kind->name);
	r.elapsed_ns = elapsed_ns;
	TRY(object_error(kind_unpack(s->arena, o, &msg), o, "read"));
	return object_error(fn(&r, o, msg), o, doing);
}

/* What was there when it was checked and is gone a moment later is about to get another name, or to
 * be closed: it is made when the process stands still, by then mostly as another object. */
static bool is_for_later(const struct site *s, const struct object *o, const struct err *e)
{
	return s->building && o->kind->rebuilt_late && err_code(e) == ERR_MISMATCH;
}

/* In the rehearsal a process that has this file may have ended since, and nobody has said yet that
 * the file is without it now. */
static bool lacks_process(const struct site *s, const struct object *o)
{
	for (size_t i = 0; i < o->n_slots; i++)
		if (!site_task_of(s, o->slots[i].pid))
			return true;
	return false;
}

static struct err *build_stage(struct site *s, const struct objects_plan *p, enum stage stage)
{
	for (size_t i = 0; i < s->objects.n; i++) {
		struct object *o = s->objects.v[i];
		struct err *e;

		if (!p->build[i] || o->kind->stage != stage)
			continue;
		o->late = s->building && lacks_process(s, o);
		if (o->late)
			continue;
		e = build_object(s, o);
		o->late = e && is_for_later(s, o, e);
		if (!o->late)
			TRY(e);
		else
			err_free(e);
	}
	return install_pending(s);
}

/* F_SETSIG and F_SETOWN_EX, when the threads exist that may be the owners. */
static struct err *set_owner(struct site *s, const struct object *o)
{
	struct f_owner_ex owner = { .type = (int)o->owner_type, .pid = o->owner_pid };
	struct task *t = task_for(s, o);
	struct thread *th = task_leader(t);
	uint64_t fd;

	if (!o->owner_signal && !o->owner_pid)
		return NULL;
	fd = (uint64_t)o->slots[0].number;
	if (o->owner_signal)
		TRY(REMOTE(t, th, NULL, "choose its signal", SYS_fcntl, fd, F_SETSIG,
			(uint64_t)o->owner_signal));
	if (!o->owner_pid)
		return NULL;
	TRY(remote_put(t, 0, &owner, sizeof(owner)));
	return REMOTE(t, th, NULL, "choose who gets its signals", SYS_fcntl, fd, F_SETOWN_EX,
		remote_scratch(t).v);
}

/* They are linked when what they refer to is there: building it makes that so. */
static bool refers_to_late(const struct site *s, const struct object *o)
{
	for (size_t i = 0; i < o->n_refs; i++) {
		const struct object *to = objects_file(&s->objects, o->refs[i]);

		if (to && to->late)
			return true;
	}
	return false;
}

static struct err *run_plan(struct site *s, const struct objects_plan *p)
{
	for (enum stage st = 0; st < STAGE_COUNT; st++)
		TRY(build_stage(s, p, st));
	site_calls_done(s);
	for (size_t i = 0; i < s->objects.n; i++)
		if (p->build[i] && s->objects.v[i]->kind->scope == KIND_FILE &&
			!s->objects.v[i]->late)
			TRY(object_error(
				set_owner(s, s->objects.v[i]), s->objects.v[i], "rebuild"));
	for (size_t i = 0; i < s->objects.n; i++)
		if (p->link[i] && !s->objects.v[i]->late && !refers_to_late(s, s->objects.v[i]))
			TRY(call_object(
				s, s->objects.v[i], s->objects.v[i]->kind->link, 0, "link"));
	return NULL;
}

/* ---- a delta ---- */

/* The caller closes the gap. */
static struct err *remove_object(struct site *s, const struct object *key)
{
	size_t i = objects_index(&s->objects, key);
	struct object *o = i < s->objects.n ? s->objects.v[i] : NULL;

	if (!o || s->gone[i])
		return err_new(ERR_PEER, "removal of an unknown %s", key->kind->name);
	s->gone[i] = true;
	if (o->kind->scope == KIND_THREAD)
		s->n_threads--;
	if (!s->built)
		return NULL;
	TRY(close_slots(s, o));
	/* What its process was before is gone already. */
	return task_for(s, o) && !o->stale ? call_object(s, o, o->kind->remove, 0, "remove") : NULL;
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
	struct object_set before;

	if (s->checked)
		objects_sort(&s->objects);
	before = s->objects;
	for (size_t i = 0; i < d->n_changed; i++) {
		struct object *o = d->changed[i];
		size_t at = s->checked ? objects_index(&before, o) : before.n;

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
		build[objects_index(&s->objects, changed[i])] = true;
	objects_plan_close(&s->objects, &p, n);
	/* What is built again leaves its numbers first: seedling_install wants them free. */
	for (size_t i = 0; i < s->objects.n; i++)
		if (build[i] && s->objects.v[i]->kind->scope == KIND_FILE)
			TRY(close_slots(s, s->objects.v[i]));
	return run_plan(s, &p);
}

/* The descriptions, and all that was made of them. */
struct err *site_keep(struct site *s, size_t len)
{
	s->kept_bytes += len;
	if (s->kept_bytes > DESCRIPTIONS_BYTES_MAX)
		return too_much(DESCRIPTIONS_BYTES_MAX);
	return arena_bytes(s->arena) > SITE_BYTES_MAX ? too_much(SITE_BYTES_MAX) : NULL;
}

struct err *site_objects(struct site *s, const uint8_t *body, size_t len)
{
	struct objects_delta d;

	TRY(site_keep(s, len));
	TRY(objects_parse(s->arena, s->spec.pid, body, len, &d));
	TRY(remove_objects(s, &d));
	TRY(put_objects(s, &d));
	return s->built ? build_delta(s, d.changed, d.n_changed) : NULL;
}

static struct err *apply_layout(struct site *s, struct member *m, const uint8_t *body, size_t len)
{
	struct rebuild r;

	context(s, &r, m->task);
	return layout_apply(&r, body, len, &m->layout);
}

/* Before the first LAYOUT of a process, which says where there is room for ours. */
static struct err *empty_member(struct member *m, const uint8_t *body, size_t len)
{
	struct seedling_vdso vdso;
	uint64_t area;

	if (m->emptied)
		return NULL;
	m->emptied = true;
	TRY(layout_vdso(body, len, &vdso));
	TRY(seedling_reserve(m->task, m->is.fd_max));
	TRY(layout_area(body, len, SEEDLING_AREA_BYTES, &area));
	TRY(seedling_move_area(m->task, area));
	return err_in(seedling_clear(m->task, &vdso), "empty process %d", m->is.pid);
}

struct err *site_layout(struct site *s, pid_t pid, const uint8_t *body, size_t len)
{
	struct member *m = site_member(s, pid ? pid : s->spec.pid);
	struct bytes_list *l;

	if (!m || m->is.life != MIGRATE__LIFE__LIVE)
		return err_new(ERR_PEER, "a memory layout of process %d, which there is not", pid);
	if (m->task) {
		TRY(empty_member(m, body, len));
		return apply_layout(s, m, body, len);
	}
	TRY(site_keep(s, len));
	l = &m->layouts;
	l->v = arena_grow(s->arena, l->v, &l->cap, l->n + 1, sizeof(*l->v));
	l->len = arena_grow(s->arena, l->len, &l->cap_len, l->n + 1, sizeof(*l->len));
	l->v[l->n] = arena_dup(s->arena, body, len);
	l->len[l->n++] = len;
	return NULL;
}

/* ---- check and build ---- */

static struct err *check_layouts(struct site *s, const struct member *m)
{
	struct rebuild r;

	context(s, &r, NULL);
	for (size_t i = 0; i < m->layouts.n; i++)
		TRY(layout_check(&r, m->layouts.v[i], m->layouts.len[i]));
	return NULL;
}

struct err *site_check(struct site *s)
{
	site_tree_check(s);
	objects_sort(&s->objects);
	TRY(objects_unique(&s->objects));
	s->checked = true;
	for (size_t i = 0; i < s->n_members; i++)
		TRY(check_layouts(s, s->members[i]));
	for (size_t i = 0; i < s->objects.n; i++) {
		struct object *o = s->objects.v[i];
		struct err *e;

		TRY(still_wanted(s));
		if (o->stale) /* it has ended since, and may come again */
			continue;
		e = call_object(s, o, o->kind->check, 0, "check");
		if (e)
			notes_refuse(s->spec.notes, e);
	}
	return NULL;
}

/* Who comes when the others are there already gets its memory later. */
struct err *site_prepare(struct site *s, struct member *m)
{
	if (s->built)
		return NULL;
	if (!m->layouts.n)
		return err_new(ERR_PEER, "no memory layout was sent of process %d", m->is.pid);
	return empty_member(m, m->layouts.v[0], m->layouts.len[0]);
}

static struct err *build_layouts(struct site *s, struct member *m)
{
	for (size_t i = 0; i < m->layouts.n; i++)
		TRY(apply_layout(s, m, m->layouts.v[i], m->layouts.len[i]));
	m->layouts.n = 0;
	return NULL;
}

static struct err *build_all(struct site *s)
{
	autofree bool *all = xcalloc(s->objects.n + 1, sizeof(*all));
	struct objects_plan p = { all, all };

	TRY(site_tree_make(s));
	objects_sort(&s->objects);
	for (size_t i = 0; i < s->objects.n; i++)
		all[i] = !s->objects.v[i]->stale;
	s->built = true;
	/* Shared memory objects first: the layout maps them. */
	TRY(build_stage(s, &p, STAGE_MEMORY));
	for (size_t i = 0; i < s->n_members; i++)
		TRY(build_layouts(s, s->members[i]));
	for (size_t i = 0; i < s->objects.n; i++)
		all[i] = all[i] && s->objects.v[i]->kind->stage != STAGE_MEMORY;
	return run_plan(s, &p);
}

struct err *site_build(struct site *s)
{
	struct err *e;

	s->building = true;
	e = build_all(s);
	s->building = false;
	return e;
}

static struct err *build_late(struct site *s)
{
	autofree struct object **late = xcalloc(s->objects.n + 1, sizeof(*late));
	size_t n = 0;

	for (size_t i = 0; i < s->objects.n; i++)
		if (s->objects.v[i]->late)
			late[n++] = s->objects.v[i];
	return n ? build_delta(s, late, n) : NULL;
}

struct task *site_task(const struct site *s)
{
	return site_root(s)->task;
}

struct err *site_alive(const struct site *s)
{
	for (size_t i = 0; i < s->n_members; i++)
		if (s->members[i]->task)
			TRY(task_check_alive(s->members[i]->task));
	return NULL;
}

const struct vma_list *site_vmas(const struct site *s, pid_t pid)
{
	const struct member *m = site_member(s, pid ? pid : s->spec.pid);

	return m && m->layout ? layout_state_vmas(m->layout) : NULL;
}

size_t site_objects_count(const struct site *s)
{
	return s->objects.n;
}

struct err *site_settle(struct site *s)
{
	for (size_t i = 0; i < s->n_members; i++) {
		struct member *m = s->members[i];
		struct rebuild r;

		if (!m->layout)
			continue;
		context(s, &r, m->task);
		TRY(layout_settle(&r, m->layout));
	}
	return NULL;
}

/* ---- the end ---- */

static struct err *set_registers(struct site *s, const struct object *o)
{
	return o->kind == &kind_thread
		       ? call_object(s, o, thread_set_registers, 0, "set the registers of")
		       : NULL;
}

static struct err *finish_layouts(struct site *s)
{
	for (size_t i = 0; i < s->n_members; i++) {
		struct member *m = s->members[i];
		struct rebuild r;

		if (!m->task)
			continue;
		if (!m->layout)
			return err_new(
				ERR_PEER, "no memory layout was sent of process %d", m->is.pid);
		context(s, &r, m->task);
		TRY_IN(layout_finish(&r, m->layout), "finish the memory layout of %d", m->is.pid);
	}
	return NULL;
}

struct err *site_finish(struct site *s, int64_t elapsed_ns)
{
	TRY(site_tree_settle(s));
	TRY(build_late(s));
	TRY(finish_layouts(s));
	for (enum stage st = 0; st < STAGE_COUNT; st++)
		for (size_t i = 0; i < s->objects.n; i++)
			if (s->objects.v[i]->kind->stage == st)
				TRY(call_object(s, s->objects.v[i], s->objects.v[i]->kind->finish,
					elapsed_ns, "finish"));
	for (size_t i = 0; i < s->n_members; i++)
		if (s->members[i]->task)
			TRY(seedling_seal(s->members[i]->task));
	for (size_t i = 0; i < s->objects.n; i++)
		TRY(set_registers(s, s->objects.v[i]));
	return NULL;
}

/* Who lives, ascending. */
static struct pids living(struct arena *a, const struct site *s)
{
	pid_t *v = arena_array(a, s->n_members, sizeof(*v));
	size_t n = 0;

	for (size_t i = 0; i < s->n_members; i++)
		if (s->members[i]->task)
			v[n++] = s->members[i]->is.pid;
	return pids_sort(v, n);
}

/* Children first: whoever runs finds them as they should be. */
static struct err *let_go(struct site *s)
{
	for (size_t i = s->n_members; i-- > 0;) {
		struct task *t = s->members[i]->task;

		if (!t)
			continue;
		TRY(seedling_release(t));
		TRY(task_let_go(t));
	}
	return NULL;
}

struct err *site_hold(struct site *s)
{
	autoarena struct arena *a = arena_new();
	const struct pids pids = living(a, s);

	if (!s->freezer.dir)
		return NULL;
	TRY(freezer_set(&s->freezer, true, false));
	s->frozen = true;
	/* Somebody may have moved it while it was built (a daemon with rules, by its user): nothing
	 * but the group holds it from here on. */
	TRY_IN(freezer_check(&s->freezer, &pids), "hold process %d", s->spec.pid);
	return let_go(s);
}

struct err *site_start(struct site *s)
{
	s->running = true;
	return s->frozen ? freezer_set(&s->freezer, false, false) : let_go(s);
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
		context(s, &r, task_for(s, o));
		e = kind_unpack(s->arena, o, &msg);
		if (!e)
			o->kind->discard(&r, o, msg);
	}
}

/* The seedling ends before its group and its names do. */
static void discard(struct site *s)
{
	struct rebuild r;

	if (s->built) {
		discard_objects(s);
		for (size_t i = 0; i < s->n_members; i++) {
			context(s, &r, s->members[i]->task);
			layout_discard(&r);
		}
	}
	site_tree_kill(s);
	if (s->freezer.dir && s->frozen)
		err_free(freezer_set(&s->freezer, false, false));
}

void site_free(struct site *s)
{
	if (!s)
		return;
	site_calls_fini(s);
	for (size_t i = 0; i < s->n_pending; i++)
		close(s->pending[i].fd);
	if (!s->running)
		discard(s);
	site_tree_free(s);
	if (!s->running && s->freezer.dir)
		rmdir(s->freezer.dir);
	freezer_fini(&s->freezer);
	if (s->spec.scratch_dir)
		remove_scratch(s->spec.scratch_dir);
	kind_cache_free(s->cache);
	arena_free(s->arena);
	free(s);
}
