// SPDX-License-Identifier: Apache-2.0
#include "kernel/outside.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

struct outside {
	struct outside_holder *v;
	size_t n, cap;
};

bool outside_parse(const char *link, struct outside_holder *ret)
{
	struct outside_holder h = { 0 };

	h.socket = text_scan_lit(&link, "socket:[");
	if (!h.socket && !text_scan_lit(&link, "pipe:["))
		return false;
	if (!text_scan_u64(&link, 10, &h.ino) || strcmp(link, "]") != 0)
		return false;
	*ret = h;
	return true;
}

static void walk_process(pid_t pid, outside_fn fn, void *arg)
{
	char path[64], link[PATH_MAX];
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir)
		return;
	while ((d = readdir(dir))) {
		const char *p = d->d_name;
		uint64_t number;
		ssize_t n;

		if (!text_scan_u64(&p, 10, &number) || *p)
			continue;
		n = readlinkat(dirfd(dir), d->d_name, link, sizeof(link) - 1);
		if (n <= 0)
			continue;
		link[n] = '\0';
		fn(arg, pid, (int)number, link);
	}
	closedir(dir);
}

struct err *outside_walk(const struct pids *except, outside_fn fn, void *arg)
{
	struct dirent *d;
	DIR *dir = opendir("/proc");

	if (!dir)
		return err_errno(errno, "list /proc");
	while ((d = readdir(dir))) {
		const char *p = d->d_name;
		uint64_t pid;

		if (!text_scan_u64(&p, 10, &pid) || *p || pid > INT32_MAX)
			continue;
		if (!pids_include(except, (pid_t)pid) && (pid_t)pid != getpid())
			walk_process((pid_t)pid, fn, arg);
	}
	closedir(dir);
	return NULL;
}

static void add_holder(void *arg, pid_t pid, int number unused_arg, const char *link)
{
	struct outside *o = arg;
	struct outside_holder h;

	if (!outside_parse(link, &h))
		return;
	h.pid = pid;
	if (o->n == o->cap) {
		o->cap = MAX((size_t)256, o->cap * 2);
		o->v = xrealloc_array(o->v, o->cap, sizeof(*o->v));
	}
	o->v[o->n++] = h;
}

static int holder_cmp(const void *a, const void *b)
{
	const struct outside_holder *x = a, *y = b;

	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	return (int)x->socket - (int)y->socket;
}

struct err *outside_scan(const struct pids *except, struct outside **ret)
{
	struct outside *o = xcalloc(1, sizeof(*o));
	struct err *e = outside_walk(except, add_holder, o);

	if (e) {
		outside_free(o);
		return e;
	}
	if (o->n)
		qsort(o->v, o->n, sizeof(*o->v), holder_cmp);
	*ret = o;
	return NULL;
}

void outside_free(struct outside *o)
{
	if (!o)
		return;
	free(o->v);
	free(o);
}

const struct outside_holder *outside_find(const struct outside *o, const char *link)
{
	struct outside_holder want;

	if (!o->n || !outside_parse(link, &want))
		return NULL;
	return bsearch(&want, o->v, o->n, sizeof(*o->v), holder_cmp);
}
