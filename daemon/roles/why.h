/* SPDX-License-Identifier: Apache-2.0 */
/* Why the monitor has a worker end its migration: one byte on the interrupt socket. */
#pragma once

#include "base/err.h"

enum why {
	WHY_ASKED = 'c',   /* somebody cancelled it */
	WHY_ENDING = 'e',  /* the daemon is ending */
	WHY_REVOKED = 'r', /* the peer, or its key, was removed */
	WHY_SILENT = 's',  /* it connected, and never said what it wants */
	WHY_CROWDED = 'm', /* the same, and its place was needed */
};

/* For the user and the peer alike. `side`: ours. */
struct err *why_err(char why, const char *peer, const char *side) must_check;
