/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a host is: an Ed25519 key, shown as the fingerprint of its public half.
 *
 * The certificate that TLS wants is made from the key at every start and carries nothing that
 * anybody trusts: peers compare the SHA-256 of the SubjectPublicKeyInfo, as text in the way of ssh,
 * "SHA256:" and 43 characters of base64.
 */
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "base/err.h"

/* "SHA256:" + 43 + NUL. */
#define FINGERPRINT_BYTES 51

struct identity {
	EVP_PKEY *key;
	X509 *cert;    /* self-signed */
	char fingerprint[FINGERPRINT_BYTES];
};

/* A new key. */
struct err *identity_new(struct identity **ret) must_check;
/* The private key in PEM (PKCS#8). */
struct err *identity_from_pem(const char *pem, size_t len, struct identity **ret) must_check;
/* The caller frees the text, which is secret. */
struct err *identity_to_pem(const struct identity *id, char **pem) must_check;
void identity_free(struct identity *id);
void identity_freep(struct identity **id);
#define autoidentity AUTO(identity_freep)

/* Of a certificate's public key. */
struct err *fingerprint_of(X509 *cert, char out[FINGERPRINT_BYTES]) must_check;
/* The name by which a dialling side asks for the key that it knows (TLS's server_name, which
 * travels in the clear: it is a hash of the fingerprint). For a host that has two. */
#define KEY_NAME_BYTES 48
void fingerprint_name(const char fingerprint[FINGERPRINT_BYTES], char out[KEY_NAME_BYTES]);
/* Checks what a user typed and writes it in its one canonical form; INVALID. */
struct err *fingerprint_parse(const char *text, char out[FINGERPRINT_BYTES]) must_check;
