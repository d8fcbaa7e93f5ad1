// SPDX-License-Identifier: Apache-2.0
#include "session/hello.h"

#include <ctype.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

#include "proto/frame.h"
#include "session/ossl.h"
#include "wire/err_wire.h"

struct err *hello_choose(uint32_t theirs_min, uint32_t theirs_max, uint32_t *version)
{
	if (theirs_min == 0 || theirs_min > theirs_max)
		return err_new(ERR_PEER, "it offers protocol versions %u to %u, which is no range",
			theirs_min, theirs_max);
	if (theirs_min > PROTOCOL_MAX || theirs_max < PROTOCOL_MIN)
		return err_hint(err_new(ERR_MISMATCH,
					"the dialling host speaks protocol versions %u to %u, the "
					"accepting host %u to %u",
					theirs_min, theirs_max, PROTOCOL_MIN, PROTOCOL_MAX),
			"install the same version of migrated on both hosts");
	*version = MIN(theirs_max, (uint32_t)PROTOCOL_MAX);
	return NULL;
}

/* A peer's words go to logs and terminals. */
static void copy_clean(char *to, size_t room, const char *from)
{
	snprintf(to, room, "%s", from);
	for (char *c = to; *c; c++)
		if (!isprint((unsigned char)*c) || *c == '"')
			*c = '?';
}

static struct err *send_frame(
	struct tls *t, uint16_t type, const ProtobufCMessage *m, struct deadline d)
{
	size_t len = protobuf_c_message_get_packed_size(m);
	autofree uint8_t *buf = xcalloc(1, FRAME_HEAD_BYTES + len);

	frame_encode(&(struct frame_head){ .length = (uint32_t)len, .type = type }, buf);
	protobuf_c_message_pack(m, buf + FRAME_HEAD_BYTES);
	return tls_write_full(t, buf, FRAME_HEAD_BYTES + len, d);
}

static struct err *recv_frame(
	struct tls *t, struct arena *a, struct deadline d, struct frame_head *h, uint8_t **body)
{
	uint8_t head[FRAME_HEAD_BYTES];

	TRY(tls_read_full(t, head, sizeof(head), d));
	TRY_IN(frame_decode(head, h), "it speaks something else than migrated");
	/* Only what can come here, before anything is allocated for it. */
	if (h->type != FRAME_HELLO && h->type != FRAME_HELLO_OK && h->type != FRAME_ERROR)
		return err_new(ERR_PEER, "%s frame before HELLO", frame_name(h->type));
	*body = arena_alloc(a, h->length + 1);
	return tls_read_full(t, *body, h->length, d);
}

static struct err *told_no(const uint8_t *body, size_t len)
{
	Migrate__Error *m = migrate__error__unpack(NULL, len, body);
	struct err *e;

	if (!m)
		return err_new(ERR_PEER, "it refused, but its reason does not parse");
	e = err_from_wire(m);
	migrate__error__free_unpacked(m, NULL);
	return err_in(e, "the other host refused the connection");
}

static struct err *read_ok(const uint8_t *body, size_t len, struct hello_peer *peer)
{
	Migrate__HelloOk *m = migrate__hello_ok__unpack(NULL, len, body);
	bool ours;

	if (!m)
		return err_new(ERR_PEER, "its HELLO_OK does not parse");
	peer->version = m->version;
	copy_clean(peer->software, sizeof(peer->software), m->software);
	copy_clean(peer->boot_id, sizeof(peer->boot_id), m->boot_id);
	copy_clean(peer->fate, sizeof(peer->fate), m->fate);
	peer->fixed_keys = m->fixed_keys;
	peer->join.number = 0;
	peer->can_join = m->join_token.len == JOIN_TOKEN_BYTES;
	if (peer->can_join)
		memcpy(peer->join.token, m->join_token.data, JOIN_TOKEN_BYTES);
	ours = m->version >= PROTOCOL_MIN && m->version <= PROTOCOL_MAX;
	migrate__hello_ok__free_unpacked(m, NULL);
	if (!ours)
		return err_new(ERR_PEER, "it chose protocol version %u, which was not offered",
			peer->version);
	return NULL;
}

static void keep_keys(struct tls *t, const struct hello_peer *peer)
{
	if (peer->fixed_keys)
		t->rekey_bytes = 0;
}

struct err *hello_dial(
	struct tls *t, const struct hello_self *self, struct deadline d, struct hello_peer *peer)
{
	autoarena struct arena *a = arena_new();
	Migrate__Hello m = MIGRATE__HELLO__INIT;
	Migrate__Join join = MIGRATE__JOIN__INIT;
	Migrate__Question ask = MIGRATE__QUESTION__INIT;
	struct frame_head h;
	uint8_t *body;
	struct err *e;

