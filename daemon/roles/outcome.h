/* SPDX-License-Identifier: Apache-2.0 */
/* What a migration's end has to tell. */
#pragma once

#include "base/arena.h"
#include "engine/engine.h"
#include "ipc.pb-c.h"

/* Blockers and warnings into `d`, as many as fit one message; what is left out is said. Borrows
 * from n, and from the arena. */
void outcome_notes(struct arena *a, const struct notes *n, const char *where, Migrate__Done *d);
