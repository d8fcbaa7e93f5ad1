// SPDX-License-Identifier: Apache-2.0
#include "roles/recover.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/freezer.h"
#include "roles/subject.h"

/* The engine's names for its groups on both sides. */
#define HOLD_PREFIX "migrated-hold-"

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

struct err *recover_destination(
	pid_t pid unused_arg, const char *id unused_arg, const char *owner unused_arg)
{
	return NULL;
}
