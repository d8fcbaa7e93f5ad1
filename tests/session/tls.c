// SPDX-License-Identifier: Apache-2.0
/* Handshake and HELLO, each side against all sorts of others: who is told what. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/frame.h"
#include "session/hello.h"
#include "session/tls.h"

#define LONG_US  60000000
#define SHORT_US 300000

static struct identity *one, *two;

static int setup(void **state unused_arg)
{
	signal(SIGPIPE, SIG_IGN); /* as every role does */
	return identity_new(&one) || identity_new(&two) ? -1 : 0;
}

static int teardown(void **state unused_arg)
{
	identity_free(one);
	identity_free(two);
	return 0;
}

/* Knows one key. */
static struct err *verify(void *arg, const char *fingerprint)
{
	return strcmp(arg, fingerprint) == 0 ? NULL : err_new(ERR_DENIED, "not that key");
}

/* What one side does with its end of the pair; the result goes to the test. */
struct end {
	enum tls_side side;
	const struct identity *self;
	const char *expects; /* the other's key */
	int64_t limit_us;
	bool fixed_keys, others_fixed_keys; /* in HELLO */
};

static struct err *run_end(const struct end *end, int fd)
{
	const struct hello_self self = {
		.software = "test", .boot_id = "boot", .fixed_keys = end->fixed_keys
	};
	const struct tls_verify v = { verify, (void *)(uintptr_t)end->expects };
	struct deadline d = deadline_in(end->limit_us);
	struct hello_peer peer;
	struct tls_ctx ctx;
	autotls struct tls *t = NULL;
	struct err *e;

	TRY(tls_ctx_init(&ctx, end->self, end->side));
	e = tls_handshake(&ctx, fd, v, d, &t);
	tls_ctx_fini(&ctx);
	TRY(e);
	if (end->side == TLS_DIAL)
		TRY(hello_dial(t, &self, d, &peer));
	else
		TRY(hello_accept(t, &self, d, &peer));
	assert_string_equal(peer.software, "test");
	assert_string_equal(peer.boot_id, "boot");
	assert_int_equal(peer.fixed_keys, end->others_fixed_keys);
	assert_int_equal(t->rekey_bytes, end->others_fixed_keys ? 0 : TLS_REKEY_BYTES);
	tls_close(take(&t), deadline_in(SHORT_US));
	return NULL;
}

/* The other end in a process of its own: exit status 0, or the error's code. */
static pid_t start_end(const struct end *end, int fd, int others)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		close(others);
		struct err *e = run_end(end, fd);

		_exit(e ? (int)err_code(e) : 0);
	}
	close(fd);
	return pid;
}

