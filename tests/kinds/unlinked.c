// SPDX-License-Identifier: Apache-2.0
/*
 * Files without a name: on a disk and in /dev/shm, sparse ones, with two descriptions, mapped for
 * sharing and privately, with a descriptor and without; one is written all the time. And one that
 * never had a name.
 */
#include "subject_memory.h"

#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PAGES 64UL
#define FAR   (1L << 30)

static int temporary(const char *dir, char *path, size_t n)
{
	int fd;

	snprintf(path, n, "%s/unlinked-%d-XXXXXX", dir, (int)getpid());
	fd = mkostemp(path, O_CLOEXEC);
	CHECK(fd >= 0);
	return fd;
}

static int without_name(const char *dir)
{
	char path[128];
	int fd = temporary(dir, path, sizeof(path));

	CHECK(unlink(path) == 0);
	return fd;
}

/* Mapped, and not open any more. */
static char *mapped(const char *dir, int flags, unsigned salt)
{
	int fd = without_name(dir);
	char *p;

	CHECK(ftruncate(fd, (off_t)(PAGES * PAGE)) == 0);
	p = map(PAGES, RW, MAP_SHARED, fd, 0);
	fill(p, PAGES * PAGE, salt);
	if (flags == MAP_PRIVATE) {
		CHECK(munmap(p, PAGES * PAGE) == 0);
		p = map(PAGES, RW, MAP_PRIVATE, fd, 0);
		fill(p, 3 * PAGE, salt + 1); /* its own */
	}
	CHECK(close(fd) == 0);
	return p;
}

static void check_sparse(int fd)
{
	struct stat st;
	char c;

	CHECK(fstat(fd, &st) == 0 && st.st_size == FAR + 1 && st.st_nlink == 0);
	CHECK(st.st_blocks < 4096);
	CHECK(pread(fd, &c, 1, FAR) == 1 && c == 'y');
	CHECK(pread(fd, &c, 1, FAR / 2) == 1 && c == 0);
	CHECK((st.st_mode & 07777) == 0640);
}

/* Somebody else has the same file, too, and neither can change it by that: as of a library. */
static void mapped_by_another(const char *p)
{
	int in[2];
	char c;

	CHECK(pipe2(in, O_CLOEXEC) == 0);
	if (fork() > 0) {
		CHECK(wait(NULL) > 0 && read(in[0], &c, 1) == 1);
		CHECK(close(in[0]) == 0 && close(in[1]) == 0);
		return;
	}
	CHECK(setsid() > 0);
	if (fork() > 0)
		_exit(0);
	CHECK(write(in[1], p, 1) == 1 && close_range(0, ~0U, 0) == 0);
	while (access("go", F_OK) < 0)
		subject_sleep_ms(5);
	_exit(0);
}

int main(void)
{
	static const char *const dirs[] = { ".", "/dev/shm" };
	char *shared[2], *own[2], *both, *as_it_was, path[128], link[128] = "";
	int sparse[2], again[2], never, held, nobody;
	uint64_t beats = 0, *beat, seen;

	as_it_was = map(PAGES, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fill(as_it_was, PAGES * PAGE, 20);
	for (int i = 0; i < 2; i++) {
		shared[i] = mapped(dirs[i], MAP_SHARED, 10);
		own[i] = mapped(dirs[i], MAP_PRIVATE, 20);
		sparse[i] = without_name(dirs[i]);
		CHECK(pwrite(sparse[i], "y", 1, FAR) == 1 && fchmod(sparse[i], 0640) == 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", sparse[i]);
		again[i] = open(path, O_RDONLY | O_CLOEXEC);
		CHECK(again[i] >= 0 && lseek(again[i], 4711, SEEK_SET) == 4711);
		CHECK(lseek(sparse[i], 42, SEEK_SET) == 42);
	}
	for (int i = 0; i < 2; i++)
		CHECK(munmap(shared[i], PAGES * PAGE) == 0);
	mapped_by_another(own[0]);
	for (int i = 0; i < 2; i++)
		shared[i] = mapped(dirs[i], MAP_SHARED, 10);
	never = open(".", O_TMPFILE | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
	CHECK(never >= 0 && write(never, "nameless", 8) == 8);
	held = without_name(".");
	CHECK(ftruncate(held, (off_t)(PAGES * PAGE)) == 0);
	both = map(PAGES, RW, MAP_SHARED, held, 0);
	beat = (uint64_t *)(void *)(both + 5 * PAGE);
	CHECK(flock(held, LOCK_EX) == 0);
	CHECK(fcntl(never, F_SETLK,
		      &(struct flock){ .l_type = F_WRLCK, .l_start = 3, .l_len = 4 }) == 0);
	nobody = without_name(".");
	CHECK(write(nobody, "", 0) == 0); /* empty */
	subject_restless();
	dprintf(1, "ready\n");
	while (access("go", F_OK) < 0) {
		*beat = ++beats;
		CHECK(pwrite(held, &beats, sizeof(beats), (off_t)(7 * PAGE)) == sizeof(beats));
		CHECK(pread(held, &seen, sizeof(seen), (off_t)(5 * PAGE)) == sizeof(seen) &&
			seen == beats);
		CHECK(*(uint64_t *)(void *)(both + 7 * PAGE) == beats);
		subject_sleep_ms(1);
	}
	for (int i = 0; i < 2; i++) {
		check_filled(shared[i], PAGES * PAGE, 10);
		check_filled(own[i], 3 * PAGE, 21);
		CHECK(memcmp(own[i] + 3 * PAGE, as_it_was + 3 * PAGE, (PAGES - 3) * PAGE) == 0);
		check_sparse(sparse[i]);
		CHECK(lseek(again[i], 0, SEEK_CUR) == 4711 && lseek(sparse[i], 0, SEEK_CUR) == 42);
		CHECK(pwrite(sparse[i], "z", 1, 9) == 1 && pread(again[i], path, 1, 9) == 1 &&
			*path == 'z');
		CHECK(write(again[i], "z", 1) < 0 && errno == EBADF);
	}
	CHECK(lseek(never, 0, SEEK_SET) == 0 && write(never, "!", 1) == 1);
	CHECK(pread(never, path, 10, 0) == 9 && !memcmp(path, "nameless!", 9));
	CHECK(pread(nobody, path, 1, 0) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", never);
	CHECK(readlink(path, link, sizeof(link) - 1) > 0 && strstr(link, " (deleted)"));
	return subject_ok();
}
