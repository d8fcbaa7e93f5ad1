/* SPDX-License-Identifier: Apache-2.0 */
/* A process's clocks against ours. */
#pragma once

#include "base/err.h"

/* CLOCK_MONOTONIC and CLOCK_BOOTTIME of that process minus ours, in nanoseconds: the difference of
 * the two time namespaces' offsets, which both count from the initial one. */
struct err *clock_process_offsets(
	pid_t pid, int64_t *monotonic_ns, int64_t *boottime_ns) must_check;
/* For tests: the text of /proc/PID/timens_offsets ("monotonic  -5 0\nboottime ..."). */
struct err *clock_parse_offsets(
	const char *text, int64_t *monotonic_ns, int64_t *boottime_ns) must_check;
