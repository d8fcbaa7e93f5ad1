// SPDX-License-Identifier: Apache-2.0
/* Pairs of every type with data on their way in both directions, half closed, and an end whose
 * other end has been closed. */
#include <sys/socket.h>

#include "subject.h"

#define BIG_BYTES 100000

static char big[BIG_BYTES], got[BIG_BYTES + 1];

static void takes(int fd, const char *data, size_t n)
{
	CHECK(recv(fd, got, sizeof(got), 0) == (ssize_t)n);
	CHECK(memcmp(got, data, n) == 0);
}

static void fill(int type, int sv[2])
{
	CHECK(socketpair(AF_UNIX, type, 0, sv) == 0);
	CHECK(send(sv[0], "first", 5, 0) == 5);
	CHECK(send(sv[0], big, sizeof(big), 0) == sizeof(big));
	CHECK(send(sv[0], "last", 4, 0) == 4);
	CHECK(send(sv[1], "back", 4, 0) == 4);
	CHECK(shutdown(sv[1], SHUT_WR) == 0);
}

static void verify(int type, const int sv[2])
{
	if (type == SOCK_STREAM) {
		size_t n = 0;
		ssize_t r;

		while (n < 9 + sizeof(big) && (r = recv(sv[1], got, sizeof(got), 0)) > 0)
			n += (size_t)r;
		CHECK(n == 9 + sizeof(big));
	} else {
		takes(sv[1], "first", 5);
		takes(sv[1], big, sizeof(big));
		takes(sv[1], "last", 4);
	}
	CHECK(recv(sv[1], got, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	takes(sv[0], "back", 4);
	CHECK(send(sv[1], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
	/* The pair still is one. */
	CHECK(send(sv[0], "more", 4, 0) == 4);
	takes(sv[1], "more", 4);
}

int main(void)
{
	static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };
	int sv[3][2], widow[2];
	struct ucred cred = { 0 };
	socklen_t len = sizeof(cred);

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 31 >> 3);
	for (int i = 0; i < 3; i++)
		fill(types[i], sv[i]);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, widow) == 0);
	CHECK(send(widow[1], "will", 4, 0) == 4);
	close(widow[1]);

	subject_odd_flags(widow[0]);
	subject_wait_moved();

	for (int i = 0; i < 3; i++)
		verify(types[i], sv[i]);
	takes(widow[0], "will", 4);
	CHECK(recv(widow[0], got, 1, 0) == 0);
	CHECK(getsockopt(sv[0][0], SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0);
	CHECK(cred.pid == getpid() && cred.uid == getuid() && cred.gid == getgid());
	return subject_ok();
}
