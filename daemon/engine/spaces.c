// SPDX-License-Identifier: Apache-2.0
/* Shared memory objects of the source: see spaces.h. */
#include "engine/spaces.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "engine/source.h"
#include "engine/unseen.h"

/* Kernels before 6.13 stamp files with the time of the last tick, 10 ms at worst: a stamp younger
 * than this cannot tell a write that follows. */
#define STAMP_SETTLED_NS 20000000

/* A store through a mapping changes a time stamp, when the page is not writable yet; so does one
 * that a tracker sees. A second mapping without a descriptor (mremap(2) with an old size of 0),
 * which comes and goes between two looks, leaves no other trace. So many bytes are compared in each
 * round for its sake, in up to 20 ms; more would make rounds and the freeze grow with the size of
 * memory that is hardly written. */
#define CERTAIN_BYTES (64ULL << 20)

static struct space_seen *seen_of(struct source *s, uint64_t space)
{
	for (size_t i = 0; i < s->n_spaces; i++)
		if (s->spaces[i].space == space)
			return &s->spaces[i];
	return NULL;
}

static struct space_seen *seen_new(struct source *s, uint64_t space)
{
	s->spaces = xrealloc_array(s->spaces, s->n_spaces + 1, sizeof(*s->spaces));
	s->spaces[s->n_spaces] = (struct space_seen){ .space = space };
	return &s->spaces[s->n_spaces++];
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool settled(const struct timespec *t)
{
	return clock_real_ns() - ((int64_t)t->tv_sec * 1000000000 + t->tv_nsec) > STAMP_SETTLED_NS;
}

/* Remembers the object as it is now; tells whether it may have changed since. */
static bool stamps_changed(struct space_seen *seen, const struct shm_space *sp)
{
	bool changed = !seen->settled || !same_time(&seen->mtime, &sp->mtime) ||
		       !same_time(&seen->ctime, &sp->ctime);

	seen->mtime = sp->mtime;
	seen->ctime = sp->ctime;
	seen->settled = settled(&sp->mtime) && settled(&sp->ctime);
	return changed;
}

void spaces_unsettle(struct source *s)
{
	for (size_t i = 0; i < s->n_spaces; i++)
		s->spaces[i].lost = true;
}

void spaces_compare(struct source *s, const struct source_member *m, const struct layout *now)
{
	struct ranges lost AUTO(ranges_fini) = { 0 };

	if (!m->layout)
		return;
	layout_lost_spaces(m->layout, now, &lost);
	for (size_t i = 0; i < s->n_spaces; i++)
		if (ranges_contain(&lost, s->spaces[i].space))
			s->spaces[i].lost = true;
}

static void add_range(struct outgoing *o, const struct shm_space *sp, const struct range *r)
{
	if (r->start < r->end)
		outgoing_add_part(
			o, &(struct shared_part){ sp->space, sp->fd, r->start, r->end - r->start });
}

static void plan_ranges(
	struct outgoing *o, const struct shm_space *sp, const struct ranges *ranges, uint64_t limit)
{
	for (size_t i = 0; i < ranges->n; i++)
		add_range(
			o, sp, &(struct range){ ranges->v[i].start, MIN(ranges->v[i].end, limit) });
}

struct outlining {
	struct source *s;
	struct space_work *w;
};

static struct err *on_outline(void *arg, uint64_t offset, uint64_t bytes, bool hole)
{
	struct outlining *l = arg;
	struct pages_stats st = { 0 };

