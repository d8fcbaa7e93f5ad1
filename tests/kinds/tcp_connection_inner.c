// SPDX-License-Identifier: Apache-2.0
/*
 * TCP connections with both ends in the process, over IPv4, IPv6 and IPv4 on IPv6 sockets, in all
 * states that a descriptor can show: with data not read, not confirmed, not sent, and with each
 * direction ended or not.
 *
 * Kinds: tcp_connection, tcp_data.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "subject.h"

#define FEW   100000     /* bytes: less than any buffer takes */
#define FULL  (64 << 20) /* more */
#define LATE  "behind"
#define SEEDS 2

enum family { FOUR, SIX, MAPPED, FAMILIES };

/* How a direction stands: bytes that lie in it, and whether it is ended behind them. */
struct way {
	size_t bytes; /* written before the move */
	bool ended;
};

static const struct plan {
	size_t want[2]; /* from client to server, and back */
	bool ended[2];
} plans[] = {
	{ { 0, 0 }, { false, false } },       /* ESTABLISHED */
	{ { FEW, 3 }, { false, false } },     /* not read */
	{ { FULL, FULL }, { false, false } }, /* not confirmed, not sent */
	{ { 0, 0 }, { true, false } },        /* FIN_WAIT2, CLOSE_WAIT */
	{ { FEW, FEW }, { true, false } },
	{ { FULL, 3 }, { true, false } },   /* FIN_WAIT1, its FIN not sent */
	{ { 3, FULL }, { true, true } },    /* LAST_ACK likewise, or CLOSING */
	{ { FULL, FULL }, { true, true } }, /* FIN_WAIT1 at both */
};
#define PLANS (sizeof(plans) / sizeof(plans[0]))

struct pair {
	int fd[2]; /* client, server */
	struct way way[2];
	uint8_t state[2];
	struct tcp_info info[2];
};

static struct pair pairs[FAMILIES][PLANS];

static uint8_t byte_at(size_t at, int seed)
{
	return (uint8_t)(at * 31 + at / 251 + (size_t)seed * 77);
}

static void fill(uint8_t *buf, size_t n, size_t at, int seed)
{
	for (size_t i = 0; i < n; i++)
		buf[i] = byte_at(at + i, seed);
}

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

static socklen_t address(enum family f, bool any, struct sockaddr_in6 *a)
{
	struct sockaddr_in *in = (void *)a;

	memset(a, 0, sizeof(*a));
	if (f == FOUR) {
		in->sin_family = AF_INET;
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return sizeof(*in);
	}
	a->sin6_family = AF_INET6;
	if (f == SIX)
		a->sin6_addr = in6addr_loopback;
	else if (!any)
		CHECK(inet_pton(AF_INET6, "::ffff:127.0.0.1", &a->sin6_addr) == 1);
	return sizeof(*a);
}

static void connect_pair(enum family f, struct pair *p)
{
	struct sockaddr_in6 a;
	socklen_t len = address(f, true, &a);
	int door = socket(a.sin6_family, SOCK_STREAM, 0);

	set_int(door, SOL_SOCKET, SO_REUSEADDR, 1);
	CHECK(bind(door, (void *)&a, len) == 0 && listen(door, 1) == 0);
	CHECK(getsockname(door, (void *)&a, &len) == 0);
	if (f == MAPPED) {
		in_port_t port = a.sin6_port;

		len = address(f, false, &a);
		a.sin6_port = port;
	}
	p->fd[0] = socket(a.sin6_family, SOCK_STREAM, 0);
	CHECK(connect(p->fd[0], (void *)&a, len) == 0);
	p->fd[1] = accept(door, NULL, NULL);
	CHECK(p->fd[1] >= 0);
	close(door);
	set_int(p->fd[0], SOL_TCP, TCP_NODELAY, 1);
	set_int(p->fd[1], SOL_SOCKET, SO_KEEPALIVE, 1);
	set_int(p->fd[1], SOL_TCP, TCP_KEEPIDLE, 321);
}

