/* SPDX-License-Identifier: Apache-2.0 */
/* Work in a process of its own, whose memory goes when it ends: nothing of it is left with us. */
#pragma once

#include "base/err.h"

/* An error as plain bytes, for a process of the same program. */
struct flat_err {
	int32_t code; /* enum err_code; 0: none */
	char text[512], hint[256];
};
/* Takes e. */
void flat_err_put(struct flat_err *f, struct err *e);
struct err *flat_err_get(const struct flat_err *f) must_check;

/* `fn` fills `size` bytes at `result` (PIPE_BUF at most) there, and they come here. */
struct err *aside_run(struct err *(*fn)(void *arg, void *result), void *arg, void *result,
	size_t size) must_check;
