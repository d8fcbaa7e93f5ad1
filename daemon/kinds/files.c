// SPDX-License-Identifier: Apache-2.0
/*
 * One pass over /proc/PID/fd: link, fdinfo and stat of every descriptor, then grouping.
 *
 * kcmp(2) orders file pointers (obfuscated, but the same order for the life of the kernel), so the
 * descriptions of one bucket are kept sorted and a new descriptor is found by bisection. Buckets
 * are made of what cannot change while a description is open; the position, a counter or the status
 * flags may change between two looks at a running target.
 */
#include "kinds/files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"

struct err *file_look_parse(struct file_look *l)
{
	TRY(fdinfo_u64(l->fdinfo, "flags", 8, &l->flags));
	return fdinfo_u64(l->fdinfo, "pos", 10, &l->pos);
}

/* Directories of one process, opened once: with thousands of descriptors the frozen stretch is made
 * of these look-ups. */
struct fd_dirs {
	struct arena *arena;
	pid_t pid;
	int fd, fdinfo;
};

static struct err *open_dirs(struct fd_dirs *d)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd", d->pid);
	TRY(io_open(path, O_RDONLY | O_DIRECTORY, &d->fd));
	snprintf(path, sizeof(path), "/proc/%d/fdinfo", d->pid);
	return io_open(path, O_RDONLY | O_DIRECTORY, &d->fdinfo);
}

/* The text; NULL in *ret when the descriptor was closed meanwhile. Nearly all fit into the buffer,
 * and then cost no more of the arena than they are long. */
static struct err *read_fdinfo(const struct fd_dirs *d, const char *name, int number, char **ret)
{
	autoclose int fd = openat(d->fdinfo, name, O_RDONLY | O_CLOEXEC);
	char buf[4096];
	ssize_t n;

	*ret = NULL;
	if (fd < 0 && (errno == ENOENT || errno == ESRCH))
		return NULL;
	if (fd < 0)
		return err_errno(errno, "open /proc/%d/fdinfo/%d", d->pid, number);
	n = read(fd, buf, sizeof(buf) - 1);
	if (n < 0 && (errno == ENOENT || errno == ESRCH))
		return NULL;
	if (n < 0)
		return err_errno(errno, "read /proc/%d/fdinfo/%d", d->pid, number);
	buf[n] = '\0';
	/* The kernel gives whole records per read: short of the buffer's end can still be more. */
	if (n < (ssize_t)sizeof(buf) / 2) {
		*ret = arena_dup(d->arena, buf, (size_t)n + 1);
		return NULL;
	}
	return proc_fdinfo(d->arena, d->pid, number, ret);
}

/* False when the descriptor was closed meanwhile. */
static struct err *look_at(const struct fd_dirs *d, struct file_look *l, bool *there)
{
	char name[16], link[4096], *fdinfo;
	ssize_t n;

	*there = false;
	snprintf(name, sizeof(name), "%d", l->number);
	n = readlinkat(d->fd, name, link, sizeof(link) - 1);
	if (n < 0 && (errno == ENOENT || errno == ESRCH))
		return NULL;
	if (n < 0)
		return err_errno(errno, "readlink /proc/%d/fd/%d", d->pid, l->number);
	link[n] = '\0';
	TRY(read_fdinfo(d, name, l->number, &fdinfo));
	if (!fdinfo)
		return NULL;
	if (fstatat(d->fd, name, &l->st, 0) < 0) {
		if (errno == ENOENT || errno == ESRCH)
			return NULL;
		return err_errno(errno, "stat /proc/%d/fd/%d", d->pid, l->number);
	}
	l->link = arena_dup(d->arena, link, (size_t)n + 1);
	l->fdinfo = fdinfo;
	TRY_IN(file_look_parse(l), "/proc/%d/fdinfo/%d", d->pid, l->number);
	*there = true;
	return NULL;
}

static const char *eventfd_number(const char *fdinfo)
{
	const char *p = strstr(fdinfo, "\neventfd-id:");

	return p ? p : "";
}

static int line_cmp(const char *a, const char *b)
{
	size_t la = *a ? strcspn(a + 1, "\n") + 1 : 0, lb = *b ? strcspn(b + 1, "\n") + 1 : 0;
	int c = memcmp(a, b, MIN(la, lb));

	return c ? c : (la > lb) - (la < lb);
}

#define ORDER(x, y) (((x) > (y)) - ((x) < (y)))

