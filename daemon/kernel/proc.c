// SPDX-License-Identifier: Apache-2.0
/*
 * Directories, links and small files of /proc/PID.
 *
 * A process can end at any moment: opening fails with ENOENT or ESRCH, reading with ESRCH. A zombie
 * still has its files, but no memory and no descriptors.
 */
#include "kernel/proc_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"

/* A link of /proc is at most one page long (d_path). */
#define LINK_BYTES 4096

struct err *proc_gone(struct err *e, pid_t pid)
{
	char dir[32];
	int no = err_sysno(e);

	if (no != ENOENT && no != ESRCH)
		return e;
	snprintf(dir, sizeof(dir), "/proc/%d", pid);
	if (no != ESRCH && access(dir, F_OK) == 0)
		return e;
	err_free(e);
	return err_new(ERR_GONE, "process %d has ended", pid);
}

struct err *proc_read(struct arena *a, pid_t pid, const char *name, char **text)
{
	char path[128];
	struct err *e;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	e = io_read_file(a, path, PROC_TEXT_BYTES, text, NULL);
	if (!e)
		return NULL;
	e = proc_gone(e, pid);
	if (err_sysno(e) != ENOENT)
		return e;
	err_free(e);
	return err_new(ERR_UNSUPPORTED, "there is no %s", path);
}

struct line line_next(const char **text)
{
	struct line l = { .p = *text };
	const char *end;

	if (!*l.p)
		return (struct line){ 0 };
	end = strchrnul(l.p, '\n');
	l.len = (size_t)(end - l.p);
	*text = *end ? end + 1 : end;
	return l;
}

struct err *line_unknown(struct line l, const char *what)
{
	return err_new(ERR_UNSUPPORTED, "unknown form of %s: \"%.*s\"", what,
		(int)MIN(l.len, (size_t)120), l.p ? l.p : "");
}

/* ---- directories of numbers ---- */

