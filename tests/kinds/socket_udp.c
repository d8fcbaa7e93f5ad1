// SPDX-License-Identifier: Apache-2.0
/* UDP sockets: a server, a connected client, IPv6, one without an address. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "subject.h"

int main(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(7111) }, from,
			   mine = { 0 };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htons(7112) };
	int server = socket(AF_INET, SOCK_DGRAM, 0), client = socket(AF_INET, SOCK_DGRAM, 0);
	int six = socket(AF_INET6, SOCK_DGRAM, 0), fresh = socket(AF_INET, SOCK_DGRAM, 0);
	int on = 1, ttl = 5, v = 0;
	socklen_t len = sizeof(mine);
	char buf[16];

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	a6.sin6_addr = in6addr_loopback;
	CHECK(setsockopt(server, SOL_IP, IP_RECVTTL, &on, sizeof(on)) == 0);
	CHECK(bind(server, (struct sockaddr *)&a, sizeof(a)) == 0);
	CHECK(connect(client, (struct sockaddr *)&a, sizeof(a)) == 0);
	CHECK(getsockname(client, (struct sockaddr *)&mine, &len) == 0);
	CHECK(setsockopt(fresh, SOL_IP, IP_TTL, &ttl, sizeof(ttl)) == 0);
	CHECK(bind(six, (struct sockaddr *)&a6, sizeof(a6)) == 0);

	subject_odd_flags(fresh);
	CHECK(fchmod(fresh, 0640) == 0); /* the launcher compares it */
	subject_wait_moved();

	CHECK(send(client, "hello", 5, 0) == 5);
	len = sizeof(from);
	CHECK(recvfrom(server, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len) == 5);
	CHECK(from.sin_port == mine.sin_port && from.sin_addr.s_addr == mine.sin_addr.s_addr);
	CHECK(sendto(server, "back", 4, 0, (struct sockaddr *)&from, len) == 4);
	CHECK(recv(client, buf, sizeof(buf), 0) == 4);
	len = sizeof(v);
	CHECK(getsockopt(server, SOL_IP, IP_RECVTTL, &v, &len) == 0 && v == 1);
	CHECK(getsockopt(fresh, SOL_IP, IP_TTL, &v, &len) == 0 && v == 5);
	CHECK(sendto(six, "self", 4, 0, (struct sockaddr *)&a6, sizeof(a6)) == 4);
	CHECK(recv(six, buf, sizeof(buf), 0) == 4);
	CHECK(recv(server, buf, sizeof(buf), MSG_DONTWAIT) < 0 && errno == EAGAIN);
	return subject_ok();
}
