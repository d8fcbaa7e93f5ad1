// SPDX-License-Identifier: Apache-2.0
/*
 * Terminals that have been hung up: one that it has twice, and others.
 * Kinds: tty.
 */
#include "subject.h"

#include <poll.h>
#include <pty.h>
#include <sys/stat.h>

static int hung_up(int flags)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave;

	CHECK(master >= 0 && unlockpt(master) == 0);
	slave = open(ptsname(master), flags | O_NOCTTY);
	CHECK(slave >= 0 && fchmod(slave, 0641) == 0 && close(master) == 0);
	return slave;
}

int main(void)
{
	int fd = hung_up(O_RDWR | O_APPEND), again = dup(fd),
	    other = hung_up(O_RDONLY | O_NONBLOCK);
	int master, by_master;
	struct pollfd p = { fd, POLLIN, 0 };
	struct winsize size;
	struct stat st;
	char c;

	CHECK(again >= 0 && openpty(&master, &by_master, NULL, NULL, NULL) == 0);
	CHECK(close(master) == 0);
	subject_odd_flags(again);
	subject_wait_moved();
	CHECK(read(fd, &c, 1) == 0 && read(other, &c, 1) == 0);
	CHECK(write(fd, "x", 1) < 0 && errno == EIO);
	CHECK(write(other, "x", 1) < 0 && errno == EBADF);
	CHECK(ioctl(fd, TIOCGWINSZ, &size) < 0 && errno == EIO);
	CHECK(poll(&p, 1, 0) == 1 && (p.revents & POLLHUP));
	CHECK(fstat(other, &st) == 0 && S_ISCHR(st.st_mode) && (st.st_mode & 07777) == 0641);
	CHECK(fcntl(other, F_GETFL) & O_NONBLOCK);
	CHECK(fcntl(fd, F_SETFL, O_RDWR) == 0 && (fcntl(again, F_GETFL) & O_APPEND) == 0);
	CHECK(read(by_master, &c, 1) == 0);
	return subject_ok();
}
