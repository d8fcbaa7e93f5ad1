/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After the sudden death of a worker: make true what the last state said about who runs the
 * process. Everything here can be repeated, and does nothing where nothing is to be done.
 */
#pragma once

#include "base/err.h"

/* What is known of the migration whose worker died. */
struct recover {
	const char *id;
	pid_t pid;
	uint64_t start_time;    /* source */
	int64_t began_us;       /* destination, CLOCK_BOOTTIME: what it built is not older */
	const char *owner;      /* what the worker said last */
	bool heard;             /* and there was nothing after it that we could not read */
	const char *cgroup_dir; /* destination: as in the config */
};

/* Owner "source" or "nobody": a process that stands in a frozen group of ours runs again. Owner
 * "destination": it runs there, so the original is ended. "unknown": stays as it is. *outcome is
 * "kept", "moved" or "in_doubt", also when there is an error: what the user is told. */
struct err *recover_source(const struct recover *r, const char **outcome) must_check;
/* Owner "destination": it runs. Else what was built is ended: while it was traced it has died with
 * the worker; when it was ready it stands in a frozen group; if it runs, COMMIT had come. */
struct err *recover_destination(const struct recover *r, const char **outcome) must_check;
/* Removes scratch directories that nobody uses. */
void recover_scratch(const char *state_dir);
/* CLOCK_BOOTTIME in microseconds: what start times of processes are counted in. */
int64_t recover_now_us(void);
