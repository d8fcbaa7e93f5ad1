// SPDX-License-Identifier: Apache-2.0
#include "roles/rates.h"

#include <stdlib.h>
#include <string.h>

#define MINUTE_US 60000000LL

struct named_bucket {
	char *name;
	struct bucket bucket;
};

bool bucket_take(
	struct bucket *b, uint64_t burst, uint64_t per_minute, int64_t now_us, int64_t *wait_us)
{
	int64_t each_us = MINUTE_US / (int64_t)per_minute;
	/* How far in the past the level may lie: a full bucket. */
	int64_t room_us = each_us * (int64_t)burst;
	int64_t level_us = b->used ? MAX(b->level_us, now_us - room_us) : now_us - room_us;

	if (level_us + each_us > now_us) {
		if (wait_us)
			*wait_us = level_us + each_us - now_us;
		return false;
	}
	*b = (struct bucket){ true, level_us + each_us };
	return true;
}

void bucket_give_back(struct bucket *b, uint64_t per_minute)
{
	b->level_us -= MINUTE_US / (int64_t)per_minute;
}

void rates_fini(struct rates *r)
{
	for (size_t i = 0; i < r->n; i++)
		free(r->v[i].name);
	free(r->v);
	*r = (struct rates){ NULL, 0 };
}

static void forget_full(struct rates *r, int64_t now_us)
{
	size_t kept = 0;

	for (size_t i = 0; i < r->n; i++) {
		if (r->v[i].bucket.level_us <= now_us - MINUTE_US)
			free(r->v[i].name);
		else
			r->v[kept++] = r->v[i];
	}
	r->n = kept;
}

bool rates_take(
	struct rates *r, const char *name, uint64_t per_minute, int64_t now_us, int64_t *wait_us)
{
	struct named_bucket *b = NULL;

	if (!per_minute)
		return true;
	forget_full(r, now_us);
	for (size_t i = 0; i < r->n; i++)
		if (strcmp(r->v[i].name, name) == 0)
			b = &r->v[i];
	if (!b) {
		r->v = xrealloc_array(r->v, r->n + 1, sizeof(*r->v));
		b = &r->v[r->n++];
		*b = (struct named_bucket){ .name = xstrdup(name) };
	}
	return bucket_take(&b->bucket, per_minute, per_minute, now_us, wait_us);
}
