// SPDX-License-Identifier: Apache-2.0
/*
 * Pages that no process of ours touches: spliced from the stream into a pipe, by reference, and
 * read from the pipe by the process under construction, straight into its memory. Its ends of the
 * pipes are lent to it (kernel/remote.h), the reading is one remote readv for what is in a pipe.
 *
 * - The thread that traces has two pipes: while the process reads, which takes about as long as
 *   decrypting, the other one is filled. So a frame's last bytes may still be on their way when the
 *   next begins. Other threads have one each, and have that one read before they go on: while it
 *   is, the others fill theirs.
 * - Nobody ever waits for a pipe: we fill one only while it has room, and the process asks for what
 *   is in it.
 * - A pipe is full when it holds as many pieces as it has pages, and each record of TLS comes in
 *   pieces of its own, which no page boundary fits. So a pipe takes about two thirds of its size.
 * - The process must be able to write where it reads to. Where it stops (a protection key, a layout
 *   that is newer than ours) the bytes are taken out of the pipe and written by force: a page, and
 *   then as many as went wrong before.
 * - Its first touch makes huge pages in mappings that ask for them. It would also make them where
 *   the kernel does so unasked, of memory that was sparse at the source: so they are switched off
 *   for that one call.
 * - Shared memory has a file: the pipe is spliced into it, which is a copy inside the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "pages/pages_priv.h"
#include "pages/sink_priv.h"

/* For a frame in records whose pieces fill no pages; above 1 MiB for root only (or less, as the
 * system says). */
#define PIPE_BYTES (2u << 20)
#define THP_OFF    1u /* of PR_SET_THP_DISABLE; above it are flags, since Linux 6.18 */

/* The calls by which the process reads. */
enum { ASK, SWITCH_OFF, READ, SWITCH_ON };

static struct err *open_pipe(struct placer *p, struct sink_pipe *ret)
{
	autoclose int fd = -1, theirs = -1;
	struct page_sink *s = p->s;
	char path[64];

	if (s->n_lent == SEEDLING_LENT_MAX)
		return err_new(ERR_LIMIT, "more than %d pipes for pages", SEEDLING_LENT_MAX);
	TRY(io_pipe_single(&fd));
	ret->pieces = io_pipe_grow(fd, PIPE_BYTES) / PAGE_BYTES;
	if (ret->pieces < SPLICE_IN_PIECES)
		return err_hint(err_new(ERR_LIMIT, "a pipe of %zu pages is too small", ret->pieces),
			"raise fs.pipe-user-pages-soft");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	TRY(io_open(path, O_RDONLY | O_NONBLOCK, &theirs));
	ret->lent = s->n_lent;
	TRY(seedling_lend(s->t, ret->lent, theirs));
	s->n_lent++;
	ret->fd = take_fd(&fd);
	return NULL;
}

struct err *splice_open(struct placer *p, unsigned pipes)
{
	struct splicing *q = &p->splice;

	while (q->pipes < pipes) {
		TRY(open_pipe(p, &q->pipe[q->pipes]));
		q->pipes++;
	}
	return NULL;
}

void splice_close(struct placer *p)
{
	for (unsigned i = 0; i < p->splice.pipes; i++)
		fd_closep(&p->splice.pipe[i].fd);
	p->splice.pipes = 0;
}

/* ---- what is announced ---- */

static uint64_t piece_start(const struct iovec *v)
{
	return (uintptr_t)v->iov_base;
}

static uint64_t piece_end(const struct iovec *v)
{
	return piece_start(v) + v->iov_len;
}

bool splice_waits(const struct placer *by, struct range r)
{
	const struct splicing *q = &by->splice;

	for (size_t i = 0; i < q->n; i++)
		if (piece_start(&q->v[i]) < r.end && r.start < piece_end(&q->v[i]))
			return true;
	return false;
}

struct err *splice_add(
	struct placer *by, const struct sink_vma *v, struct range r, struct channel *ch)
{
	struct splicing *q = &by->splice;
	struct iovec *last;

	if (q->n && (q->huge != v->huge || q->n == PIECES_MAX))
		TRY(splice_flush(by, ch));
	TRY(sink_settle_drops(by, r));
	sink_is_put(by->s, r, true);
	q->huge = v->huge;
	q->wanted += r.end - r.start;
	last = q->n ? &q->v[q->n - 1] : NULL;
	if (last && piece_end(last) == r.start)
		last->iov_len += r.end - r.start;
	else
		q->v[q->n++] =
			(struct iovec){ (void *)(uintptr_t)r.start, (size_t)(r.end - r.start) };
	return NULL;
}

