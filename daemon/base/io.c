// SPDX-License-Identifier: Apache-2.0
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* @calls net: read */
struct err *io_read_full(int fd, void *buf, size_t n, const char *what)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = read(fd, (char *)buf + done, n - done);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return err_errno(errno, "read %s", what);
		if (r == 0)
			return err_new(ERR_GONE, "%s ended after %zu of %zu bytes", what, done, n);
		done += (size_t)r;
	}
	return NULL;
}

/* @calls pages: write */
struct err *io_write_full(int fd, const void *buf, size_t n, const char *what)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = write(fd, (const char *)buf + done, n - done);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return err_errno(errno, "write %s", what);
		done += (size_t)r;
	}
	return NULL;
}

struct blob {
	char *text;
	size_t len;
};

/* @calls control net: read */
static struct err *read_all(
	struct arena *a, int fd, size_t limit, const char *what, struct blob *ret)
{
	size_t cap = 0, n = 0;
	char *buf = NULL;

	for (;;) {
		ssize_t r;

		buf = arena_grow(a, buf, &cap, n + 4096, 1);
		r = read(fd, buf + n, cap - n - 1);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return err_errno(errno, "read %s", what);
		if (r == 0)
			break;
		n += (size_t)r;
		if (n > limit)
			return err_new(ERR_LIMIT, "%s is longer than %zu bytes", what, limit);
	}
	buf[n] = '\0';
	*ret = (struct blob){ buf, n };
	return NULL;
}

struct err *io_read_fd(struct arena *a, int fd, size_t limit, const char *what, char **text)
{
	struct blob blob;

	TRY(read_all(a, fd, limit, what, &blob));
	*text = blob.text;
	return NULL;
}

struct err *io_read_file(struct arena *a, const char *path, size_t limit, char **text, size_t *len)
{
	autoclose int fd = -1;
	struct blob blob;

	TRY(io_open(path, O_RDONLY, &fd));
	TRY(read_all(a, fd, limit, path, &blob));
	*text = blob.text;
	if (len)
		*len = blob.len;
	return NULL;
}

struct err *io_write_file(const char *path, const char *text)
{
	autoclose int fd = -1;

	TRY(io_open(path, O_WRONLY, &fd));
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		return err_errno(errno, "write \"%s\" to %s", text, path);
	return NULL;
}

/* @calls none: openat pipe2 */
struct err *io_open(const char *path, int flags, int *fd)
{
	int got = open(path, flags | O_CLOEXEC);

	if (got < 0)
		return err_errno(errno, "open %s", path);
	*fd = got;
	return NULL;
}

struct err *io_pipe_single(int *fd)
{
	autoclose int in = -1, out = -1;
	char path[64];
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(errno, "make a pipe");
	in = ends[0];
	out = ends[1];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", in);
	return io_open(path, O_RDWR | O_NONBLOCK, fd);
}

/* @calls none: fcntl */
/* More than fs.pipe-max-size takes CAP_SYS_RESOURCE; an unprivileged user gets less when all its
 * pipes are large already (fs.pipe-user-pages-soft). */
size_t io_pipe_grow(int fd, size_t want)
{
	int has = fcntl(fd, F_GETPIPE_SZ);

	for (size_t size = want; has >= 0 && size > (size_t)has; size /= 2)
		if (fcntl(fd, F_SETPIPE_SZ, (int)size) >= 0)
			return (size_t)fcntl(fd, F_GETPIPE_SZ);
	return has < 0 ? 0 : (size_t)has;
}
