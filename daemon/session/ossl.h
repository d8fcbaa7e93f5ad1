/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL's thread-local queue of errors into an err. Private to this layer. */
#pragma once

#include "base/err.h"

/* Takes the oldest error of the queue (the cause) and empties it. */
struct err *ossl_err(const char *doing) must_check;
