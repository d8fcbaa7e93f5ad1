// SPDX-License-Identifier: Apache-2.0
#include "engine/precopy.h"

#define SECOND_US 1000000.0

void precopy_predict(const struct precopy_round *r, bool tracked, struct precopy_forecast *ret)
{
	double bandwidth =
		(double)(r->bandwidth_bytes_s ? r->bandwidth_bytes_s : PRECOPY_BANDWIDTH_GUESS);
	double rate = 0, dirty;

	if (!tracked) {
		dirty = (double)r->dirty_bytes;
	} else if (r->since_us <= 0) {
		/* The full copy says nothing about the writer: the next round will. */
		*ret = (struct precopy_forecast){ .dirty_bytes = r->dirty_bytes,
			.downtime_us = INT64_MAX,
			.worst_us = INT64_MAX };
		return;
	} else {
		rate = (double)r->dirty_bytes * SECOND_US / (double)r->since_us;
		dirty = rate * (double)r->length_us / SECOND_US;
	}
	*ret = (struct precopy_forecast){
		.dirty_rate_bytes_s = (uint64_t)rate,
		.dirty_bytes = (uint64_t)dirty,
		.downtime_us = PRECOPY_FIXED_US + (int64_t)(dirty * SECOND_US / bandwidth),
		.worst_us = PRECOPY_FIXED_US +
			    (int64_t)((double)r->dirty_bytes * SECOND_US / bandwidth),
	};
}

/* Whether the rate was measured over a time like that in which pages get dirty now. */
static bool comparable(const struct precopy_round *r)
{
	return r->since_us <= 2 * r->length_us;
}

/* A tenth less is a gain; less than that is noise. */
static void follow(struct precopy_trend *t, int64_t worst_us)
{
	bool gain = !t->best_us || worst_us < t->best_us - t->best_us / 10;

	t->vain = gain ? 0 : t->vain + 1;
	if (gain)
		t->best_us = worst_us;
}

/* Why there is no hope for a lower one; NULL while there is. */
static const char *hopeless(const struct precopy_round *r, const struct precopy_limits *l,
	const struct precopy_trend *trend)
{
	if (!l->tracked)
		return PRECOPY_RULE_UNTRACKED;
	if (r->number + 1 >= l->max_rounds)
		return PRECOPY_RULE_MAX_ROUNDS;
	return l->force_switch && trend->vain >= PRECOPY_VAIN_MAX ? PRECOPY_RULE_VAIN : NULL;
}

enum precopy_step precopy_decide(const struct precopy_round *r, const struct precopy_limits *l,
	struct precopy_trend *trend, struct precopy_forecast *ret)
{
	precopy_predict(r, l->tracked, ret);
	if (ret->downtime_us <= l->downtime_us &&
		(comparable(r) || ret->worst_us <= l->downtime_us)) {
		ret->stop_rule = PRECOPY_RULE_DOWNTIME;
		return PRECOPY_FREEZE;
	}
	follow(trend, ret->worst_us);
	ret->stop_rule = hopeless(r, l, trend);
	if (!ret->stop_rule)
		return PRECOPY_AGAIN;
	return l->force_switch ? PRECOPY_FREEZE : PRECOPY_GIVE_UP;
}

void precopy_plan(uint64_t resident_bytes, uint64_t dirty_rate_bytes_s, uint64_t bandwidth_bytes_s,
	const struct precopy_limits *l, struct precopy_plan *ret)
{
	struct precopy_round r = { .dirty_bytes = resident_bytes,
		.bandwidth_bytes_s =
			bandwidth_bytes_s ? bandwidth_bytes_s : PRECOPY_BANDWIDTH_GUESS };
	struct precopy_plan plan = { 0 };
	struct precopy_trend trend = { 0 };
	struct precopy_forecast f;
	enum precopy_step step;

	do {
		int64_t before_us = r.length_us;

		if (plan.rounds) {
			double written = (double)dirty_rate_bytes_s * (double)before_us / SECOND_US;

			r.dirty_bytes = (uint64_t)MIN(written, (double)resident_bytes);
			r.since_us = MAX(before_us, (int64_t)1);
		}
		r.number = plan.rounds++;
		r.length_us =
			(int64_t)((double)r.dirty_bytes * SECOND_US / (double)r.bandwidth_bytes_s);
		plan.total_us += r.length_us;
		step = precopy_decide(&r, l, &trend, &f);
	} while (step == PRECOPY_AGAIN);
	plan.downtime_us = f.downtime_us;
	*ret = plan;
}
