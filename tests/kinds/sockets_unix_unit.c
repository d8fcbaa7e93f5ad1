// SPDX-License-Identifier: Apache-2.0
/* Unix sockets: pairs, names, what is refused; the log. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "kinds/unix.h"
#include "sock_world.h"

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

static void look_name(int fd, char name[108])
{
	struct sockaddr_un a = { 0 };
	socklen_t len = sizeof(a);

	assert_int_equal(getsockname(fd, (void *)&a, &len), 0);
	memcpy(name, a.sun_path, 108);
}

static void test_pair_credentials(void **state)
{
	char name[108], again[108];
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
	/* Sending with SO_PASSCRED has given sv[0] a name. */
	look_name(sv[0], name);
	assert_int_equal(strlen(name + 1), 5);
	move(*state, sv, 2);
	look_name(sv[0], again);
	assert_memory_equal(name, again, sizeof(name));
	assert_int_equal(recv(sv[1], buf, sizeof(buf), 0), 2);
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
	char now[108];

	look_name(fd, now);
	assert_string_equal(now, name);
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
	rebuild_fd(w, o); /* changed: the first one leaves nothing */
	assert_int_equal(entries("."), 3);
	assert_int_equal(entries(w->scratch_dir), 1);
	finish_fd(w, o);
	assert_int_equal(unix_connect(SOCK_STREAM, abs, strlen(abs)), -1);
	assert_int_equal(errno, ECONNREFUSED); /* still the stale one */
	kind_socket.discard(&w->r, o, msg);
	assert_int_equal(entries("."), 2);
	assert_int_equal(entries(w->scratch_dir), 0);
	kind_socket.discard(&w->r, o, msg);
	assert_int_equal(unlink(abs), 0);
	assert_int_equal(mkdir(abs, 0755), 0);
	refused(kind_socket.check(&w->r, o, msg), "is no socket");
}

/* Whoever rebuilt it has died before he could publish it, or after. */
static void test_unix_settled(void **state)
{
	struct world *w = *state;
	struct object *o;
	char abs[108];
	int fd;

	snprintf(abs, sizeof(abs), "%s/l.sock", w->dir);
	fd = unix_bound(SOCK_STREAM, abs, strlen(abs));
	assert_int_equal(listen(fd, 5), 0);
	ok(capture_fd(w, fd, &o));
	close(fd);
	rebuild_fd(w, o);
	finish_fd(w, o);
	unix_files_settle(w->scratch_dir, true);
	assert_true(unix_connect(SOCK_STREAM, abs, strlen(abs)) >= 0);
	assert_int_equal(entries("."), 2);
	assert_int_equal(entries(w->scratch_dir), 0);
	unix_files_settle(w->scratch_dir, true);
	assert_true(unix_connect(SOCK_STREAM, abs, strlen(abs)) >= 0);
	close(fd);
	rebuild_fd(w, o);
	unix_files_settle(w->scratch_dir, false);
	assert_int_equal(entries("."), 2);
	assert_int_equal(entries(w->scratch_dir), 0);
}

static void test_unix_refusals(void **state)
{
	struct world *w = *state;
	int fd = unix_bound(SOCK_STREAM, "w", 1), one, two;

	assert_int_equal(listen(fd, 5), 0);
	one = unix_connect(SOCK_STREAM, "w", 1);
	refused(capture_fd(w, fd, NULL), "w: 1 connections wait to be accepted");
	refused(capture_fd(w, one, NULL), "socket of another process (w, of pid ");
	one = unix_bound(SOCK_DGRAM, "one", 3);
	two = unix_connect(SOCK_DGRAM, "one", 3);
	refused(capture_fd(w, two, NULL), "connected one way to descriptor ");
	assert_int_equal(send(two, "x", 1, 0), 1);
	refused(capture_fd(w, one, NULL), "one: datagrams wait to be read");
}

/* A connection that the process made to itself through a listener. */
static void test_named_connections(void **state)
{
	struct world *w = *state;
	int fd[3], abstract;
	struct sockaddr_un a = { 0 };
	socklen_t len = sizeof(a);

	fd[0] = unix_bound(SOCK_STREAM, "w", 1);
	assert_int_equal(listen(fd[0], 5), 0);
	fd[1] = unix_connect(SOCK_STREAM, "w", 1);
	fd[2] = accept(fd[0], NULL, NULL);
	assert_int_equal(send(fd[1], "to server", 9, 0), 9);
	move(w, fd, 3);
	check_name(fd[2], "w");
	check_name(fd[1], "");
	assert_int_equal(getpeername(fd[1], (void *)&a, &len), 0);
	assert_string_equal(a.sun_path, "w");
	assert_true(unix_connect(SOCK_STREAM, "w", 1) >= 0);
	abstract = unix_bound(SOCK_STREAM, "\0abc", 4);
	assert_int_equal(listen(abstract, 5), 0);
	fd[1] = unix_connect(SOCK_STREAM, "\0abc", 4);
	fd[2] = accept(abstract, NULL, NULL);
	refused(capture_fd(w, fd[2], NULL), "@abc: a connection that shares an abstract name");
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		SOCK_TEST(test_pairs),
		SOCK_TEST(test_pair_datagrams),
		SOCK_TEST(test_pair_credentials),
		SOCK_TEST(test_widows),
		SOCK_TEST(test_pair_refusals),
		SOCK_TEST(test_unix_names),
		SOCK_TEST(test_unix_name_gone),
		SOCK_TEST(test_unix_discard),
		SOCK_TEST(test_unix_settled),
		SOCK_TEST(test_unix_refusals),
		SOCK_TEST(test_named_connections),
		SOCK_TEST(test_journal),
	};

	return sock_tests(tests, ARRAY_LEN(tests));
}
