/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is the file at the destination the one that the source has? Asked for everything that is opened
 * by name there: the executable, mapped files, open descriptors.
 *
 * Two answers count:
 *  - the same file: equal inode and birth time, on a file system that both hosts can share. That
 *    is one of the same machine (equal boot id and device number: two network namespaces, a test
 *    lab) or one of a network type. Two machines cloned from one image have equal inodes and birth
 *    times on their local disks, and yet different files; so a local type never is the same.
 *  - a file with the same contents: equal build id (and size), else equal size and XXH3-128.
 */
#pragma once

#include <sys/types.h>

#include "base/arena.h"
#include "base/err.h"
#include "identity.pb-c.h"
#include "kinds/cache.h"

/* The largest file that is compared by reading it, on either host. */
#define IDENTITY_DIGEST_MAX (1ULL << 30)

/* The identity of what an open descriptor leads to (its offset is not moved; it may be O_PATH or
 * write-only, then it is opened again through /proc/self/fd). The message lives in the arena.
 * Without `content` only the same file will do at the other side, and nothing in the message
 * changes while somebody writes to the file. With it a file without a build id is read once. */
struct err *file_identity(
	struct arena *a, int fd, bool content, Migrate__Kind__FileIdentity **ret) must_check;
/* Whether the file behind fd will do for `want`: MISMATCH says what differs. Reads the file only
 * when nothing cheaper decides. */
struct err *file_identity_check(int fd, const Migrate__Kind__FileIdentity *want) must_check;
/* The same with contents, from the cache where the file has not changed since it was read, so that
 * asking again is cheap enough for the frozen stretch. */
struct err *file_identity_known(struct arena *a, struct kind_cache *cache, int fd,
	Migrate__Kind__FileIdentity **ret) must_check;
struct err *file_identity_check_known(
	struct kind_cache *cache, int fd, const Migrate__Kind__FileIdentity *want) must_check;
/* True when it is the same file, not just one with the same contents. */
bool file_identity_same(int fd, const Migrate__Kind__FileIdentity *want);

/* Source: does `path` still lead to the file behind fd? UNSUPPORTED when it was deleted or another
 * one was put in its place: it could not be opened at the destination. */
struct err *file_path_check(int fd, const char *path) must_check;
/* Source: UNSUPPORTED when the file is open in a mount with other flags (read-only, noexec) than
 * the one in which `path` finds it: a clone that is attached nowhere (open_tree), or one hidden
 * now. */
struct err *file_mount_check(int fd, const char *path) must_check;
/* Source: UNSUPPORTED for what /proc has about another process than `pid`. Its number is somebody
 * else's at the destination, or nobody's. */
struct err *file_process_check(pid_t pid, const char *path) must_check;

/* Can several machines have a file system of this type (f_type of statfs(2)) mounted at once? */
bool identity_fs_shareable(uint64_t fs);
/* Are its files the kernel's own (/proc, /sys and the like), which are no storage? */
bool identity_fs_generated(uint64_t fs);
