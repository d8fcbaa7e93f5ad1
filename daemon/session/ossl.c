// SPDX-License-Identifier: Apache-2.0
#include "session/ossl.h"

#include <openssl/err.h>

struct err *ossl_err(const char *doing)
{
	unsigned long code = ERR_get_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return err_in(err_new(ERR_KERNEL, "OpenSSL: %s", reason ? reason : "no reason given"), "%s",
		doing);
}
