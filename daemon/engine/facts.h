/* SPDX-License-Identifier: Apache-2.0 */
/* Facts of both hosts, as they travel, and whether a process can go from one to the other. */
#pragma once

#include "engine/engine.h"
#include "session.pb-c.h"

/* Fills the message with the facts of this host; what it points to lives in the arena. */
void facts_fill(struct arena *a, Migrate__Facts *m);
/* Fills those fields of Begin that say what the process needs beyond objects: number of VMAs,
 * security label, and the systemd unit unless there is one already. */
struct err *facts_fill_begin(struct arena *a, pid_t pid, Migrate__Begin *m) must_check;
/* Notes every difference that matters: blockers (MISMATCH, LIMIT) and warnings. src->facts are the
 * source's own. realtime_offset_ns: CLOCK_REALTIME there minus here, measured. */
void facts_compare(const Migrate__Begin *src, const Migrate__Facts *dst, int64_t realtime_offset_ns,
	struct notes *notes);
/* Above this a process would see its wall clock jump. */
#define FACTS_REALTIME_APART_NS 100000000LL
