// SPDX-License-Identifier: Apache-2.0
#include "engine/objects.h"

#include <stdlib.h>
#include <string.h>

#include "session.pb-c.h"

struct object *objects_add(
	struct arena *a, struct object_set *s, const struct kind *k, pid_t pid, uint64_t id)
{
	struct object *o = arena_alloc(a, sizeof(*o));

	o->kind = k;
	o->pid = pid;
	o->id = id;
	s->v = arena_grow(a, s->v, &s->cap, s->n + 1, sizeof(*s->v));
	s->v[s->n++] = o;
	s->sorted = false;
	return o;
}

static int by_key(const void *pa, const void *pb)
{
	const struct object *a = *(struct object *const *)pa, *b = *(struct object *const *)pb;

	if (a->kind->id != b->kind->id)
		return a->kind->id < b->kind->id ? -1 : 1;
	if (a->pid != b->pid)
		return a->pid < b->pid ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

void objects_sort(struct object_set *s)
{
	if (!s->sorted && s->n)
		qsort(s->v, s->n, sizeof(*s->v), by_key);
	s->sorted = true;
}

size_t objects_index(const struct object_set *s, const struct object *key)
{
	struct object **found = s->n ? bsearch(&key, s->v, s->n, sizeof(*s->v), by_key) : NULL;

	return found ? (size_t)(found - s->v) : s->n;
}

struct object *objects_find(const struct object_set *s, const struct object *key)
{
	size_t i = objects_index(s, key);

	return i < s->n ? s->v[i] : NULL;
}

struct err *objects_unique(const struct object_set *s)
{
	for (size_t i = 1; i < s->n; i++)
		if (by_key(&s->v[i - 1], &s->v[i]) == 0)
			return err_new(ERR_PEER, "%s %ju was sent twice", s->v[i]->kind->name,
				(uintmax_t)s->v[i]->id);
	return NULL;
}

struct object *objects_file(const struct object_set *s, uint64_t id)
{
	size_t n;
	const struct kind *const *kinds = kinds_all(&n);
	struct object *o = NULL;

	for (size_t i = 0; i < n && !o; i++)
		if (kinds[i]->scope == KIND_FILE)
			o = objects_find(s, &(struct object){ .kind = kinds[i], .id = id });
	return o;
}

static bool same_slots(const struct object *a, const struct object *b)
{
	if (a->n_slots != b->n_slots)
		return false;
	for (size_t i = 0; i < a->n_slots; i++)
		if (a->slots[i].pid != b->slots[i].pid ||
			a->slots[i].number != b->slots[i].number ||
			a->slots[i].cloexec != b->slots[i].cloexec)
			return false;
	return true;
}

static bool same(const struct object *a, const struct object *b)
{
	return a->group == b->group && same_slots(a, b) && a->n_refs == b->n_refs &&
	       (!a->n_refs || !memcmp(a->refs, b->refs, a->n_refs * sizeof(*a->refs))) &&
	       a->owner_type == b->owner_type && a->owner_pid == b->owner_pid &&
	       a->owner_signal == b->owner_signal && a->body_len == b->body_len &&
	       !memcmp(a->body, b->body, a->body_len);
}

/* Objects gathered for one frame; messages live in the arena until the frame is sent. */
struct batch {
	struct channel *ch;
	struct arena *arena;
	Migrate__Objects msg;
	size_t cap_changed, cap_removed, bytes;
};

static struct err *batch_flush(struct batch *b)
{
	size_t len = migrate__objects__get_packed_size(&b->msg);
	uint8_t *buf;

	if (!b->msg.n_changed && !b->msg.n_removed)
		return NULL;
	buf = arena_alloc(b->arena, len);
	migrate__objects__pack(&b->msg, buf);
	TRY(channel_send(b->ch, FRAME_OBJECTS, 0, buf, len));
	arena_free(b->arena);
	b->arena = arena_new();
	migrate__objects__init(&b->msg);
	b->cap_changed = b->cap_removed = b->bytes = 0;
	return NULL;
}

static struct err *batch_removed(struct batch *b, const struct object *o)
{
	Migrate__ObjectKey *m = arena_alloc(b->arena, sizeof(*m));

	migrate__object_key__init(m);
	m->kind = o->kind->id;
	m->id = o->id;
	m->pid = o->pid;
	b->msg.removed = arena_grow(b->arena, b->msg.removed, &b->cap_removed, b->msg.n_removed + 1,
		sizeof(*b->msg.removed));
	b->msg.removed[b->msg.n_removed++] = m;
	b->bytes += sizeof(*m);
	return b->bytes > OBJECTS_FRAME_BYTES ? batch_flush(b) : NULL;
}

static Migrate__Object *object_to_wire(struct arena *a, const struct object *o)
{
	Migrate__Object *m = arena_alloc(a, sizeof(*m));

	migrate__object__init(m);
	m->kind = o->kind->id;
	m->id = o->id;
	m->pid = o->pid;
	m->group = o->group;
	m->n_slots = o->n_slots;
	m->slots = arena_array(a, o->n_slots, sizeof(*m->slots));
	for (size_t i = 0; i < o->n_slots; i++) {
		m->slots[i] = arena_alloc(a, sizeof(**m->slots));
		migrate__fd_slot__init(m->slots[i]);
		m->slots[i]->pid = o->slots[i].pid;
		m->slots[i]->number = (uint32_t)o->slots[i].number;
		m->slots[i]->cloexec = o->slots[i].cloexec;
	}
	m->n_refs = o->n_refs;
	m->refs = o->refs;
	if (o->owner_pid || o->owner_signal) {
		m->owner = arena_alloc(a, sizeof(*m->owner));
		migrate__owner__init(m->owner);
		m->owner->type = o->owner_type;
		m->owner->pid = o->owner_pid;
		m->owner->signal = o->owner_signal;
	}
	m->body = (ProtobufCBinaryData){ o->body_len, (uint8_t *)(uintptr_t)o->body };
	return m;
}

static struct err *batch_changed(struct batch *b, const struct object *o)
{
	if (b->bytes && b->bytes + o->body_len > OBJECTS_FRAME_BYTES)
		TRY(batch_flush(b));
	b->msg.changed = arena_grow(b->arena, b->msg.changed, &b->cap_changed, b->msg.n_changed + 1,
		sizeof(*b->msg.changed));
	b->msg.changed[b->msg.n_changed++] = object_to_wire(b->arena, o);
	b->bytes += o->body_len + 64 + 16 * o->n_slots;
	return NULL;
}

static struct err *send_diff(struct batch *b, const struct object_set *old,
	const struct object_set *now, uint64_t *changed)
{
	size_t i = 0, j = 0;

	/* Removals first: an id may come back as another kind. */
	for (; i < old->n; i++)
		if (!objects_find(now, old->v[i])) {
			TRY(batch_removed(b, old->v[i]));
			(*changed)++;
		}
	for (; j < now->n; j++) {
		const struct object *was = objects_find(old, now->v[j]);

		if (was && !was->stale && same(was, now->v[j]))
			continue;
		TRY_IN(batch_changed(b, now->v[j]), "send %s", now->v[j]->kind->name);
		(*changed)++;
	}
	return batch_flush(b);
}

void objects_push(struct arena *a, struct object_set *s, struct object *o)
{
	s->v = arena_grow(a, s->v, &s->cap, s->n + 1, sizeof(*s->v));
	s->v[s->n++] = o;
}

static bool belongs_to(const struct object *o, pid_t pid)
{
	for (size_t i = 0; i < o->n_slots; i++)
		if (o->slots[i].pid == pid)
			return true;
	return o->pid == pid;
}

void objects_stale(struct object_set *s, pid_t pid)
{
	for (size_t i = 0; i < s->n; i++)
		if (belongs_to(s->v[i], pid))
			s->v[i]->stale = true;
}

void objects_pack(struct arena *a, const struct object_set *s, const uint8_t **bytes, size_t *len)
{
	Migrate__Objects m = MIGRATE__OBJECTS__INIT;
	uint8_t *buf;

	m.n_changed = s->n;
	m.changed = arena_array(a, s->n, sizeof(*m.changed));
	for (size_t i = 0; i < s->n; i++)
		m.changed[i] = object_to_wire(a, s->v[i]);
	*len = migrate__objects__get_packed_size(&m);
	buf = arena_alloc(a, *len + 1);
	migrate__objects__pack(&m, buf);
	*bytes = buf;
}

struct err *objects_send_diff(struct channel *ch, const struct object_set *old,
	const struct object_set *now, uint64_t *changed)
{
	struct batch b = { .ch = ch, .arena = arena_new(), .msg = MIGRATE__OBJECTS__INIT };
	struct err *e;

	*changed = 0;
	e = send_diff(&b, old, now, changed);
	arena_free(b.arena);
	return e;
}

/* Where things of a peer are: in a process, that is. */
static struct err *parse_pid(pid_t root, int32_t pid, pid_t *ret)
{
	if (pid < 0)
		return err_new(ERR_PEER, "an object of process %d", pid);
	*ret = pid ? pid : root;
	return NULL;
}

static bool slots_ascend(const struct fd_slot *a, const struct fd_slot *b)
{
	return a->pid != b->pid ? a->pid < b->pid : a->number < b->number;
}

static struct err *parse_slots(
	struct arena *a, pid_t root, const Migrate__Object *m, struct object *o)
{
	o->n_slots = m->n_slots;
	o->slots = arena_array(a, m->n_slots, sizeof(*o->slots));
	for (size_t i = 0; i < m->n_slots; i++) {
		uint32_t number = m->slots[i]->number;

		o->slots[i] = (struct fd_slot){ 0, (int)number, m->slots[i]->cloexec };
		TRY(parse_pid(root, m->slots[i]->pid, &o->slots[i].pid));
		if (number >= PROC_FDS_MAX || (i && !slots_ascend(&o->slots[i - 1], &o->slots[i])))
			return err_new(
				ERR_PEER, "descriptor numbers of %s out of order", o->kind->name);
	}
	if (object_is_file(o) != (m->n_slots > 0))
		return err_new(ERR_PEER, "%s with %zu descriptors", o->kind->name, m->n_slots);
	return NULL;
}

static struct err *parse_object(
	struct arena *a, pid_t root, const Migrate__Object *m, struct object **ret)
{
	struct object *o = arena_alloc(a, sizeof(*o));

	o->kind = kind_by_id(m->kind);
	if (!o->kind)
		return err_hint(err_new(ERR_PEER, "object of unknown kind %u", m->kind),
			"install the same version of migrated on both hosts");
	o->id = m->id;
	if (o->kind->scope == KIND_THREAD && (o->id <= 1 || o->id > INT32_MAX))
		return err_new(ERR_PEER, "%s of a thread %ju", o->kind->name, (uintmax_t)o->id);
	o->group = m->group;
	if (!object_is_file(o))
		TRY(parse_pid(root, m->pid, &o->pid));
	TRY(parse_slots(a, root, m, o));
	o->n_refs = m->n_refs;
	o->refs = arena_dup(a, m->refs, m->n_refs * sizeof(*m->refs));
	if (m->owner) {
		o->owner_type = m->owner->type;
		o->owner_pid = m->owner->pid;
		o->owner_signal = m->owner->signal;
	}
	o->body = arena_dup(a, m->body.data, m->body.len);
	o->body_len = m->body.len;
	*ret = o;
	return NULL;
}

static struct err *parse_removed(
	struct arena *a, pid_t root, const Migrate__Objects *m, struct objects_delta *d)
{
	d->removed = arena_array(a, m->n_removed, sizeof(*d->removed));
	for (size_t i = 0; i < m->n_removed; i++) {
		const struct kind *k = kind_by_id(m->removed[i]->kind);
		struct object *o = &d->removed[i];

		if (!k)
			return err_new(ERR_PEER, "removal of unknown kind %u", m->removed[i]->kind);
		d->n_removed++;
		*o = (struct object){ .kind = k, .id = m->removed[i]->id };
		if (!object_is_file(o))
			TRY(parse_pid(root, m->removed[i]->pid, &o->pid));
	}
	return NULL;
}

static struct err *parse_changed(
	struct arena *a, pid_t root, const Migrate__Objects *m, struct objects_delta *d)
{
	struct object_set set = { .v = arena_array(a, m->n_changed, sizeof(*d->changed)) };

	for (; set.n < m->n_changed; set.n++)
		TRY(parse_object(a, root, m->changed[set.n], &set.v[set.n]));
	objects_sort(&set);
	TRY(objects_unique(&set));
	d->changed = set.v;
	d->n_changed = set.n;
	return NULL;
}

struct err *objects_parse(
	struct arena *a, pid_t root, const uint8_t *body, size_t len, struct objects_delta *ret)
{
	autoarena struct arena *tmp = arena_new();
	const Migrate__Objects *m = (const Migrate__Objects *)message_unpack(
		tmp, &migrate__objects__descriptor, body, len);
	struct objects_delta d = { 0 };

	if (!m)
		return err_new(ERR_PEER, "OBJECTS frame that does not parse");
	if (m->n_changed > OBJECTS_MAX || m->n_removed > OBJECTS_MAX)
		return err_new(ERR_LIMIT, "more than %d kernel objects", OBJECTS_MAX);
	TRY(parse_removed(a, root, m, &d));
	TRY(parse_changed(a, root, m, &d));
	*ret = d;
	return NULL;
}

/* ---- what is built ---- */

static int by_id(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* The ids of all descriptors that are built, ascending; an epoll may refer to thousands. */
static size_t built_files(const struct object_set *s, const struct objects_plan *p, uint64_t *ids)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++)
		if (p->build[i] && s->v[i]->kind->scope == KIND_FILE)
			ids[n++] = s->v[i]->id;
	if (n)
		qsort(ids, n, sizeof(*ids), by_id);
	return n;
}

