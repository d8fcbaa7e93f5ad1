// SPDX-License-Identifier: Apache-2.0
/*
 * Placing pages in private memory.
 *
 * - UFFDIO_COPY makes a page where none is, with its contents, in one step (3.8 GiB/s against 2.4
 *   by process_vm_writev, which zeroes the page first). It says EEXIST where one is.
 * - process_vm_writev overwrites. In memory registered for missing pages it cannot make new ones
 *   (EFAULT, because the userfaultfd is for user mode only), so each way is the other's way out.
 * - /proc/PID/mem also writes private memory that is not writable.
 * - Huge pages: one MADV_POPULATE_WRITE in the process, then plain writes.
 * - What the process reads itself is not placed here, but for zeros (sink_splice.c).
 */
#include "pages/sink_priv.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "pages/pages_priv.h"

#define HUGE_BYTES (2ULL << 20)
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static uint64_t bytes_of(struct range r)
{
	return r.end - r.start;
}

static struct err *place_err(const struct page_sink *s, int no, uint64_t at)
{
	return err_errno(no, "write memory of process %d at %#jx", s->t->pid, (uintmax_t)at);
}

/* ---- the three ways; each returns how many bytes it placed, 0 if the first page cannot be ---- */

/* @calls pages: ioctl[1=UFFDIO_COPY] */
static struct err *by_copy(
	const struct page_sink *s, struct range r, const uint8_t *data, uint64_t *done)
{
	struct uffdio_copy c = { .dst = r.start, .src = (uintptr_t)data, .len = bytes_of(r) };

	*done = 0;
	if (s->uffd < 0)
		return NULL;
	if (ioctl(s->uffd, UFFDIO_COPY, &c) == 0) {
		*done = c.len;
		return NULL;
	}
	/* EAGAIN: a part was done, or the address space is changing. */
	if (errno == EAGAIN)
		*done = c.copy > 0 ? (uint64_t)c.copy : 0;
	else if (errno != EEXIST && errno != ENOENT && errno != EINVAL)
		return place_err(s, errno, r.start);
	return NULL;
}

/* @calls pages: process_vm_writev */
static struct err *by_write(
	const struct page_sink *s, struct range r, const uint8_t *data, uint64_t *done)
{
	struct iovec local = { (void *)(uintptr_t)data, bytes_of(r) };
	struct iovec remote = { (void *)(uintptr_t)r.start, bytes_of(r) };
	ssize_t w = process_vm_writev(s->t->pid, &local, 1, &remote, 1, 0);

	if (w < 0 && errno != EFAULT)
		return place_err(s, errno, r.start);
	*done = w < 0 ? 0 : PAGE_DOWN((uint64_t)w);
	return NULL;
}

/* @calls pages: pwrite64 */
static struct err *by_force(
	const struct page_sink *s, struct range r, const uint8_t *data, uint64_t *done)
{
	ssize_t w = pwrite(s->t->mem_fd, data, bytes_of(r), (off_t)r.start);

	if (w < 0 && errno != EFAULT && errno != EIO && errno != EINTR)
		return place_err(s, errno, r.start);
	*done = w < 0 ? 0 : PAGE_DOWN((uint64_t)w);
	return NULL;
}

typedef struct err *(*way)(
	const struct page_sink *s, struct range r, const uint8_t *data, uint64_t *done);

/* All of r by `first`, as far as it goes, then by `second`, and so on. A way that cannot do the
 * whole rest (two mappings of the kernel where the layout has one) may still do one page. */
static struct err *place(
	const struct page_sink *s, struct range r, const uint8_t *data, way first, way second)
{
	const way ways[] = { first, second, first, second, by_force };

	while (r.start < r.end) {
		uint64_t done = 0;

		for (size_t i = 0; i < ARRAY_LEN(ways) && !done; i++) {
			struct range piece = { r.start, i < 2 ? r.end : r.start + PAGE_BYTES };

			TRY(ways[i](s, piece, data, &done));
		}
		if (!done)
			return place_err(s, EFAULT, r.start);
		r.start += done;
		data += done;
	}
	return NULL;
}

static bool drop_waits(const struct placer *p, struct range r)
{
	for (size_t i = 0; i < p->n_drops; i++)
		if (p->drops[i].args[0] < r.end &&
			r.start < p->drops[i].args[0] + p->drops[i].args[1])
			return true;
	return false;
}

struct calls {
	struct task *t;
	struct call *v;
	size_t n;
};

static struct err *run_calls(void *what)
{
	const struct calls *c = what;

	return remote_run(c->t, task_leader(c->t), c->v, c->n);
}

static struct err *run_remote(struct placer *p, struct call *calls, size_t n)
{
	TRY(splice_settle(p));
	return placer_run(p, run_calls, &(struct calls){ p->s->t, calls, n });
}

