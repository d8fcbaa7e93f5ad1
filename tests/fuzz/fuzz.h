/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fuzz target is one file with fuzz_one(): a decoder, fed with what a stranger could send. With
 * `meson setup -Dfuzz=true` it is linked to libFuzzer (main_libfuzzer.c), in every other build to a
 * main that replays its corpus as an ordinary test (main_corpus.c). HACKING.md says how to add one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Takes the input apart. Whatever the daemon would refuse is refused and forgotten; only what must
 * not be (an invariant that does not hold) aborts. Keeps nothing between two calls. Returns 0. */
int fuzz_one(const uint8_t *data, size_t n);

/* Once, in front of the first input; NULL, or why this target cannot run here. Each target says
 * which: fuzz_nothing, or fuzz_jail where files are opened or sockets made. */
extern const char *(*const fuzz_prepare)(void);
const char *fuzz_nothing(void);
/* A mount and network namespace of our own: everything is read-only, /dev and FUZZ_DIR are empty
 * file systems in memory but for a null device, a FIFO and a few files, and there is no network. */
const char *fuzz_jail(void);
#define FUZZ_DIR "/run/fuzz"

/* Targets whose input is frames (mutate_frames.c): how many bytes come before the first. */
extern const size_t fuzz_frames_at;

/* What must hold. */
#define MUST(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

/* Forgets what the daemon would have told somebody; with FUZZ_VERBOSE in the environment it is
 * shown. */
static inline void fuzz_forget(struct err *e)
{
	char *line = e && getenv("FUZZ_VERBOSE") ? err_line(e) : NULL;

	if (line)
		fprintf(stderr, "  %s\n", line);
	free(line);
	err_free(e);
}

/* ---- cutting an input into pieces ---- */

struct feed {
	const uint8_t *p;
	size_t n;
};

static inline uint8_t feed_u8(struct feed *f)
{
	if (!f->n)
		return 0;
	f->n--;
	return *f->p++;
}

static inline uint16_t feed_u16(struct feed *f)
{
	uint8_t low = feed_u8(f);

	return (uint16_t)(low | feed_u8(f) << 8);
}

/* The next n bytes, or what there is of them. */
static inline struct feed feed_take(struct feed *f, size_t n)
{
	struct feed piece = { f->p, MIN(n, f->n) };

	f->p += piece.n;
	f->n -= piece.n;
	return piece;
}

/* The next piece: its length (16 bits), then so many bytes. False at the end. */
static inline bool feed_piece(struct feed *f, struct feed *piece)
{
	size_t n;

	if (!f->n)
		return false;
	n = feed_u16(f);
	*piece = feed_take(f, n);
	return true;
}

/* What is left as a string of its own; the caller frees it. */
static inline char *feed_text(const struct feed *f)
{
	char *s = xcalloc(1, f->n + 1);

	if (f->n)
		memcpy(s, f->p, f->n);
	return s;
}
