// SPDX-License-Identifier: Apache-2.0
/*
 * Pipes within the process: ends, capacity, and the bytes in them, which are copied by tee(2) into
 * a pipe of ours and never consumed.
 *
 * Each end is a description of its own; there may be several per end, and one for both ends
 * (O_RDWR), where the process opened /proc/self/fd/N again. All of a pipe share a group and are
 * rebuilt together: two ends by pipe2(2), the others by opening them again. Only the latter have
 * the kernel's O_LARGEFILE in their flags, which tells them apart.
 *
 * What was written in packet mode keeps its bounds, whatever mode the ends are in by now: a read(2)
 * from the copy ends where a packet does.
 *
 * An end without a counterpart in the process must be closed everywhere (POLLHUP, POLLERR), else
 * somebody outside has it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "kinds/cache.h"
#include "kinds/kind.h"
#include "pipe.pb-c.h"

#define PIPE_KIND_ID   24
#define PIPE_BYTES_MAX (8u << 20)
/* What the kernel gives to root at most. */
#define CAPACITY_MAX (1u << 31)
/* A pipe's group has this at the top, a pair of sockets 0. */
#define GROUP_MASK     (0xffULL << 56)
#define GROUP_OF_PIPES ((uint64_t)PIPE_KIND_ID << 56)
#define STATUS_FLAGS       (SETFL_FLAGS | O_DIRECT)

enum { STASH_READ, STASH_WRITE };

static bool pipe_claims(const struct file *f)
{
	return S_ISFIFO(f->st.st_mode) && strncmp(f->link, "pipe:[", 6) == 0 &&
	       !(f->flags & O_PATH);
}

static bool can_read(uint64_t flags)
{
	return (flags & O_ACCMODE) != O_WRONLY;
}

