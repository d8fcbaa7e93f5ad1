/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL's thread-local queue of errors into an err; and its start. */
#pragma once

#include "base/err.h"

/* Takes the oldest error of the queue (the cause) and empties it. */
struct err *ossl_err(const char *doing) must_check;
/* Everything that OpenSSL opens files for; from here on, private keys are kept in memory that is
 * locked and not in core dumps. */
struct err *ossl_prepare(void) must_check;
