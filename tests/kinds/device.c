// SPDX-License-Identifier: Apache-2.0
/* The devices without state, each with its own flags. */
#include "subject.h"

#include <fcntl.h>

int main(void)
{
	int null = open("/dev/null", O_WRONLY | O_APPEND), zero = open("/dev/zero", O_RDWR);
	int full = open("/dev/full", O_RDWR | O_CLOEXEC);
	int random = open("/dev/random", O_RDONLY | O_NONBLOCK);
	int urandom = open("/dev/urandom", O_RDONLY);
	char a[64], b[64];

	CHECK(null >= 0 && zero >= 0 && full >= 0 && random >= 0 && urandom >= 0);
	subject_wait_moved();
	CHECK(write(null, "x", 1) == 1 && read(null, a, 1) < 0);
	CHECK(fcntl(null, F_GETFL) & O_APPEND);
	memset(a, 1, sizeof(a));
	memset(b, 0, sizeof(b));
	CHECK(read(zero, a, sizeof(a)) == sizeof(a) && memcmp(a, b, sizeof(a)) == 0);
	CHECK(write(full, "x", 1) < 0 && errno == ENOSPC);
	CHECK(fcntl(full, F_GETFD) == FD_CLOEXEC);
	CHECK(read(random, a, sizeof(a)) > 0 && (fcntl(random, F_GETFL) & O_NONBLOCK));
	CHECK(read(urandom, a, sizeof(a)) == sizeof(a) &&
		read(urandom, b, sizeof(b)) == sizeof(b) && memcmp(a, b, sizeof(a)) != 0);
	return subject_ok();
}
