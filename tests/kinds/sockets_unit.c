// SPDX-License-Identifier: Apache-2.0
/*
 * Sockets of this very process, captured, closed, made again and compared, without an engine: this
 * program is what kinds call (capture_*, rebuild_*), and plays the rebuilt process too, so remote
 * calls are plain ones. In a network and mount namespace of its own; needs root.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "kinds/kind.h"
#include "kinds/sockaddr.h"
#include "socket.pb-c.h"
#include "unix.pb-c.h"

extern const struct kind kind_socket;

#define OBJECTS_MAX 8
#define SKIP_STATUS 77

/* ---- what engine and kernel would be ---- */

struct capture_priv {
	struct object objects[OBJECTS_MAX];
	size_t n;
	int home;
	char text[2000]; /* refusals and warnings */
};

struct rebuild_priv {
	uint64_t group;
	int stash[4];
};

static uint8_t scratch[REMOTE_SCRATCH_BYTES];

struct object *capture_emit(struct capture *c, uint64_t id, const ProtobufCMessage *msg)
{
	struct object *o = &c->priv->objects[c->priv->n++];

	*o = (struct object){
		.kind = &kind_socket, .id = id, .slots = c->file->slots, .n_slots = c->file->n_slots
	};
	kind_pack(c->arena, msg, &o->body, &o->body_len);
	return o;
}

struct err *capture_home(struct capture *c, int *fd)
{
	c->priv->home = fcntl(c->file->slots[0].number, F_DUPFD_CLOEXEC, 500);
	*fd = c->priv->home;
	return *fd < 0 ? err_errno(errno, "dup") : NULL;
}

void capture_refuse(struct capture *c, struct err *e)
{
	autofree char *line = err_line(e);

	strncat(c->priv->text, line, sizeof(c->priv->text) - strlen(c->priv->text) - 1);
	err_free(e);
}

void capture_warn(struct capture *c, const char *fmt, ...)
{
	char line[500];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	strncat(c->priv->text, line, sizeof(c->priv->text) - strlen(c->priv->text) - 1);
}

int rebuild_stash_get(struct rebuild *r, uint64_t group, unsigned slot)
{
	return r->priv->group == group ? r->priv->stash[slot] - 1 : -1;
}

void rebuild_stash_put(struct rebuild *r, uint64_t group, unsigned slot, int fd)
{
	r->priv->group = group;
	r->priv->stash[slot] = fd + 1;
}

raddr remote_scratch(const struct task *t unused_arg)
{
	return (raddr){ (uintptr_t)scratch };
}

struct err *remote_put(struct task *t unused_arg, size_t offset, const void *buf, size_t n)
{
	memcpy(scratch + offset, buf, n);
	return NULL;
}

struct err *remote_get(struct task *t unused_arg, size_t offset, void *buf, size_t n)
{
	memcpy(buf, scratch + offset, n);
	return NULL;
}

struct err *remote_run(
	struct task *t unused_arg, struct thread *th unused_arg, struct call *calls, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const uint64_t *a = calls[i].args;
		long ret = syscall((long)calls[i].nr, a[0], a[1], a[2], a[3], a[4], a[5]);

		calls[i].ret = ret < 0 ? -errno : ret;
	}
	return NULL;
}

struct err *remote_call(
	struct task *t, struct thread *th, const struct call *c, const char *what, int64_t *ret)
{
	struct call one = *c;

	TRY(remote_run(t, th, &one, 1));
	if (one.ret < 0)
		return err_errno((int)-one.ret, "%s", what);
	if (ret)
		*ret = one.ret;
	return NULL;
}

struct err *remote_fd_home(struct task *t unused_arg, int number, int *fd)
{
	int n = fcntl(number, F_DUPFD_CLOEXEC, 600);

	if (n < 0)
		return err_errno(errno, "descriptor %d", number);
	*fd = n;
	return NULL;
}

/* ---- one test's world ---- */

struct world {
	struct arena *arena;
	struct task task;
	struct proc_stat stat;
	struct file_table files;
	struct capture_priv cp;
	struct rebuild_priv rp;
	struct capture c;
	struct rebuild r;
	char dir[64], scratch_dir[64];
};

static void ok(struct err *e)
{
	if (e) {
		char *line = err_line(e);

		fail_msg("%s", line);
	}
}

static void has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" is not in \"%s\"", part, text);
}

/* The error must contain `part`; takes e. */
static void refused(struct err *e, const char *part)
{
	autofree char *line = e ? err_line(e) : NULL;

	assert_non_null(e);
	has(line, part);
	err_free(e);
}