static int compare_ints(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

static bool entry_number(const char *name, int *ret)
{
	const char *p = name;
	uint64_t v;

	if (!text_scan_u64(&p, 10, &v) || *p || v > INT32_MAX)
		return false;
	*ret = (int)v;
	return true;
}

static void close_dir(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* The numbers in a directory, ascending; names that are no numbers are passed over (/proc). */
static struct err *list_numbers(
	struct arena *a, const char *path, size_t limit, int **ret, size_t *n)
{
	AUTO(close_dir) DIR *d = opendir(path);
	size_t cap = 0, count = 0;
	struct dirent *entry;
	int *v = NULL;

	if (!d)
		return err_errno(errno, "open %s", path);
	while (errno = 0, (entry = readdir(d))) {
		int number;

		if (!entry_number(entry->d_name, &number))
			continue;
		if (count == limit)
			return err_new(ERR_LIMIT, "%s has more than %zu entries", path, limit);
		v = arena_grow(a, v, &cap, count + 1, sizeof(*v));
		v[count++] = number;
	}
	if (errno)
		return err_errno(errno, "read %s", path);
	if (count)
		qsort(v, count, sizeof(*v), compare_ints);
	*ret = v;
	*n = count;
	return NULL;
}

static struct err *list_of(struct arena *a, pid_t pid, const char *name, int **ret, size_t *n)
{
	size_t limit = name[0] == 'f' ? PROC_FDS_MAX : PROC_THREADS_MAX;
	char path[64];
	struct err *e;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	e = list_numbers(a, path, limit, ret, n);
	return e ? proc_gone(e, pid) : NULL;
}

struct err *proc_fds(struct arena *a, pid_t pid, int **fds, size_t *n)
{
	return list_of(a, pid, "fd", fds, n);
}

struct err *proc_tids(struct arena *a, pid_t pid, pid_t **tids, size_t *n)
{
	pid_t *v;
	size_t count;

	TRY(list_of(a, pid, "task", &v, &count));
	if (!count)
		return err_new(ERR_GONE, "process %d has ended", pid);
	*tids = v;
	*n = count;
	return NULL;
}

/* ---- children ---- */

struct pid_array {
	pid_t *v;
	size_t n, cap;
};

static void pids_add(struct arena *a, struct pid_array *p, pid_t pid)
{
	p->v = arena_grow(a, p->v, &p->cap, p->n + 1, sizeof(*p->v));
	p->v[p->n++] = pid;
}

static struct err *parse_children(struct arena *a, const char *text, struct pid_array *ret)
{
	for (const char *p = text; *p && *p != '\n';) {
		uint64_t pid;

		if (!text_scan_u64(&p, 10, &pid) || !pid || pid > INT32_MAX)
			return line_unknown((struct line){ text, strlen(text) }, "children");
		pids_add(a, ret, (pid_t)pid);
		while (*p == ' ')
			p++;
	}
	return NULL;
}

/* Without CONFIG_PROC_CHILDREN every process says who its parent is. */
static struct err *children_by_parent(struct arena *a, pid_t parent, struct pid_array *ret)
{
	size_t n;
	int *all;

	TRY(list_numbers(a, "/proc", SIZE_MAX, &all, &n));
	for (size_t i = 0; i < n; i++) {
		struct proc_stat st;
		autoerr struct err *e = proc_stat(a, all[i], 0, &st);

		if (!e && st.ppid == parent)
			pids_add(a, ret, all[i]);
		else if (e && err_code(e) != ERR_GONE)
			return take(&e);
	}
	return NULL;
}

struct err *proc_children(struct arena *a, pid_t pid, pid_t **pids, size_t *n)
{
	struct pid_array all = { 0 };
	size_t n_tids = 0;
	pid_t *tids = NULL;

	TRY(proc_tids(a, pid, &tids, &n_tids));
	for (size_t i = 0; i < n_tids; i++) {
		autoerr struct err *e = NULL;
		char name[64], *text;

		snprintf(name, sizeof(name), "task/%d/children", tids[i]);
		e = proc_read(a, pid, name, &text);
		if (e && err_code(e) == ERR_UNSUPPORTED && tids[i] == pid) {
			TRY(children_by_parent(a, pid, &all));
			break;
		}
		/* A thread that ended has given its children to another one, seen before or
		 * after: only a held process gives an exact answer. */
		if (e && tids[i] == pid)
			return take(&e);
		if (!e)
			TRY(parse_children(a, text, &all));
	}
	if (all.n)
		qsort(all.v, all.n, sizeof(*all.v), compare_ints);
	*pids = all.v;
	*n = all.n;
	return NULL;
}

/* ---- links, fdinfo ---- */

struct err *proc_link(struct arena *a, pid_t pid, const char *name, char **ret)
{
	char path[128], target[LINK_BYTES + 1];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	n = readlink(path, target, sizeof(target));
	if (n < 0) {
		struct err *e = proc_gone(err_errno(errno, "readlink %s", path), pid);

		/* The process lives, but not this descriptor. */
		if (err_sysno(e) != ENOENT)
			return e;
		err_free(e);
		return err_new(ERR_GONE, "there is no %s", path);
	}
	if ((size_t)n == sizeof(target))
		return err_new(ERR_LIMIT, "%s is longer than %d bytes", path, LINK_BYTES);
	target[n] = '\0';
	*ret = arena_strdup(a, target);
	return NULL;
}

struct err *proc_fdinfo(struct arena *a, pid_t pid, int fd, char **ret)
{
	char name[32];
	struct err *e;

	snprintf(name, sizeof(name), "fdinfo/%d", fd);
	e = proc_read(a, pid, name, ret);
	if (!e || err_code(e) != ERR_UNSUPPORTED)
		return e;
	err_free(e);
	return err_new(ERR_GONE, "descriptor %d of %d was closed", fd, pid);
}

/* Behind "FIELD:" and blanks at the start of a line, or NULL. */
static const char *fdinfo_find(const char *fdinfo, const char *field)
{
	for (struct line l = line_next(&fdinfo); l.p; l = line_next(&fdinfo)) {
		const char *p = l.p;

		if (!text_scan_lit(&p, field) || *p != ':')
			continue;
		for (p++; *p == ' ' || *p == '\t'; p++)
			;
		return p;
	}
	return NULL;
}

bool fdinfo_has(const char *fdinfo, const char *field)
{
	return fdinfo_find(fdinfo, field) != NULL;
}

struct err *fdinfo_u64(const char *fdinfo, const char *field, unsigned base, uint64_t *ret)
{
	const char *p = fdinfo_find(fdinfo, field);
	uint64_t v;

	if (!p)
		return err_new(ERR_UNSUPPORTED, "fdinfo has no field \"%s\"", field);
	if (base == 16)
		text_scan_lit(&p, "0x");
	if (!text_scan_u64(&p, base, &v) || (*p && !strchr(" \t\n", *p)))
		return err_new(ERR_UNSUPPORTED, "fdinfo field \"%s\" is not a number", field);
	*ret = v;
	return NULL;
}

/* ---- POSIX timers ---- */

static bool scan_int(const char **p, int *ret)
{
	bool minus = text_scan_lit(p, "-");
	uint64_t v;

	if (!text_scan_u64(p, 10, &v) || v > INT32_MAX)
		return false;
	*ret = minus ? -(int)v : (int)v;
	return true;
}

/* "notify: signal/tid.12" */
static bool scan_notify(const char **p, struct proc_timer *t)
{
	static const struct {
		const char *name;
		int notify;
	} ways[] = {
		{ "signal/", SIGEV_SIGNAL },
		{ "none/", SIGEV_NONE },
		{ "thread/", SIGEV_THREAD },
	};
	size_t i = 0;

	if (!text_scan_lit(p, "notify: "))
		return false;
	while (i < ARRAY_LEN(ways) && !text_scan_lit(p, ways[i].name))
		i++;
	if (i == ARRAY_LEN(ways))
		return false;
	t->notify = ways[i].notify;
	if (text_scan_lit(p, "tid."))
		t->notify |= SIGEV_THREAD_ID;
	else if (!text_scan_lit(p, "pid."))
		return false;
	return scan_int(p, &t->target);
}

static bool scan_timer_line(const char **p, unsigned i, struct proc_timer *t)
{
	switch (i) {
	case 0:
		return text_scan_lit(p, "ID: ") && scan_int(p, &t->id);
	case 1:
		return text_scan_lit(p, "signal: ") && scan_int(p, &t->signal) &&
		       text_scan_lit(p, "/") && text_scan_u64(p, 16, &t->sigval);
	case 2:
		return scan_notify(p, t);
	default:
		return text_scan_lit(p, "ClockID: ") && scan_int(p, &t->clock);
	}
}

struct err *proc_parse_timers(struct arena *a, const char *text, struct proc_timer **ret, size_t *n)
{
	struct proc_timer *v = NULL;
	size_t cap = 0, count = 0;

	while (*text) {
		struct proc_timer t = { 0 };

		for (unsigned i = 0; i < 4; i++) {
			struct line l = line_next(&text);
			const char *p = l.p;

			if (!p || !scan_timer_line(&p, i, &t) || line_left(l, p))
				return line_unknown(l, "timers");
		}
		v = arena_grow(a, v, &cap, count + 1, sizeof(*v));
		v[count++] = t;
	}
	*ret = v;
	*n = count;
	return NULL;
}

struct err *proc_timers(struct arena *a, pid_t pid, struct proc_timer **ret, size_t *n)
{
	char *text;

	TRY(proc_read(a, pid, "timers", &text));
	TRY_IN(proc_parse_timers(a, text, ret, n), "read timers of process %d", pid);
	return NULL;
}
