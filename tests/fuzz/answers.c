// SPDX-License-Identifier: Apache-2.0
/*
 * What a destination says, as the source hears it: frames in the order of the input. First byte:
 * which of them the source waits for, as an index; then the frames.
 */
#include "engine/facts.h"
#include "engine/peer.h"
#include "mem_stream.h"
#include "session.pb-c.h"
#include "wire/err_wire.h"

const char *(*const fuzz_prepare)(void) = fuzz_nothing;

static void compare(const Migrate__Accept *m)
{
	Migrate__Begin begin = MIGRATE__BEGIN__INIT;
	Migrate__Facts ours = MIGRATE__FACTS__INIT;
	struct notes notes = { 0 };

	begin.facts = &ours;
	if (m->facts)
		facts_compare(&begin, m->facts, 0, &notes);
	if (m->facts) { /* and as a source's */
		begin.facts = m->facts;
		facts_compare(&begin, &ours, 0, &notes);
	}
	notes_fini(&notes);
}

static void blockers(const Migrate__Checked *m)
{
	for (size_t i = 0; i < m->n_blockers; i++) {
		struct err *e = err_from_wire(m->blockers[i]);
		char *line = err_line(e);

		for (const char *c = line; *c; c++)
			MUST((unsigned char)*c >= ' ' && *c != 0x7f);
		free(line);
		err_free(e);
	}
}

int fuzz_one(const uint8_t *data, size_t n)
{
	static const struct {
		uint16_t type;
		const ProtobufCMessageDescriptor *desc;
	} waits[] = {
		{ FRAME_ACCEPT, &migrate__accept__descriptor },
		{ FRAME_CHECKED, &migrate__checked__descriptor },
		{ FRAME_READY, &migrate__ready__descriptor },
		{ FRAME_RUNNING, &migrate__running__descriptor },
		{ FRAME_ROUND_OK, NULL },
		{ FRAME_PONG, NULL },
	};
	autoarena struct arena *a = arena_new();
	struct feed f = { data, n };
	size_t which = feed_u8(&f) % ARRAY_LEN(waits);
	struct mem_stream mem = { .in = f };
	struct stream s;
	struct engine_io io = { .stream = &s, .interrupt_fd = -1 };
	struct peer_clock clock;
	struct peer p;
	void *msg = NULL;
	struct err *e;

	mem_stream(&mem, &s);
	peer_init(&p, &io, true);
	p.ch.deadline = deadline_in(1000000);
	e = waits[which].type == FRAME_PONG
		    ? peer_sync_clock(&p, &clock)
		    : peer_expect(&p, a, waits[which].type, waits[which].desc, &msg);
	if (!e && waits[which].type == FRAME_ACCEPT)
		compare(msg);
	if (!e && waits[which].type == FRAME_CHECKED)
		blockers(msg);
	err_free(peer_reason(&p, e));
	return 0;
}
