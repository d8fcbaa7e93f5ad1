// SPDX-License-Identifier: Apache-2.0
/*
 * Pages that no process of ours touches: spliced from the stream into a pipe, by reference, and
 * read from the pipe by the process under construction, straight into its memory. Its ends of the
 * pipes are lent to it (kernel/remote.h), the reading is one remote readv for what is in a pipe.
 *
 * - There are two pipes: while the process reads, which takes about as long as decrypting, the
 *   other one is filled. So a frame's last bytes may still be on their way when the next begins.
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

static struct err *open_pipe(struct page_sink *s, unsigned which)
{
	struct sink_pipe *p = &s->splice.pipe[which];
	autoclose int theirs = -1;
	char path[64];

	TRY(io_pipe_single(&p->fd));
	p->pieces = io_pipe_grow(p->fd, PIPE_BYTES) / PAGE_BYTES;
	if (p->pieces < SPLICE_IN_PIECES)
		return err_hint(err_new(ERR_LIMIT, "a pipe of %zu pages is too small", p->pieces),
			"raise fs.pipe-user-pages-soft");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", p->fd);
	TRY(io_open(path, O_RDONLY | O_NONBLOCK, &theirs));
	return seedling_lend(s->t, which, theirs);
}

struct err *sink_splice_open(struct page_sink *s)
{
	s->splice.on = true;
	for (unsigned i = 0; i < SINK_PIPES; i++)
		s->splice.pipe[i].fd = -1;
	for (unsigned i = 0; i < SINK_PIPES; i++)
		TRY(open_pipe(s, i));
	return NULL;
}

void sink_splice_close(struct page_sink *s)
{
	for (unsigned i = 0; s->splice.on && i < SINK_PIPES; i++)
		fd_closep(&s->splice.pipe[i].fd);
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

bool sink_splice_waits(const struct page_sink *s, struct range r)
{
	const struct sink_splice *p = &s->splice;

	for (size_t i = 0; i < p->n; i++)
		if (piece_start(&p->v[i]) < r.end && r.start < piece_end(&p->v[i]))
			return true;
	return false;
}

struct err *sink_splice_add(
	struct page_sink *s, const struct sink_vma *v, struct range r, struct channel *ch)
{
	struct sink_splice *p = &s->splice;
	struct iovec *last;

	if (p->n && (p->huge != v->huge || p->n == PIECES_MAX))
		TRY(sink_splice_flush(s, ch));
	TRY(sink_settle_drops(&s->own, r));
	pagebits_set(&s->put, r.start, r.end);
	p->huge = v->huge;
	p->wanted += r.end - r.start;
	last = p->n ? &p->v[p->n - 1] : NULL;
	if (last && piece_end(last) == r.start)
		last->iov_len += r.end - r.start;
	else
		p->v[p->n++] =
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
static struct err *fill(struct page_sink *s, struct sink_pipe *p, struct channel *ch)
{
	size_t *wanted = &s->splice.wanted;

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

/* Some of its bytes into memory of ours. */
static struct err *take_out(struct page_sink *s, struct sink_pipe *p, size_t n)
{
	TRY(io_read_full(p->fd, s->own.data, n, "a pipe of ours"));
	s->copied += n;
	took(p, n);
	return NULL;
}

static struct err *by_force(struct page_sink *s, struct sink_pipe *p)
{
	const uint64_t at = piece_start(&p->v[0]);
	const size_t pages =
		MIN(MAX(s->splice.streak, (size_t)1), (size_t)(PIECE_BYTES / PAGE_BYTES));
	const size_t n = MIN(p->v[0].iov_len, (size_t)(PAGE_DOWN(at) + pages * PAGE_BYTES - at));

	TRY(take_out(s, p, n));
	s->splice.streak += pages;
	for (size_t done = 0; done < n;) {
		ssize_t w = pwrite(s->t->mem_fd, s->own.data + done, n - done, (off_t)(at + done));

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return err_errno(w ? errno : EFAULT, "write memory of process %d at %#jx",
				s->t->pid, (uintmax_t)(at + done));
		done += (size_t)w;
	}
	return NULL;
}

/* ---- the process reads ---- */

/* Of the calls, those that are made: nothing is switched where huge pages are wanted. */
static struct call *calls_for(struct sink_splice *q, const struct sink_pipe *p, size_t *n)
{
	*n = p->huge ? 1 : ARRAY_LEN(q->calls);
	return p->huge ? &q->calls[READ] : q->calls;
}

/* It begins to read all that is in the pipe. */
static struct err *start(struct page_sink *s, struct sink_pipe *p)
{
	struct sink_splice *q = &s->splice;
	uint64_t lent = (uint64_t)seedling_lent(s->t, (unsigned)(p - q->pipe));
	struct call *calls;
	size_t n;

