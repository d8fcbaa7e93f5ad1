// SPDX-License-Identifier: Apache-2.0
#include "session/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "session/ossl.h"

/* The fastest first, where the CPU has AES; both are as good as needed. */
#define SUITES "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"
/* What was agreed on with a newer OpenSSL is no worse: secrets that are recorded today stay secret
 * when X25519 alone is broken. */
#define GROUPS_HYBRID "X25519MLKEM768:X25519:P-256"
#define GROUPS        "X25519:P-256"
#define SIGNATURES    "ed25519"
/* How long a refused peer may take to read our alert. */
#define LINGER_US 1000000

/* Index of our struct tls in SSL's extra data. OpenSSL wants it allocated once per process; 0 is
 * the slot that SSL_set_app_data uses. */

/* Ours are valid at any time, so no clock can make us refuse one. Whoever made another one has said
 * when it ends, and that counts. */
static struct err *check_dates(const X509 *cert, const char *fingerprint)
{
	if (X509_cmp_current_time(X509_get0_notBefore(cert)) < 0 &&
		X509_cmp_current_time(X509_get0_notAfter(cert)) > 0)
		return NULL;
	return err_hint(err_new(ERR_DENIED,
				"the certificate of the key %s has expired, or is not valid yet",
				fingerprint),
		"migrated makes one that does not expire: restart it there");
}

static int verify_cert(X509_STORE_CTX *store, void *unused unused_arg)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls *t = SSL_get_app_data(ssl);
	X509 *cert = X509_STORE_CTX_get0_cert(store);
	struct err *e = cert ? fingerprint_of(cert, t->peer)
			     : err_new(ERR_DENIED, "the other side has no key");

	if (!e)
		e = t->verify.fn(t->verify.arg, t->peer);
	if (!e)
		e = check_dates(cert, t->peer);
	if (!e)
		return 1;
	err_free(t->refused);
	t->refused = e;
	/* This one goes out as the alert unknown_ca: the peer shall know that it is its key. */
	X509_STORE_CTX_set_error(store, X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT);
	return 0;
}

/* A host that changes its key has two; who dials asks for the one that it knows. */
static int on_server_name(SSL *ssl, int *alert unused_arg, void *arg unused_arg)
{
	struct tls *t = SSL_get_app_data(ssl);
	const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	char name[KEY_NAME_BYTES];

	if (!asked || !t->other)
		return SSL_TLSEXT_ERR_NOACK;
	fingerprint_name(t->other->fingerprint, name);
	if (strcmp(asked, name) != 0)
		return SSL_TLSEXT_ERR_NOACK;
	if (SSL_use_certificate(ssl, t->other->cert) != 1 ||
		SSL_use_PrivateKey(ssl, t->other->key) != 1)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	snprintf(t->own, sizeof(t->own), "%s", t->other->fingerprint);
	return SSL_TLSEXT_ERR_OK;
}

/* ---- for a successor ---- */

static void forget_secrets(struct tls *t)
{
	for (size_t i = 0; i < ARRAY_LEN(t->keys.secret); i++) {
		if (t->keys.secret[i])
			OPENSSL_clear_free(t->keys.secret[i], TLS_SECRET_BYTES);
		t->keys.secret[i] = NULL;
	}
}

/* Lines as in SSLKEYLOGFILE: LABEL CLIENT_RANDOM SECRET, numbers in hex. */
static void on_secret(const SSL *ssl, const char *line)
{
	static const char *const labels[] = { "CLIENT_TRAFFIC_SECRET_0 ",
		"SERVER_TRAFFIC_SECRET_0 " };
	struct tls *t = SSL_get_app_data(ssl);
	const char *hex = strrchr(line, ' ');
	unsigned char *secret;
	long len;

	for (size_t i = 0; t && hex && i < ARRAY_LEN(labels); i++) {
		if (strncmp(line, labels[i], strlen(labels[i])) != 0 || t->keys.secret[i])
			continue;
		secret = OPENSSL_hexstr2buf(hex + 1, &len);
		if (secret && len == TLS_SECRET_BYTES)
			t->keys.secret[i] = secret;
		else if (secret)
			OPENSSL_clear_free(secret, (size_t)len);
	}
}

