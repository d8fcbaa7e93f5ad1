// SPDX-License-Identifier: Apache-2.0
/*
 * Level and edge triggered items, fired and waiting one-shot items, an epoll in an epoll, items
 * whose event came before the move, and high descriptor numbers.
 */
#include "subject.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

static void add(int ep, int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.u64 = 0xabcd00000000ULL + (unsigned)fd };

	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == 0);
}

/* Everything that is ready, as a set of descriptor numbers. */
static int fetch(int ep, int *fds)
{
	struct epoll_event ev[64];
	int n = epoll_wait(ep, ev, 64, 0);

	CHECK(n >= 0);
	for (int i = 0; i < n; i++) {
		CHECK(ev[i].data.u64 >> 32 == 0xabcd);
		fds[i] = (int)(uint32_t)ev[i].data.u64;
	}
	return n;
}

static int has(const int *fds, int n, int fd)
{
	for (int i = 0; i < n; i++)
		if (fds[i] == fd)
			return 1;
	return 0;
}

int main(void)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), inner = epoll_create1(0), fds[64], n;
	int level = eventfd(1, 0), quiet = eventfd(0, 0), edge = eventfd(1, 0);
	int fired = eventfd(1, 0), armed = eventfd(0, 0), nested = eventfd(0, 0), many[300];
	int high = fcntl(eventfd(1, 0), F_DUPFD, 700);
	uint64_t one = 1;

	CHECK(ep >= 0 && inner >= 0 && high >= 700);
	/* The one-shot item fires and is disarmed. */
	add(ep, fired, EPOLLIN | EPOLLONESHOT);
	CHECK(fetch(ep, fds) == 1 && fds[0] == fired && fetch(ep, fds) == 0);
	add(ep, armed, EPOLLIN | EPOLLONESHOT);
	add(ep, level, EPOLLIN);
	add(ep, quiet, EPOLLIN | EPOLLRDHUP);
	add(ep, high, EPOLLIN | EPOLLEXCLUSIVE);
	add(inner, nested, EPOLLIN);
	add(ep, inner, EPOLLIN);
	/* Its event is pending when we are moved. */
	add(ep, edge, EPOLLIN | EPOLLET);
	for (int i = 0; i < 300; i++) {
		many[i] = eventfd(0, 0);
		add(inner, many[i], EPOLLIN | EPOLLET);
	}
	subject_odd_flags(ep);
	subject_wait_moved();

	n = fetch(ep, fds);
	CHECK(n == 3 && has(fds, n, level) && has(fds, n, edge) && has(fds, n, high));
	n = fetch(ep, fds);
	CHECK(n == 2 && has(fds, n, level) && has(fds, n, high));
	/* One-shot: the armed one once, the fired one never, until it is armed again. */
	CHECK(write(armed, &one, sizeof(one)) == sizeof(one));
	CHECK(write(fired, &one, sizeof(one)) == sizeof(one));
	n = fetch(ep, fds);
	CHECK(n == 3 && has(fds, n, armed) && !has(fds, n, fired));
	n = fetch(ep, fds);
	CHECK(n == 2 && !has(fds, n, armed));
	CHECK(epoll_ctl(ep, EPOLL_CTL_MOD, fired,
		      &(struct epoll_event){ .events = EPOLLIN | EPOLLONESHOT,
			      .data.u64 = 0xabcd00000000ULL + (unsigned)fired }) == 0);
	n = fetch(ep, fds);
	CHECK(n == 3 && has(fds, n, fired));
	/* The edge comes again with new data, through two levels as well. */
	CHECK(write(edge, &one, sizeof(one)) == sizeof(one));
	CHECK(write(many[299], &one, sizeof(one)) == sizeof(one));
	n = fetch(ep, fds);
	CHECK(n == 4 && has(fds, n, edge) && has(fds, n, inner));
	n = fetch(inner, fds);
	CHECK(n == 1 && fds[0] == many[299]);
	return subject_ok();
}
