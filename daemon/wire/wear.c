// SPDX-License-Identifier: Apache-2.0
/* How far a key is used. In a file of its own, so that a test can link another opinion. */
#include "wire/stream.h"

enum stream_wear stream_wear_of(uint64_t records)
{
	if (records < ONE_KEY_RECORDS_WORN)
		return STREAM_FRESH;
	return records < ONE_KEY_RECORDS_USED_UP ? STREAM_WORN : STREAM_USED_UP;
}
