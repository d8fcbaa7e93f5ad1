// SPDX-License-Identifier: Apache-2.0
/*
 * Positions, access modes and flags; descriptors that share a position and others that do not;
 * places (O_PATH) of all sorts.
 */
#include "subject.h"

#include <fcntl.h>
#include <sys/stat.h>

#define HIGH 1000

int main(void)
{
	int rw = open("f", O_RDWR | O_CREAT | O_EXCL, 0600);
	int same = dup(rw), high = fcntl(rw, F_DUPFD_CLOEXEC, HIGH);
	int other = open("f", O_RDONLY | O_NOATIME);
	int append = open("f", O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC);
	int sync = open("f", O_RDWR | O_SYNC), place = open("f", O_PATH);
	int proc = open("/proc/self/stat", O_RDONLY);
	int net = open("/proc/net/dev", O_RDONLY), link, fifo, device = open("/dev/null", O_PATH);
	int info, infos;
	struct stat a, b;
	char c[4], path[64];

	CHECK(rw >= 0 && other >= 0 && append >= 0 && sync >= 0 && place >= 0 && high >= HIGH);
	CHECK(write(rw, "0123456789", 10) == 10);
	CHECK(lseek(rw, 4, SEEK_SET) == 4);
	CHECK(lseek(other, 7, SEEK_SET) == 7);
	CHECK(lseek(sync, 1LL << 40, SEEK_SET) == 1LL << 40);
	CHECK(symlink("f", "link") == 0 && mkfifo("fifo", 0600) == 0);
	link = open("link", O_PATH | O_NOFOLLOW);
	fifo = open("fifo", O_PATH);
	CHECK(proc >= 0 && net >= 0 && link >= 0 && fifo >= 0 && device >= 0);
	/* What /proc says about a descriptor, by one that has a lower number and one that has a
	 * higher. */
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", high);
	info = open(path, O_RDONLY | O_CLOEXEC);
	infos = fcntl(info, F_DUPFD, HIGH + 5);
	CHECK(info >= 0 && infos > HIGH && read(info, c, 3) == 3 && !memcmp(c, "pos", 3));
	subject_wait_moved();
	CHECK(read(infos, c, 3) == 3 && !memcmp(c, ":\t4", 3) && lseek(info, 0, SEEK_CUR) == 6);
	CHECK(fcntl(info, F_GETFD) == FD_CLOEXEC && fcntl(infos, F_GETFD) == 0);
	CHECK(read(same, c, 2) == 2 && c[0] == '4');
	CHECK(lseek(rw, 0, SEEK_CUR) == 6 && lseek(high, 0, SEEK_CUR) == 6);
	CHECK(fcntl(high, F_GETFD) == FD_CLOEXEC && fcntl(same, F_GETFD) == 0);
	CHECK(read(other, c, 4) == 3 && c[0] == '7');
	CHECK(write(other, c, 1) < 0 && errno == EBADF);
	CHECK((fcntl(other, F_GETFL) & (O_ACCMODE | O_NOATIME)) == (O_RDONLY | O_NOATIME));
	CHECK(write(append, "x", 1) == 1 && lseek(append, 0, SEEK_CUR) == 11);
	CHECK((fcntl(append, F_GETFL) & O_NONBLOCK) && read(append, c, 1) < 0);
	CHECK((fcntl(sync, F_GETFL) & O_SYNC) == O_SYNC);
	CHECK(lseek(sync, 0, SEEK_CUR) == 1LL << 40);
	CHECK(read(place, c, 1) < 0 && errno == EBADF);
	CHECK(fstat(place, &a) == 0 && fstat(rw, &b) == 0 && a.st_ino == b.st_ino);
	CHECK(fstat(link, &a) == 0 && S_ISLNK(a.st_mode));
	CHECK(fstat(fifo, &a) == 0 && S_ISFIFO(a.st_mode));
	CHECK(fstat(device, &a) == 0 && S_ISCHR(a.st_mode));
	CHECK(read(proc, c, 1) == 1 && read(net, c, 1) == 1);
	return subject_ok();
}
