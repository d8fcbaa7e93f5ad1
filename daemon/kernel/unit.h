/* SPDX-License-Identifier: Apache-2.0 */
/* Which systemd unit a process belongs to: from its control group's name, without asking systemd.
 */
#pragma once

#include "base/arena.h"
#include "base/err.h"

/* The innermost service around the process ("redis-server.service", of a user's own manager too),
 * "" when there is none. In the arena. */
struct err *unit_of(struct arena *a, pid_t pid, const char **ret) must_check;
/* The same from the text of /proc/PID/cgroup. */
const char *unit_in_cgroups(struct arena *a, const char *text) must_check;
