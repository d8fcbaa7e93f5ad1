/* SPDX-License-Identifier: Apache-2.0 */
/* Files without a name, as /proc shows them. */
#pragma once

#include "base/base.h"

/* vma.inode of such a file's mapping: with a number made of its device and inode. */
#define VMA_UNLINKED (1ULL << 61)

/* Does maps, or the link of a descriptor, show the path of a file that is unlinked? (A file may be
 * called so.) Objects of the kernel that look so are none: memfds, shared anonymous memory,
 * segments. */
bool proc_unlinked_path(const char *path);
/* A number for such a file, which mappings and descriptors have in common. */
uint64_t proc_unlinked_id(uint32_t dev_major, uint32_t dev_minor, uint64_t inode);
