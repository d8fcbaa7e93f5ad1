// SPDX-License-Identifier: Apache-2.0
/*
 * Tables that clone(2) shares are compared with every process. Then one walk over the descriptors
 * of all processes. A descriptor with the same link as one of the
 * target's is compared by kcmp(KCMP_FILE), which orders: the target's are sorted by it once, so
 * that a host with many eventfds costs a bisection for each of them and not a comparison with all.
 */
#include "kinds/shared.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/text.h"
#include "kernel/outside.h"

/* Objects with state of their own behind the descriptor. */
static const char *const objects[] = { "anon_inode:[eventfd]", "anon_inode:[eventpoll]",
	"anon_inode:[signalfd]", "anon_inode:[timerfd]" };

struct candidate {
	const struct file *file;
	bool object, found;
};

struct search {
	struct capture *c;
	struct candidate *v; /* by link, then in kcmp's order */
	size_t n;
};

static bool is_object(const char *link)
{
	for (size_t i = 0; i < ARRAY_LEN(objects); i++)
		if (strcmp(objects[i], link) == 0)
			return true;
	return strncmp(link, "/memfd:", 7) == 0;
}

/* As qsort wants it. An error (a descriptor that was closed) counts as smaller. */
static int kcmp_order(pid_t pid_a, int fd_a, pid_t pid_b, int fd_b)
{
	long r = syscall(
		SYS_kcmp, pid_a, pid_b, KCMP_FILE, (unsigned long)fd_a, (unsigned long)fd_b);

	return r == 0 ? 0 : r == 2 ? 1 : -1;
}

static int candidate_cmp(const void *a, const void *b)
{
	const struct file *x = ((const struct candidate *)a)->file;
	const struct file *y = ((const struct candidate *)b)->file;
	int r = strcmp(x->link, y->link);

	return r ? r
		 : kcmp_order(x->slots[0].pid, x->slots[0].number, y->slots[0].pid,
			   y->slots[0].number);
}

static void report(struct search *s, struct candidate *k, pid_t pid)
{
	const struct file *f = k->file;
	struct proc_stat ps = { .comm = "?" };
	autoerr struct err *e = proc_stat(s->c->arena, pid, 0, &ps);

	k->found = true;
	if (!k->object)
		capture_warn(s->c,
			"descriptor %d (%s) shares its position with process %d (%.16s), and will "
			"not "
			"after the move",
			f->slots[0].number, f->link, pid, e ? "?" : ps.comm);
	else
		capture_refuse(s->c,
			err_hint(err_new(ERR_UNSUPPORTED,
					 "descriptor %d (%s) is shared with process %d (%.16s)",
					 f->slots[0].number, f->link, pid, e ? "?" : ps.comm),
				"processes that work together by it must stay on one host"));
}

static void visit(void *arg, pid_t pid, int number, const char *link)
{
	struct search *s = arg;
	size_t lo = 0, hi = s->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		struct candidate *k = &s->v[mid];
		const struct fd_slot *slot = &k->file->slots[0];
		int r = strcmp(link, k->file->link);

		if (!r)
			r = kcmp_order(pid, number, slot->pid, slot->number);
		if (!r) {
			if (!k->found)
				report(s, k, pid);
			return;
		}
		if (r < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
}

/* What clone(2) can make two processes share. */
static const struct {
	int type;
	const char *what;
} tables[] = {
	{ KCMP_VM, "memory" },
	{ KCMP_FILES, "descriptor table" },
	{ KCMP_FS, "working directory" },
	{ KCMP_SIGHAND, "signal actions" },
};

/* The processes that move, in the order of one of their tables. */
struct table_order {
	const char *what;
	int type;
	pid_t *v;
	size_t n;
};

/* An error (a process that has ended) counts as smaller. */
static int table_cmp(const void *a, const void *b, void *arg)
{
	const struct table_order *t = arg;
	long r = syscall(SYS_kcmp, *(const pid_t *)a, *(const pid_t *)b, t->type, 0, 0);

	return r == 0 ? 0 : r == 2 ? 1 : -1;
}

static void sort_tables(struct capture *c, struct table_order t[ARRAY_LEN(tables)])
{
	for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
		t[i] = (struct table_order){ tables[i].what, tables[i].type,
			arena_dup(c->arena, c->inside->v, c->inside->n * sizeof(pid_t)),
			c->inside->n };
		qsort_r(t[i].v, t[i].n, sizeof(pid_t), table_cmp, &t[i]);
	}
}

static void refuse_table(struct capture *c, pid_t inside, const char *what, pid_t with)
{
	capture_refuse(c, err_new(ERR_UNSUPPORTED, "process %d shares its %s with process %d",
				  (int)inside, what, (int)with));
}

static const pid_t *find_table(struct table_order *t, pid_t pid)
{
	size_t lo = 0, hi = t->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int r = table_cmp(&pid, &t->v[mid], t);

		if (!r)
			return &t->v[mid];
		if (r < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

/* A parent, or whoever. */
static void compare_tables(struct capture *c, struct table_order *t, pid_t pid)
{
	for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
		const pid_t *same = find_table(&t[i], pid);

		if (!same)
			continue;
		refuse_table(c, *same, t[i].what, pid);
		return;
	}
}

static struct err *tables_outside(struct capture *c)
{
	struct table_order t[ARRAY_LEN(tables)];
	struct dirent *d;
	DIR *dir = opendir("/proc");

	if (!dir)
		return err_errno(errno, "list /proc");
	sort_tables(c, t);
	while ((d = readdir(dir))) {
		const char *p = d->d_name;
		uint64_t pid;

		if (text_scan_u64(&p, 10, &pid) && !*p && pid <= INT32_MAX &&
			!capture_inside(c, (pid_t)pid))
			compare_tables(c, t, (pid_t)pid);
	}
	closedir(dir);
	return NULL;
}

void shared_inside(struct capture *c)
{
	struct table_order t[ARRAY_LEN(tables)];

	sort_tables(c, t);
	for (size_t i = 0; i < ARRAY_LEN(tables); i++)
		for (size_t k = 1; k < t[i].n; k++)
			if (table_cmp(&t[i].v[k - 1], &t[i].v[k], &t[i]) == 0)
				refuse_table(c, t[i].v[k - 1], t[i].what, t[i].v[k]);
}

struct err *shared_outside(struct capture *c)
{
	struct search s = { .c = c };

	TRY(tables_outside(c));
	s.v = arena_array(c->arena, c->all->n, sizeof(*s.v));
	for (size_t i = 0; i < c->all->n; i++) {
		const struct file *f = &c->all->v[i];
		/* A lock of the description would be given up for others, too. */
		bool object = is_object(f->link) || strstr(f->fdinfo, "OFDLCK");

		/* What has no position, or always writes at the end, shares nothing that matters.
		 */
		if (!object && (!S_ISREG(f->st.st_mode) || (f->flags & (O_APPEND | O_PATH))))
			continue;
		s.v[s.n++] = (struct candidate){ .file = f, .object = object };
	}
	if (!s.n)
		return NULL;
	qsort(s.v, s.n, sizeof(*s.v), candidate_cmp);
	return outside_walk(c->inside, visit, &s);
}
