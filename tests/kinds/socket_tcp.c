// SPDX-License-Identifier: Apache-2.0
/* TCP sockets that have no connection, with options; the listeners must answer after the move. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "subject.h"

static void set_int(int fd, int level, int name, int v)
{
	CHECK(setsockopt(fd, level, name, &v, sizeof(v)) == 0);
}

static int get_int(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	CHECK(getsockopt(fd, level, name, &v, &len) == 0);
	return v;
}

static socklen_t loopback(int family, int port, struct sockaddr_storage *a)
{
	struct sockaddr_in *in = (void *)a;
	struct sockaddr_in6 *in6 = (void *)a;

	memset(a, 0, sizeof(*a));
	a->ss_family = (sa_family_t)family;
	if (family == AF_INET) {
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		in->sin_port = htons((uint16_t)port);
		return sizeof(*in);
	}
	in6->sin6_addr = in6addr_loopback;
	in6->sin6_port = htons((uint16_t)port);
	return sizeof(*in6);
}

static int bound(int family, int port)
{
	struct sockaddr_storage a;
	socklen_t len = loopback(family, port, &a);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	CHECK(bind(fd, (struct sockaddr *)&a, len) == 0);
	return fd;
}

/* A client of our own gets through, both ways. */
static void answers(int fd, int family, int port)
{
	struct sockaddr_storage a;
	socklen_t len = loopback(family, port, &a);
	int client = socket(family, SOCK_STREAM, 0), server;
	char buf[8];

	CHECK(connect(client, (struct sockaddr *)&a, len) == 0);
	server = accept(fd, NULL, NULL);
	CHECK(server >= 0);
	CHECK(get_int(server, SOL_TCP, TCP_NODELAY) == 1);
	CHECK(write(client, "ping", 4) == 4 && read(server, buf, 8) == 4);
	CHECK(write(server, "pong", 4) == 4 && read(client, buf, 8) == 4);
	close(client);
	close(server);
}

int main(void)
{
	int four = bound(AF_INET, 7101), six = bound(AF_INET6, 7102);
	int only_bound = bound(AF_INET, 7103), fresh = socket(AF_INET, SOCK_STREAM, 0);
	struct linger l = { 1, 9 };
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	set_int(four, SOL_TCP, TCP_NODELAY, 1);
	set_int(four, SOL_TCP, TCP_KEEPIDLE, 123);
	set_int(four, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_int(four, SOL_SOCKET, SO_RCVBUF, 70000);
	CHECK(listen(four, 17) == 0);
	set_int(six, SOL_TCP, TCP_NODELAY, 1);
	CHECK(listen(six, 3) == 0);
	CHECK(fcntl(six, F_SETFL, O_NONBLOCK) == 0);
	CHECK(setsockopt(fresh, SOL_SOCKET, SO_LINGER, &l, sizeof(l)) == 0);

	subject_wait_moved();

	CHECK(get_int(four, SOL_TCP, TCP_KEEPIDLE) == 123);
	CHECK(get_int(four, SOL_SOCKET, SO_KEEPALIVE) == 1);
	CHECK(get_int(four, SOL_SOCKET, SO_RCVBUF) == 140000);
	CHECK(get_int(four, SOL_SOCKET, SO_ACCEPTCONN) == 1);
	CHECK(accept(six, NULL, NULL) < 0 && errno == EAGAIN);
	CHECK(fcntl(four, F_GETFD) == FD_CLOEXEC && fcntl(fresh, F_GETFD) == 0);
	answers(four, AF_INET, 7101);
	answers(six, AF_INET6, 7102);
	CHECK(get_int(only_bound, SOL_SOCKET, SO_ACCEPTCONN) == 0);
	CHECK(getsockname(only_bound, (struct sockaddr *)&a, &len) == 0);
	CHECK(((struct sockaddr_in *)(void *)&a)->sin_port == htons(7103));
	CHECK(listen(only_bound, 1) == 0);
	set_int(only_bound, SOL_TCP, TCP_NODELAY, 1);
	answers(only_bound, AF_INET, 7103);
	len = sizeof(l);
	l = (struct linger){ 0 };
	CHECK(getsockopt(fresh, SOL_SOCKET, SO_LINGER, &l, &len) == 0);
	CHECK(l.l_onoff == 1 && l.l_linger == 9);
	return subject_ok();
}
