/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages were written since the last look. Two implementations, chosen by a probe of the
 * effect (write, clear, write, look), never by version:
 *   dirty_wp    userfaultfd async write-protect + PAGEMAP_SCAN (Linux 6.7): exact while it runs
 *   dirty_soft  soft-dirty bits (CONFIG_MEM_SOFT_DIRTY): read and clear must be done while held
 *   dirty_none  neither: everything that exists is dirty, every time
 */
#pragma once

#include "base/ranges.h"
#include "kernel/proc.h"
#include "kernel/task.h"

enum page_class {
	PAGE_DATA, /* present or swapped: has contents of its own */
	PAGE_GONE, /* written but absent, zero page, or the file's own page again: drop at the peer
		    */
};

struct page_run {
	uint64_t start; /* address */
	uint64_t pages : 56;
	enum page_class class : 8;
};

struct page_runs {
	struct page_run *v;
	size_t n, cap;
	bool unreadable; /* for the process itself (PROT_NONE), as far as is known */
};
void page_runs_add(struct page_runs *r, uint64_t start, uint64_t pages, enum page_class class);
/* The same, but what lies before stays a run of its own: a mapping begins here. */
void page_runs_add_first(
	struct page_runs *r, uint64_t start, uint64_t pages, enum page_class class);
void page_runs_fini(struct page_runs *r);

/* What collect found out about one VMA. */
struct vma_dirty {
	bool fresh; /* not tracked before (new, or unmapped and mapped again at the same place): the
		     * peer must drop all it has there; runs hold every page that exists. Soft-dirty
		     * tells by GONE what went with the old mapping, instead. */
};

struct dirty;
struct dirty_ops {
	const char *name;
	/* True when this kernel can do it: tried on memory of our own. */
	bool (*probe)(void);
	/* True when collect must be called with the task held, always. */
	bool collect_held;
	/* Needs the task held (makes a userfaultfd in it). Nothing is armed yet. */
	struct err *(*open)(struct task *t, struct dirty **ret);
	/* One VMA: appends the runs that were written since the last collect (the first time: every
	 * page that exists) and arms it again, atomically per page. Skips VMAs that cannot change
	 * (vdso, vvar). Page runs do not cross the VMA; they are in the order in which they hold: a
	 * page that is in two of them is what the later one says. Where very many short runs lie
	 * close together, DATA may cover pages in between that were not written.
	 * Shared memory: runs are DATA only, pages that may have been written through this mapping
	 * since; the first time, and where that cannot be told, the whole VMA. What was written
	 * through a mapping that is gone by now is not told by anybody. */
	struct err *(*collect)(struct dirty *d, const struct vma *v, struct page_runs *runs,
		struct vma_dirty *info);
	/* Called once before a series of collects (soft-dirty reads everything and clears once).
	 * GONE when the process has ended. */
	struct err *(*begin)(struct dirty *d, const struct vma_list *maps);
	/* These DATA runs are sent, whoever found them: pages in them that are not there at the
	 * next look are told then (GONE). Also those that collect has never seen: they came and
	 * went between two looks. NULL: nothing is told as gone. */
	void (*sends)(struct dirty *d, const struct vma *v, const struct page_runs *runs);
	/* Adds where collect has ever come across guard pages (MADV_GUARD_INSTALL): every one that
	 * was there before the last collect. NULL: this tracker does not see them. */
	void (*guards)(const struct dirty *d, struct ranges *ret);
	/* Disarms everything; the task runs at full speed afterwards. */
	void (*close)(struct dirty *d);
};
extern const struct dirty_ops dirty_wp, dirty_soft, dirty_none;
/* The best that works here. */
const struct dirty_ops *dirty_choose(void);
/* By name ("wp", "soft", "none"), NULL if unknown: for tests and the config file. */
const struct dirty_ops *dirty_by_name(const char *name);