static bool refers_to(const struct object *o, const uint64_t *ids, size_t n)
{
	for (size_t i = 0; n && i < o->n_refs; i++)
		if (bsearch(&o->refs[i], ids, n, sizeof(*ids), by_id))
			return true;
	return false;
}

/* The groups of which something is built, ascending; 0 is none. */
static size_t built_groups(
	const struct object_set *s, const struct objects_plan *p, uint64_t *groups)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++)
		if (p->build[i] && s->v[i]->group)
			groups[n++] = s->v[i]->group;
	if (n)
		qsort(groups, n, sizeof(*groups), by_id);
	return n;
}

void objects_plan_close(const struct object_set *s, struct objects_plan *p, size_t n_build)
{
	autofree uint64_t *ids = xcalloc(s->n + 1, sizeof(*ids));
	size_t n_ids;

	if (n_build == s->n) {
		memset(p->link, true, s->n);
		return;
	}
	n_ids = built_groups(s, p, ids);
	for (size_t i = 0; n_ids && i < s->n; i++)
		if (bsearch(&s->v[i]->group, ids, n_ids, sizeof(*ids), by_id))
			p->build[i] = true;
	n_ids = built_files(s, p, ids);
	for (size_t i = 0; i < s->n; i++)
		p->link[i] = p->build[i] || refers_to(s->v[i], ids, n_ids);
}
