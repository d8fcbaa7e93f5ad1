// SPDX-License-Identifier: Apache-2.0
/* Messages between its own threads, of which one is mostly on its way: none is lost, none comes
 * twice. */
#include <mqueue.h>
#include <pthread.h>
#include <stdatomic.h>

#include "subject.h"

static atomic_int ended;
static mqd_t queue;

static void *receive(void *arg)
{
	unsigned got, next = 0;

	for (;;) {
		CHECK(mq_receive(queue, (char *)&got, sizeof(got), NULL) == sizeof(got));
		if (got == 0 && next > 0 && atomic_load(&ended))
			return arg;
		CHECK(got == next++);
		subject_sleep_ms(2);
	}
}

static void *send(void *arg)
{
	const unsigned last = 0;

	for (unsigned n = 0; !atomic_load(&ended); n++) {
		CHECK(mq_send(queue, (const char *)&n, sizeof(n), 0) == 0);
		subject_sleep_ms(4);
	}
	CHECK(mq_send(queue, (const char *)&last, sizeof(last), 0) == 0);
	return arg;
}

int main(void)
{
	struct mq_attr attr = { .mq_maxmsg = 4, .mq_msgsize = sizeof(unsigned) };
	pthread_t t[2];

	queue = mq_open("/transient", O_CREAT | O_RDWR, 0600, &attr);
	CHECK(queue >= 0 && mq_unlink("/transient") == 0);
	CHECK(pthread_create(&t[0], NULL, receive, NULL) == 0);
	CHECK(pthread_create(&t[1], NULL, send, NULL) == 0);
	subject_wait_moved();
	atomic_store(&ended, 1);
	CHECK(pthread_join(t[1], NULL) == 0 && pthread_join(t[0], NULL) == 0);
	return subject_ok();
}
