// SPDX-License-Identifier: Apache-2.0
/* Handshakes that must not end well, by programs that know TLS: expired and future certificates,
 * other kinds of keys, weak groups and suites, old versions, no key at all, a session said once
 * more. And which key is shown while a host has two. */
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
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

#include "session/hello.h"
#include "session/tls.h"

#define LONG_US 60000000

static struct identity *one, *two, *next;

static int setup(void **state unused_arg)
{
	signal(SIGPIPE, SIG_IGN);
	return identity_new(&one) || identity_new(&two) || identity_new(&next) ? -1 : 0;
}

static int teardown(void **state unused_arg)
{
	identity_free(one);
	identity_free(two);
	identity_free(next);
	return 0;
}

/* Knows any key: what is refused here is not refused for that. */
static struct err *any(void *arg unused_arg, const char *fingerprint unused_arg)
{
	return NULL;
}

/* Our side up to HELLO. */
static struct err *ours(enum tls_side side, int fd)
{
	const struct hello_self self = { .software = "test", .boot_id = "boot" };
	struct deadline d = deadline_in(LONG_US);
	struct hello_peer peer;
	struct tls_ctx ctx;
	struct tls *t = NULL;
	struct err *e;

	TRY(tls_ctx_init(&ctx, one, side));
	e = tls_handshake(&ctx, fd, (struct tls_verify){ any }, d, &t);
	tls_ctx_fini(&ctx);
	TRY(e);
	e = side == TLS_DIAL ? hello_dial(t, &self, d, &peer) : hello_accept(t, &self, d, &peer);
	tls_close(t, deadline_in(100000));
	return e;
}

/* What the program at the other end is. */
struct program {
	const char *what;
	int from_day, to_day; /* of the certificate, from today */
	const char *key;      /* kind of key; NULL: two's own */
	const char *groups, *suites, *old_suites;
	int version; /* the highest; 0: TLS 1.3 */
	bool no_key;
	int code;      /* what we say of it */
	int dial_code; /* the same, when we dial; 0: as code */
};

static X509 *make_cert(const struct program *p, EVP_PKEY *key)
{
	bool hashed = EVP_PKEY_is_a(key, "RSA") || EVP_PKEY_is_a(key, "EC");
	X509 *cert = X509_new();

	assert_non_null(cert);
	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), p->from_day * 86400L);
	X509_gmtime_adj(X509_getm_notAfter(cert), p->to_day * 86400L);
	X509_set_pubkey(cert, key);
	assert_true(X509_sign(cert, key, hashed ? EVP_sha256() : NULL) > 0);
	return cert;
}

static EVP_PKEY *make_key(const char *kind)
{
	if (strcmp(kind, "RSA") == 0)
		return EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
	if (strcmp(kind, "EC") == 0)
		return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	return EVP_PKEY_Q_keygen(NULL, NULL, kind);
}

static int any_cert(X509_STORE_CTX *store unused_arg, void *arg unused_arg)
{
	return 1;
}

/* In a process of its own: exit status 0 if the handshake worked. */
static int run_program(const struct program *p, enum tls_side side, int fd)
{
	SSL_CTX *ctx = SSL_CTX_new(side == TLS_DIAL ? TLS_client_method() : TLS_server_method());
	EVP_PKEY *key = p->key ? make_key(p->key) : two->key;
	SSL *ssl;
	char byte;

	SSL_CTX_set_security_level(ctx, 0);
	if (p->version) {
		SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
		SSL_CTX_set_max_proto_version(ctx, p->version);
	}
	if (!p->no_key) {
		SSL_CTX_use_certificate(ctx, make_cert(p, key));
		SSL_CTX_use_PrivateKey(ctx, key);
	}
	if (p->groups && SSL_CTX_set1_groups_list(ctx, p->groups) != 1)
		return 99;
	if (p->suites && SSL_CTX_set_ciphersuites(ctx, p->suites) != 1)
		return 99;
	if (p->old_suites && SSL_CTX_set_cipher_list(ctx, p->old_suites) != 1)
		return 99;
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(ctx, any_cert, NULL);
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, fd);
	if ((side == TLS_DIAL ? SSL_connect(ssl) : SSL_accept(ssl)) != 1)
		return 1;
	/* TLS 1.3 tells a client with its first read. */
	return SSL_read(ssl, &byte, 1) == 1 ? 0 : 1;
}

static void against(const struct program *p, enum tls_side side)
{
	int fds[2], status, expected = side == TLS_DIAL && p->dial_code ? p->dial_code : p->code;
	struct err *e;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(fds[0]);
		_exit(run_program(p, side == TLS_DIAL ? TLS_ACCEPT : TLS_DIAL, fds[1]));
	}
	close(fds[1]);
	e = ours(side, fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!e || (int)err_code(e) != expected) {
		autofree char *line = e ? err_line(e) : xstrdup("nothing");

		fail_msg("%s, we %s: %s", p->what, side == TLS_DIAL ? "dial" : "accept", line);
	}
	err_free(e);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) != 1)
		fail_msg("%s: the other end says %d", p->what, WEXITSTATUS(status));
}

