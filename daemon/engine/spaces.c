// SPDX-License-Identifier: Apache-2.0
/* Shared memory objects of the source: see spaces.h. */
#include "engine/spaces.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "engine/source.h"

/* Kernels before 6.13 stamp files with the time of the last tick, 10 ms at worst: a stamp younger
 * than this cannot tell a write that follows. */
#define STAMP_SETTLED_NS 20000000

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

/* Remembers the object as it is now; tells whether all of it must be sent. */
static bool stamps_changed(struct space_seen *seen, const struct shm_space *sp)
{
	bool changed = !seen->settled || seen->bytes != sp->bytes ||
		       !same_time(&seen->mtime, &sp->mtime) || !same_time(&seen->ctime, &sp->ctime);

	seen->bytes = sp->bytes;
	seen->mtime = sp->mtime;
	seen->ctime = sp->ctime;
	seen->settled = settled(&sp->mtime) && settled(&sp->ctime);
	return changed;
}

void spaces_unsettle(struct source *s)
{
	for (size_t i = 0; i < s->n_spaces; i++)
		s->spaces[i].settled = false;
}

void spaces_compare(struct source *s, const struct source_member *m, const struct layout *now)
{
	struct ranges lost AUTO(ranges_fini) = { 0 };

	if (!m->layout)
		return;
	layout_lost_spaces(m->layout, now, &lost);
	for (size_t i = 0; i < s->n_spaces; i++)
		if (ranges_contain(&lost, s->spaces[i].space))
			s->spaces[i].settled = false;
}

/* What is behind its end, where it was longer, goes as a hole. */
static void add_range(
	struct outgoing *o, const struct shm_space *sp, const struct range *r, uint64_t gap)
{
	if (r->start < r->end)
		outgoing_add_part(o,
			&(struct shared_part){ sp->space, sp->fd, r->start, r->end - r->start },
			gap);
}

static struct err *drop_all(struct source *s, const struct shm_space *sp)
{
	struct pages_stats st = { 0 };

	if (!sp->bytes)
		return NULL;
	return peer_reason(
		&s->peer, pages_send_drop(&s->peer.ch, sp->space, 0, PAGE_UP(sp->bytes), &st));
}

/* Holes stay holes: only what SEEK_DATA finds. */
static struct err *plan_all(struct outgoing *o, const struct shm_space *sp)
{
	off_t data = 0, hole;

	while ((data = lseek(sp->fd, data, SEEK_DATA)) >= 0) {
		hole = lseek(sp->fd, data, SEEK_HOLE);
		if (hole < 0)
			return err_errno(errno, "find holes of shared memory");
		add_range(o, sp,
			&(struct range){ PAGE_DOWN((uint64_t)data), PAGE_UP((uint64_t)hole) },
			OUTGOING_HOLE_BYTES);
		data = hole;
	}
	return errno == ENXIO ? NULL : err_errno(errno, "find data of shared memory");
}

static void plan_ranges(
	struct outgoing *o, const struct shm_space *sp, const struct ranges *ranges, uint64_t limit)
{
	for (size_t i = 0; i < ranges->n; i++)
		add_range(o, sp,
			&(struct range){ ranges->v[i].start, MIN(ranges->v[i].end, limit) }, 0);
}

static struct err *plan_tracked(
	struct source *s, struct space_seen *seen, struct space_work *w, struct outgoing *o)
{
	bool first = !seen->sent;

	if (!stamps_changed(seen, &w->space)) {
		plan_ranges(o, &w->space, &w->dirty, PAGE_UP(w->space.bytes));
		return NULL;
	}
	if (!first)
		TRY(drop_all(s, &w->space));
	return plan_all(o, &w->space);
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

	add_range(c->o, c->space, &(struct range){ offset, offset + bytes }, 0);
	return NULL;
}

static struct err *plan_compared(
	struct source *s, struct space_seen *seen, struct space_work *w, struct outgoing *o)
{
	struct comparing c = { s, &w->space, o };

	if (seen->sent && !seen->sums)
		TRY(drop_all(s, &w->space));
	/* Should it be closed, time stamps begin anew. */
	seen->settled = false;
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
		close(sp->fd);
		return;
	}
	*v = arena_grow(a, *v, cap, *n + 1, sizeof(**v));
	(*v)[(*n)++] = (struct space_work){ .space = *sp };
}

/* Whoever writes to an object and ends between two looks was seen by nobody. Where processes come
 * and go, objects are compared, as those are that are open. */
static bool anybody_may_write(const struct source *s)
{
	return s->forks || source_next(s, s->members[0]);
}

struct err *spaces_open(struct source *s, struct space_work **ret, size_t *n)
{
	const bool anybody = anybody_may_write(s);
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
	for (size_t i = 0; i < *n; i++)
		(*ret)[i].space.open |= anybody;
	return NULL;
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

struct err *spaces_plan(struct source *s, struct space_work *w, size_t n, struct outgoing *o)
{
	for (size_t i = 0; i < n; i++) {
		struct space_seen *seen = seen_of(s, w[i].space.space);

		if (!peer_has(s, w[i].space.space))
			continue;
		if (!seen)
			seen = seen_new(s, w[i].space.space);
		TRY(w[i].space.open ? plan_compared(s, seen, &w[i], o)
				    : plan_tracked(s, seen, &w[i], o));
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
