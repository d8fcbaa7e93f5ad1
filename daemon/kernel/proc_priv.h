/* SPDX-License-Identifier: Apache-2.0 */
/* What the files behind proc.h share. */
#pragma once

#include "kernel/proc.h"

/* Reads /proc/PID/NAME. A process that ended is GONE, whatever the kernel called it; a missing file
 * of a living process is UNSUPPORTED (a kernel built without it). */
struct err *proc_read(struct arena *a, pid_t pid, const char *name, char **text) must_check;
/* Turns the error of an access below /proc/PID into GONE when the process is not there any more.
 * Takes and returns e. */
struct err *proc_gone(struct err *e, pid_t pid) must_check;

/* One line of text, without its newline; p NULL at the end. */
struct line {
	const char *p;
	size_t len;
};
/* Cuts the next line off *text. */
struct line line_next(const char **text);
/* UNSUPPORTED: this kernel writes `what` in a way that we do not know. Shows the line. */
struct err *line_unknown(struct line l, const char *what) must_check;
static inline bool line_left(struct line l, const char *p)
{
	return p < l.p + l.len;
}
