// SPDX-License-Identifier: Apache-2.0
#include "session/identity.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/ossl.h"

#define PREFIX          "SHA256:"
#define PREFIX_LEN      (sizeof(PREFIX) - 1)
#define BASE64_LEN      43 /* of 32 bytes, without the padding */
#define BASE64_PADDED   44
#define CERT_NAME       "migrated"
#define KEY_NAME_DIGITS 32

void identity_free(struct identity *id)
{
	if (!id)
		return;
	EVP_PKEY_free(id->key);
	X509_free(id->cert);
	free(id);
}

void identity_freep(struct identity **id)
{
	identity_free(*id);
	*id = NULL;
}

static void fingerprint_text(
	const uint8_t digest[SHA256_DIGEST_LENGTH], char out[FINGERPRINT_BYTES])
{
	unsigned char base64[BASE64_PADDED + 1];

	EVP_EncodeBlock(base64, digest, SHA256_DIGEST_LENGTH);
	snprintf(out, FINGERPRINT_BYTES, PREFIX "%.*s", BASE64_LEN, (const char *)base64);
}

struct err *fingerprint_of(X509 *cert, char out[FINGERPRINT_BYTES])
{
	uint8_t digest[SHA256_DIGEST_LENGTH];
	unsigned char *der = NULL;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);

	if (len <= 0)
		return ossl_err("encode the public key");
	SHA256(der, (size_t)len, digest);
	OPENSSL_free(der);
	fingerprint_text(digest, out);
	return NULL;
}

struct err *fingerprint_parse(const char *text, char out[FINGERPRINT_BYTES])
{
	char padded[BASE64_PADDED + 1];
	uint8_t digest[BASE64_PADDED]; /* EVP_DecodeBlock writes 33 bytes: the padding too */
	char again[FINGERPRINT_BYTES];
	size_t len = strlen(text);

	if (len == PREFIX_LEN + BASE64_PADDED && text[len - 1] == '=')
		len--;
	if (len != PREFIX_LEN + BASE64_LEN || strncmp(text, PREFIX, PREFIX_LEN) != 0)
		return err_hint(err_new(ERR_INVALID, "\"%s\" is no fingerprint", text),
			"it is SHA256: and 43 characters, as migratectl identity prints it");
	snprintf(padded, sizeof(padded), "%.*s=", BASE64_LEN, text + PREFIX_LEN);
	if (EVP_DecodeBlock(digest, (const unsigned char *)padded, BASE64_PADDED) !=
		SHA256_DIGEST_LENGTH + 1)
		return err_new(ERR_INVALID, "\"%s\" is no fingerprint: not base64", text);
	fingerprint_text(digest, again);
	if (strncmp(again, text, PREFIX_LEN + BASE64_LEN) != 0)
		return err_new(
			ERR_INVALID, "\"%s\" is no fingerprint: its last character is off", text);
	memcpy(out, again, FINGERPRINT_BYTES);
	return NULL;
}

void fingerprint_name(const char fingerprint[FINGERPRINT_BYTES], char out[KEY_NAME_BYTES])
{
	uint8_t digest[SHA256_DIGEST_LENGTH];
	size_t n = 0;

	SHA256((const unsigned char *)fingerprint, strlen(fingerprint), digest);
	for (size_t i = 0; i < KEY_NAME_DIGITS / 2; i++)
		n += (size_t)snprintf(out + n, KEY_NAME_BYTES - n, "%02x", digest[i]);
	snprintf(out + n, KEY_NAME_BYTES - n, "." CERT_NAME);
}

/* Valid at any time, because a host's clock may be wrong. Trust in a key ends when it is removed,
 * not by the calendar. */
static struct err *make_cert(struct identity *id)
{
	X509 *cert = id->cert = X509_new();
	X509_NAME *name;

	if (!cert || !X509_set_version(cert, X509_VERSION_3) ||
		!ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) ||
		!ASN1_TIME_set_string(X509_getm_notBefore(cert), "19700101000000Z") ||
		!ASN1_TIME_set_string(X509_getm_notAfter(cert), "99991231235959Z") ||
		!X509_set_pubkey(cert, id->key))
		return ossl_err("make a certificate");
	name = X509_get_subject_name(cert);
	if (!X509_NAME_add_entry_by_txt(
		    name, "CN", MBSTRING_ASC, (const unsigned char *)CERT_NAME, -1, -1, 0) ||
		!X509_set_issuer_name(cert, name) || !X509_sign(cert, id->key, NULL))
		return ossl_err("sign a certificate");
	return fingerprint_of(cert, id->fingerprint);
}

static struct err *finish(struct identity *id, struct identity **ret)
{
	struct err *e = make_cert(id);

	if (e) {
		identity_free(id);
		return e;
	}
	*ret = id;
	return NULL;
}

struct err *identity_new(struct identity **ret)
{
	struct identity *id = xcalloc(1, sizeof(*id));

	id->key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	if (!id->key) {
		identity_free(id);
		return ossl_err("make an Ed25519 key");
	}
	return finish(id, ret);
}

struct err *identity_from_pem(const char *pem, size_t len, struct identity **ret)
{
	struct identity *id = xcalloc(1, sizeof(*id));
	BIO *bio = len <= INT32_MAX ? BIO_new_mem_buf(pem, (int)len) : NULL;

	/* An encrypted key would ask the terminal for a passphrase: give it an empty one. */
	id->key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)(uintptr_t) "") : NULL;
	BIO_free(bio);
	if (!id->key || !EVP_PKEY_is_a(id->key, "ED25519")) {
		bool parsed = id->key != NULL;

		identity_free(id);
		return parsed ? err_new(ERR_INVALID, "not an Ed25519 key")
			      : ossl_err("parse the private key");
	}
	return finish(id, ret);
}

struct err *identity_to_pem(const struct identity *id, char **pem)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *data;
	long len;

	if (!bio || !PEM_write_bio_PKCS8PrivateKey(bio, id->key, NULL, NULL, 0, NULL, NULL)) {
		BIO_free(bio);
		return ossl_err("write the private key");
	}
	len = BIO_get_mem_data(bio, &data);
	*pem = xcalloc(1, (size_t)len + 1);
	memcpy(*pem, data, (size_t)len);
	BIO_free(bio);
	return NULL;
}