static int setup(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));

	w->arena = arena_new();
	w->task.pid = getpid();
	strcpy(w->stat.comm, "subject");
	strcpy(w->dir, "/tmp/kinds-sockets-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->scratch_dir, sizeof(w->scratch_dir), "%s/moving-1", w->dir);
	assert_int_equal(mkdir(w->scratch_dir, 0700), 0);
	assert_int_equal(chdir(w->dir), 0);
	w->c = (struct capture){ .task = &w->task,
		.stopped = true,
		.files = &w->files,
		.stat = &w->stat,
		.arena = w->arena,
		.priv = &w->cp };
	w->r = (struct rebuild){
		.task = &w->task, .arena = w->arena, .scratch_dir = w->scratch_dir, .priv = &w->rp
	};
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	autofree char *cmd = NULL;

	for (int fd = 3; fd < 700; fd++)
		close(fd);
	assert_true(asprintf(&cmd, "rm -rf %s", w->dir) > 0);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(system(cmd), 0);
	arena_free(w->arena);
	free(w);
	return 0;
}

/* Descriptors 3 to 63 of ours, one description each. */
static void look(struct world *w)
{
	w->files = (struct file_table){ .v = arena_array(w->arena, 64, sizeof(struct file)) };
	for (int n = 3; n < 64; n++) {
		struct file *f = &w->files.v[w->files.n];
		char path[64], link[200] = "", *text;
		uint64_t flags;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", n);
		if (readlink(path, link, sizeof(link) - 1) < 0)
			continue;
		assert_int_equal(fstat(n, &f->st), 0);
		f->id = file_id(n);
		f->slots = arena_alloc(w->arena, sizeof(*f->slots));
		f->slots[0].number = n;
		f->n_slots = 1;
		f->link = arena_strdup(w->arena, link);
		ok(proc_fdinfo(w->arena, getpid(), n, &text));
		f->fdinfo = text;
		ok(fdinfo_u64(text, "flags", 8, &flags));
		f->flags = flags & ~(uint64_t)O_CLOEXEC;
		w->files.n++;
	}
}

static struct err *capture_fd(struct world *w, int fd, struct object **ret)
{
	size_t before = w->cp.n;
	struct err *e;

	look(w);
	w->c.file = NULL;
	for (size_t i = 0; i < w->files.n; i++)
		if (w->files.v[i].slots[0].number == fd)
			w->c.file = &w->files.v[i];
	assert_non_null(w->c.file);
	assert_true(kind_socket.claims(w->c.file));
	e = kind_socket.capture(&w->c);
	fd_closep(&w->cp.home);
	if (ret)
		*ret = w->cp.n > before ? &w->cp.objects[before] : NULL;
	return e;
}

/* check, rebuild, install at its number. */
static void rebuild_fd(struct world *w, const struct object *o)
{
	void *msg;
	int fd = -1;

	ok(kind_unpack(w->arena, o, &msg));
	ok(kind_socket.check(&w->r, o, msg));
	ok(kind_socket.rebuild(&w->r, o, msg, &fd));
	if (fd == o->slots[0].number)
		return;
	assert_int_equal(dup3(fd, o->slots[0].number, O_CLOEXEC), o->slots[0].number);
	close(fd);
}

static void stash_end(struct world *w)
{
	for (size_t i = 0; i < 4; i++)
		if (w->rp.stash[i] > 0)
			close(w->rp.stash[i] - 1);
	w->rp = (struct rebuild_priv){ 0 };
}

static void finish_fd(struct world *w, const struct object *o)
{
	void *msg;

	ok(kind_unpack(w->arena, o, &msg));
	ok(kind_socket.finish(&w->r, o, msg));
}

static void publish_fd(struct world *w, const struct object *o)
{
	void *msg;

	ok(kind_unpack(w->arena, o, &msg));
	ok(kind_socket.publish(&w->r, o, msg));
}

/* Moves n descriptors; captured again, every body must be the same. */
static void move(struct world *w, const int *fds, size_t n)
{
	struct object *o[OBJECTS_MAX], *again;

	w->cp.n = 0;
	for (size_t i = 0; i < n; i++)
		ok(capture_fd(w, fds[i], &o[i]));
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	for (size_t i = 0; i < n; i++)
		rebuild_fd(w, o[i]);
	stash_end(w);
	for (size_t i = 0; i < n; i++)
		finish_fd(w, o[i]);
	for (size_t i = 0; i < n; i++)
		publish_fd(w, o[i]);
	for (size_t i = 0; i < n; i++) {
		ok(capture_fd(w, fds[i], &again));
		assert_int_equal(again->body_len, o[i]->body_len);
		assert_memory_equal(again->body, o[i]->body, o[i]->body_len);
	}
	w->cp.n = 0;
}

