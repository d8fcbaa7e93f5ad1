// SPDX-License-Identifier: Apache-2.0
/* What a source names: nothing but what it may be is opened, whatever the source says that it is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants these in front */
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device.pb-c.h"
#include "file.pb-c.h"
#include "kinds/identity.h"
#include "kinds/kind.h"
#include "../tmp.h"

#define FILE_KIND   20
#define DEVICE_KIND 23

static char dir[TMP_BYTES], fifo[TMP_BYTES + 16], plain[TMP_BYTES + 16], link_to[TMP_BYTES + 16];

/* Both steps, as a destination takes them; the first error. */
static struct err *check_and_make(uint32_t kind, ProtobufCMessage *m)
{
	const struct kind *k = kind_by_id(kind);
	autoarena struct arena *a = arena_new();
	struct task t = { .pid = getpid(), .pidfd = -1, .mem_fd = -1 };
	struct rebuild r = { .task = &t, .arena = a };
	struct fd_slot slot = { 3, false };
	struct object o = { .kind = k, .id = 4, .slots = &slot, .n_slots = 1 };
	autoclose int fd = -1;

	TRY(k->check(&r, &o, m));
	return k->rebuild(&r, &o, m, &fd);
}

static void refused(struct err *e)
{
	assert_non_null(e);
	err_free(e);
}

struct named {
	const char *path;
	uint32_t type;
	uint64_t flags;
	Migrate__Kind__FileIdentity *identity;
};

static struct err *take_file(const struct named *n)
{
	Migrate__Kind__File m = MIGRATE__KIND__FILE__INIT;

	m.path = (char *)(uintptr_t)n->path;
	m.type = n->type;
	m.flags = n->flags;
	m.identity = n->identity;
	return check_and_make(FILE_KIND, &m.base);
}
#define FILE_NAMED(...) take_file(&(struct named){ __VA_ARGS__ })

/* Somebody who waits for a reader of the FIFO would notice one. */
static bool fifo_was_opened(void)
{
	int fd = open(fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void only_files(void **state)
{
	static const uint64_t ways[] = { O_RDONLY, O_WRONLY, O_RDWR };
	Migrate__Kind__FileIdentity id = MIGRATE__KIND__FILE_IDENTITY__INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		refused(FILE_NAMED(fifo, S_IFIFO, ways[i], NULL));
		id.type = S_IFIFO;
		refused(FILE_NAMED(fifo, S_IFIFO, ways[i], &id));
		id.type = S_IFREG;
		refused(FILE_NAMED(fifo, S_IFREG, ways[i], &id));
		refused(FILE_NAMED("/dev/full", S_IFCHR, ways[i], NULL));
		refused(FILE_NAMED("/dev/full", S_IFREG, ways[i], &id));
		refused(FILE_NAMED(plain, S_IFREG, ways[i], NULL));
		refused(FILE_NAMED(link_to, S_IFREG, ways[i], &id));
		refused(FILE_NAMED("file", S_IFREG, ways[i], &id));
	}
	assert_false(fifo_was_opened());
}

static void places_are_only_names(void **state)
{
	(void)state;
	refused(FILE_NAMED(fifo, S_IFREG, O_PATH, NULL));
	refused(FILE_NAMED("/dev/full", S_IFCHR, O_PATH, NULL)); /* no file of the kernel's */
}

static void files_of_the_kernel(void **state)
{
	Migrate__Kind__FileIdentity id = MIGRATE__KIND__FILE_IDENTITY__INIT;
	char own[64], beyond[64], through[64];

	(void)state;
	snprintf(own, sizeof(own), "/proc/%d/environ", getpid());
	snprintf(beyond, sizeof(beyond), "/proc/%d/../kmsg", getpid());
	snprintf(through, sizeof(through), "/proc/%d/root/proc/kmsg", getpid());
	assert_null(FILE_NAMED("/proc/version", S_IFREG, O_RDONLY, NULL));
	assert_null(FILE_NAMED(own, S_IFREG, O_RDONLY, NULL));
	refused(FILE_NAMED("/proc/sys/kernel/hostname", S_IFREG, O_RDWR, NULL));
	refused(FILE_NAMED("/proc/1/environ", S_IFREG, O_RDONLY, NULL));
	refused(FILE_NAMED("/proc/kmsg", S_IFREG, O_RDONLY, NULL));
	refused(FILE_NAMED(beyond, S_IFREG, O_RDONLY, NULL));
	refused(FILE_NAMED(through, S_IFREG, O_RDONLY, NULL));
	/* Comparing its contents would read it, and this one makes its reader wait. */
	id.type = S_IFREG;
	id.content = true;
	id.digest = (ProtobufCBinaryData){ 16, (uint8_t[16]){ 0 } };
	refused(FILE_NAMED("/proc/kmsg", S_IFREG, O_RDONLY, &id));
}

static struct err *take_device(const char *path, uint32_t minor)
{
	Migrate__Kind__Device m = MIGRATE__KIND__DEVICE__INIT;

	m.path = (char *)(uintptr_t)path;
	m.minor = minor;
	m.flags = O_RDWR;
	return check_and_make(DEVICE_KIND, &m.base);
}

static void devices(void **state)
{
	(void)state;
	assert_null(take_device("/dev/null", 3));
	refused(take_device("/dev/full", 3));
	refused(take_device("/dev/mem", 1));
	refused(take_device("dev/null", 3));
	refused(take_device(fifo, 3));
	refused(take_device(plain, 3));
	assert_false(fifo_was_opened());
}

static void the_same_file(void **state)
{
	autoarena struct arena *a = arena_new();
	autoclose int fd = open(plain, O_RDONLY | O_CLOEXEC);
	Migrate__Kind__FileIdentity *id;

	(void)state;
	assert_null(file_identity(a, fd, false, &id));
	assert_null(FILE_NAMED(plain, S_IFREG, O_RDWR, id));
	assert_null(FILE_NAMED(plain, S_IFREG, O_RDONLY | O_NOFOLLOW, id));
	id->inode++;
	refused(FILE_NAMED(plain, S_IFREG, O_RDWR, id));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_files),
		cmocka_unit_test(places_are_only_names),
		cmocka_unit_test(files_of_the_kernel),
		cmocka_unit_test(devices),
		cmocka_unit_test(the_same_file),
	};
	int fd, failed;

	if (!mkdtemp(tmp_template(dir, "named")))
		return 1;
	snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
	snprintf(plain, sizeof(plain), "%s/file", dir);
	snprintf(link_to, sizeof(link_to), "%s/link", dir);
	fd = open(plain, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || mkfifo(fifo, 0600) < 0 || symlink("file", link_to) < 0)
		return 1;
	close(fd);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(fifo);
	unlink(plain);
	unlink(link_to);
	rmdir(dir);
	return failed;
}