/* Sees each record's true type, as it is sealed or opened. */
static void on_record(int out, int version unused_arg, int what, const void *buf, size_t len,
	SSL *ssl unused_arg, void *arg)
{
	struct tls *t = arg;

	if (what != SSL3_RT_INNER_CONTENT_TYPE || len != 1 || !t->ready)
		return;
	if (*(const uint8_t *)buf != SSL3_RT_APPLICATION_DATA)
		t->keys.other = true;
	else if (out)
		t->keys.out++;
	else
		t->keys.in++;
}

void tls_keep(struct tls *t)
{
	forget_secrets(t);
}

static int set_groups(SSL_CTX *ctx)
{
	int rc = SSL_CTX_set1_groups_list(ctx, GROUPS_HYBRID);

	ERR_clear_error();
	return rc == 1 ? rc : SSL_CTX_set1_groups_list(ctx, GROUPS);
}

struct err *tls_ctx_init(struct tls_ctx *c, const struct identity *id, enum tls_side side)
{
	SSL_CTX *ctx = SSL_CTX_new(side == TLS_DIAL ? TLS_client_method() : TLS_server_method());

	*c = (struct tls_ctx){ .ctx = ctx, .side = side };
	snprintf(c->own, sizeof(c->own), "%s", id->fingerprint);
	if (!ctx || !SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) ||
		!SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) ||
		!SSL_CTX_set_ciphersuites(ctx, SUITES) || !set_groups(ctx) ||
		!SSL_CTX_set1_sigalgs_list(ctx, SIGNATURES) ||
		!SSL_CTX_set1_client_sigalgs_list(ctx, SIGNATURES) ||
		!SSL_CTX_set_num_tickets(ctx, 0) || SSL_CTX_use_certificate(ctx, id->cert) != 1 ||
		SSL_CTX_use_PrivateKey(ctx, id->key) != 1) {
		struct err *e = ossl_err("set up TLS");

		tls_ctx_fini(c);
		return e;
	}
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_cert_verify_callback(ctx, verify_cert, NULL);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_keylog_callback(ctx, on_secret);
	SSL_CTX_set_tlsext_servername_callback(ctx, on_server_name);
	return NULL;
}

void tls_ctx_fini(struct tls_ctx *c)
{
	SSL_CTX_free(c->ctx);
	c->ctx = NULL;
}

void tls_freep(struct tls **t)
{
	if (!*t)
		return;
	forget_secrets(*t);
	SSL_free((*t)->ssl);
	fd_closep(&(*t)->fd);
	err_free((*t)->refused);
	free(*t);
	*t = NULL;
}

/* Sends a FIN and eats what still comes, so that the kernel has no reason to send a reset, which
 * would make the peer lose our last words. */
/* @calls net: shutdown poll recvfrom */
static void linger(int fd, struct deadline d)
{
	struct pollfd p = { fd, POLLIN, 0 };
	char buf[4096];

	if (shutdown(fd, SHUT_WR) < 0)
		return;
	while (poll(&p, 1, deadline_poll_ms(d)) > 0) {
		ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return;
	}
}

void tls_close(struct tls *t, struct deadline d)
{
	ERR_clear_error();
	SSL_shutdown(t->ssl);
	ERR_clear_error();
	linger(t->fd, d);
	tls_freep(&t);
}

enum reason_kind { KEY_REFUSED, NO_KEY, NOT_TLS, OLD_TLS, DAMAGED, CUT };