/* By what all descriptors of one description share for ever. */
static int bucket_cmp(const struct file_look *a, const struct file_look *b)
{
	int c = ORDER(a->st.st_ino, b->st.st_ino);

	if (!c)
		c = ORDER(a->st.st_dev, b->st.st_dev);
	if (!c)
		c = ORDER(a->flags & O_ACCMODE, b->flags & O_ACCMODE);
	if (!c)
		c = line_cmp(eventfd_number(a->fdinfo), eventfd_number(b->fdinfo));
	if (!c && strncmp(a->link, "anon_inode:", 11) == 0)
		c = strcmp(a->link, b->link);
	return c;
}

static int look_cmp(const void *a, const void *b)
{
	const struct file_look *x = *(const struct file_look *const *)a;
	const struct file_look *y = *(const struct file_look *const *)b;
	int c = bucket_cmp(x, y);

	if (!c)
		c = ORDER(x->pid, y->pid);
	return c ? c : ORDER(x->number, y->number);
}

/* One description while it is collected. */
struct group {
	const struct file_look **v; /* ascending: buckets are walked so */
	size_t n, cap;
};

static void group_add(struct arena *a, struct group *g, const struct file_look *l)
{
	g->v = arena_grow(a, g->v, &g->cap, g->n + 1, sizeof(*g->v));
	g->v[g->n++] = l;
}

/* What grouping needs all the time. */
struct grouping {
	struct arena *arena;
	const struct file_order *order;
};

/* Puts a descriptor into its group among the sorted groups of one bucket; the number of them. */
static size_t bucket_add(
	const struct grouping *w, struct group *g, size_t n, const struct file_look *l)
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = w->order->fn(w->order->arg, l, g[mid].v[0]);

		if (c == 0) {
			group_add(w->arena, &g[mid], l);
			return n;
		}
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	memmove(&g[lo + 1], &g[lo], (n - lo) * sizeof(*g));
	g[lo] = (struct group){ 0 };
	group_add(w->arena, &g[lo], l);
	return n + 1;
}

static int by_first_number(const void *a, const void *b)
{
	const struct file *x = a, *y = b;

	return ORDER(x->slots[0].number, y->slots[0].number);
}

static int group_cmp(const void *a, const void *b)
{
	const struct file_look *x = ((const struct group *)a)->v[0];
	const struct file_look *y = ((const struct group *)b)->v[0];

	return x->pid != y->pid ? ORDER(x->pid, y->pid) : ORDER(x->number, y->number);
}

/* A description as some of its descriptors show it. */
static struct file file_of(struct arena *a, uint64_t id, const struct file_look *const *v, size_t n)
{
	const struct file_look *l = v[0];
	struct file f = {
		.id = id,
		.slots = arena_array(a, n, sizeof(*f.slots)),
		.n_slots = n,
		.link = l->link,
		.fdinfo = l->fdinfo,
		.st = l->st,
		.flags = l->flags & ~(uint64_t)O_CLOEXEC,
		.pos = l->pos,
	};

	for (size_t i = 0; i < n; i++)
		f.slots[i] =
			(struct fd_slot){ v[i]->pid, v[i]->number, (v[i]->flags & O_CLOEXEC) != 0 };
	return f;
}

/* All descriptions, ordered by their first descriptors. */
static struct group *group_looks(struct arena *a, const struct file_look *looks, size_t n,
	const struct file_order *order, size_t *ret)
{
	const struct grouping w = { a, order };
	const struct file_look **by = arena_array(a, n, sizeof(*by));
	struct group *groups = arena_array(a, n, sizeof(*groups));
	size_t done = 0;

	for (size_t i = 0; i < n; i++)
		by[i] = &looks[i];
	qsort(by, n, sizeof(*by), look_cmp);
	for (size_t i = 0, in_bucket = 0; i < n; i++) {
		if (i > 0 && bucket_cmp(by[i - 1], by[i]) != 0) {
			done += in_bucket;
			in_bucket = 0;
		}
		in_bucket = bucket_add(&w, groups + done, in_bucket, by[i]);
		if (i + 1 == n)
			done += in_bucket;
	}
	if (done)
		qsort(groups, done, sizeof(*groups), group_cmp);
	*ret = done;
	return groups;
}

