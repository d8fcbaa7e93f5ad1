/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The systemd unit around a process: a service that restarts what ends would bring the original
 * back beside the moved one. Only where systemd runs; elsewhere there is no unit and nothing fails.
 */
#pragma once

#include "base/err.h"

struct unit {
	char *name;    /* NULL: none, or one that does not care (a session's scope, a slice) */
	char *path;    /* D-Bus object */
	char *restart; /* its Restart=, "no" when it has none */
};

struct err *unit_around(pid_t pid, struct unit *ret) must_check;
void unit_fini(struct unit *u);
/* Refuses a unit that would start the program again, unless it may be stopped afterwards. */
struct err *unit_check(const struct unit *u, bool may_stop) must_check;
/* After the move: stops it, so that nothing is restarted. */
struct err *unit_stop(const struct unit *u) must_check;
