/* SPDX-License-Identifier: Apache-2.0 */
/* What the memory layout needs to know of shared memory objects (kinds/shm.c). */
#pragma once

#include "kinds/memory.h"

/* The device that all memfds and anonymous shared mappings of this kernel have. */
struct err *shm_device(uint32_t *major, uint32_t *minor) must_check;
/* The path of such an object, or of a System V segment, in /proc/PID/maps. */
bool shm_path(const char *path);
/* The same where maps shows the name of the mapping instead ("[anon_shmem:x]"). */
struct err *shm_true_path(
	struct arena *a, pid_t pid, const struct vma *v, const char **ret) must_check;
/* An empty object, which maps shows under the same path. */
struct err *shm_make(const char *path, int *fd) must_check;
/* Refuses objects that a process other than the target has, too. While the target runs, and once:
 * it looks at all processes. */
struct err *shm_check_outside(struct capture *c) must_check;

/* ---- System V segments (kinds/sysv_shm.c): their space is VMA_SYSV with their id ---- */

#define SYSV_PREFIX "/SYSV"
/* More than an address space holds. */
#define SEGMENT_BYTES_MAX (1ULL << 47)
/* "/SYSV0052e2c1 (deleted)": the key that it was made with. */
bool sysv_shm_path(const char *path, uint32_t *key);
/* Anybody can attach it, write and detach it, at any time: what tells in place of time stamps. */
struct err *sysv_shm_stamps(struct shm_space *s) must_check;
/* When all objects are there: segments that only LAYOUTs have spoken of go. */
struct err *sysv_shm_settle(struct rebuild *r) must_check;
/* The segment behind a mapping, made if a LAYOUT is the first to speak of it. */
struct err *sysv_shm_need(
	struct rebuild *r, uint64_t space, const char *path, uint64_t bytes, int *fd) must_check;
