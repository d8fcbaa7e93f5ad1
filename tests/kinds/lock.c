// SPDX-License-Identifier: Apache-2.0
/*
 * Record locks, also of descriptions, and flock(2) are still held after the move: a child cannot
 * get them.
 */
#include "subject.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>

static struct flock range(short type, off_t start, off_t len)
{
	return (struct flock){
		.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len
	};
}

/* Who would hinder a lock of this range? Asked by a child. */
static int conflict(short type, off_t start, off_t len)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct flock fl = range(type, start, len);
		int fd = open("l", O_RDWR);

		if (fd < 0 || fcntl(fd, F_GETLK, &fl) < 0)
			_exit(2);
		_exit(fl.l_type != F_UNLCK && fl.l_pid == getppid());
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) < 2);
	return WEXITSTATUS(status);
}

int main(void)
{
	int fd = open("l", O_RDWR | O_CREAT, 0600), whole = open("w", O_RDWR | O_CREAT, 0600), w2;
	int shared = open("s", O_RDWR | O_CREAT, 0600);
	int status;
	pid_t child;
	struct flock a = range(F_WRLCK, 100, 10), b = range(F_RDLCK, 500, 0);
	struct flock mine = range(F_WRLCK, 10, 10), ours = range(F_RDLCK, 30, 5);
	struct flock more = range(F_WRLCK, 15, 1), also = range(F_RDLCK, 32, 1);
	int ofd = open("o", O_RDWR | O_CREAT, 0600), other;

	CHECK(fd >= 0 && whole >= 0 && shared >= 0);
	CHECK(fcntl(fd, F_SETLK, &a) == 0 && fcntl(fd, F_SETLK, &b) == 0);
	CHECK(fcntl(ofd, F_OFD_SETLK, &mine) == 0 && fcntl(ofd, F_OFD_SETLK, &ours) == 0);
	CHECK(dup(ofd) >= 0);
	/* One of them taken by a child that has ended, as a daemon's parent would. */
	child = fork();
	if (child == 0)
		_exit(flock(whole, LOCK_EX) != 0);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(flock(shared, LOCK_SH) == 0);
	subject_wait_moved();
	CHECK(conflict(F_RDLCK, 105, 1) && conflict(F_WRLCK, 100000, 1));
	CHECK(!conflict(F_RDLCK, 100000, 1) && !conflict(F_WRLCK, 110, 10) &&
		!conflict(F_WRLCK, 0, 100));
	other = open("o", O_RDWR);
	CHECK(other >= 0 && fcntl(other, F_OFD_SETLK, &more) < 0 && errno == EAGAIN);
	CHECK(fcntl(other, F_OFD_SETLK, &also) == 0);
	mine.l_type = F_UNLCK;
	CHECK(fcntl(ofd, F_OFD_SETLK, &mine) == 0 && fcntl(other, F_OFD_SETLK, &more) == 0);
	w2 = open("w", O_RDWR);
	CHECK(w2 >= 0 && flock(w2, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK);
	CHECK(flock(whole, LOCK_UN) == 0 && flock(w2, LOCK_EX | LOCK_NB) == 0);
	w2 = open("s", O_RDWR);
	CHECK(flock(w2, LOCK_SH | LOCK_NB) == 0 && flock(w2, LOCK_EX | LOCK_NB) < 0);
	return subject_ok();
}
