/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may have written to shared memory and is tracked by nobody: children that were born after the
 * rehearsal, also those that have ended since. What such a one has written can only be found by
 * comparing.
 */
#pragma once

#include "base/base.h"

struct source;

/* Since the last call. After the processes' own writes were collected, before shared memory is
 * looked at. */
struct unseen {
	bool writers; /* somebody may have written */
	bool ended;   /* one that is no more: it may have left children that are in the tree no more
		       */
};
struct unseen unseen_look(struct source *s);
