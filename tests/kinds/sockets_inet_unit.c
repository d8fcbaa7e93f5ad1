// SPDX-License-Identifier: Apache-2.0
/* TCP, UDP, other families, and nonsense from the peer. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "kinds/sockaddr.h"
#include "sock_world.h"
#include "socket.pb-c.h"
#include "unix.pb-c.h"

#define IP_PROTOCOL_NUMBER 52 /* Linux 6.2 */

static union sock_addr address(const char *ip, uint16_t port)
{
	union sock_addr a = { 0 };

	if (inet_pton(AF_INET, ip, &a.in.sin_addr) == 1) {
		a.in.sin_family = AF_INET;
		a.in.sin_port = htons(port);
		return a;
	}
	assert_int_equal(inet_pton(AF_INET6, ip, &a.in6.sin6_addr), 1);
	a.in6.sin6_family = AF_INET6;
	a.in6.sin6_port = htons(port);
	return a;
}

static int bound(int type, const char *ip, uint16_t port)
{
	union sock_addr a = address(ip, port);
	int fd = socket(a.any.sa_family, type, 0);

	assert_true(fd >= 0);
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	assert_int_equal(bind(fd, &a.any, sockaddr_len(&a)), 0);
	return fd;
}

static int connected(int type, const char *ip, uint16_t port)
{
	union sock_addr a = address(ip, port);
	int fd = socket(a.any.sa_family, type, 0);

	assert_int_equal(connect(fd, &a.any, sockaddr_len(&a)), 0);
	return fd;
}

static uint16_t local_port(int fd)
{
	union sock_addr a = { 0 };
	socklen_t len = sizeof(a);

	assert_int_equal(getsockname(fd, &a.any, &len), 0);
	return sockaddr_port(&a);
}

/* ---- addresses ---- */

static void test_addresses(void **state)
{
	struct world *w = *state;
	union sock_addr a = address("fe80::1", 80), b;
	Migrate__Kind__SocketAddress *m;
	char text[SOCKADDR_TEXT];

	a.in6.sin6_scope_id = if_nametoindex("lo");
	assert_string_equal(sockaddr_text(&a, text), "[fe80::1%lo]:80");
	ok(sockaddr_pack(w->arena, &a, &m));
	assert_string_equal(m->interface, "lo");
	ok(sockaddr_unpack(m, AF_INET6, &b));
	assert_memory_equal(&a.in6, &b.in6, sizeof(a.in6));
	refused(sockaddr_unpack(m, AF_INET, &b), "family 10");
	m->interface = arena_strdup(w->arena, "eth77");
	refused(sockaddr_unpack(m, AF_INET6, &b), "no interface eth77");
	m->addr.len = 27;
	refused(sockaddr_unpack(m, AF_INET6, &b), "27 bytes");
	m->addr.len = 1;
	refused(sockaddr_unpack(m, AF_INET6, &b), "1 bytes");
	a = address("0.0.0.0", 0);
	assert_true(sockaddr_is_none(&a));
	a = address("0.0.0.0", 7);
	assert_false(sockaddr_is_none(&a));
	assert_string_equal(sockaddr_text(&a, text), "0.0.0.0:7");
}

/* ---- TCP ---- */

static void test_tcp_unbound(void **state)
{
	struct linger l = { 1, 7 };
	struct timeval tv = { 3, 250000 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	char name[16] = "";
	socklen_t len = sizeof(name);

	set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_int(fd, SOL_TCP, TCP_KEEPIDLE, 77);
	set_int(fd, SOL_TCP, TCP_NODELAY, 1);
	set_int(fd, SOL_TCP, TCP_USER_TIMEOUT, 4321);
	set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, 3000000);
	set_int(fd, SOL_IP, IP_TOS, 0x10);
	set_int(fd, SOL_SOCKET, SO_PRIORITY, 5);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3), 0);
	assert_int_equal(setsockopt(fd, SOL_TCP, TCP_CONGESTION, "reno", 4), 0);
	assert_int_equal(fchown(fd, 1234, 5678), 0);
	move1(*state, fd);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(get_int(fd, SOL_TCP, TCP_KEEPIDLE), 77);
	assert_int_equal(get_int(fd, SOL_SOCKET, SO_RCVBUF), 6000000);
	assert_int_equal(get_int(fd, SOL_SOCKET, SO_BUF_LOCK), 2);
	assert_int_equal(get_int(fd, SOL_SOCKET, SO_PRIORITY), 5);
	assert_int_equal(get_int(fd, SOL_IP, IP_TOS), 0x10);
	assert_int_equal(getsockopt(fd, SOL_TCP, TCP_CONGESTION, name, &len), 0);
	assert_string_equal(name, "reno");
}

