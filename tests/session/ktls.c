// SPDX-License-Identifier: Apache-2.0
/*
 * The keys that are made for the kernel, against OpenSSL: what they seal OpenSSL opens, and what
 * OpenSSL seals is, bit for bit, what they seal. The kernel itself: tests/vm.
 */
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "session/ktls.h"

#define LIMIT_US     60000000
#define HEAD_BYTES   5
#define TAG_BYTES    16
#define RECORD_BYTES 16384

static struct identity *id;

static int setup(void **state unused_arg)
{
	signal(SIGPIPE, SIG_IGN);
	return identity_new(&id) ? -1 : 0;
}

static int teardown(void **state unused_arg)
{
	identity_free(id);
	return 0;
}

static struct err *any_key(void *arg unused_arg, const char *fingerprint unused_arg)
{
	return NULL;
}

/* Both ends in one process; only the handshake needs a second thread. */
struct pair {
	struct tls_ctx ctx[2];
	struct tls *end[2]; /* dialling, accepting */
	int fd[2];
};

static void *accepting(void *arg)
{
	struct pair *p = arg;

	return tls_handshake(&p->ctx[1], p->fd[1], (struct tls_verify){ any_key, NULL },
		deadline_in(LIMIT_US), &p->end[1]);
}

static void pair_open(struct pair *p, const char *suites)
{
	pthread_t thread;
	void *failed;

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, p->fd), 0);
	for (int i = 0; i < 2; i++) {
		assert_null(tls_ctx_init(&p->ctx[i], id, i ? TLS_ACCEPT : TLS_DIAL));
		if (suites)
			assert_int_equal(SSL_CTX_set_ciphersuites(p->ctx[i].ctx, suites), 1);
	}
	assert_int_equal(pthread_create(&thread, NULL, accepting, p), 0);
	assert_null(tls_handshake(&p->ctx[0], p->fd[0], (struct tls_verify){ any_key, NULL },
		deadline_in(LIMIT_US), &p->end[0]));
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
}

static void pair_close(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		tls_freep(&p->end[i]);
		tls_ctx_fini(&p->ctx[i]);
	}
}

/* Through OpenSSL at both ends. */
static void talk(struct pair *p, int from, size_t n)
{
	autofree uint8_t *out = xcalloc(1, n), *in = xcalloc(1, n);

	for (size_t i = 0; i < n; i++)
		out[i] = (uint8_t)(i * 7 + n);
	assert_null(tls_write_full(p->end[from], out, n, deadline_in(LIMIT_US)));
	assert_null(tls_read_full(p->end[!from], in, n, deadline_in(LIMIT_US)));
	assert_memory_equal(in, out, n);
}

/* One record of data, as the kernel makes it from what it was given. */
static size_t seal(
	const struct tls12_crypto_info_aes_gcm_128 *c, const void *data, size_t n, uint8_t *record)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	size_t len = n + 1 + TAG_BYTES;
	uint8_t nonce[12], type = 23;
	int part;

	memcpy(nonce, c->salt, 4);
	memcpy(nonce + 4, c->iv, 8);
	for (int i = 0; i < 8; i++)
		nonce[4 + i] ^= c->rec_seq[i];
	memcpy(record, (uint8_t[]){ 23, 3, 3, (uint8_t)(len >> 8), (uint8_t)len }, HEAD_BYTES);
	assert_int_equal(EVP_EncryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, c->key, nonce), 1);
	assert_int_equal(EVP_EncryptUpdate(ctx, NULL, &part, record, HEAD_BYTES), 1);
	assert_int_equal(EVP_EncryptUpdate(ctx, record + HEAD_BYTES, &part, data, (int)n), 1);
	assert_int_equal(EVP_EncryptUpdate(ctx, record + HEAD_BYTES + n, &part, &type, 1), 1);
	assert_int_equal(EVP_EncryptFinal_ex(ctx, record + HEAD_BYTES + n + 1, &part), 1);
	assert_int_equal(EVP_CIPHER_CTX_ctrl(
				 ctx, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, record + HEAD_BYTES + n + 1),
		1);
	EVP_CIPHER_CTX_free(ctx);
	return HEAD_BYTES + len;
}

static uint64_t count(const struct tls12_crypto_info_aes_gcm_128 *c)
{
	uint64_t n;

	memcpy(&n, c->rec_seq, sizeof(n));
	return be64toh(n);
}

/* What `from` seals by OpenSSL, the other one's keys for receiving seal just so; and a record made
 * with the keys for sending of `from` is taken by the other one's OpenSSL. */