static void move1(struct world *w, int fd)
{
	move(w, &fd, 1);
}

static void set_int(int fd, int level, int name, int v)
{
	assert_int_equal(setsockopt(fd, level, name, &v, sizeof(v)), 0);
}

static int get_int(int fd, int level, int name)
{
	int v = 0;
	socklen_t len = sizeof(v);

	assert_int_equal(getsockopt(fd, level, name, &v, &len), 0);
	return v;
}

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
	refused(capture_fd(w, client, NULL), "(established)");
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

	assert_int_equal(listen(fd, 4), 0);
	client = connected(SOCK_STREAM, "127.0.0.1", 7004);
	ok(capture_fd(w, fd, NULL));
	has(w->cp.text, "1 connections to 127.0.0.1:7004 wait to be accepted");
	w->cp.text[0] = 0;
	w->c.stopped = false;
	ok(capture_fd(w, fd, NULL));
	assert_string_equal(w->cp.text, "");
	w->c.stopped = true;
	server = accept(fd, NULL, NULL);
	refused(capture_fd(w, server, NULL), "connection from 127.0.0.1:7004 to 127.0.0.1:");
	setsockopt(server, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(server);
	refused(capture_fd(w, client, NULL), "has ended");
	refused(capture_fd(w, socket(AF_INET, SOCK_STREAM, 262), NULL), "multipath TCP");
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
	has(w->cp.text, "datagrams wait to be read on 127.0.0.1:7010");
	assert_int_equal(recv(server, buf, sizeof(buf), 0), 5);
	assert_int_equal(shutdown(client, SHUT_RD), 0);
	move1(w, client);
	assert_int_equal(recv(client, buf, sizeof(buf), 0), 0);
	shutdown(fresh, SHUT_RDWR);
	move1(w, fresh);
}

static void test_udp_refusals(void **state)
{
	struct world *w = *state;
	int fd = bound(SOCK_DGRAM, "0.0.0.0", 7012);
	struct ip_mreqn join = { .imr_ifindex = 1 };
	struct ipv6_mreq join6 = { .ipv6mr_interface = 1 };
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, 0xffff);
	struct sock_fprog prog = { 1, &all };
	int six = bound(SOCK_DGRAM, "::", 7013);

	join.imr_multiaddr.s_addr = inet_addr("239.1.2.3");
	assert_int_equal(inet_pton(AF_INET6, "ff02::77", &join6.ipv6mr_multiaddr), 1);
	assert_int_equal(setsockopt(fd, SOL_IP, IP_ADD_MEMBERSHIP, &join, sizeof(join)), 0);
	ok(capture_fd(w, fd, NULL));
	has(w->cp.text, "multicast group 239.1.2.3");
	assert_int_equal(setsockopt(six, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &join6, sizeof(join6)), 0);
	ok(capture_fd(w, six, NULL));
	has(w->cp.text, "multicast group [ff02::77]");
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)), 0);
	ok(capture_fd(w, fd, NULL));
	has(w->cp.text, "packet filter of 1 instructions");
}

/* ---- unix ---- */

