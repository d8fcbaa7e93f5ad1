/* SPDX-License-Identifier: Apache-2.0 */
/* A stream whose other end has said everything already: reads come from an input, in pieces of at
 * most `piece` bytes (0: as wanted), writes go nowhere. */
#pragma once

#include <errno.h>
#include <poll.h>

#include "fuzz.h"
#include "wire/stream.h"

struct mem_stream {
	struct feed in;
	size_t piece;
	uint64_t written;
};

static inline ssize_t mem_write(
	struct stream *s, const struct iovec *iov, int n, bool more unused_arg)
{
	struct mem_stream *m = s->state;
	size_t all = 0;

	for (int i = 0; i < n; i++)
		all += iov[i].iov_len;
	m->written += all;
	return (ssize_t)all;
}

static inline ssize_t mem_read(struct stream *s, void *buf, size_t n)
{
	struct mem_stream *m = s->state;
	struct feed some = feed_take(&m->in, m->piece ? MIN(n, m->piece) : n);

	if (some.n)
		memcpy(buf, some.p, some.n);
	return (ssize_t)some.n;
}

static inline struct pollfd mem_wants(const struct stream *s unused_arg, short events)
{
	return (struct pollfd){ -1, events, 0 };
}

static inline void mem_close(struct stream *s unused_arg)
{
}

/* *m must stay where it is. */
static inline void mem_stream(struct mem_stream *m, struct stream *ret)
{
	static const struct stream_ops ops = {
		.name = "memory",
		.write = mem_write,
		.read = mem_read,
		.wants = mem_wants,
		.close = mem_close,
	};

	*ret = (struct stream){ .ops = &ops, .fd = -1, .state = m };
}
