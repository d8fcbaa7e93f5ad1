/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A socketpair whose bytes come in pieces of odd sizes, as TLS records do, only worse: each write
 * takes no more than `out_max` bytes (so the socket holds them in as many fragments), each read and
 * splice gives no more than `in_max`, and one in eight says that there is nothing yet.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "wire/stream.h"

struct odd {
	size_t out_max, in_max; /* 0: as it comes */
	bool even;              /* as much as that each time, and no excuses */
	int record;             /* what is read is written here, too; 0: nowhere */
};

struct odd_state {
	struct odd how;
	struct stream inner;
	uint64_t seed;
};

static inline uint64_t odd_next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return *seed >> 33;
}

static inline struct odd_state *odd_of(struct stream *s)
{
	return s->state;
}

static inline size_t odd_size(struct odd_state *o, size_t n, size_t max)
{
	size_t some = !max ? n : o->how.even ? max : 1 + odd_next(&o->seed) % max;

	return some < n ? some : n;
}

static inline bool odd_nothing(struct odd_state *o)
{
	return !o->how.even && odd_next(&o->seed) % 8 == 0;
}

static inline ssize_t odd_write(struct stream *s, const struct iovec *iov, int n, bool more)
{
	struct odd_state *o = odd_of(s);
	struct iovec first = iov[0];

	if (!o->how.out_max)
		return o->inner.ops->write(&o->inner, iov, n, more);
	first.iov_len = odd_size(o, first.iov_len, o->how.out_max);
	return o->inner.ops->write(&o->inner, &first, 1, more);
}

static inline ssize_t odd_read(struct stream *s, void *buf, size_t n)
{
	struct odd_state *o = odd_of(s);

	ssize_t got;

	if (odd_nothing(o))
		return -EAGAIN;
	got = o->inner.ops->read(&o->inner, buf, odd_size(o, n, o->how.in_max));
	if (o->how.record && got > 0 && write(o->how.record, buf, (size_t)got) != got)
		abort();
	return got;
}

static inline ssize_t odd_splice_in(struct stream *s, int pipe_fd, size_t n)
{
	struct odd_state *o = odd_of(s);

	if (odd_nothing(o))
		return -EAGAIN;
	return o->inner.ops->splice_in(&o->inner, pipe_fd, odd_size(o, n, o->how.in_max));
}

static inline ssize_t odd_splice_out(struct stream *s, int pipe_fd, size_t n, bool more)
{
	struct odd_state *o = odd_of(s);

	return o->inner.ops->splice_out(&o->inner, pipe_fd, odd_size(o, n, o->how.out_max), more);
}

static inline struct pollfd odd_wants(const struct stream *s, short events)
{
	const struct odd_state *o = s->state;

	return o->inner.ops->wants(&o->inner, events);
}

static inline void odd_close(struct stream *s)
{
	stream_close(&odd_of(s)->inner);
	free(s->state);
}

static inline struct err *odd_stream(int fd, struct odd how, struct stream *ret)
{
	static const struct stream_ops ops = {
		.name = "odd",
		.write = odd_write,
		.read = odd_read,
		.splice_out = odd_splice_out,
		.splice_in = odd_splice_in,
		.wants = odd_wants,
		.close = odd_close,
	};
	struct odd_state *o = xcalloc(1, sizeof(*o));

	o->how = how;
	o->seed = (uint64_t)fd;
	*ret = (struct stream){ .ops = &ops, .fd = -1, .state = o };
	return stream_socket(fd, &o->inner);
}