static bool can_write(uint64_t flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

/* What the process itself has of one pipe. */
struct ends {
	bool read, write;
	const struct file *carrier; /* the first that can read, else the first: it has the data */
};

static struct ends find_ends(const struct file_table *t, ino_t ino)
{
	struct ends e = { 0 };

	for (size_t i = 0; i < t->n; i++) {
		const struct file *f = &t->v[i];

		if (f->st.st_ino != ino || !pipe_claims(f))
			continue;
		if (!e.carrier || (!e.read && can_read(f->flags)))
			e.carrier = f;
		e.read |= can_read(f->flags);
		e.write |= can_write(f->flags);
	}
	return e;
}

static struct err *refuse_outside(struct capture *c, const char *what)
{
	struct holder_name by = { "another process" };

	kind_cache_held_outside(c->cache, c->inside, c->stopped, c->file->link, &by);
	return err_hint(err_new(ERR_UNSUPPORTED, "%s is held by %s", what, by.text),
		"start the program without a pipe to others, e.g. with its output in a file");
}

static struct err *check_outside(struct capture *c, const struct ends *e, int home)
{
	struct pollfd p = { .fd = home };
	struct holder_name by;

	if (poll(&p, 1, 0) < 0)
		return err_errno(errno, "poll a pipe");
	if (!e->write && !(p.revents & POLLHUP))
		return refuse_outside(c, "the write end");
	if (!e->read && !(p.revents & POLLERR))
		return refuse_outside(c, "the read end");
	if (c->file == e->carrier &&
		kind_cache_held_outside(c->cache, c->inside, c->stopped, c->file->link, &by))
		return refuse_outside(c, "the pipe");
	return NULL;
}

/* All that is in the pipe, into one of ours; home is an end that can read. */
static struct err *copy_pipe(struct capture *c, int home, unsigned capacity, int want, int into)
{
	ssize_t n;

	/* As many slots as there, and one: every slot is taken over as it is, full or not. */
	if (fcntl(into, F_SETPIPE_SZ, capacity + (unsigned)PAGE_BYTES) < 0)
		return err_errno(errno, "make a pipe of %u bytes", capacity);
	n = tee(home, into, capacity, SPLICE_F_NONBLOCK);
	if (n < 0 && errno != EAGAIN)
		return err_errno(errno, "copy what is in a pipe");
	if (c->stopped && n != want)
		return err_new(ERR_KERNEL, "copied %zd of %d bytes in a pipe", n, want);
	return NULL;
}

/* The end of one read(2) after the other. A byte that is no packet, behind all others, tells
 * whether the last of them is one. */
static struct err *read_packets(
	struct capture *c, int out, int in, size_t room, Migrate__Kind__Pipe *m)
{
	size_t cap = 0;
	int more;

	m->data.data = arena_alloc(c->arena, room + 1);
	if (write(in, "", 1) != 1)
		return err_errno(errno, "mark the end of the copy of a pipe");
	for (;;) {
		size_t left = room + 1 - m->data.len;
		ssize_t n = read(out, m->data.data + m->data.len, left);

		if (n <= 0)
			return err_errno(n ? errno : EIO, "read the copy of a pipe");
		m->data.len += (size_t)n;
		if (ioctl(out, FIONREAD, &more) < 0)
			return err_errno(errno, "ask how much is in a pipe");
		if (!more)
			break;
		if (n > PIPE_BUF)
			return err_new(ERR_UNSUPPORTED,
				"a pipe with packets (O_DIRECT) between other bytes");
		m->packets = arena_grow(
			c->arena, m->packets, &cap, m->n_packets + 1, sizeof(*m->packets));
		m->packets[m->n_packets++] = (uint32_t)n;
	}
	m->data.len--;
	return NULL;
}

/* Copies what is in the pipe. */
static struct err *copy_data(struct capture *c, int home, Migrate__Kind__Pipe *m)
{
	autoclose int out = -1, in = -1;
	int want, ends[2];

	if (ioctl(home, FIONREAD, &want) < 0)
		return err_errno(errno, "ask how much is in a pipe");
	if (want == 0)
		return NULL;
	if ((unsigned)want > PIPE_BYTES_MAX)
		return err_new(ERR_LIMIT, "%d bytes in a pipe are too many", want);
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(errno, "make a pipe");
	out = ends[0];
	in = ends[1];
	TRY(copy_pipe(c, home, m->capacity, want, in));
	/* While it runs there may be more by now. */
	return read_packets(c, out, in, MIN(m->capacity, PIPE_BYTES_MAX), m);
}

static struct err *pipe_capture(struct capture *c)
{
	Migrate__Kind__Pipe m = MIGRATE__KIND__PIPE__INIT;
	const struct file *f = c->file;
	struct ends e = find_ends(c->all, f->st.st_ino);
	int home, capacity;
	struct object *o;

	TRY(capture_home(c, &home));
	TRY(check_outside(c, &e, home));
	capacity = fcntl(home, F_GETPIPE_SZ);
	if (capacity < 0)
		return err_errno(errno, "ask for the size of a pipe");
	m.flags = f->flags;
	m.capacity = (uint32_t)capacity;
	m.uid = f->st.st_uid;
	m.gid = f->st.st_gid;
	m.mode = f->st.st_mode & 07777;
	if (f == e.carrier && e.read)
		TRY(copy_data(c, home, &m));
	o = capture_emit(c, f->id, &m.base);
	/* Inode numbers of sockets come from the same counter. */
	o->group = GROUP_OF_PIPES ^ f->st.st_ino;
	return NULL;
}

/* Whoever is in a group finds what others of it have made: that must be pipes. */
static struct err *pipe_check(struct rebuild *r unused_arg, const struct object *o, const void *msg)
{
	const Migrate__Kind__Pipe *m = msg;
	size_t left = m->data.len;

	if ((o->group & GROUP_MASK) != GROUP_OF_PIPES || m->capacity > CAPACITY_MAX ||
		m->mode > 07777)
		return err_new(ERR_PEER, "a pipe that makes no sense");
	/* More would wait for a reader for ever. */
	if (m->data.len > m->capacity || m->data.len > PIPE_BYTES_MAX)
		return err_new(ERR_PEER, "%zu bytes in a pipe of %u", m->data.len, m->capacity);
	for (size_t i = 0; i < m->n_packets; i++) {
		if (m->packets[i] == 0 || m->packets[i] > PIPE_BUF || m->packets[i] > left)
			return err_new(ERR_PEER, "impossible packets in a pipe");
		left -= m->packets[i];
	}
	return NULL;
}

/* Through a description of its own: the mode belongs to that. */
static struct err *write_data(int end, const Migrate__Kind__Pipe *m)
{
	const uint8_t *at = m->data.data;
	autoclose int fd = -1;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", end);
	TRY(io_open(path, O_WRONLY | O_NONBLOCK, &fd));
	if (m->n_packets && fcntl(fd, F_SETFL, O_NONBLOCK | O_DIRECT) < 0)
		return err_errno(errno, "write packets to a pipe");
	for (size_t i = 0; i < m->n_packets; at += m->packets[i++])
		TRY(io_write_full(fd, at, m->packets[i], "what was in a pipe"));
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return err_errno(errno, "write to a pipe");
	return io_write_full(
		fd, at, m->data.len - (size_t)(at - m->data.data), "what was in a pipe");
}

static struct err *make_pipe(
	struct rebuild *r, const struct object *o, const Migrate__Kind__Pipe *m)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(errno, "make a pipe");
	rebuild_stash_put(r, o->group, STASH_READ, ends[0]);
	rebuild_stash_put(r, o->group, STASH_WRITE, ends[1]);
	if (fcntl(ends[0], F_SETPIPE_SZ, m->capacity) < 0)
		return err_errno(errno, "make a pipe of %u bytes", m->capacity);
	if (fchown(ends[0], m->uid, m->gid) < 0 || fchmod(ends[0], m->mode) < 0)
		return err_errno(errno, "set the owner of a pipe");
	return NULL;
}