/* Takes n bytes off the front of a list. */
static void advance(struct iovec *v, size_t *count, size_t n)
{
	size_t gone = 0;

	for (; gone < *count && n >= v[gone].iov_len; gone++)
		n -= v[gone].iov_len;
	*count -= gone;
	memmove(v, v + gone, *count * sizeof(v[0]));
	if (!*count)
		return;
	v[0].iov_base = (char *)v[0].iov_base + n;
	v[0].iov_len -= n;
}

/* ---- a pipe ---- */

/* As much of what is wanted as it takes. */
static struct err *fill(struct placer *by, struct sink_pipe *p, struct channel *ch)
{
	size_t *wanted = &by->splice.wanted;

	while (*wanted && (!p->used || p->used + SPLICE_IN_PIECES <= p->pieces)) {
		size_t got;

		TRY(channel_splice(ch, p->fd, *wanted, &got));
		if (!got)
			break;
		/* Pieces of a page each, but for the first and the last. */
		p->used += got / PAGE_BYTES + 2;
		p->filled += got;
		*wanted -= got;
	}
	return p->filled ? NULL : err_new(ERR_BUG, "an empty pipe takes nothing");
}

/* n bytes have left it. */
static void took(struct sink_pipe *p, size_t n)
{
	p->filled -= n;
	if (!p->filled)
		p->used = 0;
	advance(p->v, &p->n, n);
}

/* Some of its bytes into memory of ours. @calls pages: read */
static struct err *take_out(struct placer *by, struct sink_pipe *p, size_t n)
{
	TRY(io_read_full(p->fd, by->data, n, "a pipe of ours"));
	by->s->copied += n;
	took(p, n);
	return NULL;
}

/* @calls pages: pwrite64 */
static struct err *by_force(struct placer *by, struct sink_pipe *p)
{
	const uint64_t at = piece_start(&p->v[0]);
	const size_t pages =
		MIN(MAX(by->splice.streak, (size_t)1), (size_t)(PIECE_BYTES / PAGE_BYTES));
	const size_t n = MIN(p->v[0].iov_len, (size_t)(PAGE_DOWN(at) + pages * PAGE_BYTES - at));

	TRY(take_out(by, p, n));
	by->splice.streak += pages;
	for (size_t done = 0; done < n;) {
		ssize_t w = pwrite(by->s->t->mem_fd, by->data + done, n - done, (off_t)(at + done));

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return err_errno(w ? errno : EFAULT, "write memory of process %d at %#jx",
				by->s->t->pid, (uintmax_t)(at + done));
		done += (size_t)w;
	}
	return NULL;
}

/* ---- the process reads ---- */

/* Of the calls, those that are made: nothing is switched where huge pages are wanted. */
static struct call *calls_for(struct splicing *q, const struct sink_pipe *p, size_t *n)
{
	*n = p->huge ? 1 : ARRAY_LEN(q->calls);
	return p->huge ? &q->calls[READ] : q->calls;
}

/* It begins to read all that is in the pipe. */
static struct err *start(struct placer *by, struct sink_pipe *p)
{
	struct splicing *q = &by->splice;
	uint64_t lent = (uint64_t)seedling_lent(by->s->t, p->lent);
	struct call *calls;
	size_t n;

	q->calls[ASK] = (struct call){ .nr = SYS_prctl, .args = { PR_GET_THP_DISABLE } };
	q->calls[SWITCH_OFF] =
		(struct call){ .nr = SYS_prctl, .args = { PR_SET_THP_DISABLE, THP_OFF } };
	q->calls[READ] = (struct call){ .nr = SYS_readv,
		.args = { lent, remote_scratch(by->s->t).v, p->n } };
	q->calls[SWITCH_ON] = (struct call){ .nr = SYS_prctl, .args = { PR_SET_THP_DISABLE } };
	TRY(remote_put(by->s->t, 0, p->v, p->n * sizeof(p->v[0])));
	calls = calls_for(q, p, &n);
	TRY(remote_start(by->s->t, task_leader(by->s->t), calls, n));
	q->reading = p;
	return NULL;
}

/* It has read; *got: a negative errno, or how much. */
static struct err *finish(struct placer *by, int64_t *got)
{
	struct splicing *q = &by->splice;
	struct sink_pipe *p = q->reading;
	struct call *calls;
	size_t n;

