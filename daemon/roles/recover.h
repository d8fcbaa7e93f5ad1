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
/* Owner "destination": it runs. Else what was built is ended. */
struct err *recover_destination(pid_t pid, const char *id, const char *owner) must_check;
