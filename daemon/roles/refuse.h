/* SPDX-License-Identifier: Apache-2.0 */
/* A peer whose stream nobody will serve is told why, in the protocol's own words. */
#pragma once

#include "base/err.h"
#include "error.pb-c.h"
#include "wire/stream.h"

/* To a relay: writes one ERROR frame; a peer that does not read it does not matter. */
void refuse_relay(int fd, const struct err *e);
/* Over a stream, whatever carries it. Waits for a peer that does not read, but not long. */
void refuse_stream(struct stream *s, const Migrate__Error *why);
