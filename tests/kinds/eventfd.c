// SPDX-License-Identifier: Apache-2.0
/* Counters of all widths, semaphore mode, flags, and a duplicate that shares the counter. */
#include "subject.h"

#include <fcntl.h>
#include <sys/eventfd.h>

static uint64_t take(int fd)
{
	uint64_t v;

	CHECK(read(fd, &v, sizeof(v)) == sizeof(v));
	return v;
}

int main(void)
{
	uint64_t big = 0xfffffffffffffffeULL, v;
	int plain = eventfd(7, EFD_NONBLOCK), sem = eventfd(3, EFD_SEMAPHORE | EFD_CLOEXEC);
	int wide = eventfd(0, 0), zero = eventfd(0, EFD_NONBLOCK), same = dup(plain);

	CHECK(plain >= 0 && sem >= 0 && wide >= 0 && zero >= 0 && same >= 0);
	CHECK(write(wide, &big, sizeof(big)) == sizeof(big));
	subject_odd_flags(wide);
	subject_wait_moved();
	CHECK(take(same) == 7);
	CHECK(read(plain, &v, sizeof(v)) < 0 && errno == EAGAIN);
	CHECK(take(sem) == 1 && take(sem) == 1 && take(sem) == 1);
	CHECK(fcntl(sem, F_GETFD) == FD_CLOEXEC && fcntl(plain, F_GETFD) == 0);
	CHECK(!(fcntl(sem, F_GETFL) & O_NONBLOCK) && (fcntl(zero, F_GETFL) & O_NONBLOCK));
	CHECK(read(zero, &v, sizeof(v)) < 0 && errno == EAGAIN);
	CHECK(take(wide) == big);
	return subject_ok();
}