static const struct program programs[] = {
	{ .what = "expired", .from_day = -10, .to_day = -1, .code = ERR_DENIED },
	{ .what = "not valid yet", .from_day = 1, .to_day = 10, .code = ERR_DENIED },
	{ .what = "an RSA key",
		.to_day = 9,
		.key = "RSA",
		.code = ERR_DENIED,
		.dial_code = ERR_MISMATCH },
	{ .what = "a P-256 key",
		.to_day = 9,
		.key = "EC",
		.code = ERR_DENIED,
		.dial_code = ERR_MISMATCH },
	{ .what = "an Ed448 key",
		.to_day = 9,
		.key = "ED448",
		.code = ERR_DENIED,
		.dial_code = ERR_MISMATCH },
	{ .what = "no key", .no_key = true, .code = ERR_DENIED, .dial_code = ERR_MISMATCH },
	{ .what = "P-521 only", .to_day = 9, .groups = "P-521", .code = ERR_MISMATCH },
	{ .what = "ffdhe2048 only", .to_day = 9, .groups = "ffdhe2048", .code = ERR_MISMATCH },
	{ .what = "AES-256 only",
		.to_day = 9,
		.suites = "TLS_AES_256_GCM_SHA384",
		.code = ERR_MISMATCH },
	{ .what = "short tags",
		.to_day = 9,
		.suites = "TLS_AES_128_CCM_8_SHA256",
		.code = ERR_MISMATCH },
	{ .what = "TLS 1.2", .to_day = 9, .version = TLS1_2_VERSION, .code = ERR_MISMATCH },
	{ .what = "TLS 1.2 without encryption",
		.to_day = 9,
		.version = TLS1_2_VERSION,
		.old_suites = "eNULL:aNULL",
		.code = ERR_MISMATCH },
	{ .what = "TLS 1.1",
		.to_day = 9,
		.key = "EC",
		.version = TLS1_1_VERSION,
		.code = ERR_MISMATCH },
	{ .what = "TLS 1.0",
		.to_day = 9,
		.key = "EC",
		.version = TLS1_VERSION,
		.code = ERR_MISMATCH },
};

static void refused(void **state unused_arg)
{
	for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
		against(&programs[i], TLS_ACCEPT);
		against(&programs[i], TLS_DIAL);
	}
}

/* So that the others are refused for what they are. */
static void program_that_fits(void **state unused_arg)
{
	const struct program p = { .what = "good", .from_day = -1, .to_day = 9 };
	int fds[2], status;
	struct err *e;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(fds[0]);
		/* HELLO does not come, so neither does an answer: it is the handshake that counts
		 */
		_exit(run_program(&p, TLS_DIAL, fds[1]));
	}
	close(fds[1]);
	{
		struct tls_ctx ctx;
		struct tls *t = NULL;
		char fingerprint[FINGERPRINT_BYTES];

		assert_null(tls_ctx_init(&ctx, one, TLS_ACCEPT));
		e = tls_handshake(
			&ctx, fds[0], (struct tls_verify){ any }, deadline_in(LONG_US), &t);
		assert_null(e);
		assert_string_equal(t->peer, two->fingerprint);
		assert_null(fingerprint_parse(t->peer, fingerprint));
		/* nothing by which a session could be resumed */
		assert_false(SSL_SESSION_is_resumable(SSL_get_session(t->ssl)));
		assert_null(tls_write_full(t, "x", 1, deadline_in(LONG_US)));
		tls_close(t, deadline_in(LONG_US));
		tls_ctx_fini(&ctx);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* ---- once more ---- */

/* Our side in a process of its own: exit status 0, or the error's code. */
static pid_t start(enum tls_side side, int fd, int others)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct err *e;

		close(others);
		e = ours(side, fd);
		_exit(e ? (int)err_code(e) : 0);
	}
	close(fd);
	return pid;
}

