// SPDX-License-Identifier: Apache-2.0
/*
 * Seccomp filters. The kernel keeps them per thread, as a chain that threads share as far as they
 * inherited it. Whether it is shared shows in one place only: SECCOMP_FILTER_FLAG_TSYNC gives a
 * thread's filters to the others if theirs are the beginning of its own. So what all threads have
 * in common is installed once, for all of them; the rest by each thread for itself.
 */
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/filters.h"
#include "kinds/thread_facts.h"
#include "seccomp.pb-c.h"

typedef Migrate__Kind__Seccomp__Thread ThreadMsg;
typedef Migrate__Kind__Seccomp__Filter FilterMsg;

/* ---- source ---- */

static bool same(const FilterMsg *m, const struct seccomp_filter *f)
{
	return m->log == f->log && m->code.len == f->insns * SECCOMP_INSN_BYTES &&
	       memcmp(m->code.data, f->code, m->code.len) == 0;
}

/* The index of this one, which is added if there is none that is the same. */
static uint32_t index_of(struct capture *c, Migrate__Kind__Seccomp *m, size_t *room,
	const struct seccomp_filter *f)
{
	FilterMsg *add;

	for (size_t i = 0; i < m->n_filters; i++)
		if (same(m->filters[i], f))
			return (uint32_t)i;
	add = arena_alloc(c->arena, sizeof(*add));
	migrate__kind__seccomp__filter__init(add);
	add->code.len = f->insns * SECCOMP_INSN_BYTES;
	add->code.data = arena_dup(c->arena, f->code, add->code.len);
	add->log = f->log;
	m->filters = arena_grow(c->arena, m->filters, room, m->n_filters + 1, sizeof(*m->filters));
	m->filters[m->n_filters] = add;
	return (uint32_t)m->n_filters++;
}

static void add_thread(struct capture *c, Migrate__Kind__Seccomp *m, size_t *room, pid_t tid,
	const struct seccomp_filters *f)
{
	ThreadMsg *add = arena_alloc(c->arena, sizeof(*add));

	migrate__kind__seccomp__thread__init(add);
	add->tid = tid;
	add->filters = arena_array(c->arena, f->n, sizeof(*add->filters));
	for (size_t i = 0; i < f->n; i++)
		add->filters[add->n_filters++] = index_of(c, m, room, &f->v[i]);
	m->threads[m->n_threads++] = add;
}

static int by_tid(const void *a, const void *b)
{
	const ThreadMsg *x = *(ThreadMsg *const *)a, *y = *(ThreadMsg *const *)b;

	return (x->tid > y->tid) - (x->tid < y->tid);
}

static struct err *seccomp_capture(struct capture *c)
{
	Migrate__Kind__Seccomp m = MIGRATE__KIND__SECCOMP__INIT;
	const struct task *t = c->task;
	size_t room = 0;

	m.threads = arena_array(c->arena, t->n_threads, sizeof(*m.threads));
	for (size_t i = 0; i < t->n_threads; i++) {
		const struct seccomp_filters *f;

		TRY(remote_filters(t->threads[i], &f));
		if (seccomp_asks(f))
			return err_new(ERR_UNSUPPORTED,
				"a supervisor outside decides about calls of thread %d "
				"(SECCOMP_RET_USER_NOTIF)",
				(int)t->threads[i]->tid);
		if (f->n)
			add_thread(c, &m, &room, t->threads[i]->tid, f);
	}
	if (!m.n_threads)
		return NULL;
	qsort(m.threads, m.n_threads, sizeof(*m.threads), by_tid);
	capture_emit(c, (uint64_t)t->pid, &m.base);
	return NULL;
}

/* ---- destination ---- */

static bool filter_fits(const FilterMsg *f)
{
	return f->code.len && f->code.len % SECCOMP_INSN_BYTES == 0 &&
	       f->code.len / SECCOMP_INSN_BYTES <= SECCOMP_INSNS_MAX;
}

