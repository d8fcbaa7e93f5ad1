/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared memory objects of the source, round by round. They go by offset, once, whoever maps them.
 *
 * An object that the process has open is compared page by page (kinds/shm_sums.c). One that lives
 * by its mappings alone changes through them: the tracker tells. It is compared all the same, when
 * one of the mappings has gone, and its last writes with it, when somebody who is not tracked may
 * have written (unseen.h), and when it is small and may have changed. What there are no sums of is
 * sent again then.
 */
#pragma once

#include "base/ranges.h"
#include "kernel/dirty.h"
#include "kinds/memory.h"

struct outgoing;
struct source;
struct source_member;

/* A shared memory object as it was when it was last sent. */
struct space_seen {
	uint64_t space, bytes;
	bool sent; /* the peer has some of it */
	struct timespec mtime, ctime;
	bool settled;          /* its time stamps were old enough to tell a later write */
	bool lost;             /* it may have been written where no tracker looks */
	struct shm_sums *sums; /* NULL: it was never compared */
};

/* What a round has to look at. */
struct space_work {
	struct shm_space space; /* owns its descriptor */
	struct ranges dirty;    /* offsets written through a mapping */
};

/* `now` follows m->layout: remembers which objects have lost mappings. */
void spaces_compare(struct source *s, const struct source_member *m, const struct layout *now);
/* Somebody who may have written to any of them is gone. */
void spaces_unsettle(struct source *s);
struct err *spaces_open(struct source *s, struct space_work **ret, size_t *n) must_check;
/* Finds out whether others than the tracked processes may have written to them since the last
 * round. One that has them and has left the tree is an error. */
struct err *spaces_watch(struct source *s, const struct space_work *w, size_t n) must_check;
/* Runs that the tracker found in a shared mapping. */
void spaces_add_runs(
	struct space_work *w, size_t n, const struct vma *v, const struct page_runs *runs);
/* Drops what has to be dropped, and adds to `o` what has to be sent: its descriptors are those of
 * `w`. */
struct err *spaces_plan(
	struct source *s, struct space_work *w, size_t n, struct outgoing *o) must_check;
void spaces_close(struct space_work *w, size_t n);
void spaces_fini(struct source *s);
