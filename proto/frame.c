// SPDX-License-Identifier: Apache-2.0
/* Frame headers and run tables: pure functions, every field checked. */
#include "proto/frame.h"

#include <endian.h>
#include <string.h>

#define KIB 1024u
#define MIB (1024u * KIB)

static const struct {
	uint16_t type;
	const char *name;
	uint32_t limit;
} types[] = {
	{ FRAME_HELLO, "HELLO", 4 * KIB },
	{ FRAME_HELLO_OK, "HELLO_OK", 4 * KIB },
	{ FRAME_BEGIN, "BEGIN", 512 * KIB },
	{ FRAME_OBJECTS, "OBJECTS", FRAME_BODY_MAX },
	{ FRAME_LAYOUT, "LAYOUT", FRAME_BODY_MAX },
	{ FRAME_PAGES, "PAGES", 2 * MIB },
	{ FRAME_ROUND, "ROUND", 0 },
	{ FRAME_REHEARSED, "REHEARSED", 0 },
	{ FRAME_FINAL, "FINAL", 4 * KIB },
	{ FRAME_COMMIT, "COMMIT", 0 },
	{ FRAME_ABORT, "ABORT", 64 * KIB },
	{ FRAME_PING, "PING", 0 },
	{ FRAME_STREAMS, "STREAMS", 0 },
	{ FRAME_SPREAD, "SPREAD", 0 },
	{ FRAME_NETWORK, "NETWORK", 64 * KIB },
	{ FRAME_CONNECTIONS, "CONNECTIONS", FRAME_BODY_MAX },
	{ FRAME_TREE, "TREE", 4 * MIB },
	{ FRAME_ACCEPT, "ACCEPT", 64 * KIB },
	{ FRAME_CHECKED, "CHECKED", 4 * MIB },
	{ FRAME_ROUND_OK, "ROUND_OK", 0 },
	{ FRAME_READY, "READY", 4 * KIB },
	{ FRAME_RUNNING, "RUNNING", 256 * KIB },
	{ FRAME_ERROR, "ERROR", 64 * KIB },
	{ FRAME_PONG, "PONG", 4 * KIB },
	{ FRAME_ALIVE, "ALIVE", 0 },
	{ FRAME_NEXT, "NEXT", 0 },
	{ FRAME_BYE, "BYE", 0 },
};

static size_t type_index(uint16_t type)
{
	size_t i = 0;

	while (i < ARRAY_LEN(types) && types[i].type != type)
		i++;
	return i;
}

uint32_t frame_limit(uint16_t type)
{
	size_t i = type_index(type);

	return i < ARRAY_LEN(types) ? types[i].limit : UINT32_MAX;
}

const char *frame_name(uint16_t type)
{
	size_t i = type_index(type);

	return i < ARRAY_LEN(types) ? types[i].name : "unknown";
}

static void put(uint8_t *buf, const void *value, size_t n)
{
	memcpy(buf, value, n);
}

void frame_encode(const struct frame_head *h, uint8_t buf[FRAME_HEAD_BYTES])
{
	uint32_t length = htole32(h->length);
	uint16_t type = htole16(h->type), flags = 0;
	uint64_t arg = htole64(h->arg);

	put(buf, &length, sizeof(length));
	put(buf + 4, &type, sizeof(type));
	put(buf + 6, &flags, sizeof(flags));
	put(buf + 8, &arg, sizeof(arg));
}

struct err *frame_decode(const uint8_t buf[FRAME_HEAD_BYTES], struct frame_head *h)
{
	uint32_t length, limit;
	uint16_t type, flags;
	uint64_t arg;

	memcpy(&length, buf, sizeof(length));
	memcpy(&type, buf + 4, sizeof(type));
	memcpy(&flags, buf + 6, sizeof(flags));
	memcpy(&arg, buf + 8, sizeof(arg));
	length = le32toh(length);
	type = le16toh(type);
	limit = frame_limit(type);
	if (limit == UINT32_MAX)
		return err_new(ERR_PEER, "frame of unknown type %u", type);
	if (flags)
		return err_new(ERR_PEER, "%s frame with unknown flags %#x", frame_name(type),
			le16toh(flags));
	if (length > limit)
		return err_new(ERR_PEER, "%s frame of %u bytes, at most %u are allowed",
			frame_name(type), length, limit);
	*h = (struct frame_head){ .length = length, .type = type, .arg = le64toh(arg) };
	return NULL;
}

void run_encode(const struct run *r, uint8_t buf[RUN_BYTES])
{
	uint64_t start = htole64(r->start | (uint64_t)r->kind), pages = htole64(r->pages);

	put(buf, &start, sizeof(start));
	put(buf + 8, &pages, sizeof(pages));
}

struct err *run_decode(const uint8_t buf[RUN_BYTES], struct run *r)
{
	uint64_t start, pages, kind, bytes, end;

	memcpy(&start, buf, sizeof(start));
	memcpy(&pages, buf + 8, sizeof(pages));
	start = le64toh(start);
	pages = le64toh(pages);
	kind = start & (PAGE_BYTES - 1);
	start = PAGE_DOWN(start);
	if (kind > RUN_DROP)
		return err_new(ERR_PEER, "page run of unknown kind %ju", (uintmax_t)kind);
	if (!pages || __builtin_mul_overflow(pages, PAGE_BYTES, &bytes) ||
		__builtin_add_overflow(start, bytes, &end))
		return err_new(ERR_PEER, "page run at %#jx with %ju pages", (uintmax_t)start,
			(uintmax_t)pages);
	*r = (struct run){ .start = start, .pages = pages, .kind = (enum run_kind)kind };
	return NULL;
}