static const struct {
	int reason;
	enum reason_kind kind;
} reasons[] = {
	{ SSL_R_TLSV1_ALERT_UNKNOWN_CA, KEY_REFUSED },
	{ SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, KEY_REFUSED },
	{ SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, KEY_REFUSED },
	{ SSL_R_TLSV1_ALERT_ACCESS_DENIED, KEY_REFUSED },
	{ SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, KEY_REFUSED },
	{ SSL_R_WRONG_VERSION_NUMBER, NOT_TLS },
	{ SSL_R_HTTP_REQUEST, NOT_TLS },
	{ SSL_R_HTTPS_PROXY_REQUEST, NOT_TLS },
	{ SSL_R_WRONG_SSL_VERSION, NOT_TLS },
	{ SSL_R_PACKET_LENGTH_TOO_LONG, NOT_TLS },
	{ SSL_R_ENCRYPTED_LENGTH_TOO_LONG, NOT_TLS },
	{ SSL_R_RECORD_LENGTH_MISMATCH, NOT_TLS },
	{ SSL_R_BAD_RECORD_TYPE, NOT_TLS },
	{ SSL_R_UNEXPECTED_MESSAGE, NOT_TLS },
	{ SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, OLD_TLS },
	{ SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE, OLD_TLS },
	{ SSL_R_UNSUPPORTED_PROTOCOL, OLD_TLS },
	{ SSL_R_VERSION_TOO_LOW, OLD_TLS },
	{ SSL_R_NO_SHARED_CIPHER, OLD_TLS },
	{ SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, OLD_TLS },
	{ SSL_R_NO_SUITABLE_KEY_SHARE, OLD_TLS },
	{ SSL_R_WRONG_SIGNATURE_TYPE, OLD_TLS },
	{ SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, NO_KEY },
	{ SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, DAMAGED },
	{ SSL_R_SSLV3_ALERT_BAD_RECORD_MAC, DAMAGED },
	{ SSL_R_BAD_SIGNATURE, DAMAGED },
	{ SSL_R_UNEXPECTED_EOF_WHILE_READING, CUT },
};

static struct err *explain(struct tls *t, enum reason_kind kind)
{
	bool dial = t->side == TLS_DIAL;

	switch (kind) {
	case KEY_REFUSED:
		t->own_refused = true;
		if (!dial)
			return err_new(ERR_DENIED, "the dialling side refused our key %s", t->own);
		return err_hint(err_new(ERR_DENIED, "it does not know our key %s", t->own),
			"run on that host: migratectl peer add NAME %s %s", "THIS_HOST", t->own);
	case NO_KEY:
		return err_new(ERR_DENIED, "it showed no key of the kind that migrated uses");
	case DAMAGED:
		return err_new(ERR_PEER, "its words are not of this connection: changed on their "
					 "way, or another connection's once more");
	case NOT_TLS:
		return err_hint(err_new(ERR_PEER, "what %s there does not speak TLS",
					dial ? "listens" : "connected from"),
			"check host and port: migrated listens on 7420 if not told otherwise");
	case OLD_TLS:
		return err_new(ERR_MISMATCH, "it does not speak TLS 1.3 as migrated does");
	case CUT:
		if (t->verify.cut)
			*t->verify.cut = true;
		return err_new(ERR_PEER, "the other host closed the connection without a word");
	}
	return NULL;
}

struct err *tls_failure(struct tls *t, int rc)
{
	int saved = errno, kind = SSL_get_error(t->ssl, rc);
	unsigned long code = ERR_peek_error();

	if (t->refused) {
		ERR_clear_error();
		return take(&t->refused);
	}
	if (kind == SSL_ERROR_ZERO_RETURN)
		return err_new(ERR_PEER, "the other host ended the connection");
	if (kind == SSL_ERROR_SYSCALL && !code && t->verify.cut)
		*t->verify.cut = true;
	if (kind == SSL_ERROR_SYSCALL && !code)
		return saved ? err_errno(saved, "connection lost") : explain(t, CUT);
	for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
		if (ERR_GET_LIB(code) != ERR_LIB_SSL || ERR_GET_REASON(code) != reasons[i].reason)
			continue;
		ERR_clear_error();
		return explain(t, reasons[i].kind);
	}
	return ossl_err("TLS");
}