static struct err *pipe_rebuild(struct rebuild *r, const struct object *o, const void *msg, int *fd)
{
	const Migrate__Kind__Pipe *m = msg;
	autoclose int made = -1;
	char path[64];
	int end;

	TRY(pipe_check(r, o, msg));
	if (rebuild_stash_get(r, o->group, STASH_READ) < 0)
		TRY(make_pipe(r, o, m));
	end = rebuild_stash_get(r, o->group, can_read(m->flags) ? STASH_READ : STASH_WRITE);
	if ((m->flags & O_ACCMODE) == O_RDWR || (m->flags & KERNEL_O_LARGEFILE)) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", end);
		made = open(path, (int)(m->flags & O_ACCMODE) | O_NONBLOCK | O_CLOEXEC);
	} else {
		made = fcntl(end, F_DUPFD_CLOEXEC, 0);
	}
	if (made < 0)
		return err_errno(errno, "open the end of a pipe");
	if (m->data.len)
		TRY(write_data(rebuild_stash_get(r, o->group, STASH_WRITE), m));
	if (fcntl(made, F_SETFL, (int)(m->flags & STATUS_FLAGS)) < 0)
		return err_errno(errno, "set the flags of a pipe");
	*fd = take_fd(&made);
	return NULL;
}

/* Who asks for signals is remembered with the descriptor's number (si_fd): so by the process. */
static struct err *pipe_link(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__Pipe *m = msg;

	if (!(m->flags & O_ASYNC))
		return NULL;
	return REMOTE(r->task, r->thread, NULL, "ask for signals of a pipe", SYS_fcntl,
		(uint64_t)o->slots[0].number, F_SETFL, m->flags & (STATUS_FLAGS | O_ASYNC));
}

const struct kind kind_pipe = {
	.id = PIPE_KIND_ID,
	.name = "pipe",
	.scope = KIND_FILE,
	.stage = STAGE_FILE,
	.msg = &migrate__kind__pipe__descriptor,
	.claims = pipe_claims,
	.capture = pipe_capture,
	.check = pipe_check,
	.rebuild = pipe_rebuild,
	.link = pipe_link,
};
