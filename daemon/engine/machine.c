// SPDX-License-Identifier: Apache-2.0
#include "engine/machine.h"

/* No table is longer; a longer path is a loop. */
#define PATH_MAX_STATES 32

static const struct {
	enum err_code code;
	enum event event;
} events[] = {
	{ ERR_PEER, EV_LOST },
	{ ERR_CANCELLED, EV_CANCELLED },
	{ ERR_TIMEOUT, EV_TIMEOUT },
};

enum event event_of(const struct err *e)
{
	if (!e)
		return EV_OK;
	for (size_t i = 0; i < ARRAY_LEN(events); i++)
		if (events[i].code == err_code(e))
			return events[i].event;
	return EV_FAILED;
}

uint8_t machine_run(const struct machine *m, void *ctx)
{
	uint8_t path[PATH_MAX_STATES], state = m->first;
	size_t depth = 0;

	for (;;) {
		const struct state_row *row = &m->rows[state];
		struct err *e = NULL;
		uint8_t next;

		m->on_state(ctx, row);
		if (row->cut)
			depth = 0;
		if (row->undo && depth < PATH_MAX_STATES)
			path[depth++] = state;
		if (row->enter)
			e = row->enter(ctx);
		next = row->on[row->event ? row->event(ctx, e) : event_of(e)];
		if (e)
			m->on_error(ctx, row, e);
		if (next == UNDO) {
			while (depth)
				m->rows[path[--depth]].undo(ctx);
			next = m->undone;
		}
		if (next == END)
			return state;
		if (next == STATE_BUG || next >= m->n_rows) {
			m->on_error(ctx, row, err_new(ERR_BUG, "no way on from %s", row->name));
			return state;
		}
		state = next;
	}
}
