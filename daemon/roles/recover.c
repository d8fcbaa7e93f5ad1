// SPDX-License-Identifier: Apache-2.0
#include "roles/recover.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "kernel/freezer.h"
#include "roles/subject.h"

/* The engine's names for its groups on both sides. */
#define HOLD_PREFIX "migrated-hold-"
#define SITE_PREFIX "pid-"

/* In our frozen group? Then *f is that group and its parent. */
static struct err *find_hold(pid_t pid, struct freezer *f, bool *held)
{
	autofree char *dir = NULL;
	struct err *e = freezer_current(pid, &dir);
	char *name;

	*held = false;
	if (e && err_code(e) == ERR_UNSUPPORTED) {
		err_free(e);
		return NULL;
	}
	TRY(e);
	name = strrchr(dir, '/');
	if (!name || strncmp(name + 1, HOLD_PREFIX, strlen(HOLD_PREFIX)) != 0)
		return NULL;
	f->dir = xstrdup(dir);
	*name = 0;
	f->home = take(&dir);
	*held = true;
	return NULL;
}

static struct err *resume(pid_t pid)
{
	AUTO(freezer_fini) struct freezer f = { NULL, NULL };
	bool held;

	TRY(find_hold(pid, &f, &held));
	return held ? freezer_undo(&f, pid) : NULL;
}

static struct err *end(pid_t pid, uint64_t start_time)
{
	autoclose int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct subject s;

	if (fd < 0)
		return errno == ESRCH ? NULL : err_errno(errno, "open process %d", pid);
	TRY(subject_read(pid, &s));
	if (s.start_time != start_time || s.ours)
		return NULL; /* gone; somebody else has the number */
	if (syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return err_errno(errno, "end the original %d", pid);
	return NULL;
}

struct err *recover_source(pid_t pid, uint64_t start_time, const char *owner)
{
	struct subject s;
	struct err *e;

	if (strcmp(owner, "unknown") == 0)
		return NULL;
	e = subject_read(pid, &s);
	if (e && err_code(e) == ERR_GONE) {
		err_free(e);
		return NULL;
	}
	TRY(e);
	if (s.start_time != start_time)
		return NULL;
	return strcmp(owner, "destination") == 0 ? end(pid, start_time) : resume(pid);
}

int64_t recover_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Is it in the group that the engine makes for a process with this number? */
static struct err *find_site(pid_t pid, char **dir, bool *ours)
{
	autofree char *now = NULL;
	struct err *e = freezer_current(pid, &now);
	char name[64];
	const char *base;

	*ours = false;
	if (e && err_code(e) == ERR_UNSUPPORTED) {
		err_free(e);
		return NULL;
	}
	TRY(e);
	snprintf(name, sizeof(name), SITE_PREFIX "%d", pid);
	base = strrchr(now, '/');
	*ours = base && strcmp(base + 1, name) == 0;
	*dir = take(&now);
	return NULL;
}

struct err *recover_destination(pid_t pid, int64_t began_us, const char *owner)
{
	autoarena struct arena *a = arena_new();
	autofree char *dir = NULL;
	struct subject s;
	int64_t started_us;
	bool ours;

	struct err *e = pid > 1 ? subject_read(pid, &s) : err_new(ERR_GONE, "never begun");

	if (e && err_code(e) == ERR_GONE) {
		err_free(e);
		return NULL;
	}
	TRY(e);
	/* The number may be that of a process that came before: it is older than the migration. */
	started_us = (int64_t)s.start_time * (1000000 / sysconf(_SC_CLK_TCK));
	if (started_us < began_us - 1000000 / sysconf(_SC_CLK_TCK))
		return NULL;
	TRY(find_site(pid, &dir, &ours));
	if (!ours)
		return NULL;
	if (strcmp(owner, "destination") == 0)
		return io_write_file(arena_printf(a, "%s/cgroup.freeze", dir), "0");
	return io_write_file(arena_printf(a, "%s/cgroup.kill", dir), "1");
}
