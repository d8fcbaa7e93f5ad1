// SPDX-License-Identifier: Apache-2.0
/*
 * Opens and closes files and directories all the time while it is moved, above all descriptors that
 * there were before and below: what was captured early is never what there is in the end.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "subject.h"

#define MOST 24

static int fds[MOST];

/* A file has its number in it. */
static int open_some(int i, int number)
{
	char name[32], text[16];
	int n, fd;

	if (i % 3 == 0)
		return open("comes-and-goes.d", O_RDONLY | O_DIRECTORY);
	snprintf(name, sizeof(name), "comes-and-goes%d", number);
	fd = open(name, O_RDWR | O_CREAT, 0644);
	n = snprintf(text, sizeof(text), "%d", number);
	CHECK(fd >= 0 && pwrite(fd, text, (size_t)n, 0) == n);
	return fd;
}

static void make(int i, int number)
{
	int fd = open_some(i, number);

	CHECK(fd >= 0);
	fds[i] = fcntl(fd, F_DUPFD, number);
	CHECK(fds[i] >= number && close(fd) == 0);
}

static void check(int i, int number)
{
	char text[16] = "";
	struct stat st;

	CHECK(fstat(fds[i], &st) == 0 && S_ISDIR(st.st_mode) == (i % 3 == 0));
	if (!S_ISDIR(st.st_mode))
		CHECK(pread(fds[i], text, sizeof(text) - 1, 0) > 0 && atoi(text) == number);
}

int main(void)
{
	int round = 0, wanted[MOST];

	CHECK(mkdir("comes-and-goes.d", 0755) == 0);
	subject_restless();
	dprintf(1, "ready\n");
	while (access("go", F_OK) < 0) {
		int n = 1 + round++ * 7 % MOST;

		for (int i = 0; i < n; i++) {
			wanted[i] = 10 + (i * 5 + round) % 40;
			make(i, wanted[i]);
		}
		subject_sleep_ms(2);
		for (int i = 0; i < n; i++) {
			check(i, wanted[i]);
			CHECK(close(fds[i]) == 0);
		}
	}
	return subject_ok();
}
