// SPDX-License-Identifier: Apache-2.0
/*
 * Inotify: watches of directories and files with their numbers, between them gaps; one that was
 * used up; many; another descriptor that watches nothing; a third that has one of its own.
 * Afterwards events come under the old numbers, and nothing has happened meanwhile.
 */
#include "subject.h"

#include <limits.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#define MANY 200

static char base[PATH_MAX / 2];

static const char *in_base(const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", base, name);
	return path;
}

static void touch(const char *name)
{
	int fd = open(in_base(name), O_CREAT | O_WRONLY | O_TRUNC, 0644);

	CHECK(fd >= 0 && write(fd, "x", 1) == 1 && close(fd) == 0);
}

static int watch(int fd, const char *name, unsigned mask)
{
	int wd = inotify_add_watch(fd, in_base(name), mask);

	CHECK(wd > 0);
	return wd;
}

static void drain(int fd)
{
	char buf[65536];

	while (read(fd, buf, sizeof(buf)) > 0)
		;
	CHECK(errno == EAGAIN);
}

/* The next event, which is of this watch. */
static void expect(int fd, int wd, unsigned mask, const char *name)
{
	static char buf[4096] __attribute__((aligned(8)));
	static ssize_t n, at; /* what was read with an earlier one */
	const struct inotify_event *e;

	if (at == n) {
		n = read(fd, buf, sizeof(buf));
		at = 0;
	}
	CHECK(n > 0);
	e = (const struct inotify_event *)(const void *)(buf + at);
	at += (ssize_t)(sizeof(*e) + e->len);
	if (e->wd != wd || e->mask != mask)
		dprintf(1, "watch %d mask %x, not %d %x\n", e->wd, e->mask, wd, mask);
	CHECK(e->wd == wd && e->mask == mask);
	CHECK(!name == !e->len && (!name || strcmp(name, e->name) == 0));
}

static void expect_nothing(int fd)
{
	char buf[4096];

	CHECK(read(fd, buf, sizeof(buf)) == -1 && errno == EAGAIN);
}

int main(void)
{
	int fd = inotify_init1(IN_NONBLOCK), none = inotify_init1(IN_CLOEXEC);
	int secret = inotify_init1(IN_NONBLOCK);
	int again, dir, file, once, used, many[MANY];
	char name[32];

	CHECK(fd >= 0 && none >= 0 && secret >= 0 && getcwd(base, sizeof(base)) != NULL);
	CHECK(mkdir("watched", 0755) == 0 && mkdir("watched/deep er", 0755) == 0);
	touch("file");
	touch("another");
	watch(fd, "another", IN_OPEN);
	dir = watch(fd, "watched/deep er", IN_CREATE | IN_DELETE | IN_ONLYDIR | IN_EXCL_UNLINK);
	file = watch(fd, "file", IN_MODIFY);
	CHECK(inotify_rm_watch(fd, 1) == 0); /* a gap */
	once = watch(fd, "another", IN_ATTRIB | IN_ONESHOT);
	used = watch(fd, "watched", IN_CREATE | IN_ONESHOT);
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "watched/%d", i);
		CHECK(mkdir(in_base(name), 0755) == 0);
		many[i] = watch(fd, name, IN_CREATE);
	}
	CHECK(mkdir("secret", 0700) == 0);
	watch(secret, "secret", IN_CREATE);
	again = dup(fd);
	drain(fd);
	subject_odd_flags(none);
	subject_wait_moved();
	expect_nothing(fd);
	touch("watched/deep er/new");
	expect(again, dir, IN_CREATE, "new");
	touch("file");
	expect(fd, file, IN_MODIFY, NULL); /* truncated, and written to: the same event */
	CHECK(chmod(in_base("another"), 0600) == 0);
	expect(fd, once, IN_ATTRIB, NULL);
	expect(fd, once, IN_IGNORED, NULL);
	CHECK(inotify_rm_watch(fd, used) == -1);
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "watched/%d/it", i);
		touch(name);
		expect(fd, many[i], IN_CREATE, "it");
	}
	expect_nothing(fd);
	CHECK(watch(fd, "watched/deep er", IN_CREATE) == dir);
	CHECK(watch(fd, "secret", IN_CREATE) > many[MANY - 1]);
	touch("secret/it");
	expect(secret, 1, IN_CREATE, "it");
	return subject_ok();
}
