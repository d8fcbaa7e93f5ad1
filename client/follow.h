/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads replies until the last one and shows progress on the way: a live line on a terminal, one
 * line per round otherwise, JSON lines with --json. The first Ctrl-C asks the daemon to cancel and
 * goes on reading until the outcome; a second one stops waiting for it.
 */
#pragma once

#include "base/arena.h"
#include "client/options.h"
#include "control.pb-c.h"

struct follow {
	const struct options *opt;
	bool cancels;   /* Ctrl-C cancels (send); else it just ends the watching */
	bool abandoned; /* out: Ctrl-C came and the outcome was not waited for */
	char id[64];    /* out: the migration's id as soon as it is known */
	char owner[16]; /* out: who ran the process, by the last word of the daemon */
	/* A migration ended that is not the last reply (watch). May be NULL. */
	void (*on_done)(const struct follow *f, const Migrate__Done *d);
};

/* `fd` has a request sent. *ret is the last reply, in the arena; NULL when abandoned. */
struct err *follow(struct follow *f, int fd, struct arena *a, Migrate__Reply **ret) must_check;