static void listener(struct world *w, const char *ip, uint16_t port)
{
	int fd = bound(SOCK_STREAM, ip, port), client;

	set_int(fd, SOL_TCP, TCP_DEFER_ACCEPT, 3);
	set_int(fd, SOL_TCP, TCP_FASTOPEN, 5);
	assert_int_equal(listen(fd, 33), 0);
	move1(w, fd);
	set_int(fd, SOL_TCP, TCP_DEFER_ACCEPT, 0);
	client = connected(SOCK_STREAM, ip, port);
	assert_true(accept(fd, NULL, NULL) >= 0);
	close(client);
}

static void test_tcp_listeners(void **state)
{
	listener(*state, "127.0.0.1", 7001);
	listener(*state, "::1", 7002);
}

static void test_tcp_dual_stack(void **state)
{
	union sock_addr a = address("::", 7003);
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	set_int(fd, SOL_IPV6, IPV6_V6ONLY, 0);
	assert_int_equal(bind(fd, &a.any, sockaddr_len(&a)), 0);
	assert_int_equal(listen(fd, 1), 0);
	move1(*state, fd);
	assert_true(connected(SOCK_STREAM, "127.0.0.1", 7003) >= 0);
}

static void test_tcp_refusals(void **state)
{
	struct world *w = *state;
	int fd = bound(SOCK_STREAM, "127.0.0.1", 7004), client, server;
	struct linger hard = { 1, 0 };
	int off = 0;

	assert_int_equal(listen(fd, 4), 0);
	client = connected(SOCK_STREAM, "127.0.0.1", 7004);
	/* Whether somebody waits to be accepted is the engine's question (net_use.h). */
	ok(capture_fd(w, fd, NULL));
	server = accept(fd, NULL, NULL);
	ok(capture_fd(w, server, NULL));
	assert_string_equal(w->cp.text, "");
	assert_int_equal(send(client, "!", 1, MSG_OOB), 1);
	ok(capture_fd(w, server, NULL));
	has(w->cp.text, "urgent data on the connection from 127.0.0.1:7004 to 127.0.0.1:");
	w->cp.text[0] = 0;
	if (setsockopt(client, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)) == 0) {
		ok(capture_fd(w, client, NULL));
		has(w->cp.text, "SO_PEEK_OFF is set on the connection from");
	}
	setsockopt(server, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(server);
	refused(capture_fd(w, client, NULL), "has ended");
	refused(capture_fd(w, socket(AF_INET, SOCK_STREAM, 262), NULL), "multipath TCP");
}

/* A failed connect() gives its port up, but the socket's name still has it. */
static void test_tcp_failed(void **state)
{
	struct world *w = *state;
	union sock_addr nobody = address("127.0.0.1", 7007);
	int fd = socket(AF_INET, SOCK_STREAM, 0), number = -1, other;
	socklen_t len = sizeof(number);
	uint16_t port;

	assert_int_equal(connect(fd, &nobody.any, sockaddr_len(&nobody)), -1);
	port = local_port(fd);
	if (!port || getsockopt(fd, SOL_IP, IP_PROTOCOL_NUMBER, &number, &len) < 0)
		skip();
	assert_int_equal(number, 0);
	other = bound(SOCK_STREAM, "127.0.0.1", port); /* so anybody may have it */
	move1(w, fd);
	assert_int_equal(local_port(fd), 0);
	close(other);
}

/* The keys of a listener cannot be read back but by sock_diag. */
static void test_tcp_keys(void **state)
{
	struct world *w = *state;
	int fd = bound(SOCK_STREAM, "127.0.0.1", 7006);
	struct tcp_md5sig key = { .tcpm_keylen = 3, .tcpm_key = "abc" };
	union sock_addr peer = address("127.0.0.1", 0);

	memcpy(&key.tcpm_addr, &peer, sizeof(peer));
	assert_int_equal(listen(fd, 4), 0);
	ok(capture_fd(w, fd, NULL));
	assert_string_equal(w->cp.text, "");
	if (setsockopt(fd, SOL_TCP, TCP_MD5SIG, &key, sizeof(key)) < 0)
		skip(); /* CONFIG_TCP_MD5SIG */
	ok(capture_fd(w, fd, NULL));
	has(w->cp.text, "TCP MD5 keys on 127.0.0.1:7006");
}

