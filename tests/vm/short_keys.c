// SPDX-License-Identifier: Apache-2.0
/* The daemon, but its keys are worn after a few frames: this takes the place of wire/wear.c. */
#include "wire/stream.h"

#define FRAMES 8

enum stream_wear stream_wear_of(uint64_t records)
{
	static unsigned asked;

	return records && ++asked % FRAMES == 0 ? STREAM_WORN : STREAM_FRESH;
}