	q->calls[ASK] = (struct call){ .nr = SYS_prctl, .args = { PR_GET_THP_DISABLE } };
	q->calls[SWITCH_OFF] =
		(struct call){ .nr = SYS_prctl, .args = { PR_SET_THP_DISABLE, THP_OFF } };
	q->calls[READ] =
		(struct call){ .nr = SYS_readv, .args = { lent, remote_scratch(s->t).v, p->n } };
	q->calls[SWITCH_ON] = (struct call){ .nr = SYS_prctl, .args = { PR_SET_THP_DISABLE } };
	TRY(remote_put(s->t, 0, p->v, p->n * sizeof(p->v[0])));
	calls = calls_for(q, p, &n);
	TRY(remote_start(s->t, task_leader(s->t), calls, n));
	q->reading = p;
	return NULL;
}

/* It has read; *got: a negative errno, or how much. */
static struct err *finish(struct page_sink *s, int64_t *got)
{
	struct sink_splice *q = &s->splice;
	struct sink_pipe *p = q->reading;
	struct call *calls;
	size_t n;

	calls = calls_for(q, p, &n);
	q->reading = NULL;
	TRY(remote_collect(s->t, calls, n));
	*got = q->calls[READ].ret;
	/* The process to be has switched them off itself. */
	if (!p->huge && q->calls[ASK].ret > 0)
		TRY(REMOTE(s->t, task_leader(s->t), NULL, "switch huge pages off", SYS_prctl,
			PR_SET_THP_DISABLE, THP_OFF, (uint64_t)q->calls[ASK].ret & ~THP_OFF));
	return NULL;
}

struct err *sink_splice_settle(struct page_sink *s)
{
	struct sink_pipe *p = s->splice.reading;

	while (p && p->n) {
		int64_t got;

		if (!s->splice.reading)
			TRY(start(s, p));
		TRY(finish(s, &got));
		if (got > 0) {
			took(p, (size_t)got);
			s->splice.streak = 0;
		} else if (got == -EFAULT) {
			TRY(by_force(s, p));
		} else {
			return err_errno(
				got ? (int)-got : EIO, "read pages in process %d", s->t->pid);
		}
	}
	return NULL;
}

/* What is in the pipe belongs to the first pieces that were announced. */
static void assign(struct sink_splice *q, struct sink_pipe *p)
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

struct err *sink_splice_flush(struct page_sink *s, struct channel *ch)
{
	struct sink_splice *q = &s->splice;

	while (q->n) {
		struct sink_pipe *p = &q->pipe[q->now];

		TRY(fill(s, p, ch));
		assign(q, p);
		TRY(sink_splice_settle(s));
		TRY(start(s, p));
		q->now = (q->now + 1) % SINK_PIPES;
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
	struct page_sink *s, struct sink_pipe *p, const struct target *to, struct range r)
{
	const uint64_t at = r.start;
	const size_t n = r.end - r.start;

	TRY(take_out(s, p, n));
	for (size_t done = 0; done < n;) {
		ssize_t w = pwrite(to->fd, s->own.data + done, n - done, (off_t)(at + done));

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return shared_err(to, w);
		done += (size_t)w;
	}
	return NULL;
}

/* Some of the pipe to this place, which moves on. */
static struct err *write_spliced(
	struct page_sink *s, struct sink_pipe *p, const struct target *to, struct range *left)
{
	size_t n = MIN(p->filled, (size_t)(left->end - left->start));
	loff_t where = (loff_t)left->start;
	ssize_t w = splice(p->fd, NULL, to->fd, &where, n, SPLICE_F_MOVE);

	if (w < 0 && errno == EINTR)
		return NULL;
	if (w < 0 && errno == EINVAL) {
		w = (ssize_t)MIN(n, (size_t)PIECE_BYTES);
		TRY(write_copied(
			s, p, to, (struct range){ left->start, left->start + (uint64_t)w }));
	} else if (w > 0) {
		took(p, (size_t)w);
	} else {
		return shared_err(to, w);
	}
	left->start += (uint64_t)w;
	return NULL;
}

struct err *sink_splice_to_file(
	struct page_sink *s, struct channel *ch, const struct target *to, struct range r)
{
	struct sink_pipe *p = &s->splice.pipe[s->splice.now];
	struct range left = { r.start, MIN(r.end, to->bytes) };

	s->splice.wanted = r.end - r.start;
	while (s->splice.wanted) {
		TRY(fill(s, p, ch));
		while (p->filled && left.start < left.end)
			TRY(write_spliced(s, p, to, &left));
		/* The last page of a file that ends within it. */
		while (p->filled)
			TRY(take_out(s, p, MIN(p->filled, (size_t)PIECE_BYTES)));
	}
	return NULL;
}
