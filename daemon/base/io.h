/* SPDX-License-Identifier: Apache-2.0 */
/* Whole reads and writes on plain descriptors. For sockets that may block see wire/channel.h. */
#pragma once

#include "base/arena.h"
#include "base/err.h"

/* Reads exactly n bytes; end of file before that is an error (GONE). `what` names the source. */
struct err *io_read_full(int fd, void *buf, size_t n, const char *what) must_check;
struct err *io_write_full(int fd, const void *buf, size_t n, const char *what) must_check;
/* Reads a whole file (of /proc too) into the arena, NUL-terminated; more than `limit` bytes is an
 * error (LIMIT). *len may be NULL. */
struct err *io_read_file(
	struct arena *a, const char *path, size_t limit, char **text, size_t *len) must_check;
/* The same for an open descriptor, from its present offset. */
struct err *io_read_fd(
	struct arena *a, int fd, size_t limit, const char *what, char **text) must_check;
/* Writes a string to an existing file in one write(2): the way of /proc and cgroup files. */
struct err *io_write_file(const char *path, const char *text) must_check;
/* Opens with O_CLOEXEC added; the error names the path. */
struct err *io_open(const char *path, int flags, int *fd) must_check;
/* A pipe with both ends in this process costs one descriptor: opened for both, so that nobody sees
 * an end of file. Does not block. */
struct err *io_pipe_single(int *fd) must_check;
/* Makes a pipe as large as the system allows, up to `want` bytes; returns how large it is. */
size_t io_pipe_grow(int fd, size_t want);
