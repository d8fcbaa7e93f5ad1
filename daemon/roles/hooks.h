/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs of the administrator that are run at points of a migration (see migrated.8, HOOKS).
 *
 * Executables of one directory in the order of their names, one after the other: the event as the
 * argument, JSON on stdin, MIGRATED_* in the environment, a time limit for each. The first that
 * fails ends the run; the last line it wrote is the reason that the user sees.
 */
#pragma once

#include "base/err.h"
#include "ipc.pb-c.h"

/* How many there are to run. Cheap: asked while the process stands still. */
size_t hooks_count(const char *dir);
/* Runs all of them. DENIED: one said no; TIMEOUT: one took longer and was killed, or a HookStop
 * came by stop_fd (-1: none can). network_fd: a JSON object whose members are told, too (-1: none).
 */
struct err *hooks_run(const Migrate__HookRun *run, int stop_fd, int network_fd) must_check;

struct monitor;
/* The monitor tells them how a migration has ended, in place of its worker; nothing waits for them.
 * `p` and `why` (NULL: no error) are borrowed. */
void monitor_hooks_tell(struct monitor *m, const char *event, const Migrate__Progress *p,
	const struct err *why);
