// SPDX-License-Identifier: Apache-2.0
/*
 * Resource limits, OOM adjustment, core dump filter, autogroup, working directory, umask; as an
 * ordinary user.
 * Kinds: limits, fs, process.
 */
#include "subject.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define USER 1000

static void file_text(const char *path, char *buf, size_t room)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, buf, room - 1);

	CHECK(fd >= 0 && n > 0);
	buf[n] = 0;
	close(fd);
}

static void put_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

int main(void)
{
	struct rlimit core = { 12345 * 1024, 99999 * 1024 }, files, now, all[RLIM_NLIMITS];
	char adj[64], filter[64], text[64], before[4096], after[4096];
	struct stat made;
	int fd;

	CHECK(setrlimit(RLIMIT_CORE, &core) == 0);
	CHECK(getrlimit(RLIMIT_NOFILE, &files) == 0);
	files.rlim_cur = 77;
	CHECK(setrlimit(RLIMIT_NOFILE, &files) == 0);
	put_text("/proc/self/oom_score_adj", "123");
	put_text("/proc/self/coredump_filter", "0x23");
	/* The launcher compares it. */
	if (access("/proc/self/autogroup", W_OK) == 0)
		put_text("/proc/self/autogroup", "5");
	file_text("/proc/self/oom_score_adj", adj, sizeof(adj));
	file_text("/proc/self/coredump_filter", filter, sizeof(filter));
	for (int i = 0; i < RLIM_NLIMITS; i++)
		CHECK(getrlimit((enum __rlimit_resource)i, &all[i]) == 0);
	umask(027);
	CHECK(mkdir("below", 0755) == 0 && chdir("below") == 0);
	CHECK(getcwd(before, sizeof(before)) != NULL);
	/* subject_wait_moved looks for `go` here. */
	CHECK(symlink("../go", "go") == 0);
	CHECK(chown(".", USER, USER) == 0 && setresgid(USER, USER, USER) == 0 &&
		setresuid(USER, USER, USER) == 0);
	subject_wait_moved();
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		CHECK(getrlimit((enum __rlimit_resource)i, &now) == 0);
		CHECK(now.rlim_cur == all[i].rlim_cur && now.rlim_max == all[i].rlim_max);
	}
	file_text("/proc/self/oom_score_adj", text, sizeof(text));
	CHECK(strcmp(text, adj) == 0);
	file_text("/proc/self/coredump_filter", text, sizeof(text));
	CHECK(strcmp(text, filter) == 0);
	CHECK(getcwd(after, sizeof(after)) != NULL && strcmp(before, after) == 0);
	fd = open("made", O_CREAT | O_WRONLY, 0666);
	CHECK(fd >= 0 && fstat(fd, &made) == 0 && (made.st_mode & 0777) == 0640);
	CHECK(umask(0) == 027);
	return subject_ok();
}
