/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What people read. Pure functions from messages to text. The order of bad news is fixed: where
 * the process runs now, what could not be done, why, what to try.
 */
#pragma once

#include "base/text.h"
#include "control.pb-c.h"

/* Where the process is, as far as the caller could see for himself. */
enum whereabouts {
	HERE_RUNS,
	HERE_HELD, /* it stands still by our doing */
	HERE_GONE,
};

/* "512.0 MiB". */
void render_bytes(struct text *out, uint64_t bytes);
/* "3.1 ms", "42 ms", "1.42 s". */
void render_us(struct text *out, uint64_t us);

/* One line without a newline, at most `width` columns (0: any). */
void render_progress(struct text *out, const Migrate__Progress *p, unsigned width);
/* One line for a finished round. */
void render_round(struct text *out, const Migrate__Progress *p);
/* The end of a migration. */
void render_done(struct text *out, const Migrate__Done *d, enum whereabouts w);
/* What each answer to a migration in doubt would do. */
void render_answers(struct text *out, const Migrate__Done *d);
/* The request itself failed: nothing was begun. */
void render_not_begun(struct text *out, int32_t pid, const struct err *e, enum whereabouts w);
/* The answer to check. `host` is "" for this host alone. */
void render_check(struct text *out, const Migrate__Done *d, const char *host);
/* Tables. */
void render_list(struct text *out, const Migrate__Reply *r);
void render_status(struct text *out, const Migrate__Progress *p);
void render_peers(struct text *out, const Migrate__Reply *r);
/* Any other verb's error. */
void render_error(struct text *out, const struct err *e);

/* What pre-copy is expected to take. */
struct prediction {
	uint32_t rounds;
	uint64_t total_us, downtime_us;
	bool converges; /* the link is faster than the process dirties memory */
};
struct prediction render_predict(const Migrate__Progress *p, uint64_t downtime_us);
