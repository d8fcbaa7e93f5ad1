/* SPDX-License-Identifier: Apache-2.0 */
/* From a file handle (name_to_handle_at(2)), which fdinfo shows of what is watched, to a path. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/arena.h"
#include "base/err.h"

struct file_handle;

/* Mounts by device, read once. */
struct inode_paths {
	struct arena *arena; /* borrowed */
	const char *mounts;  /* text of mountinfo */
};
struct err *inode_paths_init(struct arena *a, struct inode_paths *ret) must_check;
/* A path that leads to this inode now. UNSUPPORTED if none can be found: no mount of that device is
 * in sight, its type has no handles, or nobody has looked the name up lately. */
struct err *inode_path(const struct inode_paths *p, dev_t dev, const struct file_handle *handle,
	const char **path, mode_t *mode) must_check;
