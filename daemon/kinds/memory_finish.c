// SPDX-License-Identifier: Apache-2.0
/*
 * Destination: what must wait for the contents. Committed memory, then guard pages, then locks (a
 * guard cannot be made in locked memory), then seals (nothing can be changed behind them).
 */
#include "kinds/memory_plan.h"

#include <inttypes.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* So many are quickly done twice, once of them frozen. */
#define ACCOUNT_AGAIN_MAX 256

struct finisher {
	struct rebuild *r;
	struct call calls[CHUNK];
	bool may_fail[CHUNK];
	size_t n;
};

static struct err *finish_flush(struct finisher *f)
{
	if (!f->n)
		return NULL;
	TRY(remote_run(f->r->task, task_leader(f->r->task), f->calls, f->n));
	for (size_t i = 0; i < f->n; i++)
		if (f->calls[i].ret < 0 && !f->may_fail[i])
			return err_errno((int)-f->calls[i].ret,
				"system call %" PRIu64 " on memory at %#" PRIx64, f->calls[i].nr,
				f->calls[i].args[0]);
	f->n = 0;
	return NULL;
}

static struct err *finish_call(struct finisher *f, struct call c, bool may_fail)
{
	if (f->n == CHUNK)
		TRY(finish_flush(f));
	f->may_fail[f->n] = may_fail;
	f->calls[f->n++] = c;
	return NULL;
}

/* Read-only private memory that counts as committed was writable once. Where no page is yet, Linux
 * takes the count back with the right to write: so it is done when contents are there. */
static struct err *finish_account(struct finisher *f, const struct region *g)
{
	uint64_t len = g->end - g->start;

	TRY(finish_call(f,
		(struct call){
			.nr = SYS_mprotect, .args = { g->start, len, PROT_READ | PROT_WRITE } },
		false));
	return finish_call(
		f, (struct call){ .nr = SYS_mprotect, .args = { g->start, len, g->prot } }, false);
}

/* Pages that cannot be read make mlock fail after it has done its work. */
static struct err *finish_lock(
	struct finisher *f, const struct layout_state *s, const struct region *g)
{
	bool on_fault = g->attrs & ATTR_LOCKONFAULT;
	bool may_fail = !on_fault && (s->n_guards || !(g->prot & PROT_READ));

	return finish_call(f,
		(struct call){ .nr = SYS_mlock2,
			.args = { g->start, g->end - g->start, on_fault ? MLOCK_ONFAULT : 0 } },
		may_fail);
}

static struct err *settle_all(struct finisher *f, struct layout_state *s, bool again)
{
	for (size_t i = 0; i < s->now.n; i++) {
		struct region *g = &s->now.v[i];

		if ((g->attrs & ATTR_ACCOUNT) && (again || !g->settled))
			TRY(finish_account(f, g));
		g->settled = true;
	}
	return finish_flush(f);
}

static size_t count_accounted(const struct layout_state *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->now.n; i++)
		n += (s->now.v[i].attrs & ATTR_ACCOUNT) != 0;
	return n;
}

static struct err *finish_all(struct finisher *f, struct layout_state *s)
{
	/* While pages came in, neighbours that are registered and not did not join; a page without
	 * contents lost its count then. */
	TRY(settle_all(f, s, count_accounted(s) <= ACCOUNT_AGAIN_MAX));
	/* Not possible in locked memory, so before it. */
	for (size_t i = 0; i < s->n_guards; i++)
		TRY(finish_call(f,
			(struct call){ .nr = SYS_madvise,
				.args = { s->guards[i].start, s->guards[i].end - s->guards[i].start,
					MADVISE_GUARD_INSTALL } },
			false));
	for (size_t i = 0; i < s->now.n; i++)
		if (s->now.v[i].attrs & ATTR_LOCKED)
			TRY(finish_lock(f, s, &s->now.v[i]));
	for (size_t i = 0; i < s->now.n; i++)
		if (s->now.v[i].attrs & ATTR_SEALED)
			TRY(finish_call(f,
				(struct call){ .nr = SYS_MSEAL,
					.args = { s->now.v[i].start,
						s->now.v[i].end - s->now.v[i].start } },
				false));
	return finish_flush(f);
}

struct err *layout_settle(struct rebuild *r, struct layout_state *s)
{
	struct finisher *f = xcalloc(1, sizeof(*f));
	struct err *e;

	f->r = r;
	e = settle_all(f, s, false);
	mem_freep(&f);
	return e;
}

void layout_discard(struct rebuild *r)
{
	err_free(sysv_shm_settle(r));
}

struct err *layout_finish(struct rebuild *r, struct layout_state *s)
{
	struct finisher *f = xcalloc(1, sizeof(*f));
	struct err *e;

	f->r = r;
	e = sysv_shm_settle(r);
	if (!e)
		e = finish_all(f, s);
	mem_freep(&f);
	return e;
}