	if (hole)
		return peer_reason(&l->s->peer,
			pages_send_drop(&l->s->peer.ch, l->w->space.space, offset, bytes, &st));
	ranges_add(&l->w->dirty, offset, offset + bytes);
	return NULL;
}

/* What was written, and where holes have come or gone (MADV_REMOVE): that no tracker sees, but it
 * changes time stamps. */
static struct err *plan_tracked(struct source *s, struct space_seen *seen, struct space_work *w,
	bool changed, struct outgoing *o)
{
	struct outlining l = { s, w };

	if (changed)
		TRY(shm_sums_outline(&seen->sums, w->space.fd, w->space.bytes, on_outline, &l));
	plan_ranges(o, &w->space, &w->dirty, PAGE_UP(w->space.bytes));
	/* They are sent as they are then, and may be as they were at the next look. */
	for (size_t i = 0; i < w->dirty.n; i++)
		shm_sums_forget(seen->sums, w->dirty.v[i].start, w->dirty.v[i].end);
	return NULL;
}

struct comparing {
	struct source *s;
	const struct shm_space *space;
	struct outgoing *o;
};

/* While the process runs, the very bytes go that were looked at. Were they read again, a word that
 * is something else just then (a lock that is taken) and as before at the next look would stay
 * wrong at the peer. */
static struct err *send_looked_at(void *arg, uint64_t offset, uint8_t *data, uint64_t bytes)
{
	struct comparing *c = arg;
	struct source *s = c->s;
	const struct range where = { offset, offset + bytes };
	struct pages_stats st = { 0 };

	if (!data)
		return peer_reason(&s->peer,
			pages_send_drop(&s->peer.ch, c->space->space, offset, bytes, &st));
	TRY(peer_reason(
		&s->peer, pages_send_data(&s->peer.ch, c->space->space, &where, data, &st)));
	return outgoing_sent(s, c->o, bytes, st.pages_copied * PAGE_BYTES);
}

static struct err *plan_changed(
	void *arg, uint64_t offset, unused_arg uint8_t *data, uint64_t bytes)
{
	struct comparing *c = arg;

	add_range(c->o, c->space, &(struct range){ offset, offset + bytes });
	return NULL;
}

static struct err *plan_compared(
	struct source *s, struct space_seen *seen, struct space_work *w, struct outgoing *o)
{
	struct comparing c = { s, &w->space, o };

	return shm_sums_update(&seen->sums, w->space.fd, w->space.bytes,
		s->task->held ? plan_changed : send_looked_at, &c);
}

static bool layouts_have(const struct source *s, uint64_t space)
{
	for (struct source_member *m = NULL; (m = source_next(s, m));)
		if (m->layout && layout_has_space(m->layout, space))
			return true;
	return false;
}

/* Objects come in the rehearsal and when all stands still, mappings with every LAYOUT: an object
 * that is younger and not mapped waits. */
static bool peer_has(const struct source *s, uint64_t space)
{
	const struct object_set *sent = &s->sent.objects;

	if (s->task->held || layouts_have(s, space))
		return true;
	for (size_t i = 0; i < sent->n; i++)
		if ((sent->v[i]->kind == &kind_shm || sent->v[i]->kind == &kind_sysv_shm) &&
			sent->v[i]->id == space)
			return true;
	return false;
}

/* One more that it has, or the same again. Takes sp->fd. */
static void add_space(
	struct arena *a, struct space_work **v, size_t *n, size_t *cap, const struct shm_space *sp)
{
	for (size_t i = 0; i < *n; i++) {
		if ((*v)[i].space.space != sp->space)
			continue;
		(*v)[i].space.open |= sp->open;
		(*v)[i].space.shared |= sp->shared;
		close(sp->fd);
		return;
	}
	*v = arena_grow(a, *v, cap, *n + 1, sizeof(**v));
	(*v)[(*n)++] = (struct space_work){ .space = *sp };
}

struct err *spaces_open(struct source *s, struct space_work **ret, size_t *n)
{
	size_t cap = 0;