static int wait_end(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* Code of each side's error, 0 for none. */
static void both(const struct end *dial, const struct end *accept, int *dial_code, int *accept_code)
{
	int fds[2];
	struct err *e;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	pid = start_end(accept, fds[1], fds[0]);
	e = run_end(dial, fds[0]);
	*dial_code = e ? (int)err_code(e) : 0;
	*accept_code = wait_end(pid);
	err_free(e);
}

static void good(void **state unused_arg)
{
	const struct end a = { TLS_DIAL, one, two->fingerprint, LONG_US };
	const struct end b = { TLS_ACCEPT, two, one->fingerprint, LONG_US };
	int ca, cb;

	both(&a, &b, &ca, &cb);
	assert_int_equal(ca, 0);
	assert_int_equal(cb, 0);
}

/* Each side for itself. */
static void fixed_keys(void **state unused_arg)
{
	for (int i = 0; i < 4; i++) {
		bool da = i & 1, db = i & 2;
		const struct end a = { TLS_DIAL, one, two->fingerprint, LONG_US, da, db };
		const struct end b = { TLS_ACCEPT, two, one->fingerprint, LONG_US, db, da };
		int ca, cb;

		both(&a, &b, &ca, &cb);
		assert_int_equal(ca, 0);
		assert_int_equal(cb, 0);
	}
}

static void unknown_key(void **state unused_arg)
{
	const struct end a = { TLS_DIAL, one, two->fingerprint, LONG_US };
	const struct end b = { TLS_ACCEPT, two, two->fingerprint, LONG_US };
	int ca, cb;

	both(&a, &b, &ca, &cb);
	assert_int_equal(ca, ERR_DENIED); /* told so, not just cut */
	assert_int_equal(cb, ERR_DENIED);
}

static void wrong_fingerprint(void **state unused_arg)
{
	const struct end a = { TLS_DIAL, one, one->fingerprint, LONG_US };
	const struct end b = { TLS_ACCEPT, two, one->fingerprint, LONG_US };
	int ca, cb;

	both(&a, &b, &ca, &cb);
	assert_int_equal(ca, ERR_DENIED);
	assert_int_equal(cb, ERR_DENIED);
}

/* Against plain bytes: each side in turn. */
static void against_bytes(
	enum tls_side side, const void *bytes, size_t n, bool then_close, int expected)
{
	const struct end us = { side, one, two->fingerprint, then_close ? LONG_US : SHORT_US };
	int fds[2];
	struct err *e;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(send(fds[1], bytes, n, MSG_NOSIGNAL), n);
	if (then_close)
		shutdown(fds[1], SHUT_WR);
	e = run_end(&us, fds[0]);
	close(fds[1]);
	assert_non_null(e);
	assert_int_equal(err_code(e), expected);
	err_free(e);
}

static void not_tls(void **state unused_arg)
{
	static const char banner[] = "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n";
	static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

	against_bytes(TLS_DIAL, banner, sizeof(banner) - 1, false, ERR_PEER);
	against_bytes(TLS_ACCEPT, http, sizeof(http) - 1, false, ERR_PEER);
	against_bytes(TLS_ACCEPT, banner, sizeof(banner) - 1, true, ERR_PEER);
}

static void garbage(void **state unused_arg)
{
	unsigned seed = 7;

	for (int round = 0; round < 50; round++) {
		uint8_t bytes[600];

		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)rand_r(&seed);
		if (round % 2) { /* looks like a record of TLS at first */
			bytes[0] = 22;
			bytes[1] = 3;
			bytes[2] = 3;
			bytes[3] = 1;
		}
		for (int side = 0; side < 2; side++) {
			const struct end us = { side ? TLS_ACCEPT : TLS_DIAL, one, two->fingerprint,
				LONG_US };
			struct err *e;
			int fds[2];

			assert_int_equal(
				socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
			assert_int_equal(send(fds[1], bytes, sizeof(bytes), 0), sizeof(bytes));
			shutdown(fds[1], SHUT_RDWR);
			e = run_end(&us, fds[0]);
			assert_non_null(e);
			err_free(e);
			close(fds[1]);
		}
	}
}

static void closed_at_once(void **state unused_arg)
{
	against_bytes(TLS_DIAL, "", 0, true, ERR_PEER);
	against_bytes(TLS_ACCEPT, "", 0, true, ERR_PEER);
}

static void half_open(void **state unused_arg)
{
	int64_t began = clock_us();

	against_bytes(TLS_DIAL, "", 0, false, ERR_TIMEOUT);
	against_bytes(TLS_ACCEPT, "\x16", 1, false, ERR_TIMEOUT);
	assert_true(clock_us() - began < LONG_US / 2);
}

/* A plain OpenSSL with chosen protocol versions at the other end. */
static void against_openssl(enum tls_side side, int version, int expected)
{
	const struct end us = { side, one, two->fingerprint, LONG_US };
	struct err *e;
	int fds[2];
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		SSL_CTX *ctx = SSL_CTX_new(TLS_method());
		SSL *ssl;

		close(fds[0]);
		SSL_CTX_set_max_proto_version(ctx, version);
		SSL_CTX_use_certificate(ctx, two->cert);
		SSL_CTX_use_PrivateKey(ctx, two->key);
		ssl = SSL_new(ctx);
		SSL_set_fd(ssl, fds[1]);
		_exit(side == TLS_DIAL ? SSL_accept(ssl) == 1 : SSL_connect(ssl) == 1);
	}
	close(fds[1]);
	e = run_end(&us, fds[0]);
	assert_non_null(e);
	assert_int_equal(err_code(e), expected);
	err_free(e);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void tls_1_2(void **state unused_arg)
{
	against_openssl(TLS_DIAL, TLS1_2_VERSION, ERR_MISMATCH);
	against_openssl(TLS_ACCEPT, TLS1_2_VERSION, ERR_MISMATCH);
}

/* TLS 1.3, but no client certificate; and a server with the right key that is no migrated. */
static void other_program(void **state unused_arg)
{
	against_openssl(TLS_ACCEPT, TLS1_3_VERSION, ERR_PEER);
	against_openssl(TLS_DIAL, TLS1_3_VERSION, ERR_PEER);
}

static void versions(void **state unused_arg)
{
	uint32_t v;
	struct err *e;

	assert_null(hello_choose(PROTOCOL_MIN, PROTOCOL_MAX, &v));
	assert_int_equal(v, PROTOCOL_MAX);
	assert_null(hello_choose(1, 1000, &v));
	assert_int_equal(v, PROTOCOL_MAX);
	e = hello_choose(PROTOCOL_MAX + 1, PROTOCOL_MAX + 5, &v);
	assert_non_null(e);
	assert_int_equal(err_code(e), ERR_MISMATCH);
	err_free(e);
	e = hello_choose(0, 5, &v);
	assert_non_null(e);
	assert_int_equal(err_code(e), ERR_PEER);
	err_free(e);
	e = hello_choose(5, 4, &v);
	assert_non_null(e);
	assert_int_equal(err_code(e), ERR_PEER);
	err_free(e);
}

/* One frame from a peer with a good key, against the accepting side. */
static int accept_code(uint16_t type, const void *body, uint32_t len, uint32_t said_len)
{
	const struct end us = { TLS_ACCEPT, two, one->fingerprint, LONG_US };
	const struct tls_verify v = { verify, two->fingerprint };
	uint8_t buf[FRAME_HEAD_BYTES + 64];
	struct tls_ctx ctx;
	struct tls *t;
	int fds[2];
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	pid = start_end(&us, fds[1], fds[0]);
	assert_null(tls_ctx_init(&ctx, one, TLS_DIAL));
	assert_null(tls_handshake(&ctx, fds[0], v, deadline_in(LONG_US), &t));
	frame_encode(&(struct frame_head){ .length = said_len, .type = type }, buf);
	memcpy(buf + FRAME_HEAD_BYTES, body, len);
	assert_null(tls_write_full(t, buf, FRAME_HEAD_BYTES + len, deadline_in(LONG_US)));
	tls_close(t, deadline_in(LONG_US));
	tls_ctx_fini(&ctx);
	return wait_end(pid);
}

static void bad_hello(void **state unused_arg)
{
	static const uint8_t newer[] = { 0x08, 0x63, 0x10, 0x64 }; /* versions 99 to 100 */

	assert_int_equal(
		accept_code(FRAME_HELLO, newer, sizeof(newer), sizeof(newer)), ERR_MISMATCH);
	assert_int_equal(accept_code(FRAME_HELLO, "\xff\xff\xff", 3, 3), ERR_PEER);
	assert_int_equal(accept_code(FRAME_HELLO, "", 0, 100), ERR_PEER); /* cut */
	assert_int_equal(accept_code(FRAME_HELLO, "", 0, 1 << 30), ERR_PEER);
	assert_int_equal(accept_code(FRAME_BEGIN, "", 0, 0), ERR_PEER);
	assert_int_equal(accept_code(FRAME_HELLO_OK, "", 0, 0), ERR_PEER);
	assert_int_equal(accept_code(9999, "", 0, 0), ERR_PEER);
}

static void key_round_trip(void **state unused_arg)
{
	autofree char *pem = NULL;
	autoidentity struct identity *again = NULL;
	struct err *e;

	assert_null(identity_to_pem(one, &pem));
	assert_null(identity_from_pem(pem, strlen(pem), &again));
	assert_string_equal(again->fingerprint, one->fingerprint);
	assert_string_not_equal(one->fingerprint, two->fingerprint);
	e = identity_from_pem("nonsense", 8, &again);
	assert_non_null(e);
	err_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(key_round_trip),
		cmocka_unit_test(good),
		cmocka_unit_test(fixed_keys),
		cmocka_unit_test(unknown_key),
		cmocka_unit_test(wrong_fingerprint),
		cmocka_unit_test(not_tls),
		cmocka_unit_test(garbage),
		cmocka_unit_test(closed_at_once),
		cmocka_unit_test(half_open),
		cmocka_unit_test(tls_1_2),
		cmocka_unit_test(other_program),
		cmocka_unit_test(versions),
		cmocka_unit_test(bad_hello),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
