/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control groups of processes that came in, removed when those have ended or moved on. The kernel
 * tells by cgroup.events of each (fsnotify: IN_MODIFY).
 */
#pragma once

#include "roles/monitor.h"

/* `m` has its config and its event base. Without cgroup v2 there is nothing to do. */
struct groups *groups_new(struct monitor *m);
void groups_free(struct groups *g);
/* Removes those that are empty, unless somebody is building a process in one right now: a group
 * that was just made is empty too. Called when a migration is over, too. */
void groups_tidy(struct groups *g);
