/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdarg.h>

#include "base/err.h"

/* Everything that would hinder the move (blockers) or changes by it (warnings). */
struct notes {
	struct err **blockers;
	size_t n_blockers, cap_blockers;
	char **warnings;
	size_t n_warnings, cap_warnings;
};
void notes_refuse(struct notes *n, struct err *e); /* takes e */
/* Forgets the blockers after the first `keep`. */
void notes_forget_blockers(struct notes *n, size_t keep);
void notes_warn(struct notes *n, const char *text);
void notes_warnf(struct notes *n, const char *fmt, ...) printf_like(2, 3);
void notes_vwarn(struct notes *n, const char *fmt, va_list ap) printf_like(2, 0);
void notes_fini(struct notes *n);
