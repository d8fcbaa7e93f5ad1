/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When to stop pre-copying: a pure decision from what the rounds measured.
 *
 * At the end of a round, the pages written since it began are still to be sent. The prediction is
 *     downtime = fixed + dirty rate * length of the round / bandwidth
 * where fixed is what a freeze without pages costs. Below the limit: freeze. But who writes the
 * same pages over and over dirties all of them in a short time, and in a long round no more than
 * that: such a rate is too low for a short one. So a rate that was measured over much longer than
 * the last round took counts only if even all that was dirty then could go again. A process that
 * writes faster than the link carries never gets there. Who has allowed the freeze in any case
 * (--force-switch) gets it when rounds have ceased to bring the prediction down; who has not may
 * hope for a quieter phase until max_rounds.
 */
#pragma once

#include "base/base.h"

enum precopy_step { PRECOPY_AGAIN, PRECOPY_FREEZE, PRECOPY_GIVE_UP };

struct precopy_round {
	uint32_t number;            /* of the round that ended; 0 is the full copy */
	int64_t length_us;          /* from its collect to its acknowledgement */
	uint64_t dirty_bytes;       /* what its collect found */
	int64_t since_us;           /* between the collect before and this one: 0 in round 0 */
	uint64_t bandwidth_bytes_s; /* measured; 0 while unknown */
};

struct precopy_limits {
	int64_t downtime_us;
	uint32_t max_rounds;
	bool force_switch;
	bool tracked; /* false: no dirty tracking, everything goes again */
};

struct precopy_forecast {
	uint64_t dirty_rate_bytes_s;
	uint64_t dirty_bytes; /* expected at the freeze */
	int64_t downtime_us;
	int64_t worst_us;      /* if all that this round sent is dirty again */
	const char *stop_rule; /* by which no round follows; NULL: one does */
};

#define PRECOPY_RULE_DOWNTIME   "downtime"   /* the prediction is within the limit */
#define PRECOPY_RULE_VAIN       "vain"       /* rounds have ceased to bring it down */
#define PRECOPY_RULE_MAX_ROUNDS "max-rounds" /* there were as many as there may be */
#define PRECOPY_RULE_UNTRACKED  "untracked"  /* another round would send the same again */

/* What a freeze costs besides pages: stop, capture, small state, four messages. From tests/bench.
 */
#define PRECOPY_FIXED_US 4000

void precopy_predict(const struct precopy_round *r, bool tracked, struct precopy_forecast *ret);
/* Over all rounds; zero at first. */
struct precopy_trend {
	int64_t best_us; /* the lowest worst_us */
	uint32_t vain;   /* rounds in a row that did not get well below that */
};
#define PRECOPY_VAIN_MAX 3

enum precopy_step precopy_decide(const struct precopy_round *r, const struct precopy_limits *l,
	struct precopy_trend *trend, struct precopy_forecast *ret);

/* Before anything was sent: how it would go with this size, this writer and this link. */
struct precopy_plan {
	uint32_t rounds;
	int64_t total_us; /* until the freeze */
	int64_t downtime_us;
};
/* bandwidth 0: the guess for a link that was not measured. */
void precopy_plan(uint64_t resident_bytes, uint64_t dirty_rate_bytes_s, uint64_t bandwidth_bytes_s,
	const struct precopy_limits *l, struct precopy_plan *ret);
/* A gigabit link: what is assumed while nothing was measured. */
#define PRECOPY_BANDWIDTH_GUESS (100ULL << 20)
