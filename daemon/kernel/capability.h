/* SPDX-License-Identifier: Apache-2.0 */
/* Capabilities by number and name, and which of them we have. */
#pragma once

#include "base/arena.h"
#include "base/err.h"

/* linux/capability.h of the host we are built on may be older than the kernel we run on. */
#define CAPABILITY_SETGID       6
#define CAPABILITY_SYS_RESOURCE 24
#define CAPABILITIES_MAX        64

/* "CAP_SYS_RESOURCE", or "capability 63" for a number without a name. Static or in the arena. */
const char *capability_name(struct arena *a, unsigned cap) must_check;
/* Is it in our effective set? */
struct err *capability_have(struct arena *a, unsigned cap, bool *ret) must_check;
