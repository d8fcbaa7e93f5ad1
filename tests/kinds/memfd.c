// SPDX-License-Identifier: Apache-2.0
/* A memfd with contents, seals, two descriptions and a mapping of it. */
#include "subject.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define BYTES (1 << 20)

int main(void)
{
	int fd = memfd_create("the name", MFD_ALLOW_SEALING | MFD_CLOEXEC), plain, again;
	int same = dup(fd);
	char path[64], link[64] = "", c;
	struct stat a, b;
	char *map;

	plain = memfd_create("plain", 0);
	CHECK(fd >= 0 && plain >= 0 && ftruncate(fd, BYTES) == 0);
	map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(map != MAP_FAILED);
	for (int i = 0; i < BYTES; i += 4096)
		map[i] = (char)(i >> 12);
	CHECK(pwrite(plain, "written", 7, 100000) == 7);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY);
	CHECK(again >= 0 && lseek(again, 8192, SEEK_SET) == 8192 && lseek(fd, 77, SEEK_SET) == 77);
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) == 0);
	subject_wait_moved();

	CHECK(fcntl(fd, F_GET_SEALS) == (F_SEAL_GROW | F_SEAL_SHRINK));
	CHECK(fcntl(plain, F_GET_SEALS) == F_SEAL_SEAL);
	CHECK(ftruncate(fd, 2 * BYTES) < 0 && errno == EPERM);
	CHECK(fstat(fd, &a) == 0 && a.st_size == BYTES && fstat(again, &b) == 0);
	CHECK(a.st_ino == b.st_ino);
	CHECK(lseek(same, 0, SEEK_CUR) == 77 && lseek(again, 0, SEEK_CUR) == 8192);
	CHECK(read(again, &c, 1) == 1 && c == 2);
	CHECK(write(again, &c, 1) < 0 && errno == EBADF);
	for (int i = 0; i < BYTES; i += 4096)
		CHECK(map[i] == (char)(i >> 12));
	/* Mapping and descriptors are one object. */
	map[4096] = 99;
	CHECK(pread(again, &c, 1, 4096) == 1 && c == 99);
	CHECK(pread(plain, path, 7, 100000) == 7 && memcmp(path, "written", 7) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK(readlink(path, link, sizeof(link) - 1) > 0);
	CHECK(strcmp(link, "/memfd:the name (deleted)") == 0);
	return subject_ok();
}
