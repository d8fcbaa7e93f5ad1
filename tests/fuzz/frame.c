// SPDX-License-Identifier: Apache-2.0
/* proto/frame: a header or a run is refused, or says the same when it is written again. */
#include "proto/frame.h"
#include "fuzz.h"

const char *(*const fuzz_prepare)(void) = fuzz_nothing;

static void head(const uint8_t in[FRAME_HEAD_BYTES])
{
	uint8_t out[FRAME_HEAD_BYTES];
	struct frame_head h;
	struct err *e = frame_decode(in, &h);

	err_free(e);
	if (e)
		return;
	MUST(h.length <= frame_limit(h.type) && h.length <= FRAME_BODY_MAX);
	frame_encode(&h, out);
	MUST(!memcmp(in, out, sizeof(out)));
}

static void run(const uint8_t in[RUN_BYTES])
{
	uint8_t out[RUN_BYTES];
	struct run r;
	struct err *e = run_decode(in, &r);

	err_free(e);
	if (e)
		return;
	MUST(r.pages && r.start + r.pages * PAGE_BYTES > r.start && r.start % PAGE_BYTES == 0);
	run_encode(&r, out);
	MUST(!memcmp(in, out, sizeof(out)));
}

int fuzz_one(const uint8_t *data, size_t n)
{
	_Static_assert(FRAME_HEAD_BYTES == RUN_BYTES, "one walk for both");
	for (; n >= FRAME_HEAD_BYTES; data += FRAME_HEAD_BYTES, n -= FRAME_HEAD_BYTES) {
		head(data);
		run(data);
	}
	return 0;
}
