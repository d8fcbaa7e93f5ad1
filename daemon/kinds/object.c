// SPDX-License-Identifier: Apache-2.0
/* Messages of kinds to and from bytes; everything lives in an arena and is never freed alone. */
#include "kinds/kind.h"

static void *arena_pb_alloc(void *arena, size_t bytes)
{
	return arena_alloc(arena, bytes);
}

static void arena_pb_free(void *arena unused_arg, void *p unused_arg)
{
}

ProtobufCAllocator arena_allocator(struct arena *a)
{
	return (ProtobufCAllocator){
		.alloc = arena_pb_alloc,
		.free = arena_pb_free,
		.allocator_data = a,
	};
}

void kind_pack(struct arena *a, const ProtobufCMessage *msg, const uint8_t **body, size_t *len)
{
	size_t n = protobuf_c_message_get_packed_size(msg);
	uint8_t *buf = arena_alloc(a, n);

	*len = protobuf_c_message_pack(msg, buf);
	*body = buf;
}

struct err *kind_unpack(struct arena *a, const struct object *o, void **msg)
{
	ProtobufCAllocator alloc = arena_allocator(a);
	ProtobufCMessage *m = protobuf_c_message_unpack(o->kind->msg, &alloc, o->body_len, o->body);

	if (!m)
		return err_new(ERR_PEER, "message of %s %ju does not parse", o->kind->name,
			(uintmax_t)o->id);
	*msg = m;
	return NULL;
}
