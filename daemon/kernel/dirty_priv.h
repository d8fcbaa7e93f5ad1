/* SPDX-License-Identifier: Apache-2.0 */
/* What the trackers share, and what their tests reach. */
#pragma once

#include "kernel/dirty.h"
#include "kernel/pagebits.h"

/* Collects the runs of one VMA: neighbours join, but never with what was there before. */
struct run_sink {
	struct page_runs *runs;
	size_t first; /* runs->n at the beginning */
	bool exact;   /* never bridge gaps: what lies between must not be sent */
};
/* From so many runs of one VMA on, DATA bridges gaps: of one page at first, of two pages at twice
 * as many, and so on. Keeps 4 GiB with every second page written at 2 MiB of runs. */
#define RUNS_DENSE 131072
void run_sink_add(struct run_sink *s, struct range r, enum page_class class);

/* False for the kernel's own blocks (vdso, vvar), which cannot change. */
bool dirty_vma_tracked(const struct vma *v);
/* Shared memory that is not tracked: all of it may have been written. */
void dirty_whole(const struct vma *v, struct run_sink *s);

/* dirty_wp with a userfaultfd that somebody made in the process. Takes uffd. */
struct err *dirty_wp_adopt(pid_t pid, int uffd, struct dirty **ret) must_check;
/* dirty_soft and dirty_none without a held task. */
struct err *dirty_soft_open_pid(pid_t pid, struct dirty **ret) must_check;
struct err *dirty_none_open_pid(pid_t pid, struct dirty **ret) must_check;

/* The zero pages of this machine, by page frame; 0 for unknown. */
struct zero_frames {
	uint64_t small, huge; /* huge: the first of 512 */
};
/* The first and the last own page of one mapping in one block of 2 MiB, and the frames they had. */
struct anchor {
	uint64_t at[2], frame[2];
};
struct anchor_list {
	struct anchor *v;
	size_t n, cap;
};
struct anchors {
	struct anchor_list before, now; /* of the last look and of this one, in order */
	size_t next;                    /* in before: those in front of it are passed */
};
void anchors_fini(struct anchors *a);
/* Another look begins. */
void anchors_turn(struct anchors *a);

/* Soft-dirty's decision, without a kernel: `words` are the pagemap words of n pages from `start`
 * on. */
struct soft_look {
	const uint64_t *words;
	size_t n;
	uint64_t start;
};
/* What is known from the last look, brought up to date. */
struct soft_state {
	const struct zero_frames *zero;
	struct pagebits *had; /* the process's own pages */
	struct anchors *anchors;
};
void dirty_soft_decode(const struct soft_look *look, struct soft_state *s, struct run_sink *out);
