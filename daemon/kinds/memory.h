/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory layout: the list of VMAs as it travels, never page contents. Not an object like others:
 * the layout is compared range by range, so that a VMA that was split, grown or protected keeps the
 * pages that the destination has already. Flow:
 *
 *   source       layout_capture -> layout_diff(old, new) -> bytes of a LAYOUT frame
 *   destination  layout_apply(bytes): munmap, mmap, mprotect, madvise by remote calls
 *
 * proto/kinds/memory.proto has the messages.
 */
#pragma once

#include "base/ranges.h"
#include "kinds/kind.h"

/* The canonical layout: neighbours with equal attributes joined (tracking splits VMAs), no
 * vsyscall, vdso and vvar kept apart. Lives in its arena. */
struct layout;

/* From /proc/PID/smaps with_flags (slow: never frozen), or from maps with the flags taken over from
 * `before` where the same range had the same attributes there (new ranges: plain flags).
 * Refuses by capture_refuse what cannot be moved (hugetlb, device and SysV memory, secretmem,
 * shadow stacks, protection keys, somebody else's userfaultfd, deleted files ...), naming the
 * address. */
struct err *layout_capture(struct capture *c, bool with_flags, const struct layout *before,
	struct layout **ret) must_check;
/* As the kernel lists it, for the tracker and the page source (addresses of private memory). */
const struct vma_list *layout_vmas(const struct layout *l);
/* Private VMAs whose pages travel: not vdso, not vvar, not shared mappings. */
bool layout_vma_private(const struct vma *v);
/* What is in `now` and not in `old` (NULL: nothing); *len 0 when equal. Also tells whether any VMA
 * flags differ although the mapping is the same (late madvise). */
struct err *layout_diff(struct arena *a, const struct layout *old, const struct layout *now,
	const uint8_t **bytes, size_t *len) must_check;
/* Addresses in `now` whose contents the destination cannot take from what it had for `old`: it maps
 * them anew, so every page that exists there must be sent after this LAYOUT, whatever the tracker
 * says (a mapping that was replaced between two looks may have been sent into the old one). */
void layout_fresh(const struct layout *old, const struct layout *now, struct ranges *ret);

/* Guard pages can be put up without a trace in the list of mappings, until the last moment. Adds
 * those that are within `where` (NULL: in all memory that `l` lists). The second is `l` with them,
 * or NULL if it has them already. */
struct err *layout_guards(struct capture *c, const struct layout *l, const struct ranges *where,
	struct ranges *ret) must_check;
struct layout *layout_with_guards(
	struct arena *a, const struct layout *l, const struct ranges *seen);

/* Calls fn where a mapping has flags in `now` that it had not in `old`, or the other way. */
void layout_flags_differ(const struct layout *old, const struct layout *now,
	void (*fn)(void *arg, struct range where, const char *flag), void *arg);

/* vdso, vvar addresses for seedling_clear. */
struct err *layout_vdso(const uint8_t *bytes, size_t len, struct seedling_vdso *ret) must_check;
/* Destination: where the seedling's own area goes, a hole in the first LAYOUT: seedling_move_area
 * before seedling_clear. layout_apply moves it on when a later LAYOUT needs the place. */
struct err *layout_area(
	const uint8_t *bytes, size_t len, uint64_t area_bytes, uint64_t *at) must_check;
/* Destination: the first LAYOUT's check against this host (files there and identical, room). */
struct err *layout_check(struct rebuild *r, const uint8_t *bytes, size_t len) must_check;
/* Destination: applies one diff, after the shared memory objects that came with it were rebuilt
 * (one that is not there yet is made, empty). *state carries the present layout between calls
 * (arena of its own; free with layout_state_free). */
struct layout_state;
struct err *layout_apply(struct rebuild *r, const uint8_t *bytes, size_t len,
	struct layout_state **state) must_check;
/* The destination's present layout, for page_sink_layout. */
const struct vma_list *layout_state_vmas(const struct layout_state *s);
/* Destination, at the end of each round: what needs the contents in place and can be done before
 * the freeze. */
struct err *layout_settle(struct rebuild *r, struct layout_state *s) must_check;
/* Frozen, all pages in place: final protections and advice that had to wait (mlock). */
struct err *layout_finish(struct rebuild *r, struct layout_state *s) must_check;
/* It was given up: takes away what layout_apply has made outside of the process. */
void layout_discard(struct rebuild *r);
void layout_state_free(struct layout_state *s);

/* ---- shared memory objects (kinds/shm.c): memfds and anonymous shared mappings ---- */

/* One shared object of the target, for the engine's page rounds. */
struct shm_space {
	uint64_t space;               /* id on the wire: never SPACE_PRIVATE (0) */
	int fd;                       /* ours; the engine closes it */
	uint64_t bytes;               /* size */
	bool open;                    /* the target has a descriptor of it: it can be mapped and
				       * unmapped at any time, and such writes show nowhere */
	bool shared;                  /* it has a mapping that others could see change */
	struct timespec mtime, ctime; /* write(2) and ftruncate show here, mapped writes do not */
};
/* All shared memory objects the target maps or has open, with a descriptor each. Works while it
 * runs. */
struct err *shm_spaces(struct capture *c, struct shm_space **ret, size_t *n) must_check;
/* Refuses those objects that are in the hands of a process that is none of the target's: one that
 * has left its tree. It looks at all processes. */
struct err *shm_check_left(struct capture *c, const struct shm_space *v, size_t n) must_check;
/* Ids of objects that `old` had mapped, shared, at addresses where `now` has something else or
 * nothing: what was written there last was seen by nobody. Adds [id, id + 1) each. */
void layout_lost_spaces(const struct layout *old, const struct layout *now, struct ranges *ret);
/* What an object held when it was looked at last. */
struct shm_sums;
/* Blocks that differ: their bytes as they were just read (behind the end: zeroes), which may be
 * clobbered; data NULL: a hole. */
typedef struct err *(*shm_changed_fn)(void *arg, uint64_t offset, uint8_t *data, uint64_t bytes);
/* Looks at all of its contents (bytes: its size now), in order; *sums NULL: all that is data
 * differs. What fn was told counts as known, whatever becomes of it. */
struct err *shm_sums_update(
	struct shm_sums **sums, int fd, uint64_t bytes, shm_changed_fn fn, void *arg) must_check;
typedef struct err *(*shm_outline_fn)(void *arg, uint64_t offset, uint64_t bytes, bool hole);
/* Tells what has become a hole since the last look, and what is one no more; its contents are not
 * looked at. The same for an object that was never looked at: all of it was a hole. */
struct err *shm_sums_outline(
	struct shm_sums **sums, int fd, uint64_t bytes, shm_outline_fn fn, void *arg) must_check;
/* What lies there (bytes; whole blocks of it) counts as changed at the next look. */
void shm_sums_forget(struct shm_sums *s, uint64_t start, uint64_t end);
void shm_sums_free(struct shm_sums *s);
/* Whether a LAYOUT has told the peer of this object (it makes those that it does not have yet). */
bool layout_has_space(const struct layout *l, uint64_t space);
extern const struct kind kind_shm, kind_sysv_shm;
/* The space and offset behind an address of a shared VMA; false if the VMA is none of those. */
bool shm_vma_space(const struct vma *v, uint64_t *space);