static int wait_code(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* Between the two: what the dialling side says is written down. */
static size_t listen_in(int dialling, int accepting, uint8_t *heard, size_t room)
{
	struct pollfd p[] = { { dialling, POLLIN, 0 }, { accepting, POLLIN, 0 } };
	size_t n = 0;

	while (p[0].fd >= 0 || p[1].fd >= 0) {
		assert_true(poll(p, 2, 60000) > 0);
		for (size_t i = 0; i < 2; i++) {
			uint8_t buf[4096];
			ssize_t got;

			if (p[i].fd < 0 || !p[i].revents)
				continue;
			got = recv(p[i].fd, buf, sizeof(buf), 0);
			if (got <= 0) {
				shutdown(i ? dialling : accepting, SHUT_WR);
				p[i].fd = -1;
				continue;
			}
			(void)send(i ? dialling : accepting, buf, (size_t)got, MSG_NOSIGNAL);
			if (i == 0) {
				assert_true(n + (size_t)got <= room);
				memcpy(heard + n, buf, (size_t)got);
				n += (size_t)got;
			}
		}
	}
	return n;
}

static void replayed(void **state unused_arg)
{
	static uint8_t heard[64 << 10];
	int a[2], b[2];
	pid_t dial, accept;
	size_t n;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b), 0);
	dial = start(TLS_DIAL, a[1], a[0]);
	accept = start(TLS_ACCEPT, b[1], b[0]);
	n = listen_in(a[0], b[0], heard, sizeof(heard));
	assert_int_equal(wait_code(dial), 0);
	assert_int_equal(wait_code(accept), 0);
	assert_true(n > 500); /* certificate, HELLO and all */
	close(a[0]);
	close(b[0]);

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b), 0);
	accept = start(TLS_ACCEPT, b[1], b[0]);
	assert_int_equal(send(b[0], heard, n, MSG_NOSIGNAL), n);
	assert_int_equal(wait_code(accept), ERR_PEER);
	close(b[0]);
}

/* ---- two keys ---- */

static struct err *expects(void *arg, const char *fingerprint)
{
	return strcmp(arg, fingerprint) == 0 ? NULL : err_new(ERR_DENIED, "not that key");
}

/* `one` accepts, and `next` will follow it; who dials asks for `asks` and takes `takes` only. */
static int shown(const struct identity *asks, const struct identity *takes)
{
	int fds[2], code;
	struct tls_ctx ctx;
	struct tls *t = NULL;
	struct err *e;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(fds[0]);
		e = tls_ctx_init(&ctx, one, TLS_ACCEPT);
		ctx.other = next;
		if (!e)
			e = tls_handshake(
				&ctx, fds[1], (struct tls_verify){ any }, deadline_in(LONG_US), &t);
		/* it knows which one it has shown */
		_exit(!e && strcmp(t->own, takes->fingerprint) == 0 ? 0 : 1);
	}
	close(fds[1]);
	assert_null(tls_ctx_init(&ctx, two, TLS_DIAL));
	e = tls_handshake(&ctx, fds[0],
		(struct tls_verify){ expects, (void *)(uintptr_t)takes->fingerprint,
			asks ? asks->fingerprint : NULL },
		deadline_in(LONG_US), &t);
	tls_ctx_fini(&ctx);
	code = e ? (int)err_code(e) : wait_code(pid);
	if (e)
		(void)wait_code(pid);
	else
		tls_close(t, deadline_in(0));
	err_free(e);
	return code;
}

static void two_keys(void **state unused_arg)
{
	assert_int_equal(shown(one, one), 0);
	assert_int_equal(shown(next, next), 0);
	assert_int_equal(shown(NULL, one), 0);
	assert_int_equal(shown(two, one), 0); /* one that it has not: its first */
	assert_int_equal(shown(one, next), ERR_DENIED);
	assert_int_equal(shown(NULL, next), ERR_DENIED);
}

/* Whoever is refused knows that it is for its key, and tries the other one. */
static void own_refused(void **state unused_arg)
{
	const struct hello_self self = { .software = "test", .boot_id = "boot" };
	struct hello_peer peer;
	struct tls_ctx ctx;
	struct tls *t = NULL;
	struct err *e;
	int fds[2];
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(fds[0]);
		e = tls_ctx_init(&ctx, one, TLS_ACCEPT);
		if (!e)
			e = tls_handshake(&ctx, fds[1],
				(struct tls_verify){
					expects, (void *)(uintptr_t)next->fingerprint, NULL },
				deadline_in(LONG_US), &t);
		_exit(e ? (int)err_code(e) : 0);
	}
	close(fds[1]);
	assert_null(tls_ctx_init(&ctx, two, TLS_DIAL));
	assert_null(
		tls_handshake(&ctx, fds[0], (struct tls_verify){ any }, deadline_in(LONG_US), &t));
	e = hello_dial(t, &self, deadline_in(LONG_US), &peer);
	assert_non_null(e);
	assert_int_equal(err_code(e), ERR_DENIED);
	assert_true(t->own_refused);
	err_free(e);
	tls_close(t, deadline_in(0));
	tls_ctx_fini(&ctx);
	assert_int_equal(wait_code(pid), ERR_DENIED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(program_that_fits),
		cmocka_unit_test(refused),
		cmocka_unit_test(replayed),
		cmocka_unit_test(two_keys),
		cmocka_unit_test(own_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
