/* SPDX-License-Identifier: Apache-2.0 */
/* A stream whose other half is a relay in another process: two rings, see handoff.h. */
#pragma once

#include "wire/stream.h"

/* Takes fd, a socketpair to the net role, and tells that side. */
struct err *stream_relay(int fd, struct stream *ret) must_check;