/* After a call that wants to wait. @calls net: poll */
static struct err *wait_io(struct tls *t, int rc, struct deadline d)
{
	int why = SSL_get_error(t->ssl, rc), n;
	struct pollfd p = { t->fd, why == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN, 0 };

	if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
		return tls_failure(t, rc);
	n = poll(&p, 1, deadline_poll_ms(d));
	if (n < 0 && errno != EINTR)
		return err_errno(errno, "wait for the other host");
	if (n == 0 && deadline_passed(d))
		return err_hint(
			err_new(ERR_TIMEOUT, "it accepted the connection, then said nothing"),
			"check that migrated listens there");
	return NULL;
}

static struct err *handshake(struct tls *t, struct deadline d)
{
	for (;;) {
		int rc;

		ERR_clear_error();
		errno = 0;
		rc = SSL_do_handshake(t->ssl);
		if (rc == 1)
			return NULL;
		TRY(wait_io(t, rc, d));
	}
}

static bool set_up(struct tls *t, int fd)
{
	char name[KEY_NAME_BYTES];

	if (!t->ssl || !SSL_set_fd(t->ssl, fd))
		return false;
	SSL_set_app_data(t->ssl, t);
	SSL_set_msg_callback(t->ssl, on_record);
	SSL_set_msg_callback_arg(t->ssl, t);
	if (t->side == TLS_ACCEPT) {
		SSL_set_accept_state(t->ssl);
		return true;
	}
	SSL_set_connect_state(t->ssl);
	if (!t->verify.expects)
		return true;
	fingerprint_name(t->verify.expects, name);
	return SSL_set_tlsext_host_name(t->ssl, name) == 1;
}

/* @calls net: fcntl[1=F_GETFL] fcntl[1=F_SETFL] */
struct err *tls_handshake(const struct tls_ctx *c, int fd, struct tls_verify verify,
	struct deadline d, struct tls **ret)
{
	struct tls *t = xcalloc(1, sizeof(*t));
	int flags = fcntl(fd, F_GETFL);
	struct err *e;

	*t = (struct tls){
		.fd = fd,
		.side = c->side,
		.verify = verify,
		.other = c->other,
		.rekey_bytes = TLS_REKEY_BYTES,
	};
	snprintf(t->own, sizeof(t->own), "%s", c->own);
	t->ssl = SSL_new(c->ctx);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || !set_up(t, fd)) {
		tls_freep(&t);
		return ossl_err("set up a TLS connection");
	}
	e = handshake(t, d);
	if (e) {
		linger(fd, deadline_min(d, deadline_in(LINGER_US)));
		tls_freep(&t);
		return e;
	}
	t->ready = true;
	*ret = t;
	return NULL;
}

struct err *tls_read_full(struct tls *t, void *buf, size_t n, struct deadline d)
{
	size_t done = 0;

	while (done < n) {
		size_t got;
		int rc;

		ERR_clear_error();
		errno = 0;
		rc = SSL_read_ex(t->ssl, (char *)buf + done, n - done, &got);
		if (rc == 1)
			done += got;
		else
			TRY(wait_io(t, rc, d));
	}
	return NULL;
}

struct err *tls_write_full(struct tls *t, const void *buf, size_t n, struct deadline d)
{
	size_t done = 0;

	while (done < n) {
		size_t put;
		int rc;

		ERR_clear_error();
		errno = 0;
		rc = SSL_write_ex(t->ssl, (const char *)buf + done, n - done, &put);
		if (rc == 1)
			done += put;
		else
			TRY(wait_io(t, rc, d));
	}
	return NULL;
}