/* As much as goes in, up to n. */
static size_t write_some(int fd, size_t at, size_t n, int seed)
{
	static uint8_t buf[65536];
	size_t done = 0;

	while (done < n) {
		size_t now = n - done < sizeof(buf) ? n - done : sizeof(buf);
		ssize_t got;

		fill(buf, now, at + done, seed);
		got = send(fd, buf, now, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (got < 0 && errno == EAGAIN) {
			struct pollfd p = { fd, POLLOUT, 0 };

			/* What is on its way may still be taken. */
			if (poll(&p, 1, 50) == 0)
				break;
			continue;
		}
		CHECK(got > 0);
		done += (size_t)got;
	}
	return done;
}

static void look(struct pair *p, int end)
{
	socklen_t len = sizeof(p->info[end]);

	CHECK(getsockopt(p->fd[end], SOL_TCP, TCP_INFO, &p->info[end], &len) == 0);
	p->state[end] = p->info[end].tcpi_state;
}

static void prepare(enum family f, size_t n)
{
	struct pair *p = &pairs[f][n];

	connect_pair(f, p);
	for (int way = 0; way < 2; way++) {
		int fd = p->fd[way];

		p->way[way].bytes = write_some(fd, 0, plans[n].want[way], way);
		CHECK(plans[n].want[way] == FULL || p->way[way].bytes == plans[n].want[way]);
		CHECK(plans[n].want[way] != FULL || p->way[way].bytes < FULL);
		p->way[way].ended = plans[n].ended[way];
		if (p->way[way].ended)
			CHECK(shutdown(fd, SHUT_WR) == 0);
	}
}

static void read_exactly(int fd, size_t at, size_t n, int seed)
{
	static uint8_t buf[65536], want[65536];

	for (size_t done = 0; done < n;) {
		struct pollfd p = { fd, POLLIN, 0 };
		size_t now = n - done < sizeof(buf) ? n - done : sizeof(buf);
		ssize_t got;

		CHECK(poll(&p, 1, 20000) == 1);
		got = recv(fd, buf, now, 0);
		CHECK(got > 0);
		fill(want, (size_t)got, at + done, seed);
		CHECK(memcmp(buf, want, (size_t)got) == 0);
		done += (size_t)got;
	}
}

/* What lay there comes, then what is written now, then the end. */
static void check_way(struct pair *p, int way)
{
	int from = p->fd[way], to = p->fd[1 - way];
	struct pollfd in = { to, POLLIN, 0 };
	char byte;

	read_exactly(to, 0, p->way[way].bytes, way);
	if (!p->way[way].ended) {
		CHECK(write_some(from, p->way[way].bytes, 1000, way) == 1000);
		read_exactly(to, p->way[way].bytes, 1000, way);
		CHECK(recv(to, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
		CHECK(shutdown(from, SHUT_WR) == 0);
	}
	CHECK(poll(&in, 1, 20000) == 1 && recv(to, &byte, 1, 0) == 0);
}

static void check_kept(struct pair *p, int end)
{
	struct tcp_info was = p->info[end];

	look(p, end);
	CHECK(p->state[end] == was.tcpi_state);
	CHECK(p->info[end].tcpi_options == was.tcpi_options);
	CHECK(p->info[end].tcpi_snd_wscale == was.tcpi_snd_wscale);
	CHECK(p->info[end].tcpi_rcv_wscale == was.tcpi_rcv_wscale);
	CHECK(get_int(p->fd[1], SOL_SOCKET, SO_REUSEADDR) == 1);
	CHECK(get_int(p->fd[0], SOL_SOCKET, SO_REUSEADDR) == 0);
	CHECK(get_int(p->fd[0], SOL_TCP, TCP_NODELAY) == 1);
	CHECK(get_int(p->fd[1], SOL_SOCKET, SO_KEEPALIVE) == 1);
	CHECK(get_int(p->fd[1], SOL_TCP, TCP_KEEPIDLE) == 321);
	CHECK(get_int(p->fd[end], SOL_TCP, TCP_REPAIR) == 0);
}

int main(void)
{
	for (enum family f = 0; f < FAMILIES; f++)
		for (size_t n = 0; n < PLANS; n++)
			prepare(f, n);
	subject_sleep_ms(100);
	for (enum family f = 0; f < FAMILIES; f++)
		for (size_t n = 0; n < PLANS; n++)
			for (int end = 0; end < 2; end++)
				look(&pairs[f][n], end);

	subject_wait_moved();

	for (enum family f = 0; f < FAMILIES; f++)
		for (size_t n = 0; n < PLANS; n++) {
			for (int end = 0; end < 2; end++)
				check_kept(&pairs[f][n], end);
			check_way(&pairs[f][n], 0);
			check_way(&pairs[f][n], 1);
		}
	return subject_ok();
}
