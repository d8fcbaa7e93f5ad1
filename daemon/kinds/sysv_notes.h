/* SPDX-License-Identifier: Apache-2.0 */
/* For whoever looks after a migration from outside: what System V objects it has made here, by the
 * notes in its scratch directory. */
#pragma once

#include "kernel/sysv.h"

/* Its worker is gone: they stay, or are removed. */
void sysv_notes_settle(const char *scratch_dir, bool moved);
/* Calls fn with each that is there; the first error ends it. */
typedef struct err *(*sysv_noted_fn)(void *arg, enum sysv sort, const struct sysv_object *o);
struct err *sysv_notes_each(const char *scratch_dir, sysv_noted_fn fn, void *arg) must_check;