static bool thread_fits(const Migrate__Kind__Seccomp *m, const ThreadMsg *t)
{
	size_t insns = 0;

	for (size_t i = 0; i < t->n_filters; i++) {
		if (t->filters[i] >= m->n_filters)
			return false;
		insns += m->filters[t->filters[i]]->code.len / SECCOMP_INSN_BYTES;
		if (insns > SECCOMP_INSNS_PER_THREAD)
			return false;
	}
	return t->n_filters > 0;
}

static bool makes_sense(const Migrate__Kind__Seccomp *m)
{
	for (size_t i = 0; i < m->n_filters; i++)
		if (!filter_fits(m->filters[i]))
			return false;
	for (size_t i = 0; i < m->n_threads; i++)
		if ((i && m->threads[i]->tid <= m->threads[i - 1]->tid) ||
			!thread_fits(m, m->threads[i]))
			return false;
	return m->n_threads > 0;
}

static struct err *seccomp_check(
	struct rebuild *r unused_arg, const struct object *o unused_arg, const void *msg)
{
	uint32_t action = SECCOMP_RET_ALLOW;

	if (!makes_sense(msg))
		return err_new(ERR_PEER, "seccomp filters make no sense");
	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0)
		return err_new(ERR_MISMATCH, "the kernel there has no seccomp filters");
	return NULL;
}

/* In the rehearsal: whether that can be done is known before the process stands still. */
static struct err *seccomp_rebuild(struct rebuild *r, const struct object *o unused_arg,
	const void *msg, int *fd unused_arg)
{
	if (!makes_sense(msg))
		return err_new(ERR_PEER, "seccomp filters make no sense");
	return seedling_suspend_filters(r->task);
}

/* How many filters all threads begin with. */
static size_t common(const struct task *t, const Migrate__Kind__Seccomp *m)
{
	const ThreadMsg *first = m->threads[0];
	size_t n = m->n_threads == t->n_threads ? first->n_filters : 0;

	for (size_t i = 1; i < m->n_threads; i++) {
		const ThreadMsg *x = m->threads[i];
		size_t k = 0;

		while (k < n && k < x->n_filters && x->filters[k] == first->filters[k])
			k++;
		n = k;
	}
	return n;
}

/* Those behind the first `shared`, or for all threads just these. */
static struct err *install(struct rebuild *r, const Migrate__Kind__Seccomp *m, const ThreadMsg *t,
	size_t shared, bool all)
{
	struct thread *th = task_thread(r->task, t->tid);

	if (!th)
		return err_new(
			ERR_PEER, "seccomp filters for a thread %d that is not there", t->tid);
	for (size_t i = all ? 0 : shared; i < (all ? shared : t->n_filters); i++) {
		const FilterMsg *f = m->filters[t->filters[i]];
		const struct seccomp_filter filter = { .code = f->code.data,
			.insns = f->code.len / SECCOMP_INSN_BYTES,
			.log = f->log };

		TRY(seedling_filter(r->task, th, &filter, all));
	}
	return NULL;
}

static struct err *seccomp_finish(
	struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Seccomp *m = msg;
	size_t shared;

	if (!makes_sense(m))
		return err_new(ERR_PEER, "seccomp filters make no sense");
	TRY(seedling_suspend_filters(r->task)); /* of threads that were made since */
	shared = common(r->task, m);
	TRY(install(r, m, m->threads[0], shared, true));
	for (size_t i = 0; i < m->n_threads; i++)
		TRY(install(r, m, m->threads[i], shared, false));
	return NULL;
}

/* Before the credentials, which may forbid it, and the limits, which may hinder it. */
const struct kind kind_seccomp = {
	.id = 19,
	.name = "seccomp filters",
	.scope = KIND_PROCESS,
	.stage = STAGE_THREAD,
	.msg = &migrate__kind__seccomp__descriptor,
	.capture = seccomp_capture,
	.check = seccomp_check,
	.rebuild = seccomp_rebuild,
	.finish = seccomp_finish,
};
