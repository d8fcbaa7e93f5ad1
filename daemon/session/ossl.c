// SPDX-License-Identifier: Apache-2.0
#include "session/ossl.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

#define SECRETS_BYTES 65536
#define SECRET_LEAST  32

struct err *ossl_err(const char *doing)
{
	unsigned long code = ERR_get_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return err_in(err_new(ERR_KERNEL, "OpenSSL: %s", reason ? reason : "no reason given"), "%s",
		doing);
}

/* In a sanitized build, for tests, secrets lie with everything else: what is set apart is not
 * looked through for pointers, and what only it points to (of random numbers) would pass for a
 * leak. */
#ifdef __SANITIZE_ADDRESS__
#define SET_APART false
#else
#define SET_APART true
#endif

/* Fails only where memory cannot be locked: then it still is left out of core dumps. */
struct err *ossl_prepare(void)
{
	unsigned char byte;

	if (SET_APART && !CRYPTO_secure_malloc_init(SECRETS_BYTES, SECRET_LEAST))
		return ossl_err("set memory apart for secrets");
	if (!OPENSSL_init_ssl(
		    OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL) ||
		RAND_bytes(&byte, 1) != 1)
		return ossl_err("start OpenSSL");
	return NULL;
}
