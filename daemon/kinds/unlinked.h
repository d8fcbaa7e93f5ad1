/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regular files that have no name any more: made with O_TMPFILE or unlinked while they were open or
 * mapped. Nobody else can open them, so they travel as shared memory objects do (kinds/shm), and
 * are made anew, without a name, in the directory in which they had theirs.
 */
#pragma once

#include <sys/stat.h>

#include "base/err.h"
#include "kernel/unlinked_file.h"

/* Can it be made anew in that way? `path` is what the kernel shows; fd is the file. */
struct err *unlinked_check(const char *path, int fd) must_check;
/* Number and kind of object of a descriptor's file; false if it is none of these. */
bool unlinked_of(const char *link, const struct stat *st, uint64_t *id);
/* Stores to a mapping of it are tracked (tmpfs, where programs keep shared memory); else its
 * contents are compared. */
bool unlinked_is_tracked(const char *path);
/* Empty. From a path of the peer. */
struct err *unlinked_make(const char *path, int *fd) must_check;
