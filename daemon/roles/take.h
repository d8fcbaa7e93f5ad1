/* SPDX-License-Identifier: Apache-2.0 */
/* SendRequest.take_address, as a client has sent it. */
#pragma once

#include "engine/engine.h"

/* In one request. */
#define TAKE_ADDRESSES_MAX 16

struct taking {
	enum take_address take;
	struct net_ip v[TAKE_ADDRESSES_MAX]; /* TAKE_GIVEN */
	size_t n;
};
/* "" and "auto", "none", or addresses with commas between. */
struct err *taking_parse(const char *text, struct taking *ret) must_check;
