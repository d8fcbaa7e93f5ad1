/* SPDX-License-Identifier: Apache-2.0 */
/* struct err to and from the message that travels. */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "error.pb-c.h"

/* A message in the arena; texts are copied. side and state may be NULL. */
Migrate__Error *err_to_wire(
	struct arena *a, const struct err *e, const char *side, const char *state) must_check;
/* An error of ours that says the same. Control characters of a peer's text become '?', texts are
 * cut at ERR_WIRE_TEXT_MAX bytes. */
#define ERR_WIRE_TEXT_MAX 1000
struct err *err_from_wire(const Migrate__Error *m) must_check;
