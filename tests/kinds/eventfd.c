// SPDX-License-Identifier: Apache-2.0
#include <sys/eventfd.h>

#include "subject.h"

int main(void)
{
	int counter = eventfd(5, EFD_NONBLOCK), sem = eventfd(3, EFD_SEMAPHORE);
	eventfd_t v;

	subject_wait_moved();
	CHECK(eventfd_read(counter, &v) == 0 && v == 5);
	CHECK(eventfd_read(counter, &v) < 0 && errno == EAGAIN);
	CHECK(eventfd_read(sem, &v) == 0 && v == 1);
	CHECK(eventfd_read(sem, &v) == 0 && v == 1);
	return subject_ok();
}