static void pair_of(struct world *w, int type)
{
	int sv[2];
	char buf[16];

	assert_int_equal(socketpair(AF_UNIX, type, 0, sv), 0);
	assert_int_equal(send(sv[0], "one", 3, 0), 3);
	assert_int_equal(send(sv[0], "three", 5, 0), 5);
	if (type != SOCK_STREAM)
		assert_int_equal(send(sv[0], "", 0, 0), 0);
	assert_int_equal(send(sv[0], "4", 1, 0), 1);
	assert_int_equal(send(sv[1], "back", 4, 0), 4);
	set_int(sv[1], SOL_SOCKET, SO_SNDBUF, 9000);
	assert_int_equal(shutdown(sv[0], SHUT_WR), 0);
	move(w, sv, 2);
	assert_int_equal(get_int(sv[1], SOL_SOCKET, SO_SNDBUF), 18000);
	assert_int_equal(get_int(sv[0], SOL_SOCKET, SO_BUF_LOCK), 0);
	assert_int_equal(get_int(sv[1], SOL_SOCKET, SO_PEEK_OFF), -1);
	assert_int_equal(recv(sv[0], buf, sizeof(buf), 0), 4);
	if (type == SOCK_STREAM) {
		assert_int_equal(recv(sv[1], buf, sizeof(buf), 0), 9);
		assert_memory_equal(buf, "onethree4", 9);
		assert_int_equal(recv(sv[1], buf, sizeof(buf), 0), 0);
	} else {
		assert_int_equal(recv(sv[1], buf, sizeof(buf), 0), 3);
		assert_int_equal(recv(sv[1], buf, sizeof(buf), 0), 5);
		assert_int_equal(recv(sv[1], buf, sizeof(buf), 0), 0);
		assert_int_equal(recv(sv[1], buf, sizeof(buf), 0), 1);
	}
	assert_int_equal(send(sv[0], "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	close(sv[0]);
	close(sv[1]);
}

static void test_pairs(void **state)
{
	pair_of(*state, SOCK_STREAM);
	pair_of(*state, SOCK_SEQPACKET);
	pair_of(*state, SOCK_DGRAM);
}

static void test_pair_datagrams(void **state)
{
	int sv[2];
	static char big[150000], got[200000];

	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv), 0);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 7);
	set_int(sv[0], SOL_SOCKET, SO_SNDBUFFORCE, 10000000);
	for (int i = 0; i < 30; i++)
		assert_int_equal(send(sv[0], big, i < 3 ? sizeof(big) : (size_t)i, 0),
			i < 3 ? (int)sizeof(big) : i);
	set_int(sv[0], SOL_SOCKET, SO_SNDBUFFORCE, 5000);
	move(*state, sv, 2);
	for (int i = 0; i < 30; i++)
		assert_int_equal(recv(sv[1], got, sizeof(got), 0), i < 3 ? (int)sizeof(big) : i);
	assert_int_equal(recv(sv[1], got, sizeof(got), MSG_DONTWAIT), -1);
}

static void test_pair_credentials(void **state)
{
	int sv[2];
	struct ucred cred = { 0 };
	socklen_t len = sizeof(cred);
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(cred))];
	char buf[16];
	struct iovec iov = { buf, sizeof(buf) };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };

	assert_int_equal(setresgid(-1, 4321, -1), 0);
	assert_int_equal(setresuid(-1, 1234, -1), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv), 0);
	set_int(sv[0], SOL_SOCKET, SO_PASSCRED, 1);
	set_int(sv[1], SOL_SOCKET, SO_PASSCRED, 1);
	assert_int_equal(send(sv[0], "hi", 2, 0), 2);
	assert_int_equal(setresuid(-1, 0, -1), 0);
	assert_int_equal(setresgid(-1, 0, -1), 0);
	/* Sending with SO_PASSCRED has given sv[0] a name: that pair is refused by name. */
	refused(capture_fd(*state, sv[0], NULL), "connected by the name @");
	close(sv[0]);
	close(sv[1]);
	assert_int_equal(setresgid(-1, 4321, -1), 0);
	assert_int_equal(setresuid(-1, 1234, -1), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv), 0);
	set_int(sv[1], SOL_SOCKET, SO_PASSCRED, 1);
	assert_int_equal(send(sv[0], "hi", 2, 0), 2);
	assert_int_equal(setresuid(-1, 0, -1), 0);
	assert_int_equal(setresgid(-1, 0, -1), 0);
	move(*state, sv, 2);
	assert_int_equal(geteuid(), 0);
	assert_int_equal(getsockopt(sv[0], SOL_SOCKET, SO_PEERCRED, &cred, &len), 0);
	assert_int_equal(cred.uid, 1234);
	assert_int_equal(cred.gid, 4321);
	assert_int_equal(recvmsg(sv[1], &msg, 0), 2);
	memcpy(&cred, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(cred));
	assert_int_equal(cred.uid, 0); /* messages carry the real uid, the pair the effective one */
	assert_int_equal(cred.pid, getpid());
}

