/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a state table. A row says who owns the process, what to do on entering, how to undo it, and
 * which row follows on which event. Leaving by UNDO pops the undo functions of all rows entered so
 * far, last first: rollback is written nowhere else. Row 0 is a bug: a forgotten cell stops.
 */
#pragma once

#include "base/err.h"
#include "engine/engine.h"

enum event {
	EV_OK,        /* the row's work is done */
	EV_FAILED,    /* it cannot be done: blockers, a veto, a kernel error */
	EV_LOST,      /* the peer is gone or speaks nonsense */
	EV_CANCELLED, /* somebody asked for it */
	EV_TIMEOUT,
	EV_REFUSED, /* the peer has said that it will never do it: only where a row asks */
	EV_COUNT,
};

#define STATE_BUG 0
#define UNDO      0xfe /* pop the undo stack, then go to machine.undone */
#define END       0xff

struct state_row {
	const char *name;
	enum owner owner;
	struct err *(*enter)(void *ctx);
	void (*undo)(void *ctx);
	/* Which event its error is; NULL: event_of. */
	enum event (*event)(void *ctx, const struct err *e);
	bool cut; /* entering it makes everything before final: the undo stack is emptied */
	uint8_t on[EV_COUNT];
};

struct machine {
	const struct state_row *rows;
	size_t n_rows;
	uint8_t first, undone;
	/* Each state entered, before its work. */
	void (*on_state)(void *ctx, const struct state_row *row);
	/* An error that decided the next state; takes e. The first one is the reason, later ones
	 * are what rollback met. */
	void (*on_error)(void *ctx, const struct state_row *row, struct err *e);
};

/* Which event an error is. */
enum event event_of(const struct err *e);
/* Returns the row in which it ended. */
uint8_t machine_run(const struct machine *m, void *ctx);
