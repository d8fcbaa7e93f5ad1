/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After the sudden death of a worker: make true what the last state said about who runs the
 * process. Everything here can be repeated, and does nothing where nothing is to be done.
 */
#pragma once

#include "base/err.h"

/* Owner "source" or "nobody": a process that stands in a frozen group of ours runs again. Owner
 * "destination": it runs there, so the original is ended. "unknown": stays as it is. */
struct err *recover_source(pid_t pid, uint64_t start_time, const char *owner) must_check;
/* Owner "destination": it runs. Else what was built since `began_us` (CLOCK_BOOTTIME) is ended:
 * while it was traced it has died with the worker; when it was ready it stands in a frozen group.
 */
struct err *recover_destination(pid_t pid, int64_t began_us, const char *owner) must_check;
/* CLOCK_BOOTTIME in microseconds: what start times of processes are counted in. */
int64_t recover_now_us(void);
