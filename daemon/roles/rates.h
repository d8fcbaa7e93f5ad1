/* SPDX-License-Identifier: Apache-2.0 */
/* How often something may happen. Pure: the time is an argument. */
#pragma once

#include "base/base.h"

/* Full at first; one more fits in with each minute / per_minute. */
struct bucket {
	bool used;
	int64_t level_us; /* how far it is emptied: a time that is now when nothing is left */
};
/* `burst` at once, then `per_minute`. False: not now; *wait_us (may be NULL) is how long until it
 * is true. */
bool bucket_take(
	struct bucket *b, uint64_t burst, uint64_t per_minute, int64_t now_us, int64_t *wait_us);
void bucket_give_back(struct bucket *b, uint64_t per_minute);

/* A bucket for each name. Those that are full again are forgotten. */
struct rates {
	struct named_bucket *v;
	size_t n;
};
void rates_fini(struct rates *r);
bool rates_take(
	struct rates *r, const char *name, uint64_t per_minute, int64_t now_us, int64_t *wait_us);
