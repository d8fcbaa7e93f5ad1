/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon that went away in the middle of a migration: the part that talks to us may come back. */
#pragma once

#include "client/follow.h"
#include "client/look.h"

/* Asks for the migration's outcome again, as long as there is a daemon, and follows it to its end.
 * Without an id, it is found by its process. *ret is NULL when nobody can be asked, or nobody knows
 * of it, or when the user gave up (f->abandoned). */
void again(struct follow *f, struct arena *a, Migrate__Reply **ret);
/* Where the process is, once it neither stands still for a moment nor is held: waits for that, a
 * bounded time. */
enum whereabouts again_look(int32_t pid);