struct err *sink_settle_drops(struct placer *p, struct range r)
{
	return drop_waits(p, r) ? sink_flush_drops(p) : NULL;
}

/* ---- where something is; other threads ask and tell about other pages ---- */

static uint64_t stretch(struct page_sink *s, struct range r, bool *there)
{
	uint64_t end;

	pthread_mutex_lock(&s->lock);
	end = pagebits_run(&s->put, r.start, r.end, there);
	pthread_mutex_unlock(&s->lock);
	return end;
}

void sink_is_put(struct page_sink *s, struct range r, bool there)
{
	pthread_mutex_lock(&s->lock);
	if (there)
		pagebits_set(&s->put, r.start, r.end);
	else
		pagebits_clear(&s->put, r.start, r.end);
	pthread_mutex_unlock(&s->lock);
}

/* ---- huge pages ---- */

/* Blocks of 2 MiB that are touched for the first time, within the mapping: lets the process make
 * huge pages for them in one go. Only the run's own range is asked for, so that no more than that
 * is made where huge pages are not to be had. */
struct err *sink_prepare(struct placer *p, const struct sink_vma *v, struct range r)
{
	struct call c = { .nr = SYS_madvise };
	uint64_t block = r.start & ~(HUGE_BYTES - 1);
	struct range new = { r.end, r.start };

	if (!v->huge || v->forced || v->place != PLACE_WRITE)
		return NULL;
	TRY(sink_settle_drops(p, r));
	for (; block < r.end; block += HUGE_BYTES) {
		bool set;

		if (block < v->start || block + HUGE_BYTES > v->end ||
			stretch(p->s, (struct range){ block, block + HUGE_BYTES }, &set) <
				block + HUGE_BYTES ||
			set)
			continue;
		new.start = MIN(new.start, MAX(block, r.start));
		new.end = MIN(block + HUGE_BYTES, r.end);
	}
	/* Not worth a remote call. */
	if (new.end <= new.start || bytes_of(new) < HUGE_BYTES / 4)
		return NULL;
	c.args[0] = new.start;
	c.args[1] = bytes_of(new);
	c.args[2] = MADV_POPULATE_WRITE;
	/* Its result does not matter: writing makes what is missing. */
	return run_remote(p, &c, 1);
}

/* ---- put and drop ---- */

struct err *sink_put(
	struct placer *p, const struct sink_vma *v, struct range r, const uint8_t *data)
{
	const way over = v->forced ? by_force : by_write;
	struct page_sink *s = p->s;

	TRY(sink_settle_drops(p, r));
	for (uint64_t at = r.start; at < r.end;) {
		bool there;
		struct range part = { at, stretch(s, (struct range){ at, r.end }, &there) };
		const uint8_t *from = data + (at - r.start);

		if (v->place == PLACE_COPY && !there)
			TRY(place(s, part, from, by_copy, over));
		else
			TRY(place(s, part, from, over, by_copy));
		at = part.end;
	}
	sink_is_put(s, r, true);
	return NULL;
}

static struct err *write_zeros(struct placer *p, const struct sink_vma *v, struct range r)
{
	static const uint8_t zeros[16 * PAGE_BYTES];

	TRY(splice_settle(p));
	while (r.start < r.end) {
		struct range part = { r.start, MIN(r.end, r.start + sizeof(zeros)) };

		TRY(sink_put(p, v, part, zeros));
		r.start = part.end;
	}
	return NULL;
}

/* One madvise for each stretch where the sink has put something. */
static struct err *queue_drop(struct placer *p, struct range r)
{
	for (uint64_t at = r.start; at < r.end;) {
		bool there;
		uint64_t to = stretch(p->s, (struct range){ at, r.end }, &there);

		if (there) {
			if (p->n_drops == REMOTE_CALLS_MAX)
				TRY(sink_flush_drops(p));
			p->drops[p->n_drops++] = (struct call){
				.nr = SYS_madvise,
				.args = { at, to - at, MADV_DONTNEED },
			};
		}
		at = to;
	}
	return NULL;
}

struct err *sink_drop(struct placer *p, const struct sink_vma *v, struct range r, bool zero)
{
	if (zero && v->file)
		return write_zeros(p, v, r);
	TRY(queue_drop(p, r));
	/* A later run of this frame that puts a page there makes the waiting calls first. */
	sink_is_put(p->s, r, false);
	return NULL;
}

struct err *sink_flush_drops(struct placer *p)
{
	size_t n = p->n_drops;

	if (!n)
		return NULL;
	p->n_drops = 0;
	TRY(run_remote(p, p->drops, n));
	for (size_t i = 0; i < n; i++)
		if (p->drops[i].ret < 0)
			return err_errno((int)-p->drops[i].ret, "drop pages at %#jx",
				(uintmax_t)p->drops[i].args[0]);
	return NULL;
}