	*ret = NULL;
	*n = 0;
	for (struct source_member *m = NULL; (m = source_next(s, m));) {
		struct capture_priv p;
		struct capture c;
		struct shm_space *spaces;
		size_t n_spaces;
		struct err *e;

		capture_context(&c, &p, m->task, &m->layout_of);
		e = shm_spaces(&c, &spaces, &n_spaces);
		if (e && source_member_ended(s, m)) {
			err_free(e);
			continue;
		}
		if (e) {
			spaces_close(*ret, *n);
			return e;
		}
		for (size_t i = 0; i < n_spaces; i++)
			add_space(s->work_of, ret, n, &cap, &spaces[i]);
	}
	return NULL;
}

/* Whose parent has ended is no child of the tree any more, and may have its memory for ever. */
static struct err *check_left(struct source *s, const struct space_work *w, size_t n)
{
	autoarena struct arena *a = arena_new();
	struct shm_space *v = arena_array(a, n, sizeof(*v));
	struct capture_priv p;
	struct capture c;

	for (size_t i = 0; i < n; i++)
		v[i] = w[i].space;
	capture_context(&c, &p, s->task, &s->members[0]->layout_of);
	TRY(shm_check_left(&c, v, n));
	return source_blocked(s);
}

struct err *spaces_watch(struct source *s, const struct space_work *w, size_t n)
{
	const struct unseen u = n ? unseen_look(s) : (struct unseen){ false, false };

	s->unseen_writers = u.writers;
	return u.ended && s->round.number && !s->task->held ? check_left(s, w, n) : NULL;
}

void spaces_add_runs(
	struct space_work *w, size_t n, const struct vma *v, const struct page_runs *runs)
{
	uint64_t space;

	if (!shm_vma_space(v, &space))
		return;
	for (size_t i = 0; i < n; i++) {
		if (w[i].space.space != space)
			continue;
		for (size_t j = 0; j < runs->n; j++) {
			uint64_t at = runs->v[j].start - v->start + v->offset;

			ranges_add(&w[i].dirty, at, at + runs->v[j].pages * PAGE_BYTES);
		}
	}
}

/* What is sent for the first time is summed where that may be needed: of several processes one may
 * start another at any time. */
static bool wants_sums(const struct source *s, const struct shm_space *sp)
{
	return sp->bytes <= CERTAIN_BYTES || source_next(s, s->members[0]);
}

/* *certain: bytes that may still be compared for certainty in this round. */
static bool must_compare(const struct source *s, const struct space_seen *seen,
	const struct shm_space *sp, bool changed, uint64_t *certain)
{
	if (sp->open || seen->lost || s->unseen_writers || seen->bytes != sp->bytes)
		return true;
	if (!changed || (!(sp->space & VMA_SYSV) && sp->bytes > *certain))
		return false;
	*certain -= MIN(*certain, sp->bytes);
	return true;
}

static struct err *plan(struct source *s, struct space_seen *seen, struct space_work *w,
	uint64_t *certain, struct outgoing *o)
{
	const struct shm_space *sp = &w->space;
	bool changed = stamps_changed(seen, sp);
	bool compare = seen->sent ? must_compare(s, seen, sp, changed, certain)
				  : sp->open || wants_sums(s, sp);

	/* What was written through mappings that came and went is not known when it is closed. */
	seen->lost = sp->open;
	seen->bytes = sp->bytes;
	return compare ? plan_compared(s, seen, w, o) : plan_tracked(s, seen, w, changed, o);
}

struct err *spaces_plan(struct source *s, struct space_work *w, size_t n, struct outgoing *o)
{
	uint64_t certain = CERTAIN_BYTES;

	for (size_t i = 0; i < n; i++) {
		struct space_seen *seen = seen_of(s, w[i].space.space);

		if (!peer_has(s, w[i].space.space))
			continue;
		if (!seen)
			seen = seen_new(s, w[i].space.space);
		TRY(plan(s, seen, &w[i], &certain, o));
		seen->sent = true;
	}
	return NULL;
}

void spaces_close(struct space_work *w, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		ranges_fini(&w[i].dirty);
		fd_closep(&w[i].space.fd);
	}
}

void spaces_fini(struct source *s)
{
	for (size_t i = 0; i < s->n_spaces; i++)
		shm_sums_free(s->spaces[i].sums);
	mem_freep(&s->spaces);
	s->n_spaces = 0;
}
