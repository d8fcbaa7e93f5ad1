// SPDX-License-Identifier: Apache-2.0
/*
 * For targets whose input is a sequence of frames: libFuzzer's own changes would break a length
 * nearly always. Here one frame is changed and its length follows, or frames come twice, elsewhere,
 * or not at all. Linked with libFuzzer only.
 */
#include "fuzz.h"
#include "proto/frame.h"

#define FRAMES_MAX 512

size_t LLVMFuzzerMutate(uint8_t *data, size_t n, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed);

/* Where they begin; the last one is where they end, or what is no whole frame. */
struct cut {
	size_t at[FRAMES_MAX + 1];
	size_t n;
};

static uint32_t body_length(const uint8_t *head)
{
	return (uint32_t)head[0] | (uint32_t)head[1] << 8 | (uint32_t)head[2] << 16 |
	       (uint32_t)head[3] << 24;
}

static void set_length(uint8_t *head, size_t n)
{
	for (int i = 0; i < 4; i++)
		head[i] = (uint8_t)(n >> 8 * i);
}

static void cut_frames(const uint8_t *data, size_t n, struct cut *c)
{
	size_t at = fuzz_frames_at;

	c->n = 0;
	c->at[0] = at;
	while (c->n < FRAMES_MAX && at + FRAME_HEAD_BYTES <= n &&
		body_length(data + at) <= n - at - FRAME_HEAD_BYTES) {
		at += FRAME_HEAD_BYTES + body_length(data + at);
		c->at[++c->n] = at;
	}
}

/* The bytes [from, to) become `with`. */
struct edit {
	size_t from, to;
	const uint8_t *with;
	size_t n;
};

static size_t apply(uint8_t *data, size_t n, size_t max, const struct edit *e)
{
	if (n - (e->to - e->from) + e->n > max)
		return n;
	memmove(data + e->from + e->n, data + e->to, n - e->to);
	if (e->n)
		memcpy(data + e->from, e->with, e->n);
	return n - (e->to - e->from) + e->n;
}

static size_t change_body(uint8_t *data, size_t n, size_t max, const size_t *frame)
{
	size_t from = frame[0] + FRAME_HEAD_BYTES, len = frame[1] - from, room = len + (max - n);
	uint8_t *body = xcalloc(1, room + 1);
	struct edit e = { from, frame[1], body, 0 };
	size_t before = n;

	if (len)
		memcpy(body, data + from, len);
	e.n = LLVMFuzzerMutate(body, len, room);
	n = apply(data, n, max, &e);
	if (n == before - len + e.n)
		set_length(data + frame[0], e.n);
	free(body);
	return n;
}

static size_t copy_frame(uint8_t *data, size_t n, size_t max, const size_t *frame, size_t to)
{
	size_t len = frame[1] - frame[0];
	uint8_t *copy = xcalloc(1, len);
	struct edit e = { to, to, copy, len };

	memcpy(copy, data + frame[0], len);
	n = apply(data, n, max, &e);
	free(copy);
	return n;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed)
{
	struct cut c;
	const size_t *frame;

	cut_frames(data, n, &c);
	if (!c.n || seed % 8 == 0)
		return LLVMFuzzerMutate(data, n, max);
	frame = &c.at[seed / 16 % c.n];
	switch (seed % 8) {
	case 1: /* gone */
		return apply(data, n, max, &(struct edit){ frame[0], frame[1], NULL, 0 });
	case 2: /* again, there or elsewhere */
		return copy_frame(data, n, max, frame, c.at[seed / 16384 % (c.n + 1)]);
	case 3: /* its type, its argument */
		(void)LLVMFuzzerMutate(data + frame[0] + 4 + (seed >> 30 ? 4 : 0), 4, 4);
		return n;
	default:
		return change_body(data, n, max, frame);
	}
}
