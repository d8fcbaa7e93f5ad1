/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine asks of threads beyond the kinds interface. */
#pragma once

#include "kinds/kind.h"

extern const struct kind kind_thread;

/* The last thing that happens to a rebuilt thread, after seedling_seal and before it is let go:
 * all registers, the signal mask, and the kernel's memory of an interrupted sleep. r->elapsed_ns
 * must be up to date. `o` is an object of kind_thread, `msg` its message. */
struct err *thread_set_registers(
	struct rebuild *r, const struct object *o, const void *msg) must_check;
