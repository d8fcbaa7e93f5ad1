/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What control knows of the migrations of this host: the last numbers of those that go on, the
 * outcome of the latest that are over. Filled from the monitor's events.
 */
#pragma once

#include "base/err.h"
#include "control.pb-c.h"

#define MIGRATIONS_ENDED_MAX 64 /* older outcomes are forgotten */

struct migration {
	struct migration *next; /* older ones first */
	char *id;
	const char *side;            /* "source" or "destination" */
	Migrate__Progress *progress; /* while it goes on; then NULL */
	Migrate__Done *done;
};

struct migrations {
	struct migration *first;
	size_t n, n_ended;
};

/* Both take the message. */
void migrations_progress(struct migrations *ms, Migrate__Progress *p);
/* A check (outcome "movable" or "blocked") leaves nothing to list. */
void migrations_done(struct migrations *ms, Migrate__Done *d);
/* side NULL: the latest of that id; it may be on both sides when a host sends to itself. */
struct migration *migrations_find(const struct migrations *ms, const char *id, const char *side);
/* NULL if there is none. */
struct migration *migrations_latest(const struct migrations *ms);
/* What to tell who asked for it. */
struct err *migrations_unknown(const char *id) must_check;
void migrations_fini(struct migrations *ms);
