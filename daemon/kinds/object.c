// SPDX-License-Identifier: Apache-2.0
/* Messages of kinds to and from bytes; everything lives in an arena and is never freed alone. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "kinds/kind.h"

/* What stat says of every queue. */
#define QUEUE_BYTES 80

/* Its path begins at the root of its own file system, which is no device. */
bool file_is_queue(const struct file *f)
{
	struct stat st;

	if (f->link[0] != '/' || strchr(f->link + 1, '/') || (f->flags & O_PATH) ||
		!S_ISREG(f->st.st_mode) || major(f->st.st_dev) || f->st.st_size != QUEUE_BYTES)
		return false;
	return stat(f->link, &st) < 0 || st.st_ino != f->st.st_ino || st.st_dev != f->st.st_dev;
}

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

/* What an unpacking may still take. */
struct budget {
	struct arena *arena;
	size_t left;
};

static void *budget_alloc(void *arg, size_t bytes)
{
	struct budget *b = arg;

	if (bytes > b->left)
		return NULL;
	b->left -= bytes;
	return arena_alloc(b->arena, bytes);
}

ProtobufCMessage *message_unpack(
	struct arena *a, const ProtobufCMessageDescriptor *desc, const uint8_t *body, size_t len)
{
	struct budget b = { a, UNPACK_BYTES_MIN };
	ProtobufCAllocator alloc = {
		.alloc = budget_alloc,
		.free = arena_pb_free,
		.allocator_data = &b,
	};

	if (len > (SIZE_MAX - b.left) / UNPACK_BYTES_FACTOR)
		return NULL;
	b.left += len * UNPACK_BYTES_FACTOR;
	return protobuf_c_message_unpack(desc, &alloc, len, body);
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
	ProtobufCMessage *m = message_unpack(a, o->kind->msg, o->body, o->body_len);

	if (!m)
		return err_new(ERR_PEER, "message of %s %ju does not parse", o->kind->name,
			(uintmax_t)o->id);
	*msg = m;
	return NULL;
}
