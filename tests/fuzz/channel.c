// SPDX-License-Identifier: Apache-2.0
/* wire/channel: any sequence of frames, in pieces, over connections that replace each other. The
 * first byte says how large the pieces are. */
#include "wire/channel.h"
#include "mem_stream.h"

const char *(*const fuzz_prepare)(void) = fuzz_nothing;
const size_t fuzz_frames_at = 1;

/* Further connections take pieces of 64 bytes off the end of the input. */
struct more {
	struct mem_stream *from;
	struct mem_stream mem[4];
	struct stream streams[4];
	size_t n;
};

static struct err *open_more(
	void *arg, unsigned *n, struct deadline d unused_arg, struct stream **ret)
{
	struct more *m = arg;
	struct feed *left = &m->from->in;
	size_t some = MIN(left->n, (size_t)64);

	MUST(*n);
	if (m->n == ARRAY_LEN(m->mem))
		return err_new(ERR_LIMIT, "no more");
	m->mem[m->n].in = (struct feed){ left->p + (left->n - some), some };
	left->n -= some;
	mem_stream(&m->mem[m->n], &m->streams[m->n]);
	*ret = &m->streams[m->n++];
	return NULL;
}

static bool one(struct channel *ch)
{
	autoarena struct arena *a = arena_new();
	struct frame_head h;
	uint8_t *body = NULL;
	struct err *e = channel_recv(ch, a, &h, &body);

	err_free(e);
	if (e)
		return false;
	MUST(h.length <= frame_limit(h.type) && h.type != FRAME_NEXT);
	for (size_t i = 0; i < h.length; i += 64)
		MUST(body[i] <= UINT8_MAX); /* it is there */
	return true;
}

int fuzz_one(const uint8_t *data, size_t n)
{
	struct feed f = { data, n };
	struct mem_stream mem = { .piece = feed_u8(&f) };
	struct more more = { .from = &mem };
	struct stream s;
	struct channel ch;

	mem.in = f;
	mem_stream(&mem, &s);
	channel_init(&ch, &s, -1);
	ch.more = (struct channel_more){ open_more, &more, false };
	while (one(&ch))
		;
	return 0;
}
