// SPDX-License-Identifier: Apache-2.0
/* The destination's first state: who comes, whether that is admitted, and what this host has. */
#include "engine/destination.h"
#include "engine/facts.h"
#include "engine/patience.h"
#include "engine/process_list.h"

static struct err *accept_begin(struct destination *d)
{
	Migrate__Accept m = MIGRATE__ACCEPT__INIT;
	Migrate__Facts facts = MIGRATE__FACTS__INIT;
	const Migrate__Begin *b = d->begin;

	TRY(begin_check(b));
	if (d->opt->on_begin)
		TRY(d->opt->on_begin(d->io->arg, &(struct incoming){ .id = b->id,
							 .comm = b->comm,
							 .pid = b->pid,
							 .uid = b->uid,
							 .bytes = b->need_bytes }));
	d->out->stats.resident_bytes = b->need_bytes;
	d->network.list.id = b->id;
	facts_fill(d->arena, &facts);
	m.facts = &facts;
	if (d->io->open_stream && !b->dry_run)
		d->streams = MIN(b->streams, ENGINE_STREAMS_MAX);
	m.streams = MAX(d->streams, 1U);
	return peer_send(&d->peer, FRAME_ACCEPT, &m.base);
}

struct err *destination_hello(void *ctx)
{
	struct destination *d = ctx;
	struct frame_head h;
	uint8_t *body;

	destination_wait(d, ENGINE_PEER_TIMEOUT_US);
	for (;;) {
		TRY(channel_head(&d->peer.ch, &h));
		if (h.type != FRAME_PING)
			break;
		TRY(peer_pong(&d->peer));
	}
	if (h.type != FRAME_BEGIN)
		return peer_unexpected(&d->peer, d->arena, &h);
	body = arena_alloc(d->arena, h.length);
	TRY(channel_read(&d->peer.ch, body, h.length));
	d->begin = (Migrate__Begin *)message_unpack(
		d->arena, &migrate__begin__descriptor, body, h.length);
	if (!d->begin)
		return err_new(ERR_PEER, "BEGIN frame that does not parse");
	return accept_begin(d);
}