static void check_way(struct pair *p, int from, uint64_t records)
{
	static const char said[] = "what OpenSSL says", ours[] = "what the kernel would say";
	uint8_t expected[256], got[256];
	struct ktls_keys k[2];
	char in[64];
	size_t n;

	assert_null(ktls_keys(p->end[from], &k[0]));
	assert_null(ktls_keys(p->end[!from], &k[1]));
	assert_memory_equal(&k[0].tx, &k[1].rx, sizeof(k[0].tx));
	assert_memory_equal(&k[0].rx, &k[1].tx, sizeof(k[0].tx));
	assert_int_equal(count(&k[0].tx), records);

	/* Not sent on: the other end must not see this number again. */
	n = seal(&k[0].tx, ours, sizeof(ours), expected);
	assert_int_equal(send(p->fd[from], expected, n, 0), n);
	assert_null(tls_read_full(p->end[!from], in, sizeof(ours), deadline_in(LIMIT_US)));
	assert_memory_equal(in, ours, sizeof(ours));

	assert_null(tls_write_full(p->end[from], said, sizeof(said), deadline_in(LIMIT_US)));
	n = seal(&k[1].rx, said, sizeof(said), expected);
	assert_int_equal(recv(p->fd[!from], got, sizeof(got), 0), n);
	assert_memory_equal(got, expected, n);
	ktls_keys_wipe(&k[0]);
	ktls_keys_wipe(&k[1]);
}

static void byte_exact(void **state unused_arg)
{
	struct pair p;

	for (int from = 0; from < 2; from++) {
		pair_open(&p, NULL);
		check_way(&p, from, 0);
		pair_close(&p);

		pair_open(&p, NULL);
		talk(&p, 0, 100);
		talk(&p, 1, 90);
		talk(&p, from, 3 * RECORD_BYTES - 10); /* in three records */
		talk(&p, from, 1);
		check_way(&p, from, 5);
		pair_close(&p);
	}
}

static void refused(const struct tls *t, const char *why)
{
	struct ktls_keys k;
	struct err *e = ktls_keys(t, &k);

	assert_non_null(e);
	assert_int_equal(err_code(e), ERR_UNSUPPORTED);
	assert_non_null(strstr(err_text(e, 0), why));
	err_free(e);
}

/* A record of which a part was handed out cannot be given back. Whole records that nobody has read
 * lie in the socket and do not matter. */
static void unread(void **state unused_arg)
{
	struct ktls_keys k;
	struct pair p;
	char buf[100];

	pair_open(&p, NULL);
	assert_null(tls_write_full(p.end[0], buf, 50, deadline_in(LIMIT_US)));
	assert_null(tls_write_full(p.end[0], buf, 50, deadline_in(LIMIT_US)));
	assert_null(tls_read_full(p.end[1], buf, 50, deadline_in(LIMIT_US)));
	assert_null(ktls_keys(p.end[1], &k));
	assert_int_equal(count(&k.rx), 1);
	assert_null(tls_read_full(p.end[1], buf, 20, deadline_in(LIMIT_US)));
	refused(p.end[1], "has been read");
	assert_null(tls_read_full(p.end[1], buf, 30, deadline_in(LIMIT_US)));
	assert_null(ktls_keys(p.end[1], &k));
	assert_int_equal(count(&k.rx), 2);
	pair_close(&p);
}

static void new_keys(void **state unused_arg)
{
	struct pair p;

	pair_open(&p, NULL);
	assert_int_equal(SSL_key_update(p.end[0]->ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
	talk(&p, 0, 10);
	refused(p.end[0], "more than data");
	refused(p.end[1], "more than data");
	pair_close(&p);
}

static void said_goodbye(void **state unused_arg)
{
	struct pair p;

	pair_open(&p, NULL);
	SSL_shutdown(p.end[0]->ssl);
	refused(p.end[0], "more than data");
	pair_close(&p);
}

static void other_cipher(void **state unused_arg)
{
	struct pair p;

	pair_open(&p, "TLS_CHACHA20_POLY1305_SHA256");
	refused(p.end[0], "TLS_CHACHA20_POLY1305_SHA256");
	refused(p.end[1], "TLS_CHACHA20_POLY1305_SHA256");
	pair_close(&p);
}

/* OpenSSL keeps the connection: the secrets are gone, the connection is as good as ever. */
static void kept(void **state unused_arg)
{
	struct pair p;

	pair_open(&p, NULL);
	for (int i = 0; i < 2; i++) {
		tls_keep(p.end[i]);
		refused(p.end[i], "secrets");
	}
	talk(&p, 0, 100000);
	talk(&p, 1, 100000);
	pair_close(&p);
}

/* What the kernel does not take stays with OpenSSL. */
static void no_such_socket(void **state unused_arg)
{
	struct pair p;
	bool ruined;
	struct err *e;
	int fd;

	pair_open(&p, NULL);
	assert_false(ktls_possible(p.fd[0]));
	e = ktls_take_over(&p.end[0], &fd, &ruined);
	assert_non_null(e);
	assert_false(ruined);
	err_free(e);
	talk(&p, 0, 1000);
	talk(&p, 1, 1000);
	pair_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(byte_exact),
		cmocka_unit_test(unread),
		cmocka_unit_test(new_keys),
		cmocka_unit_test(said_goodbye),
		cmocka_unit_test(other_cipher),
		cmocka_unit_test(kept),
		cmocka_unit_test(no_such_socket),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
