/* SPDX-License-Identifier: Apache-2.0 */
/* What the memory layout needs to know of shared memory objects (kinds/shm.c). */
#pragma once

#include "kinds/memory.h"

/* The device that all memfds and anonymous shared mappings of this kernel have. */
struct err *shm_device(uint32_t *major, uint32_t *minor) must_check;
/* The path of such an object in /proc/PID/maps. */
bool shm_path(const char *path);
/* The same where maps shows the name of the mapping instead ("[anon_shmem:x]"). */
struct err *shm_true_path(
	struct arena *a, pid_t pid, const struct vma *v, const char **ret) must_check;
/* An empty object, which maps shows under the same path. */
struct err *shm_make(const char *path, int *fd) must_check;
/* Refuses objects that a process other than the target has, too. While the target runs, and once:
 * it looks at all processes. */
struct err *shm_check_outside(struct capture *c) must_check;
