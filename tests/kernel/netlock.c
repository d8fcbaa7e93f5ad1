// SPDX-License-Identifier: Apache-2.0
/* The network lock, in a network namespace of its own: what it lets through and what not. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernel/netlock.h"
#include "kernel/nft.h"
#include "netns.h"
#include "tests/kernel/check.h"

#include <cmocka.h>

#define MOMENT_MS 150  /* in which what can come comes, over loopback */
#define LONG_MS   5000 /* until TCP tries again */

static struct net_end end_of(int fd, bool peer)
{
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} a;
	socklen_t len = sizeof(a);
	struct net_end e = { .port = 0 };

	assert_int_equal((peer ? getpeername : getsockname)(fd, &a.any, &len), 0);
	e.ip.family = a.any.sa_family;
	e.port = ntohs(a.in.sin_port);
	if (a.any.sa_family == AF_INET)
		memcpy(e.ip.bytes, &a.in.sin_addr, 4);
	else
		memcpy(e.ip.bytes, &a.in6.sin6_addr, 16);
	return e;
}

static int listener(int family)
{
	struct sockaddr_in6 a = { .sin6_family = (sa_family_t)family };
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (family == AF_INET6)
		a.sin6_addr = in6addr_loopback;
	else
		((struct sockaddr_in *)&a)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (void *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 16), 0);
	return fd;
}

/* Connected, or still trying after a moment. */
static int connect_to(int door, bool *done)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	int fd;

	assert_int_equal(getsockname(door, (void *)&a, &len), 0);
	fd = socket(a.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (connect(fd, (void *)&a, len) < 0)
		assert_int_equal(errno, EINPROGRESS);
	*done = poll(&(struct pollfd){ fd, POLLOUT, 0 }, 1, MOMENT_MS) == 1;
	return fd;
}

static bool readable(int fd, int ms)
{
	return poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, ms) == 1;
}

static int unsent(int fd)
{
	int n = -1;

	assert_int_equal(ioctl(fd, SIOCOUTQNSD, &n), 0);
	return n;
}

static void one_connection(int family)
{
	int door = listener(family), client, server, other;
	char buf[16];
	bool done;
	struct net_pair p;

	client = connect_to(door, &done);
	assert_true(done);
	server = accept(door, NULL, NULL);
	p = (struct net_pair){ end_of(server, false), end_of(server, true) };
	ok(netlock_make("one"));
	fails(netlock_make("one"), ERR_INVALID);
	ok(netlock_connections("one", &p, 1));
	ok(netlock_connections("one", &p, 1));
	assert_int_equal(send(client, "in", 2, 0), 2);
	assert_int_equal(send(server, "out", 3, 0), 3);
	assert_false(readable(server, MOMENT_MS) || readable(client, 0));
	/* Not sent as far as TCP knows. */
	assert_int_equal(unsent(server), 3);
	/* All else goes on. */
	other = connect_to(door, &done);
	assert_true(done);
	ok(netlock_open("one", false));
	assert_true(readable(server, LONG_MS) && readable(client, LONG_MS));
	assert_int_equal(recv(server, buf, sizeof(buf), 0), 2);
	assert_int_equal(recv(client, buf, sizeof(buf), 0), 3);
	ok(netlock_remove("one"));
	close(other);
	close(server);
	close(client);
	close(door);
}

static void connections_stand_still(unused_arg void **state)
{
	one_connection(AF_INET);
	one_connection(AF_INET6);
}

/* A socket that is closed behind the lock answers nothing, not even with a reset. */
static void nothing_is_answered(unused_arg void **state)
{
	int door = listener(AF_INET), client, server;
	struct linger now = { 1, 0 };
	struct net_pair p;
	bool done;

	client = connect_to(door, &done);
	server = accept(door, NULL, NULL);
	p = (struct net_pair){ end_of(server, false), end_of(server, true) };
	ok(netlock_make("gone"));
	ok(netlock_connections("gone", &p, 1));
	assert_int_equal(setsockopt(server, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	close(server);
	assert_int_equal(send(client, "x", 1, 0), 1);
	assert_false(readable(client, MOMENT_MS));
	ok(netlock_remove("gone"));
	assert_true(readable(client, LONG_MS)); /* now it is */
	close(client);
	close(door);
}

static void doors_are_closed(unused_arg void **state)
{
	int locked = listener(AF_INET), free_one = listener(AF_INET), locked6 = listener(AF_INET6);
	int before, tries[3];
	struct net_end e[2] = { end_of(locked, false), end_of(locked6, false) };
	char byte;
	bool done;

	before = connect_to(locked, &done);
	assert_true(done);
	ok(netlock_make("doors"));
	ok(netlock_listeners("doors", e, 2));
	tries[0] = connect_to(locked, &done);
	assert_false(done);
	tries[1] = connect_to(locked6, &done);
	assert_false(done);
	close(connect_to(free_one, &done));
	assert_true(done);
	/* Who is in stays in. */
	int server = accept(locked, NULL, NULL);
	assert_int_equal(send(before, "x", 1, 0), 1);
	assert_true(readable(server, MOMENT_MS) && recv(server, &byte, 1, 0) == 1);
	/* The wildcard: all addresses of that port, of both families. */
	e[0].port = end_of(free_one, false).port;
	e[0].ip = (struct net_ip){ .family = AF_INET6 };
	ok(netlock_listeners("doors", e, 1));
	tries[2] = connect_to(free_one, &done);
	assert_false(done);
	ok(netlock_remove("doors"));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(poll(&(struct pollfd){ tries[i], POLLOUT, 0 }, 1, LONG_MS), 1);
		close(tries[i]);
	}
	close(server);
	close(before);
	close(locked);
	close(locked6);
	close(free_one);
}

/* What the engine sends in the name of a peer goes through the lock. */
static void marked_packets_pass(unused_arg void **state)
{
	int door = listener(AF_INET), client, server, mark = NETLOCK_MARK;
	struct net_pair p;
	bool done;

	client = connect_to(door, &done);
	assert_true(done);
	server = accept(door, NULL, NULL);
	p = (struct net_pair){ end_of(server, false), end_of(server, true) };
	ok(netlock_make("mark"));
	ok(netlock_connections("mark", &p, 1));
	assert_int_equal(setsockopt(client, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)), 0);
	assert_int_equal(send(client, "x", 1, 0), 1);
	assert_true(readable(server, MOMENT_MS));
	/* But nobody else's do: not even the confirmation of it. */
	assert_int_equal(ioctl(client, SIOCOUTQ, &mark), 0);
	assert_int_equal(mark, 1);
	ok(netlock_remove("mark"));
	close(server);
	close(client);
	close(door);
}

