/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A space is what addresses count in: SPACE_PRIVATE is the address space of a migration's first
 * process, space_private() that of another one, any other number is the id of a shared memory
 * object (kinds/shm), addressed by offset.
 */
#pragma once

#include <sys/types.h>

#include "base/base.h"

#define SPACE_PRIVATE 0
#define SPACE_OTHERS  (1ULL << 62) /* bit 63: VMA_SYSV */
static inline uint64_t space_private(pid_t pid)
{
	return SPACE_OTHERS | (uint64_t)pid;
}
/* Whether it is an address space of some process. */
static inline bool space_is_private(uint64_t space)
{
	return space == SPACE_PRIVATE || (space & SPACE_OTHERS);
}