static void test_widows(void **state)
{
	int sv[2];
	char buf[8];

	for (int reset = 0; reset < 2; reset++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
		assert_int_equal(send(sv[1], "rest", 4, 0), 4);
		if (reset)
			assert_int_equal(send(sv[0], "never read", 10, 0), 10);
		close(sv[1]);
		move1(*state, sv[0]);
		assert_int_equal(recv(sv[0], buf, sizeof(buf), 0), 4);
		assert_int_equal(recv(sv[0], buf, sizeof(buf), 0), reset ? -1 : 0);
		assert_int_equal(errno == ECONNRESET, reset);
		errno = 0;
		close(sv[0]);
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv), 0);
	close(sv[1]);
	move1(*state, sv[0]);
	assert_int_equal(send(sv[0], "x", 1, 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
}

static void test_pair_refusals(void **state)
{
	struct world *w = *state;
	int sv[2], outside;
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = { 0 };
	char byte = 120;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&msg);

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	assert_int_equal(sendmsg(sv[0], &msg, 0), 1);
	refused(capture_fd(w, sv[1], NULL), "1 descriptors are on their way");
	assert_int_equal(send(sv[1], "!", 1, MSG_OOB), 1);
	refused(capture_fd(w, sv[0], NULL), "urgent byte");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	outside = fcntl(sv[1], F_DUPFD, 400);
	close(sv[1]);
	refused(capture_fd(w, sv[0], NULL), "socket of another process (without a name, of pid ");
	close(outside);
}

static int unix_bound(int type, const char *name, size_t len)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type, 0);

	memcpy(a.sun_path, name, len);
	assert_int_equal(
		bind(fd, (void *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)), 0);
	return fd;
}

static int unix_connect(int type, const char *name, size_t len)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type, 0);

	memcpy(a.sun_path, name, len);
	if (connect(fd, (void *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) == 0)
		return fd;
	close(fd);
	return -1;
}

static void check_name(int fd, const char *name)
{
	struct sockaddr_un a = { 0 };
	socklen_t len = sizeof(a);

	assert_int_equal(getsockname(fd, (void *)&a, &len), 0);
	assert_string_equal(a.sun_path, name);
}

static int entries(const char *dir)
{
	autofree char *cmd = NULL;
	FILE *f;
	int n = -1;

	assert_true(asprintf(&cmd, "ls -A %s | wc -l", dir) > 0);
	f = popen(cmd, "r");
	assert_int_equal(fscanf(f, "%d", &n), 1);
	pclose(f);
	return n;
}

static void test_unix_names(void **state)
{
	struct world *w = *state;
	char abs[108];
	struct stat st;
	int fd[4];

	snprintf(abs, sizeof(abs), "%s/sub/../sub/abs.sock", w->dir);
	assert_int_equal(mkdir("sub", 0755), 0);
	fd[0] = unix_bound(SOCK_STREAM, abs, strlen(abs));
	fd[1] = unix_bound(SOCK_SEQPACKET, "./sub/rel.sock", 14);
	fd[2] = unix_bound(SOCK_DGRAM, "d", 1);
	fd[3] = unix_bound(SOCK_STREAM, "\0abstract\0x", 11);
	assert_int_equal(chmod(abs, 0640), 0);
	assert_int_equal(chown(abs, 1234, 4321), 0);
	assert_int_equal(listen(fd[0], 5), 0);
	assert_int_equal(listen(fd[1], 6), 0);
	assert_int_equal(listen(fd[3], 7), 0);
	move(w, fd, 4);
	check_name(fd[0], abs);
	check_name(fd[1], "./sub/rel.sock");
	check_name(fd[2], "d");
	assert_int_equal(stat(abs, &st), 0);
	assert_int_equal(st.st_mode, S_IFSOCK | 0640);
	assert_int_equal(st.st_uid, 1234);
	assert_int_equal(st.st_gid, 4321);
	assert_true(unix_connect(SOCK_STREAM, abs, strlen(abs)) >= 0);
	assert_true(unix_connect(SOCK_SEQPACKET, "sub/rel.sock", 12) >= 0);
	assert_true(unix_connect(SOCK_DGRAM, "d", 1) >= 0);
	assert_true(unix_connect(SOCK_STREAM, "\0abstract\0x", 11) >= 0);
	assert_int_equal(entries("."), 3); /* sub, d, the scratch directory */
	assert_int_equal(entries("sub"), 2);
	assert_int_equal(entries(w->scratch_dir), 0);
}

static void test_unix_name_gone(void **state)
{
	struct world *w = *state;
	char abs[108];
	int fd;

	snprintf(abs, sizeof(abs), "%s/gone.sock", w->dir);
	fd = unix_bound(SOCK_STREAM, abs, strlen(abs));
	assert_int_equal(unlink(abs), 0);
	move1(w, fd);
	check_name(fd, abs);
	has(w->cp.text, "is gone already");
	assert_int_equal(entries("."), 1);
	assert_int_equal(entries(w->scratch_dir), 0);
}

