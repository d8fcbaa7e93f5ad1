/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a process that came in lives from now on: not in the daemon's group, so that stopping or
 * limiting the daemon never touches it. With systemd: a transient scope, delegated, so that the
 * engine may make a group of its own inside. Else `migrated.moved` at the root of cgroup v2.
 */
#pragma once

#include "base/err.h"

struct place {
	char *dir;    /* v2 directory; NULL: no cgroup v2 here */
	pid_t keeper; /* keeps the scope alive until the process is in it; -1: none */
};

/* `configured`: the directory from the config, "" for automatic. */
struct err *place_make(struct place *p, const char *configured) must_check;
void place_fini(struct place *p);
/* Where place_make makes groups when there is no scope; *dir is NULL without cgroup v2. */
struct err *place_group(const char *configured, char **dir) must_check;
