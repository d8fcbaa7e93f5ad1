// SPDX-License-Identifier: Apache-2.0
#include "session/ktls.h"

#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "session/ossl.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#ifndef TLS_RX_EXPECT_NO_PAD
#define TLS_RX_EXPECT_NO_PAD 4
#endif

#define NONCE_BYTES  12
#define DIGEST_BYTES 32

/* HKDF-Expand-Label of RFC 8446, 7.1, with an empty context, for at most one block of SHA-256. */
static struct err *expand(const uint8_t *secret, const char *label, uint8_t *out, size_t n)
{
	uint8_t info[64], block[DIGEST_BYTES];
	unsigned int got = 0;
	int len;

	len = snprintf((char *)info, sizeof(info), "%c%c%ctls13 %s%c%c", 0, (int)n,
		(int)strlen("tls13 ") + (int)strlen(label), label, 0, 1);
	if (!HMAC(EVP_sha256(), secret, TLS_SECRET_BYTES, info, (size_t)len, block, &got) ||
		got != sizeof(block))
		return ossl_err("derive keys");
	memcpy(out, block, n);
	OPENSSL_cleanse(block, sizeof(block));
	return NULL;
}

/* The kernel wants the nonce in two parts, for the sake of TLS 1.2. */
static struct err *fill(
	const uint8_t *secret, uint64_t records, struct tls12_crypto_info_aes_gcm_128 *c)
{
	uint64_t seq = htobe64(records);
	uint8_t nonce[NONCE_BYTES];

	memset(c, 0, sizeof(*c));
	c->info.version = TLS_1_3_VERSION;
	c->info.cipher_type = TLS_CIPHER_AES_GCM_128;
	TRY(expand(secret, "key", c->key, sizeof(c->key)));
	TRY(expand(secret, "iv", nonce, sizeof(nonce)));
	memcpy(c->salt, nonce, sizeof(c->salt));
	memcpy(c->iv, nonce + sizeof(c->salt), sizeof(c->iv));
	memcpy(c->rec_seq, &seq, sizeof(seq));
	return NULL;
}

struct err *ktls_keys(const struct tls *t, struct ktls_keys *ret)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(t->ssl);
	bool dial = t->side == TLS_DIAL;

	if (!cipher || SSL_CIPHER_get_id(cipher) != TLS1_3_CK_AES_128_GCM_SHA256)
		return err_new(ERR_UNSUPPORTED, "the cipher is %s", SSL_CIPHER_get_name(cipher));
	if (!t->keys.secret[0] || !t->keys.secret[1])
		return err_new(ERR_UNSUPPORTED, "OpenSSL does not tell the traffic secrets");
	if (t->keys.other)
		return err_new(ERR_UNSUPPORTED, "the other host has said more than data");
	if (SSL_has_pending(t->ssl))
		return err_new(ERR_UNSUPPORTED, "the other host's next frame has been read");
	TRY(fill(t->keys.secret[dial ? 0 : 1], t->keys.out, &ret->tx));
	return fill(t->keys.secret[dial ? 1 : 0], t->keys.in, &ret->rx);
}

void ktls_keys_wipe(struct ktls_keys *k)
{
	OPENSSL_cleanse(k, sizeof(*k));
}

/* @calls net: setsockopt[1=IPPROTO_TCP] */
bool ktls_possible(int tcp_fd)
{
	static const char name[] = "tls";

	return setsockopt(tcp_fd, IPPROTO_TCP, TCP_ULP, name, sizeof(name)) == 0;
}

/* The monitor does this. @calls none: socket bind listen getsockname connect */
/* Only a connected socket can be asked; the connection waits in the listener's queue. */
struct err *ktls_load(void)
{
	autoclose int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	autoclose int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t len = sizeof(a);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *)&a, len) < 0 || listen(listener, 1) < 0 ||
		getsockname(listener, (struct sockaddr *)&a, &len) < 0 ||
		connect(fd, (struct sockaddr *)&a, len) < 0)
		return err_errno(errno, "connect to ourselves");
	if (ktls_possible(fd))
		return NULL;
	if (errno == ENOENT)
		return err_new(ERR_UNSUPPORTED, "the kernel has no module tls");
	return err_errno(errno, "set up kernel TLS");
}

/* @calls net: setsockopt[1=SOL_TLS] */
/* The receiving half first: as long as the kernel has none, the socket is what it was. */
static struct err *give(int fd, const struct ktls_keys *k, bool *ruined)
{
	const int one = 1;

	*ruined = false;
	if (setsockopt(fd, SOL_TLS, TLS_RX, &k->rx, sizeof(k->rx)) < 0)
		return err_errno(errno, "set up kernel TLS for receiving");
	if (setsockopt(fd, SOL_TLS, TLS_TX, &k->tx, sizeof(k->tx)) < 0) {
		*ruined = true;
		return err_hint(err_errno(errno, "set up kernel TLS for sending"),
			"try again with kernel_tls = no in migrated.conf");
	}
	/* OpenSSL and Linux do not pad. A record that is padded all the same is opened twice. */
	(void)setsockopt(fd, SOL_TLS, TLS_RX_EXPECT_NO_PAD, &one, sizeof(one));
	return NULL;
}

struct err *ktls_take_over(struct tls **t, int *tcp_fd, bool *ruined)
{
	AUTO(ktls_keys_wipe) struct ktls_keys k;

	*ruined = false;
	TRY(ktls_keys(*t, &k));
	TRY(give((*t)->fd, &k, ruined));
	*tcp_fd = take_fd(&(*t)->fd);
	tls_freep(t);
	return NULL;
}
