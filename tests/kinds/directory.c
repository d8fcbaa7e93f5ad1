// SPDX-License-Identifier: Apache-2.0
/* A directory that was read half way: the rest comes, nothing twice. */
#include "subject.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define FILES 400

static int seen[FILES];

/* One system call's worth; the number of entries, 0 at the end. */
static int read_some(int fd)
{
	char buf[1024];
	long n = syscall(SYS_getdents64, fd, buf, sizeof(buf));
	int entries = 0, i;

	CHECK(n >= 0);
	for (long at = 0; at < n; entries++) {
		struct dirent64 *d = (struct dirent64 *)(void *)(buf + at);

		if (sscanf(d->d_name, "f%d", &i) == 1)
			seen[i]++;
		at += d->d_reclen;
	}
	return entries;
}

int main(void)
{
	char name[32];
	int fd, fresh, place;

	CHECK(mkdir("d", 0700) == 0);
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "d/f%d", i);
		CHECK(close(open(name, O_WRONLY | O_CREAT, 0600)) == 0);
	}
	fd = open("d", O_RDONLY | O_DIRECTORY);
	fresh = open("d", O_RDONLY | O_CLOEXEC | O_SYNC | O_APPEND);
	place = open("d", O_PATH | O_DIRECTORY);
	CHECK(fd >= 0 && fresh >= 0 && place >= 0);
	CHECK(read_some(fd) > 0);
	subject_wait_moved();
	while (read_some(fd) > 0)
		;
	for (int i = 0; i < FILES; i++)
		CHECK(seen[i] == 1);
	CHECK(read_some(fresh) > 0);
	CHECK(faccessat(place, "f7", F_OK, 0) == 0);
	return subject_ok();
}