/* Nothing is visible before publish, and nothing is left after discard. */
static void test_unix_discard(void **state)
{
	struct world *w = *state;
	struct object *o;
	void *msg;
	char abs[108];
	int fd;

	snprintf(abs, sizeof(abs), "%s/l.sock", w->dir);
	fd = unix_bound(SOCK_STREAM, abs, strlen(abs));
	assert_int_equal(listen(fd, 5), 0);
	ok(capture_fd(w, fd, &o));
	ok(kind_unpack(w->arena, o, &msg));
	refused(kind_socket.check(&w->r, o, msg), "a socket is bound to");
	close(fd);
	rebuild_fd(w, o);
	assert_int_equal(entries("."), 2);
	finish_fd(w, o);
	assert_int_equal(unix_connect(SOCK_STREAM, abs, strlen(abs)), -1);
	assert_int_equal(errno, ECONNREFUSED); /* still the stale one */
	kind_socket.discard(&w->r, o, msg);
	assert_int_equal(entries("."), 2);
	kind_socket.discard(&w->r, o, msg);
	assert_int_equal(unlink(abs), 0);
	assert_int_equal(mkdir(abs, 0755), 0);
	refused(kind_socket.check(&w->r, o, msg), "is no socket");
}

static void test_unix_refusals(void **state)
{
	struct world *w = *state;
	int fd = unix_bound(SOCK_STREAM, "w", 1), one, two;

	assert_int_equal(listen(fd, 5), 0);
	one = unix_connect(SOCK_STREAM, "w", 1);
	refused(capture_fd(w, fd, NULL), "w: 1 connections wait to be accepted");
	refused(capture_fd(w, one, NULL), "socket of another process (w, of pid ");
	two = accept(fd, NULL, NULL);
	refused(capture_fd(w, one, NULL), "connected by the name w to descriptor ");
	refused(capture_fd(w, two, NULL), "connected by the name w to descriptor ");
	one = unix_bound(SOCK_DGRAM, "one", 3);
	two = unix_connect(SOCK_DGRAM, "one", 3);
	refused(capture_fd(w, two, NULL), "connected one way to descriptor ");
	assert_int_equal(send(two, "x", 1, 0), 1);
	refused(capture_fd(w, one, NULL), "one: datagrams wait to be read");
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

/* ---- the log ---- */

static void test_journal(void **state)
{
	struct world *w = *state;
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/stdout" };
	int daemon = socket(AF_UNIX, SOCK_STREAM, 0), fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char head[200] = "";
	struct object *o;

	assert_int_equal(system("mkdir -p /run/systemd/journal"), 0);
	assert_int_equal(bind(daemon, (void *)&a, sizeof(a)), 0);
	assert_int_equal(listen(daemon, 5), 0);
	assert_int_equal(connect(fd, (void *)&a, sizeof(a)), 0);
	ok(capture_fd(w, fd, &o));
	has(w->cp.text, "goes to the journal");
	rebuild_fd(w, o);
	close(accept(daemon, NULL, NULL));
	daemon = accept(daemon, NULL, NULL);
	assert_int_equal(write(fd, "line\n", 5), 5);
	assert_true(recv(daemon, head, sizeof(head) - 1, 0) > 0);
	has(head, "subject\n\n6\n1\n0\n0\n0\nline\n");
}

static void lo_up(void)
{
	struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (ioctl(fd, SIOCSIFFLAGS, &r) < 0)
		perror("lo");
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(test_addresses),
		T(test_tcp_unbound),
		T(test_tcp_listeners),
		T(test_tcp_dual_stack),
		T(test_tcp_refusals),
		T(test_tcp_in_use),
		T(test_udp),
		T(test_udp_refusals),
		T(test_pairs),
		T(test_pair_datagrams),
		T(test_pair_credentials),
		T(test_widows),
		T(test_pair_refusals),
		T(test_unix_names),
		T(test_unix_name_gone),
		T(test_unix_discard),
		T(test_unix_refusals),
		T(test_families),
		T(test_nonsense),
		T(test_journal),
	};

	if (geteuid() != 0 || unshare(CLONE_NEWNET | CLONE_NEWNS) < 0) {
		printf("SKIP: needs root and namespaces of its own\n");
		return SKIP_STATUS;
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("tmpfs", "/run", "tmpfs", 0, NULL) < 0) {
		perror("private /run");
		return 1;
	}
	lo_up();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
