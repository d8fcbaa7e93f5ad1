/* SPDX-License-Identifier: Apache-2.0 */
/* What whoever cleans up after us finds us by: the points of a migration that are remembered (see
 * engine_io.on_mark), and names. */
#pragma once

/* Of a migration's id, which text_is_id. */
#define ENGINE_ID_MAX 63

/* What must be known to whoever cleans up after our death: told before it becomes true, but for
 * MARK_RUNNING and MARK_CONFIRMED. */
enum engine_mark {
	MARK_NONE,
	/* source */
	MARK_INTENT, /* it will be held; until MARK_COMMIT it runs here or nowhere */
	MARK_COMMIT, /* the peer may run it from now on */
	MARK_MOVED,  /* the peer runs it: what stands here is to be ended */
	/* destination */
	MARK_BUILDING,  /* it has a process, in which nothing runs */
	MARK_COMMITTED, /* it is ours: it is to run, whoever sees to that */
	MARK_RUNNING,   /* it does */
	MARK_CONFIRMED, /* and the source knows */
	MARK_COUNT,
};

/* Control groups of the engine's own, by which whoever cleans up after its death finds a process:
 * the source holds it in the first (below the group that it was in; the migration's id), the
 * destination builds it in the second (below receive_options.cgroup_dir; the pid). */
#define ENGINE_HOLD_GROUP "migrated-hold-"
#define ENGINE_SITE_GROUP "pid-"
/* The destination's scratch directory, below receive_options.state_dir, with the migration's id. It
 * is locked (flock) as long as somebody uses it: one that is not is a dead worker's. */
#define ENGINE_SCRATCH "moving-"
