// SPDX-License-Identifier: Apache-2.0
#include "engine/objects.h"

#include <stdlib.h>
#include <string.h>

#include "session.pb-c.h"

struct object *objects_add(struct arena *a, struct object_set *s, const struct kind *k, uint64_t id)
{
	struct object *o = arena_alloc(a, sizeof(*o));

	o->kind = k;
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
	return a->id < b->id ? -1 : a->id > b->id;
}

void objects_sort(struct object_set *s)
{
	if (!s->sorted && s->n)
		qsort(s->v, s->n, sizeof(*s->v), by_key);
	s->sorted = true;
}

struct object *objects_find(const struct object_set *s, uint32_t kind, uint64_t id)
{
	const struct kind k = { .id = kind };
	const struct object o = { .kind = &k, .id = id }, *key = &o;
	struct object **found = s->n ? bsearch(&key, s->v, s->n, sizeof(*s->v), by_key) : NULL;

	return found ? *found : NULL;
}

struct object *objects_file(const struct object_set *s, uint64_t id)
{
	size_t n;
	const struct kind *const *kinds = kinds_all(&n);
	struct object *o = NULL;

	for (size_t i = 0; i < n && !o; i++)
		if (kinds[i]->scope == KIND_FILE)
			o = objects_find(s, kinds[i]->id, id);
	return o;
}

static bool same_slots(const struct object *a, const struct object *b)
{
	if (a->n_slots != b->n_slots)
		return false;
	for (size_t i = 0; i < a->n_slots; i++)
		if (a->slots[i].number != b->slots[i].number ||
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
	m->group = o->group;
	m->n_slots = o->n_slots;
	m->slots = arena_array(a, o->n_slots, sizeof(*m->slots));
	for (size_t i = 0; i < o->n_slots; i++) {
		m->slots[i] = arena_alloc(a, sizeof(**m->slots));
		migrate__fd_slot__init(m->slots[i]);
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
		if (!objects_find(now, old->v[i]->kind->id, old->v[i]->id))
			TRY(batch_removed(b, old->v[i]));
	for (; j < now->n; j++) {
		const struct object *was = objects_find(old, now->v[j]->kind->id, now->v[j]->id);

		if (was && same(was, now->v[j]))
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

static struct err *parse_slots(struct arena *a, const Migrate__Object *m, struct object *o)
{
	o->n_slots = m->n_slots;
	o->slots = arena_array(a, m->n_slots, sizeof(*o->slots));
	for (size_t i = 0; i < m->n_slots; i++) {
		uint32_t number = m->slots[i]->number;

		if (number >= PROC_FDS_MAX || (i && (int)number <= o->slots[i - 1].number))
			return err_new(
				ERR_PEER, "descriptor numbers of %s out of order", o->kind->name);
		o->slots[i] = (struct fd_slot){ (int)number, m->slots[i]->cloexec };
	}
	if ((o->kind->scope == KIND_FILE) != (m->n_slots > 0))
		return err_new(ERR_PEER, "%s with %zu descriptors", o->kind->name, m->n_slots);
	return NULL;
}

static struct err *parse_object(struct arena *a, const Migrate__Object *m, struct object **ret)
{
	struct object *o = arena_alloc(a, sizeof(*o));

	o->kind = kind_by_id(m->kind);
	if (!o->kind)
		return err_hint(err_new(ERR_PEER, "object of unknown kind %u", m->kind),
			"install the same version of migrated on both hosts");
	o->id = m->id;
	o->group = m->group;
	TRY(parse_slots(a, m, o));
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

struct err *objects_parse(
	struct arena *a, const uint8_t *body, size_t len, struct objects_delta *ret)
{
	autoarena struct arena *tmp = arena_new();
	ProtobufCAllocator alloc = arena_allocator(tmp);
	Migrate__Objects *m = migrate__objects__unpack(&alloc, len, body);
	struct objects_delta d = { 0 };

	if (!m)
		return err_new(ERR_PEER, "OBJECTS frame that does not parse");
	d.changed = arena_array(a, m->n_changed, sizeof(*d.changed));
	d.removed = arena_array(a, m->n_removed, sizeof(*d.removed));
	for (size_t i = 0; i < m->n_removed; i++) {
		const struct kind *k = kind_by_id(m->removed[i]->kind);

		if (!k)
			return err_new(ERR_PEER, "removal of unknown kind %u", m->removed[i]->kind);
		d.removed[d.n_removed++] = (struct object){ .kind = k, .id = m->removed[i]->id };
	}
	for (; d.n_changed < m->n_changed; d.n_changed++)
		TRY(parse_object(a, m->changed[d.n_changed], &d.changed[d.n_changed]));
	*ret = d;
	return NULL;
}
