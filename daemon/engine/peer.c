// SPDX-License-Identifier: Apache-2.0
#include "engine/peer.h"

#include <string.h>
#include <time.h>

#include "engine/patience.h"
#include "session.pb-c.h"
#include "wire/err_wire.h"

#define CLOCK_EXCHANGES 8
/* How long a side that failed waits for the reason, or to get rid of its own. */
#define LAST_WORDS_US 2000000

static struct err *open_more(void *arg, unsigned *n, struct deadline d, struct stream **ret)
{
	struct peer *p = arg;

	if (!*n)
		*n = p->next_number++;
	return p->io->open_stream(p->io->arg, *n, d, ret);
}

struct channel_more peer_more(struct peer *p, bool dials)
{
	return (struct channel_more){ p->io->open_stream ? open_more : NULL, p, dials };
}

void peer_init(struct peer *p, const struct engine_io *io, bool dials)
{
	*p = (struct peer){ .io = io, .next_number = PEER_REPLACES_FROM };
	channel_init(&p->ch, io->stream, io->interrupt_fd);
	p->ch.more = peer_more(p, dials);
}

struct err *peer_send(struct peer *p, uint16_t type, const ProtobufCMessage *msg)
{
	autoarena struct arena *a = arena_new();
	const uint8_t *body;
	size_t len;

	kind_pack(a, msg, &body, &len);
	return peer_reason(p, channel_send(&p->ch, type, 0, body, len));
}

static struct err *remote_error(struct peer *p, const uint8_t *body, size_t len)
{
	Migrate__Error *m = migrate__error__unpack(NULL, len, body);
	struct err *e;

	if (!m)
		return err_new(ERR_PEER, "the other host failed and its reason does not parse");
	p->failed_there = true;
	p->closed = true;
	e = err_from_wire(m);
	migrate__error__free_unpacked(m, NULL);
	return e;
}

struct err *peer_unexpected(struct peer *p, struct arena *a, const struct frame_head *h)
{
	uint8_t *body = arena_alloc(a, h->length);

	TRY(channel_read(&p->ch, body, h->length));
	if (h->type == FRAME_ERROR || h->type == FRAME_ABORT)
		return remote_error(p, body, h->length);
	if (h->type == FRAME_BYE)
		return err_new(ERR_PEER, "the other host ended the migration");
	return err_new(ERR_PEER, "unexpected %s frame", frame_name(h->type));
}

struct err *peer_next(struct peer *p, struct arena *a)
{
	struct frame_head h;

	TRY(channel_head(&p->ch, &h));
	return peer_unexpected(p, a, &h);
}

struct err *peer_expect(struct peer *p, struct arena *a, uint16_t type,
	const ProtobufCMessageDescriptor *desc, void **msg)
{
	struct frame_head h;
	uint8_t *body;

	TRY(channel_head(&p->ch, &h));
	if (h.type != type)
		return peer_unexpected(p, a, &h);
	body = arena_alloc(a, h.length);
	TRY(channel_read(&p->ch, body, h.length));
	if (!desc)
		return NULL;
	*msg = message_unpack(a, desc, body, h.length);
	return *msg ? NULL : err_new(ERR_PEER, "%s frame that does not parse", frame_name(type));
}

/* Listens for as long as the channel's deadline; `e` if nothing comes that says why. */
static struct err *listen_for_reason(struct peer *p, struct err *e)
{
	autoarena struct arena *a = arena_new();
	struct frame_head h;
	struct err *why;

	/* Acknowledgements of rounds may stand in front of the reason. */
	do {
		why = channel_head(&p->ch, &h);
	} while (!why && h.length == 0 && !deadline_passed(p->ch.deadline));
	if (why) {
		p->closed |= err_code(why) != ERR_TIMEOUT;
		err_free(why);
		return e;
	}
	why = peer_unexpected(p, a, &h);
	if (!p->failed_there) {
		err_free(why);
		return e;
	}
	err_free(e);
	return why;
}

struct err *peer_reason(struct peer *p, struct err *e)
{
	if (!e || err_code(e) != ERR_PEER)
		return e;
	p->closed = true;
	channel_until(&p->ch, deadline_min(p->ch.deadline, deadline_in(LAST_WORDS_US)));
	return listen_for_reason(p, e);
}

struct err *peer_reason_of(struct peer *p, struct err *e, int64_t wait_us)
{
	if (!e || err_code(e) != ERR_PEER || p->failed_there)
		return e;
	channel_until(&p->ch, deadline_in(wait_us));
	return listen_for_reason(p, e);
}

void peer_give_up(
	struct peer *p, uint16_t type, const struct err *e, const char *side, const char *state)
{
	autoarena struct arena *a = arena_new();
	const uint8_t *body;
	size_t len;

	if (p->closed || !p->ch.out)
		return;
	p->closed = true;
	p->ch.interrupt_fd = -1;
	channel_until(&p->ch, deadline_in(LAST_WORDS_US));
	kind_pack(a, &err_to_wire(a, e, side, state)->base, &body, &len);
	err_free(channel_send(&p->ch, type, 0, body, len));
	err_free(channel_send(&p->ch, FRAME_BYE, 0, NULL, 0));
}

void peer_alive(struct peer *p)
{
	struct channel *ch = &p->ch;
	int64_t now = clock_us();

	if (!ch->out || p->closed || now - p->alive_us < ENGINE_ALIVE_US)
		return;
	p->alive_us = now;
	/* What is wrong with the connection, the next wait on it says. */
	err_free(channel_send(ch, FRAME_ALIVE, 0, NULL, 0));
}

static int64_t boottime_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

struct err *peer_pong(struct peer *p)
{
	Migrate__Pong m = MIGRATE__PONG__INIT;

	m.monotonic_ns = clock_ns();
	m.boottime_ns = boottime_ns();
	m.realtime_ns = clock_real_ns();
	return peer_send(p, FRAME_PONG, &m.base);
}

struct err *peer_sync_clock(struct peer *p, struct peer_clock *ret)
{
	struct peer_clock best = { .rtt_ns = INT64_MAX };

	for (int i = 0; i < CLOCK_EXCHANGES; i++) {
		autoarena struct arena *a = arena_new();
		int64_t sent = clock_ns(), boot, real, half;
		Migrate__Pong *pong;
		void *msg;

		TRY(channel_send(&p->ch, FRAME_PING, 0, NULL, 0));
		TRY(peer_expect(p, a, FRAME_PONG, &migrate__pong__descriptor, &msg));
		pong = msg;
		boot = boottime_ns();
		real = clock_real_ns();
		half = (clock_ns() - sent) / 2;
		if (2 * half >= best.rtt_ns)
			continue;
		best.rtt_ns = 2 * half;
		best.offset_ns = pong->monotonic_ns - (sent + half);
		best.boottime_offset_ns = pong->boottime_ns - (boot - half);
		best.realtime_offset_ns = pong->realtime_ns - (real - half);
	}
	*ret = best;
	return NULL;
}
