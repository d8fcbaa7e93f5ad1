// SPDX-License-Identifier: Apache-2.0
#include "kernel/inode_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/io.h"

#define MOUNTS_BYTES_MAX (16u << 20)
#define PATH_BYTES       4096

struct err *inode_paths_init(struct arena *a, struct inode_paths *ret)
{
	char *text;

	TRY(io_read_file(a, "/proc/self/mountinfo", MOUNTS_BYTES_MAX, &text, NULL));
	*ret = (struct inode_paths){ a, text };
	return NULL;
}

/* The path, if it leads back to the same inode from here. */
static bool leads_to(int fd, char path[PATH_BYTES], mode_t *mode)
{
	struct stat want, got;
	char link[40];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, PATH_BYTES - 1);
	if (n <= 0 || path[0] != '/' || fstat(fd, &want) < 0)
		return false;
	path[n] = 0;
	*mode = want.st_mode;
	return lstat(path, &got) == 0 && got.st_dev == want.st_dev && got.st_ino == want.st_ino;
}

static bool found_in(
	const char *mount, const struct file_handle *handle, char path[PATH_BYTES], mode_t *mode)
{
	autoclose int root = open(mount, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
	autoclose int fd = -1;

	if (root < 0)
		return false;
	fd = open_by_handle_at(root, (struct file_handle *)(uintptr_t)handle, O_PATH | O_CLOEXEC);
	return fd >= 0 && leads_to(fd, path, mode);
}

/* "\040" and the like. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; to++) {
		unsigned code;

		if (*s == '\\' && sscanf(s + 1, "%3o", &code) == 1 && strlen(s) >= 4) {
			*to = (char)code;
			s += 4;
		} else {
			*to = *s++;
		}
	}
	*to = 0;
}

struct err *inode_path(const struct inode_paths *p, dev_t dev, const struct file_handle *handle,
	const char **path, mode_t *mode)
{
	char text[PATH_BYTES], mount[PATH_BYTES];
	unsigned major_nr, minor_nr;

	for (const char *line = p->mounts; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (sscanf(line, "%*d %*d %u:%u %*s %4095s", &major_nr, &minor_nr, mount) != 3 ||
			makedev(major_nr, minor_nr) != dev)
			continue;
		unescape(mount);
		if (!found_in(mount, handle, text, mode))
			continue;
		*path = arena_strdup(p->arena, text);
		return NULL;
	}
	return err_new(ERR_UNSUPPORTED, "the kernel tells no path that leads to it");
}
