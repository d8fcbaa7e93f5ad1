// SPDX-License-Identifier: Apache-2.0
/*
 * The reference for throughput: a plain OpenSSL sender and receiver, TLS 1.3 with AES-128-GCM, one
 * connection, 1 MiB per SSL_write. `tls-pair receive ADDR PORT`, `tls-pair send ADDR PORT MIB`
 * (prints MiB/s).
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (1 << 20)

static void need(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "tls-pair: %s\n", what);
	exit(1);
}

/* A key and a certificate for it that live as long as this program. */
static void make_identity(SSL_CTX *ctx)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	X509 *cert = X509_new();

	need(key && cert, "make a key");
	X509_set_version(cert, 2);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
		(const unsigned char *)"bench", -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	X509_set_pubkey(cert, key);
	need(X509_sign(cert, key, NULL) > 0, "sign");
	need(SSL_CTX_use_certificate(ctx, cert) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1,
		"use the key");
	X509_free(cert);
	EVP_PKEY_free(key);
}

static SSL *start(const SSL_METHOD *method, int fd, int server)
{
	SSL_CTX *ctx = SSL_CTX_new(method);
	SSL *ssl;

	need(ctx && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) &&
			SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256"),
		"set up TLS");
	if (server)
		make_identity(ctx);
	ssl = SSL_new(ctx);
	need(ssl && SSL_set_fd(ssl, fd) == 1, "set up TLS");
	need((server ? SSL_accept(ssl) : SSL_connect(ssl)) == 1, "handshake");
	return ssl;
}

static struct sockaddr_in address(char **argv)
{
	struct sockaddr_in sa = { .sin_family = AF_INET };

	need(inet_pton(AF_INET, argv[2], &sa.sin_addr) == 1, "address");
	sa.sin_port = htons((uint16_t)atoi(argv[3]));
	return sa;
}

static void receive(char **argv)
{
	struct sockaddr_in sa = address(argv);
	int one = 1, fd, listener = socket(AF_INET, SOCK_STREAM, 0);
	char *buf = malloc(CHUNK);
	SSL *ssl;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	need(bind(listener, (struct sockaddr *)&sa, sizeof(sa)) == 0 && listen(listener, 1) == 0,
		"listen");
	printf("ready\n");
	fflush(stdout);
	fd = accept(listener, NULL, NULL);
	ssl = start(TLS_server_method(), fd, 1);
	while (SSL_read(ssl, buf, CHUNK) > 0)
		;
	/* tells the sender that all has arrived */
	need(SSL_write(ssl, "!", 1) == 1, "answer");
	SSL_shutdown(ssl);
	close(fd);
}

static void send_all(char **argv)
{
	struct sockaddr_in sa = address(argv);
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0), mib = atoi(argv[4]);
	char *buf = malloc(CHUNK), answer;
	struct timespec a, b;
	double s;
	SSL *ssl;

	need(connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0, "connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	ssl = start(TLS_client_method(), fd, 0);
	memset(buf, 0x5a, CHUNK);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < mib; i++)
		need(SSL_write(ssl, buf, CHUNK) == CHUNK, "send");
	SSL_shutdown(ssl);
	need(SSL_read(ssl, &answer, 1) == 1, "hear from the receiver");
	clock_gettime(CLOCK_MONOTONIC, &b);
	s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
	printf("%.1f\n", mib / s);
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "receive") == 0)
		receive(argv);
	else if (argc == 5 && strcmp(argv[1], "send") == 0)
		send_all(argv);
	else
		return 2;
	return 0;
}
