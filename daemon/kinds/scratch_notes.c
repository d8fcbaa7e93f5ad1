// SPDX-License-Identifier: Apache-2.0
#include "kinds/scratch_notes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BOOT_ID       "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_BYTES 36

static void boot_id(char to[BOOT_ID_BYTES + 1])
{
	autoclose int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, to, BOOT_ID_BYTES);

	to[MAX(n, (ssize_t)0)] = '\0';
}

struct err *note_make(const char *path, const char *text)
{
	char boot[BOOT_ID_BYTES + 1];
	autofree char *to = NULL;

	boot_id(boot);
	if (asprintf(&to, "%s/%s", boot, text) < 0)
		abort();
	if (symlink(to, path) < 0)
		return err_errno(errno, "make %s", path);
	return NULL;
}

bool note_there(const char *path)
{
	char byte;

	return readlink(path, &byte, 1) == 1;
}

bool note_says(const char *path, const char *text)
{
	char said[PATH_MAX] = "";
	const char *slash;

	if (readlink(path, said, sizeof(said) - 1) <= 0)
		return false;
	slash = strchr(said, '/');
	return slash && !strcmp(slash + 1, text);
}

void note_drop(const char *path)
{
	(void)unlink(path);
}

struct err *notes_walk(const char *dir, const char *prefix, note_fn fn, void *arg)
{
	DIR *d = opendir(dir);
	char now[BOOT_ID_BYTES + 1];
	struct err *e = NULL;

	boot_id(now);
	for (const struct dirent *de; d && !e && (de = readdir(d));) {
		char text[PATH_MAX] = "";
		size_t n = strlen(now);

		if (strncmp(de->d_name, prefix, strlen(prefix)) != 0 ||
			readlinkat(dirfd(d), de->d_name, text, sizeof(text) - 1) <= 0)
			continue;
		if (strncmp(text, now, n) == 0 && text[n] == '/')
			e = fn(arg, de->d_name, text + n + 1);
	}
	if (d)
		closedir(d);
	return e;
}
