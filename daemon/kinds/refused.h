/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that no kind claims: why, and what to do about it. */
#pragma once

#include "kinds/kind.h"

/* What it is, as a sentence for an error ("inotify watches cannot be moved yet"); never NULL.
 * *hint: what to try, NULL for nothing in particular. */
const char *refused_reason(const struct file *f, const char **hint);