static void test_tcp_in_use(void **state)
{
	struct world *w = *state;
	int fd = bound(SOCK_STREAM, "127.0.0.1", 7005);
	struct object *o;
	void *msg;

	assert_int_equal(listen(fd, 4), 0);
	ok(capture_fd(w, fd, &o));
	ok(kind_unpack(w->arena, o, &msg));
	refused(kind_socket.check(&w->r, o, msg), "address 127.0.0.1:7005 is in use here");
	assert_string_equal(w->rp.warned, "");
	ok(io_write_file("/proc/sys/net/core/somaxconn", "3"));
	err_free(kind_socket.check(&w->r, o, msg));
	ok(io_write_file("/proc/sys/net/core/somaxconn", "4096"));
	has(w->rp.warned, "cuts the backlog of a listener from 4 to 3");
	/* A changed object is made again over what the rehearsal left at its number. */
	rebuild_fd(w, (close(fd), o));
	finish_fd(w, o);
	int again = -1;
	ok(kind_socket.rebuild(&w->r, o, msg, &again));
	assert_true(again >= 0);
}

/* ---- UDP ---- */

static void test_udp(void **state)
{
	struct world *w = *state;
	int server = bound(SOCK_DGRAM, "127.0.0.1", 7010);
	int client = connected(SOCK_DGRAM, "127.0.0.1", 7010);
	int six = bound(SOCK_DGRAM, "::1", 7011), fresh = socket(AF_INET, SOCK_DGRAM, 0);
	char buf[8];

	set_int(server, SOL_IP, IP_PKTINFO, 1);
	set_int(server, SOL_SOCKET, SO_BROADCAST, 1);
	set_int(six, SOL_IPV6, IPV6_RECVPKTINFO, 1);
	set_int(six, SOL_IPV6, IPV6_MULTICAST_HOPS, 9);
	set_int(six, SOL_IPV6, IPV6_MULTICAST_IF, 1);
	move(w, (int[]){ server, client, six, fresh }, 4);
	assert_int_equal(send(client, "hello", 5, 0), 5);
	ok(capture_fd(w, server, NULL));
	has(w->cp.text, "datagrams that waited to be read on 127.0.0.1:7010 are dropped");
	assert_int_equal(recv(server, buf, sizeof(buf), 0), 5);
	assert_int_equal(shutdown(client, SHUT_RD), 0);
	move1(w, client);
	assert_int_equal(recv(client, buf, sizeof(buf), 0), 0);
	shutdown(fresh, SHUT_RDWR);
	move1(w, fresh);
}

/* Classic ones move, locked or not; who sends is cut off there as here. */
static void test_filters(void **state)
{
	struct sock_filter v[] = { BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
		BPF_STMT(BPF_RET | BPF_K, 8 + 3) };
	struct sock_fprog prog = { ARRAY_LEN(v), v };
	struct sock_filter now[ARRAY_LEN(v)];
	socklen_t len = ARRAY_LEN(now);
	int fd = bound(SOCK_DGRAM, "127.0.0.1", 7015), client;
	char buf[16];

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)), 0);
	set_int(fd, SOL_SOCKET, SO_LOCK_FILTER, 1);
	move1(*state, fd);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, now, &len), 0);
	assert_int_equal(len, ARRAY_LEN(v));
	assert_memory_equal(now, v, sizeof(v));
	assert_int_equal(get_int(fd, SOL_SOCKET, SO_LOCK_FILTER), 1);
	client = connected(SOCK_DGRAM, "127.0.0.1", 7015);
	assert_int_equal(send(client, "hello", 5, 0), 5);
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), 3);
	close(client);
}

