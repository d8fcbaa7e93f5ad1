/* SPDX-License-Identifier: Apache-2.0 */
/* A peer whose stream nobody will serve is told why, in the protocol's own words. */
#pragma once

#include "base/err.h"

/* Writes one ERROR frame; a peer that does not read it does not matter. */
void refuse_stream(int fd, const struct err *e);