void file_table_group(struct arena *a, const struct file_look *looks, size_t n,
	const struct file_order *order, struct file_table *ret)
{
	struct group *groups = group_looks(a, looks, n, order, &ret->n);

	ret->v = arena_array(a, ret->n, sizeof(*ret->v));
	for (size_t i = 0; i < ret->n; i++) {
		const struct file_look *l = groups[i].v[0];

		ret->v[i] = file_of(a, file_id(l->pid, l->number), groups[i].v, groups[i].n);
	}
}

/* A descriptor that was closed meanwhile compares as smaller: it becomes a description of its own,
 * which only a running target's table can have. `arg`: the first errno that is about something
 * else. */
static int order_by_kcmp(void *arg, const struct file_look *a, const struct file_look *b)
{
	int *error = arg;
	long r = syscall(SYS_kcmp, a->pid, b->pid, KCMP_FILE, (unsigned long)a->number,
		(unsigned long)b->number);

	if (r < 0 && errno != EBADF && errno != ESRCH && !*error)
		*error = errno;
	if (r == 0)
		return 0;
	return r == 2 ? 1 : -1;
}

struct looks {
	struct file_look *v;
	size_t n, cap;
};

static struct err *look_at_all(struct arena *a, pid_t pid, struct looks *ret)
{
	autoclose int fd_dir = -1, fdinfo_dir = -1;
	struct fd_dirs dirs = { a, pid, -1, -1 };
	struct err *e;
	size_t n_fds;
	int *fds;

	TRY_IN(proc_fds(a, pid, &fds, &n_fds), "list the descriptors of %d", pid);
	e = open_dirs(&dirs);
	fd_dir = dirs.fd;
	fdinfo_dir = dirs.fdinfo;
	if (e)
		return e;
	ret->v = arena_grow(a, ret->v, &ret->cap, ret->n + n_fds + 1, sizeof(*ret->v));
	for (size_t i = 0; i < n_fds; i++) {
		struct file_look *l = &ret->v[ret->n];
		bool there;

		*l = (struct file_look){ .pid = pid, .number = fds[i] };
		TRY(look_at(&dirs, l, &there));
		ret->n += there;
	}
	return NULL;
}

/* The part of a description that each of the processes has, into the tables of these. */
static void share_out(struct arena *a, const struct group *g, uint64_t id, const struct pids *pids,
	struct file_table *own)
{
	for (size_t i = 0, n; i < g->n; i += n) {
		pid_t pid = g->v[i]->pid;
		struct file_table *t = &own[pids_index(pids, pid)];

		for (n = 1; i + n < g->n && g->v[i + n]->pid == pid;)
			n++;
		t->v[t->n++] = file_of(a, id, g->v + i, n);
	}
}

struct err *file_tables_read(
	struct arena *a, const struct pids *pids, struct file_table *own, struct file_table *all)
{
	int error = 0;
	const struct file_order order = { order_by_kcmp, &error };
	struct looks looks = { NULL, 0, 0 };
	struct group *groups;

	for (size_t i = 0; i < pids->n; i++) {
		size_t before = looks.n;

		TRY(look_at_all(a, pids->v[i], &looks));
		own[i] = (struct file_table){
			.v = arena_array(a, looks.n - before, sizeof(*own->v)),
		};
	}
	groups = group_looks(a, looks.v, looks.n, &order, &all->n);
	all->v = arena_array(a, all->n, sizeof(*all->v));
	for (size_t i = 0; i < all->n; i++) {
		const struct group *g = &groups[i];

		all->v[i] = file_of(a, file_id(g->v[0]->pid, g->v[0]->number), g->v, g->n);
		share_out(a, g, all->v[i].id, pids, own);
	}
	for (size_t i = 0; i < pids->n; i++)
		if (own[i].n)
			qsort(own[i].v, own[i].n, sizeof(*own[i].v), by_first_number);
	if (error)
		return err_hint(
			err_errno(error, "compare descriptors"), "the kernel needs CONFIG_KCMP");
	return NULL;
}

const struct file *file_by_number(const struct file_table *t, int number)
{
	size_t lo = 0, hi = t->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (t->v[mid].slots[0].number < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < t->n && t->v[lo].slots[0].number == number)
		return &t->v[lo];
	/* Not the lowest number of its description: one of the few that were duplicated. */
	for (size_t i = 0; i < lo; i++)
		for (size_t s = 1; s < t->v[i].n_slots; s++)
			if (t->v[i].slots[s].number == number)
				return &t->v[i];
	return NULL;
}
