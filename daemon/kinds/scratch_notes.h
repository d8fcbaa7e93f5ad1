/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notes in the scratch directory of what a migration has made on this host that outlives whoever
 * made it: so that it is removed should the migration come to nothing, and its worker with it. A
 * note is a link to nowhere. It counts in the boot that it was made in: what it is about goes with
 * the kernel.
 */
#pragma once

#include "base/err.h"

/* Made when what it is about is there. */
struct err *note_make(const char *path, const char *text) must_check;
bool note_there(const char *path);
/* And says this. */
bool note_says(const char *path, const char *text);
void note_drop(const char *path);
/* Calls fn with the file name and the text of every note whose name begins so; the first error ends
 * it. */
typedef struct err *(*note_fn)(void *arg, const char *file, const char *text);
struct err *notes_walk(const char *dir, const char *prefix, note_fn fn, void *arg) must_check;
