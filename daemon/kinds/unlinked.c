// SPDX-License-Identifier: Apache-2.0
#include "kinds/unlinked.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/io.h"

#define MEMORY_DIR "/dev/shm/"

/* The directory of "/DIR/NAME (deleted)", as open(2) wants it. */
static struct err *open_dir(const char *path, int *ret)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;

	if (!proc_unlinked_path(path) || !slash || n >= sizeof(dir) || strstr(path, "/../"))
		return err_new(ERR_PEER, "impossible path of an unlinked file");
	snprintf(dir, sizeof(dir), "%.*s", n ? (int)n : 1, path);
	*ret = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return *ret < 0 ? err_errno(errno, "open the directory %s", dir) : NULL;
}

struct err *unlinked_check(const char *path, int fd)
{
	autoclose int dir = -1;
	struct stat st, at;
	struct statfs fs;
	struct err *e;

	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return err_errno(errno, "look at %s", path);
	if (st.st_nlink)
		return err_hint(
			err_new(ERR_UNSUPPORTED,
				"%s has another name, under which it would not be found", path),
			"let the program close it");
	if (fs.f_type == HUGETLBFS_MAGIC)
		return err_new(ERR_UNSUPPORTED, "%s consists of huge pages", path);
	e = open_dir(path, &dir);
	if (e)
		return err_hint(err_in(e, "find a place for a file like %s", path),
			"let the program close it");
	if (fstat(dir, &at) < 0)
		return err_errno(errno, "look at the directory of %s", path);
	if (at.st_dev != st.st_dev)
		return err_new(ERR_UNSUPPORTED,
			"%s: its directory is on another file system by now", path);
	return NULL;
}

bool unlinked_of(const char *link, const struct stat *st, uint64_t *id)
{
	if (!S_ISREG(st->st_mode) || st->st_nlink || !proc_unlinked_path(link))
		return false;
	*id = proc_unlinked_id(major(st->st_dev), minor(st->st_dev), st->st_ino);
	return true;
}

bool unlinked_is_tracked(const char *path)
{
	struct statfs fs;

	return !strncmp(path, MEMORY_DIR, strlen(MEMORY_DIR)) && statfs(MEMORY_DIR, &fs) == 0 &&
	       fs.f_type == TMPFS_MAGIC;
}

struct err *unlinked_make(const char *path, int *fd)
{
	autoclose int dir = -1;

	TRY(open_dir(path, &dir));
	*fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (*fd >= 0)
		return NULL;
	return err_hint(err_errno(errno, "make a file without a name in the place of %s", path),
		"the directory must be on a file system that knows O_TMPFILE");
}