/* What the kernel says is what is told, however long the transaction was that it did not take. */
static void errors_are_the_kernels(unused_arg void **state)
{
	const size_t n = 10000;
	struct net_pair *v = calloc(n, sizeof(*v));
	struct nft *none = nft_new();
	struct nft_table t = { NFPROTO_DECNET, NETLOCK_PREFIX "none" };
	struct err *e;

	for (size_t i = 0; i < n; i++)
		v[i].local.ip.family = v[i].remote.ip.family = i & 1 ? AF_INET : AF_INET6;
	e = netlock_connections("never-made", v, n);
	assert_int_equal(err_sysno(e), ENOENT);
	fails(e, ERR_KERNEL);
	free(v);
	/* As where there is no family arp: which is how netlock_remove knows. */
	nft_table_made(none, &t, false);
	e = nft_commit(none);
	assert_int_equal(err_sysno(e), EOPNOTSUPP);
	err_free(e);
	nft_free(none);
}

/* Rules that others change cut the kernel's list short. */
static void listed_while_rules_change(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	pid_t child;
	char **ids;
	size_t n;

	ok(netlock_make("stays"));
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			err_free(netlock_open("stays", false));
	}
	assert_true(child > 1);
	for (int i = 0; i < 3000; i++) {
		ok(netlock_list(a, &ids, &n));
		assert_int_equal(n, 1);
		assert_string_equal(ids[0], "stays");
	}
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	ok(netlock_remove("stays"));
}

static void they_are_listed(unused_arg void **state)
{
	autoarena struct arena *a = arena_new();
	char **ids;
	size_t n;

	ok(netlock_remove("never-made"));
	ok(netlock_open("never-made", true));
	ok(netlock_list(a, &ids, &n));
	assert_int_equal(n, 0);
	ok(netlock_make("x1"));
	ok(netlock_make("x2"));
	ok(netlock_silence("x2",
		(struct net_ip[]){ { AF_INET, { 10, 0, 0, 1 } }, { AF_INET6, { 0xfd, [15] = 1 } } },
		2));
	ok(netlock_list(a, &ids, &n));
	assert_int_equal(n, 2);
	ok(netlock_remove("x1"));
	ok(netlock_remove("x2"));
	ok(netlock_list(a, &ids, &n));
	assert_int_equal(n, 0);
}

static int64_t us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

/* All of them in one go; what it took is shown, not judged. */
static void many(unused_arg void **state)
{
	static const size_t counts[] = { 50, 1000, 10000, 60000 };

	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		struct net_pair *v = calloc(counts[i], sizeof(*v));
		int64_t t[5];

		for (size_t k = 0; k < counts[i]; k++) {
			v[k].local = (struct net_end){ { AF_INET, { 10, 0, 0, 1 } }, 80 };
			v[k].remote =
				(struct net_end){ { AF_INET, { 10, 1, (uint8_t)(k >> 14), 1 } },
					(uint16_t)(1024 + (k & 0x3fff)) };
		}
		t[0] = us();
		ok(netlock_make("many"));
		t[1] = us();
		ok(netlock_connections("many", v, counts[i]));
		t[2] = us();
		ok(netlock_open("many", false));
		t[3] = us();
		ok(netlock_remove("many"));
		t[4] = us();
		print_message("%zu connections: made in %jd us, locked in %jd us, "
			      "opened in %jd us, removed in %jd us\n",
			counts[i], (intmax_t)(t[1] - t[0]), (intmax_t)(t[2] - t[1]),
			(intmax_t)(t[3] - t[2]), (intmax_t)(t[4] - t[3]));
		free(v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(they_are_listed),
		cmocka_unit_test(connections_stand_still),
		cmocka_unit_test(nothing_is_answered),
		cmocka_unit_test(doors_are_closed),
		cmocka_unit_test(marked_packets_pass),
		cmocka_unit_test(errors_are_the_kernels),
		cmocka_unit_test(listed_while_rules_change),
		cmocka_unit_test(many),
	};
	struct err *e;

	netns_enter();
	e = netlock_probe(true);
	if (e) {
		printf("SKIP: %s\n", err_line(e));
		return TEST_SKIP;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