static void test_udp_refusals(void **state)
{
	struct world *w = *state;
	int fd = bound(SOCK_DGRAM, "0.0.0.0", 7012);
	struct ip_mreqn join = { .imr_ifindex = 1 };
	struct ipv6_mreq join6 = { .ipv6mr_interface = 1 };
	int six = bound(SOCK_DGRAM, "::", 7013);

	join.imr_multiaddr.s_addr = inet_addr("239.1.2.3");
	assert_int_equal(inet_pton(AF_INET6, "ff02::77", &join6.ipv6mr_multiaddr), 1);
	assert_int_equal(setsockopt(fd, SOL_IP, IP_ADD_MEMBERSHIP, &join, sizeof(join)), 0);
	ok(capture_fd(w, fd, NULL));
	has(w->cp.text, "multicast group 239.1.2.3");
	assert_int_equal(setsockopt(six, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &join6, sizeof(join6)), 0);
	ok(capture_fd(w, six, NULL));
	has(w->cp.text, "multicast group [ff02::77]");
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	ok(capture_fd(w, fd, NULL));
	assert_int_equal(local_port(fd), 0);
	for (int i = 0; i < 2; i++) {
		union sock_addr to = address(i ? "::1" : "127.0.0.1", 7014);
		int part = connected(SOCK_DGRAM, i ? "::1" : "127.0.0.1", 7014);

		w->cp.text[0] = 0;
		ok(capture_fd(w, part, NULL));
		assert_string_equal(w->cp.text, "");
		assert_int_equal(sendto(part, "half", 4, MSG_MORE, &to.any, sockaddr_len(&to)), 4);
		ok(capture_fd(w, part, NULL));
		has(w->cp.text, "part of a datagram");
	}
}

/* ---- other families, and nonsense from the peer ---- */

static void test_families(void **state)
{
	struct world *w = *state;

	refused(capture_fd(w, socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), NULL),
		"netlink socket of protocol 0 (route)");
	refused(capture_fd(w, socket(AF_PACKET, SOCK_RAW, 0), NULL), "packet socket");
	refused(capture_fd(w, socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), NULL),
		"raw IPv4 socket of protocol 1");
}

static void bad(struct world *w, const Migrate__Kind__Socket *m, const char *part)
{
	struct object o = { .kind = &kind_socket, .id = 4, .n_slots = 1 };

	o.slots = &(struct fd_slot){ .number = 63 };
	refused(kind_socket.check(&w->r, &o, m), part);
}

static void test_nonsense(void **state)
{
	struct world *w = *state;
	Migrate__Kind__Socket m = MIGRATE__KIND__SOCKET__INIT;
	Migrate__Kind__SocketOption opt = MIGRATE__KIND__SOCKET_OPTION__INIT, *v = &opt;
	Migrate__Kind__Unix u = MIGRATE__KIND__UNIX__INIT;
	Migrate__Kind__UnixFile file = MIGRATE__KIND__UNIX_FILE__INIT;
	const uint8_t *body;

	m.impl = 99;
	bad(w, &m, "unknown sort of socket 99");
	m.impl = 1;
	bad(w, &m, "family 0, type 0");
	m.domain = AF_INET;
	m.type = SOCK_STREAM;
	m.protocol = IPPROTO_TCP;
	m.options = &v;
	m.n_options = 1;
	bad(w, &m, "socket option 0 of level 0");
	opt.level = SOL_SOCKET;
	opt.name = SO_ATTACH_FILTER;
	bad(w, &m, "socket option 26 of level 1");
	opt.name = SO_KEEPALIVE;
	opt.value.len = 3;
	bad(w, &m, "SO_KEEPALIVE of 3 bytes");
	opt.level = SOL_IPV6;
	opt.name = IPV6_V6ONLY;
	bad(w, &m, "socket option");
	m.n_options = 0;
	m.impl = 3;
	bad(w, &m, "family 2");
	m.domain = AF_UNIX;
	m.protocol = 0;
	u.address.data = (uint8_t *)(uintptr_t) "/tmp/a\0b";
	u.address.len = 8;
	kind_pack(w->arena, &u.base, &body, &m.state.len);
	m.state.data = (uint8_t *)(uintptr_t)body;
	bad(w, &m, "NUL");
	u.address.len = 6;
	u.file = &file;
	file.path = (char *)(uintptr_t) "tmp/a";
	kind_pack(w->arena, &u.base, &body, &m.state.len);
	m.state.data = (uint8_t *)(uintptr_t)body;
	bad(w, &m, "socket file tmp/a");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SOCK_TEST(test_addresses),
		SOCK_TEST(test_tcp_unbound),
		SOCK_TEST(test_tcp_listeners),
		SOCK_TEST(test_tcp_dual_stack),
		SOCK_TEST(test_tcp_refusals),
		SOCK_TEST(test_tcp_failed),
		SOCK_TEST(test_tcp_keys),
		SOCK_TEST(test_tcp_in_use),
		SOCK_TEST(test_udp),
		SOCK_TEST(test_filters),
		SOCK_TEST(test_udp_refusals),
		SOCK_TEST(test_families),
		SOCK_TEST(test_nonsense),
	};

	return sock_tests(tests, ARRAY_LEN(tests));
}
