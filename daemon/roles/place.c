// SPDX-License-Identifier: Apache-2.0
#include "roles/place.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "kernel/freezer.h"
#include "roles/systemd.h"

#define GROUP_NAME    "migrated.moved"
#define SCOPE_WAIT_US 5000000
#define SCOPE_POLL_US 5000

/* systemd makes a scope only around a process; this one does nothing and dies with us. */
static struct err *start_keeper(pid_t *ret)
{
	pid_t pid = fork();

	if (pid < 0)
		return err_errno(errno, "start a process for the scope");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		(void)syscall(SYS_close_range, 0, ~0U, 0);
		for (;;)
			pause();
	}
	*ret = pid;
	return NULL;
}

static int append_scope(sd_bus_message *m, const char *name, pid_t keeper)
{
	int rc = sd_bus_message_append(m, "ss", name, "fail");

	if (rc >= 0)
		rc = sd_bus_message_open_container(m, 'a', "(sv)");
	if (rc >= 0)
		rc = sd_bus_message_append(m, "(sv)(sv)(sv)(sv)", "Description", "s",
			"process moved here by migrated", "Delegate", "b", 1, "CollectMode", "s",
			"inactive-or-failed", "PIDs", "au", 1, (uint32_t)keeper);
	if (rc >= 0)
		rc = sd_bus_message_close_container(m);
	if (rc >= 0)
		rc = sd_bus_message_append(m, "a(sa(sv))", 0);
	return rc;
}

static struct err *ask_scope(const char *name, pid_t keeper)
{
	AUTO(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
	AUTO(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	sd_bus_error error = SD_BUS_ERROR_NULL;
	int rc;

	TRY(systemd_open(&bus));
	rc = sd_bus_message_new_method_call(
		bus, &m, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER, "StartTransientUnit");
	if (rc >= 0)
		rc = append_scope(m, name, keeper);
	if (rc >= 0)
		rc = sd_bus_call(bus, m, 0, &error, NULL);
	return rc < 0 ? systemd_err(rc, &error, "make a scope") : NULL;
}

/* The call returns before the job is done: the keeper's group tells when it is. */
static struct err *wait_scope(const char *name, pid_t keeper, char **dir)
{
	struct deadline d = deadline_in(SCOPE_WAIT_US);

	while (!deadline_passed(d)) {
		autofree char *now = NULL;
		const char *base;

		TRY(freezer_current(keeper, &now));
		base = strrchr(now, '/');
		if (base && strcmp(base + 1, name) == 0) {
			*dir = take(&now);
			return NULL;
		}
		usleep(SCOPE_POLL_US);
	}
	return err_new(ERR_TIMEOUT, "systemd did not make %s in time", name);
}

static struct err *make_scope(struct place *p)
{
	char name[64];

	TRY(start_keeper(&p->keeper));
	snprintf(name, sizeof(name), "migrated-%d-%jx.scope", getpid(), (uintmax_t)clock_ns());
	TRY(ask_scope(name, p->keeper));
	return wait_scope(name, p->keeper, &p->dir);
}

struct err *place_group(const char *configured, char **dir)
{
	autofree char *root = NULL;
	struct err *e;

	*dir = NULL;
	if (configured[0]) {
		*dir = xstrdup(configured);
		return NULL;
	}
	e = freezer_root(&root);
	if (e && err_code(e) == ERR_UNSUPPORTED) {
		err_free(e); /* no cgroup v2: the engine does without */
		return NULL;
	}
	TRY(e);
	if (asprintf(dir, "%s/%s", root, GROUP_NAME) < 0)
		abort();
	return NULL;
}

static struct err *make_group(struct place *p, const char *configured)
{
	autofree char *dir = NULL;

	TRY(place_group(configured, &dir));
	if (!dir)
		return NULL;
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return err_errno(errno, "make the control group %s", dir);
	p->dir = take(&dir);
	return NULL;
}

struct err *place_make(struct place *p, const char *configured)
{
	*p = (struct place){ .keeper = -1 };
	if (!configured[0] && systemd_here()) {
		autoerr struct err *e = make_scope(p);
		autofree char *line = NULL;

		if (!e)
			return NULL;
		line = err_line(e);
		log_warn("scope error=\"%s\"", line);
		place_fini(p);
	}
	return make_group(p, configured);
}

void place_fini(struct place *p)
{
	free(p->dir);
	if (p->keeper > 1) {
		kill(p->keeper, SIGKILL); /* our child, not yet waited for */
		while (waitpid(p->keeper, NULL, 0) < 0 && errno == EINTR)
			;
	}
	*p = (struct place){ .keeper = -1 };
}
