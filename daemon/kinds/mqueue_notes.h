/* SPDX-License-Identifier: Apache-2.0 */
/* For whoever looks after a migration from outside: which POSIX message queues it has made here, by
 * the notes in its scratch directory. */
#pragma once

#include "base/err.h"

/* Its worker is gone: they stay, or are removed. */
void mqueue_notes_settle(const char *scratch_dir, bool moved);
/* Calls fn with the owner of each; the first error ends it. */
typedef struct err *(*mqueue_noted_fn)(void *arg, const char *name, uint32_t uid);
struct err *mqueue_notes_each(const char *scratch_dir, mqueue_noted_fn fn, void *arg) must_check;
