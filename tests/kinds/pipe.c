// SPDX-License-Identifier: Apache-2.0
/* Pipes with and without data, with closed ends, with a size of their own, opened again. */
#include "subject.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define DATA 70000

static char buf[DATA * 2];

static short polled(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };

	CHECK(poll(&p, 1, 0) >= 0);
	return p.revents;
}

static struct f_owner_ex owner = { .type = F_OWNER_TID };
static atomic_int owner_tid;

static void *owner_thread(void *arg)
{
	atomic_store(&owner_tid, (int)syscall(SYS_gettid));
	for (;;)
		pause();
	return arg;
}

int main(void)
{
	pthread_t thread;
	int a[2], b[2], c[2], d[2], e[2], f[2], g[2], again, both, same;
	struct stat s1, s2;
	char path[64];

	signal(SIGPIPE, SIG_IGN);
	/* a: a lot of data in a larger pipe, more descriptions of its ends */
	CHECK(pipe2(a, O_NONBLOCK) == 0 && fcntl(a[1], F_SETPIPE_SZ, 1 << 18) == 1 << 18);
	for (int i = 0; i < DATA; i++)
		buf[i] = (char)(i % 251);
	CHECK(write(a[1], buf, DATA) == DATA);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", a[0]);
	again = open(path, O_RDONLY);
	both = open(path, O_RDWR | O_NONBLOCK);
	same = fcntl(a[1], F_DUPFD_CLOEXEC, 500);
	CHECK(again >= 0 && both >= 0 && same >= 500);
	/* b: only the read end, with what is left; c: only the write end; d: empty, blocking */
	CHECK(pipe(b) == 0 && write(b[1], "left", 4) == 4 && close(b[1]) == 0);
	CHECK(pipe(c) == 0 && close(c[0]) == 0);
	CHECK(pipe2(d, O_CLOEXEC) == 0);
	/* Whom to tell, although nobody asked for it yet (the launcher compares it). */
	CHECK(pthread_create(&thread, NULL, owner_thread, NULL) == 0);
	while (!(owner.pid = atomic_load(&owner_tid)))
		subject_sleep_ms(1);
	CHECK(fcntl(d[0], F_SETSIG, SIGUSR1) == 0 && fcntl(d[0], F_SETOWN_EX, &owner) == 0);
	CHECK(fcntl(d[1], F_SETOWN, getpid()) == 0);
	subject_odd_flags(d[1]);
	/* e: packets, and bytes that are none behind them; f: packets, by somebody who has closed
	 * it; g: no packets yet */
	CHECK(pipe2(e, O_DIRECT | O_NONBLOCK) == 0 && write(e[1], "one", 3) == 3);
	CHECK(write(e[1], "three", 5) == 5 && fcntl(e[1], F_SETFL, O_NONBLOCK) == 0);
	CHECK(write(e[1], "plain", 5) == 5 && write(e[1], "er", 2) == 2);
	CHECK(pipe2(f, O_DIRECT) == 0 && write(f[1], buf, PIPE_BUF) == PIPE_BUF);
	CHECK(write(f[1], "x", 1) == 1 && close(f[1]) == 0);
	CHECK(pipe2(g, O_DIRECT) == 0);
	subject_wait_moved();

	CHECK(read(e[0], path, sizeof(path)) == 3 && read(e[0], path, 2) == 2);
	CHECK(read(e[0], path, sizeof(path)) == 7 && !memcmp(path, "plainer", 7));
	CHECK(read(e[0], path, sizeof(path)) < 0 && errno == EAGAIN);
	CHECK(read(f[0], buf, DATA) == PIPE_BUF && read(f[0], buf, DATA) == 1 &&
		read(f[0], buf, 1) == 0);
	CHECK(write(g[1], "a", 1) == 1 && write(g[1], "bc", 2) == 2);
	CHECK(read(g[0], path, sizeof(path)) == 1 && read(g[0], path, sizeof(path)) == 2);

	CHECK(fstat(a[0], &s1) == 0 && fstat(both, &s2) == 0 && s1.st_ino == s2.st_ino);
	CHECK(fcntl(again, F_GETPIPE_SZ) == 1 << 18);
	CHECK((fcntl(a[0], F_GETFL) & O_NONBLOCK) && !(fcntl(again, F_GETFL) & O_NONBLOCK));
	memset(buf, 0, sizeof(buf));
	CHECK(read(again, buf, 1000) == 1000);
	CHECK(write(same, "tail", 4) == 4);
	CHECK(read(a[0], buf + 1000, sizeof(buf) - 1000) == DATA - 1000 + 4);
	for (int i = 0; i < DATA; i++)
		CHECK(buf[i] == (char)(i % 251));
	CHECK(memcmp(buf + DATA, "tail", 4) == 0);
	CHECK(read(both, buf, 1) < 0 && errno == EAGAIN);
	/* Writers are gone only when all of them are closed. */
	CHECK(close(a[1]) == 0 && close(same) == 0 && !(polled(a[0]) & POLLHUP));
	CHECK(close(both) == 0 && (polled(a[0]) & POLLHUP) && read(a[0], buf, 1) == 0);
	CHECK(read(b[0], buf, 10) == 4 && memcmp(buf, "left", 4) == 0 && read(b[0], buf, 1) == 0);
	CHECK(write(c[1], "x", 1) < 0 && errno == EPIPE);
	CHECK(fcntl(d[0], F_GETFD) == FD_CLOEXEC && polled(d[0]) == 0);
	CHECK(write(d[1], "y", 1) == 1 && read(d[0], buf, 1) == 1 && buf[0] == 'y');
	return subject_ok();
}
