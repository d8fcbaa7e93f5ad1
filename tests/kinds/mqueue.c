// SPDX-License-Identifier: Apache-2.0
/* POSIX message queues: opened several times and ways, unlinked, of another user; a thread that
 * waits for a message. */
#include <mqueue.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "subject.h"

static atomic_int begun;
static mqd_t both, in, out, gone, blocking;

static void look(mqd_t q, long max, long bytes, long flags)
{
	struct mq_attr a;

	CHECK(mq_getattr(q, &a) == 0);
	CHECK(a.mq_maxmsg == max && a.mq_msgsize == bytes && a.mq_flags == flags &&
		a.mq_curmsgs == 0);
}

static void pass(mqd_t from, mqd_t to, size_t bytes)
{
	char text[100] = "text", got[100] = "";
	unsigned prio;

	CHECK(mq_send(from, text, bytes, 3) == 0);
	CHECK(mq_receive(to, got, sizeof(got), &prio) == (ssize_t)bytes && prio == 3);
	CHECK(!memcmp(text, got, bytes));
}

static void *wait_there(void *arg)
{
	char text[100];

	atomic_store(&begun, 1);
	CHECK(mq_receive(blocking, text, sizeof(text), NULL) == 7);
	return arg;
}

int main(void)
{
	struct mq_attr a = { .mq_maxmsg = 5, .mq_msgsize = 100 };
	struct stat st;
	pthread_t t;

	both = mq_open("/a queue", O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0640, &a);
	in = mq_open("/a queue", O_RDONLY);
	out = mq_open("/a queue", O_WRONLY | O_CLOEXEC);
	a.mq_maxmsg = 2;
	gone = mq_open("/gone", O_RDWR | O_CREAT | O_EXCL, 0600, &a);
	blocking = mq_open("/blocking", O_RDWR | O_CREAT | O_EXCL, 0600, &a);
	CHECK(both >= 0 && in >= 0 && out >= 0 && gone >= 0 && blocking >= 0);
	CHECK(fchown(both, 12, 34) == 0 && fchmod(both, 0642) == 0);
	pass(out, in, 10);
	CHECK(mq_unlink("/gone") == 0);
	CHECK(pthread_create(&t, NULL, wait_there, NULL) == 0);
	/* The C library has made its thread what it is to be. */
	while (!atomic_load(&begun))
		subject_sleep_ms(1);
	subject_wait_moved();
	look(both, 5, 100, O_NONBLOCK);
	look(in, 5, 100, 0);
	look(gone, 2, 100, 0);
	CHECK(fstat(both, &st) == 0 && st.st_uid == 12 && st.st_gid == 34 &&
		(st.st_mode & 07777) == 0642);
	CHECK(fcntl(out, F_GETFD) == FD_CLOEXEC && fcntl(in, F_GETFD) == FD_CLOEXEC);
	pass(out, in, 100);
	pass(both, in, 0);
	pass(gone, gone, 1);
	CHECK(mq_receive(both, (char[100]){ 0 }, 100, NULL) < 0 && errno == EAGAIN);
	CHECK(mq_send(in, "x", 1, 0) < 0 && errno == EBADF);
	CHECK(mq_send(blocking, "1234567", 7, 0) == 0);
	CHECK(pthread_join(t, NULL) == 0);
	CHECK(mq_open("/gone", O_RDONLY) < 0 && errno == ENOENT);
	CHECK(mq_unlink("/a queue") == 0 && mq_unlink("/blocking") == 0);
	return subject_ok();
}