	calls = calls_for(q, p, &n);
	q->reading = NULL;
	TRY(remote_collect(by->s->t, calls, n));
	*got = q->calls[READ].ret;
	/* The process to be has switched them off itself. */
	if (!p->huge && q->calls[ASK].ret > 0)
		TRY(REMOTE(by->s->t, task_leader(by->s->t), NULL, "switch huge pages off",
			SYS_prctl, PR_SET_THP_DISABLE, THP_OFF,
			(uint64_t)q->calls[ASK].ret & ~THP_OFF));
	return NULL;
}

struct err *splice_settle(struct placer *by)
{
	struct sink_pipe *p = by->splice.reading;

	while (p && p->n) {
		int64_t got;

		if (!by->splice.reading)
			TRY(start(by, p));
		TRY(finish(by, &got));
		if (got > 0) {
			took(p, (size_t)got);
			by->splice.streak = 0;
		} else if (got == -EFAULT) {
			TRY(by_force(by, p));
		} else {
			return err_errno(
				got ? (int)-got : EIO, "read pages in process %d", by->s->t->pid);
		}
	}
	return NULL;
}

/* What is in the pipe belongs to the first pieces that were announced. */
static void assign(struct splicing *q, struct sink_pipe *p)
{
	size_t left = p->filled;

	for (p->n = 0; left; p->n++) {
		p->v[p->n] = q->v[p->n];
		p->v[p->n].iov_len = MIN(p->v[p->n].iov_len, left);
		left -= p->v[p->n].iov_len;
	}
	p->huge = q->huge;
	advance(q->v, &q->n, p->filled);
}

/* By the thread that traces, for another one. */
static struct err *read_all(void *what)
{
	struct placer *by = what;

	TRY(start(by, &by->splice.pipe[0]));
	return splice_settle(by);
}

struct err *splice_flush(struct placer *by, struct channel *ch)
{
	struct splicing *q = &by->splice;

	while (q->n) {
		struct sink_pipe *p = &q->pipe[q->now];

		TRY(fill(by, p, ch));
		assign(q, p);
		if (q->pipes == 1) {
			TRY(placer_run(by, read_all, by));
			continue;
		}
		TRY(splice_settle(by));
		TRY(start(by, p));
		q->now = (q->now + 1) % q->pipes;
	}
	return NULL;
}

/* ---- shared memory ---- */

static struct err *shared_err(const struct target *to, ssize_t result)
{
	return err_errno(result ? errno : EIO, "write shared memory %ju", (uintmax_t)to->space);
}

/* Where the file system takes nothing out of pipes. */
static struct err *write_copied(
	struct placer *by, struct sink_pipe *p, const struct target *to, struct range r)
{
	const uint64_t at = r.start;
	const size_t n = r.end - r.start;

	TRY(take_out(by, p, n));
	for (size_t done = 0; done < n;) {
		ssize_t w = pwrite(to->fd, by->data + done, n - done, (off_t)(at + done));

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return shared_err(to, w);
		done += (size_t)w;
	}
	return NULL;
}

/* Some of the pipe to this place, which moves on. @calls pages: splice */
static struct err *write_spliced(
	struct placer *by, struct sink_pipe *p, const struct target *to, struct range *left)
{
	size_t n = MIN(p->filled, (size_t)(left->end - left->start));
	loff_t where = (loff_t)left->start;
	ssize_t w = splice(p->fd, NULL, to->fd, &where, n, SPLICE_F_MOVE);

	if (w < 0 && errno == EINTR)
		return NULL;
	if (w < 0 && errno == EINVAL) {
		w = (ssize_t)MIN(n, (size_t)PIECE_BYTES);
		TRY(write_copied(
			by, p, to, (struct range){ left->start, left->start + (uint64_t)w }));
	} else if (w > 0) {
		took(p, (size_t)w);
	} else {
		return shared_err(to, w);
	}
	left->start += (uint64_t)w;
	return NULL;
}

struct err *splice_to_file(
	struct placer *by, struct channel *ch, const struct target *to, struct range r)
{
	struct sink_pipe *p = &by->splice.pipe[by->splice.now];
	struct range left = { r.start, MIN(r.end, to->bytes) };

	by->splice.wanted = r.end - r.start;
	while (by->splice.wanted) {
		TRY(fill(by, p, ch));
		while (p->filled && left.start < left.end)
			TRY(write_spliced(by, p, to, &left));
		/* The last page of a file that ends within it. */
		while (p->filled)
			TRY(take_out(by, p, MIN(p->filled, (size_t)PIECE_BYTES)));
	}
	return NULL;
}
