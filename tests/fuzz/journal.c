// SPDX-License-Identifier: Apache-2.0
/*
 * roles/journal: the records of a file, some of them torn, as a power cut leaves them. First byte:
 * of which of them (a bit each) the frame around what they say is made right, as a fuzzer cannot.
 */
#include "roles/journal.c" /* NOLINT: what it does is static */

#include "fuzz.h"

const char *(*const fuzz_prepare)(void) = fuzz_nothing;

static void must_end(const char *text, size_t room)
{
	MUST(strnlen(text, room) < room);
}

/* Magic, number and checksum. */
static void make_right(uint8_t *at, uint32_t seq)
{
	struct journal_record r;

	memcpy(&r, at, sizeof(r));
	memcpy(r.magic, MAGIC, sizeof(r.magic));
	r.seq = seq;
	r.checksum = checksum(&r);
	memcpy(at, &r, sizeof(r));
}

int fuzz_one(const uint8_t *data, size_t n)
{
	struct feed f = { data, n };
	uint8_t right = feed_u8(&f);
	uint8_t *bytes = (uint8_t *)feed_text(&f);
	struct journal_record r;

	for (uint32_t i = 0; i < 8 && (i + 1) * sizeof(r) <= f.n; i++)
		if (right >> i & 1)
			make_right(bytes + i * sizeof(r), i + 1);
	if (journal_last(bytes, f.n, &r)) {
		MUST(r.seq >= 1 && r.seq <= f.n / sizeof(r));
		must_end(r.id, sizeof(r.id));
		must_end(r.boot_id, sizeof(r.boot_id));
		must_end(r.peer_boot_id, sizeof(r.peer_boot_id));
		must_end(r.comm, sizeof(r.comm));
		must_end(r.peer, sizeof(r.peer));
		must_end(r.key, sizeof(r.key));
		must_end(r.host, sizeof(r.host));
	}
	free(bytes);
	return 0;
}
