// SPDX-License-Identifier: Apache-2.0
/*
 * The groups tell more than the last message: COMMIT goes out only when the source's group is
 * frozen, and the destination's group is frozen until COMMIT came. So where a message may be
 * missing, the source's process that is not held was never given away, and the destination's
 * process that is not frozen runs for good.
 */
#include "roles/recover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "engine/engine.h"
#include "kernel/freezer.h"
#include "roles/place.h"
#include "roles/subject.h"

#define DYING_MS 1000 /* a seedling whose tracer is gone */

static bool is(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* The process's group, if it is one of ours by this name; *f is empty otherwise. */
static struct err *find_group(pid_t pid, const char *prefix, const char *rest, struct freezer *f)
{
	autofree char *dir = NULL;
	struct err *e = freezer_current(pid, &dir);
	const char *name;

	if (e && err_code(e) == ERR_UNSUPPORTED) {
		err_free(e);
		return NULL;
	}
	TRY(e);
	name = strrchr(dir, '/');
	if (!name || strncmp(name + 1, prefix, strlen(prefix)) != 0 ||
		!is(name + 1 + strlen(prefix), rest))
		return NULL;
	f->home = xcalloc(1, (size_t)(name - dir) + 1);
	memcpy(f->home, dir, (size_t)(name - dir));
	f->dir = take(&dir);
	return NULL;
}

/* GONE is no error: *there tells. */
static struct err *find_subject(pid_t pid, struct subject *s, bool *there)
{
	struct err *e = pid > 1 ? subject_read(pid, s) : err_new(ERR_GONE, "never begun");

	*there = !e;
	if (e && err_code(e) == ERR_GONE) {
		err_free(e);
		return NULL;
	}
	return e;
}

/* ---- source ---- */

/* The process has ended, so it does not tell where our group was; nor the one that was made for it
 * when it came here by a move itself. */
static struct err *remove_left(const struct recover *r)
{
	AUTO(freezer_fini) struct freezer f = { NULL, NULL };
	char name[128], site[32];
	struct err *e;
	const char *base;

	snprintf(name, sizeof(name), ENGINE_HOLD_GROUP "%s", r->id);
	snprintf(site, sizeof(site), "/" ENGINE_SITE_GROUP "%d", r->pid);
	e = freezer_find(name, &f.dir);
	if (e && err_code(e) == ERR_UNSUPPORTED) {
		err_free(e);
		return NULL;
	}
	TRY(e);
	if (!f.dir)
		return NULL;
	TRY(freezer_remove(&f));
	*strrchr(f.dir, '/') = '\0';
	base = strrchr(f.dir, '/');
	if (base && is(base, site))
		rmdir(f.dir); /* stays if somebody else is in it */
	return NULL;
}

static struct err *end(const struct recover *r, struct freezer *f)
{
	autoclose int fd = (int)syscall(SYS_pidfd_open, r->pid, 0);
	AUTO(subject_fini) struct subject s = { .pid = 0 };

	if (fd < 0)
		return errno == ESRCH ? remove_left(r)
				      : err_errno(errno, "open process %d", r->pid);
	TRY(subject_read(r->pid, &s));
	if (s.start_time != r->start_time || s.ours)
		return NULL; /* gone; somebody else has the number */
	if (syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return err_errno(errno, "end the original %d", r->pid);
	if (f->dir)
		TRY(freezer_remove(f));
	return remove_left(r);
}

struct err *recover_source(const struct recover *r, const char **outcome)
{
	AUTO(freezer_fini) struct freezer f = { NULL, NULL };
	bool there, frozen = false;
	AUTO(subject_fini) struct subject s = { .pid = 0 };

	*outcome = is(r->owner, "destination") ? "moved"
		   : is(r->owner, "unknown")   ? "in_doubt"
					       : "kept";
	TRY(find_subject(r->pid, &s, &there));
	if (!there || s.start_time != r->start_time)
		return remove_left(r);
	TRY(find_group(r->pid, ENGINE_HOLD_GROUP, r->id, &f));
	if (is(*outcome, "moved"))
		return end(r, &f);
	if (f.dir)
		TRY(freezer_get(&f, &frozen));
	if (frozen && !r->heard)
		*outcome = "in_doubt";
	return f.dir && is(*outcome, "kept") ? freezer_undo(&f, r->pid) : NULL;
}

/* ---- destination ---- */

int64_t recover_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static bool ends_soon(pid_t pid)
{
	autoclose int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = { fd, POLLIN, 0 };

	return fd < 0 || poll(&p, 1, DYING_MS) > 0;
}

/* The group of a process that is gone. */
static struct err *remove_empty(const struct recover *r)
{
	AUTO(freezer_fini) struct freezer f = { NULL, NULL };
	autofree char *dir = NULL;

	TRY(place_group(r->cgroup_dir, &dir));
	if (!dir || r->pid <= 1)
		return NULL;
	if (asprintf(&f.dir, "%s/" ENGINE_SITE_GROUP "%d", dir, r->pid) < 0)
		abort();
	return freezer_remove(&f);
}

static struct err *settle(const struct recover *r, struct freezer *f, const char **outcome)
{
	bool frozen;

	if (is(r->owner, "destination"))
		return freezer_set(f, false, false);
	TRY(freezer_get(f, &frozen));
	if (!frozen && !ends_soon(r->pid)) {
		*outcome = "moved";
		return NULL;
	}
	TRY(freezer_kill(f));
	return freezer_remove(f);
}

struct err *recover_destination(const struct recover *r, const char **outcome)
{
	AUTO(freezer_fini) struct freezer f = { NULL, NULL };
	const int64_t tick_us = 1000000 / sysconf(_SC_CLK_TCK);
	bool committed = is(r->owner, "destination"), there;
	AUTO(subject_fini) struct subject s = { .pid = 0 };
	char pid[16];

	*outcome = committed ? "moved" : "kept";
	TRY(find_subject(r->pid, &s, &there));
	/* The number may be that of a process that came before: it is older than the migration. */
	if (there && (int64_t)s.start_time * tick_us >= r->began_us - tick_us) {
		snprintf(pid, sizeof(pid), "%d", r->pid);
		TRY(find_group(r->pid, ENGINE_SITE_GROUP, pid, &f));
		if (f.dir)
			return settle(r, &f, outcome);
	} else if (committed) {
		*outcome = "in_doubt"; /* it ran and has ended, or never ran */
	}
	return committed ? NULL : remove_empty(r);
}

/* ---- scratch directories ---- */

static void remove_unused(int parent, const char *name)
{
	autoclose int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d;

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return;
	d = fdopendir(fd);
	if (!d)
		return;
	for (const struct dirent *de; (de = readdir(d));)
		if (!is(de->d_name, ".") && !is(de->d_name, ".."))
			(void)unlinkat(fd, de->d_name, 0);
	(void)unlinkat(parent, name, AT_REMOVEDIR);
	closedir(d);
	fd = -1;
}

void recover_scratch(const char *state_dir)
{
	DIR *d = opendir(state_dir);

	for (const struct dirent *de; d && (de = readdir(d));)
		if (strncmp(de->d_name, ENGINE_SCRATCH, strlen(ENGINE_SCRATCH)) == 0)
			remove_unused(dirfd(d), de->d_name);
	if (d)
		closedir(d);
}
