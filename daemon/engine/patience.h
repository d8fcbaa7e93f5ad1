/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long who is waited for. There are two sorts: silence (nothing moves, see channel_wait) tells
 * that nobody is there, on a busy host as on an idle one; a limit in all is for who has to bear it,
 * however much moves.
 */
#pragma once

#include <stdint.h>

#include "base/fault.h"

/* Silence of the peer: longer than a processor is kept from anybody, and than TCP takes to send
 * again what was lost four or five times. */
#define ENGINE_PEER_TIMEOUT_US FAULT_LIMIT_US(30000000)
/* The same while the process stands still: a hook has its limit (10 s) and says that it runs. */
#define ENGINE_FROZEN_TIMEOUT_US FAULT_LIMIT_US(10000000)
/* For all threads to stop, or to end: our own kernel's affair. */
#define ENGINE_STOP_US 10000000
/* How long the process stands still in all before that is undone, up to COMMIT: this, or what the
 * user says, and so many times what was predicted. A move that was let freeze (--force-switch,
 * --downtime) with more than that to send had a prediction of it. */
#define ENGINE_FROZEN_LIMIT_US      60000000
#define ENGINE_FROZEN_PER_PREDICTED 4
/* Who works without a frame says ALIVE so often: well below the silence that is borne. */
#define ENGINE_ALIVE_US 1000000