	m.version_min = PROTOCOL_MIN;
	m.version_max = PROTOCOL_MAX;
	m.software = arena_strdup(a, self->software);
	m.boot_id = arena_strdup(a, self->boot_id);
	m.fixed_keys = self->fixed_keys;
	if (self->join.number) {
		join.number = self->join.number;
		join.token.data = (uint8_t *)(uintptr_t)self->join.token;
		join.token.len = JOIN_TOKEN_BYTES;
		m.join = &join;
	}
	if (self->ask) {
		ask.id = arena_strdup(a, self->ask);
		m.ask = &ask;
	}
	/* A peer that does not want our key has closed already; its alert says why and is in our
	 * queue, so the error of this write says less than that of the read. */
	e = send_frame(t, FRAME_HELLO, &m.base, d);
	err_free(e);
	TRY(recv_frame(t, a, d, &h, &body));
	if (h.type == FRAME_ERROR)
		return told_no(body, h.length);
	if (h.type != FRAME_HELLO_OK)
		return err_new(ERR_PEER, "it answered HELLO with %s", frame_name(h.type));
	TRY(read_ok(body, h.length, peer));
	keep_keys(t, peer);
	return NULL;
}

static struct err *read_join(const Migrate__Join *m, struct hello_peer *peer)
{
	peer->join.number = 0;
	peer->can_join = !m;
	if (!m)
		return RAND_bytes(peer->join.token, JOIN_TOKEN_BYTES) == 1
			       ? NULL
			       : ossl_err("make a token");
	if (m->token.len != JOIN_TOKEN_BYTES || !m->number || m->number > JOIN_NUMBER_MAX)
		return err_new(ERR_PEER, "it wants to join as number %u with a token of %zu bytes",
			m->number, m->token.len);
	peer->join.number = m->number;
	memcpy(peer->join.token, m->token.data, JOIN_TOKEN_BYTES);
	return NULL;
}

static struct err *read_hello(
	const struct frame_head *h, const uint8_t *body, struct hello_peer *peer)
{
	Migrate__Hello *m;
	struct err *e;

	if (h->type != FRAME_HELLO)
		return err_new(ERR_PEER, "%s frame before HELLO", frame_name(h->type));
	m = migrate__hello__unpack(NULL, h->length, body);
	if (!m)
		return err_new(ERR_PEER, "its HELLO does not parse");
	copy_clean(peer->software, sizeof(peer->software), m->software);
	copy_clean(peer->boot_id, sizeof(peer->boot_id), m->boot_id);
	peer->fixed_keys = m->fixed_keys;
	peer->ask[0] = 0;
	if (m->ask)
		copy_clean(peer->ask, sizeof(peer->ask), m->ask->id);
	e = hello_choose(m->version_min, m->version_max, &peer->version);
	if (!e && m->ask && (!m->ask->id[0] || m->join))
		e = err_new(ERR_PEER, "it asks about no migration");
	if (!e)
		e = read_join(m->join, peer);
	migrate__hello__free_unpacked(m, NULL);
	return e;
}

static struct err *check_wish(const struct hello_self *self, struct hello_peer *peer)
{
	if (peer->ask[0])
		return self->fate_of ? self->fate_of(self->arg, peer->ask, peer->fate)
				     : err_new(ERR_UNSUPPORTED, "nobody knows that here");
	if (!peer->join.number)
		return NULL;
	if (!self->may_join)
		return err_new(ERR_UNSUPPORTED, "no connection can join another here");
	return self->may_join(self->arg, &peer->join);
}

struct err *hello_accept(
	struct tls *t, const struct hello_self *self, struct deadline d, struct hello_peer *peer)
{
	autoarena struct arena *a = arena_new();
	Migrate__HelloOk m = MIGRATE__HELLO_OK__INIT;
	struct frame_head h;
	uint8_t *body;
	struct err *e, *ignored;

	TRY(recv_frame(t, a, d, &h, &body));
	peer->fate[0] = 0;
	e = read_hello(&h, body, peer);
	if (!e)
		e = check_wish(self, peer);
	if (e) {
		ignored = send_frame(
			t, FRAME_ERROR, &err_to_wire(a, e, "destination", "hello")->base, d);
		err_free(ignored);
		return e;
	}
	keep_keys(t, peer);
	m.version = peer->version;
	m.fixed_keys = self->fixed_keys;
	m.fate = peer->fate;
	if (peer->can_join && !peer->ask[0]) {
		m.join_token.data = peer->join.token;
		m.join_token.len = JOIN_TOKEN_BYTES;
	}
	m.software = arena_strdup(a, self->software);
	m.boot_id = arena_strdup(a, self->boot_id);
	return send_frame(t, FRAME_HELLO_OK, &m.base, d);
}
