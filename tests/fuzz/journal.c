// SPDX-License-Identifier: Apache-2.0
/*
 * A journal's file, as whoever comes after its writer's death finds it. First byte: whether the
 * sums are made right, which no mutation would get through.
 */
#include "roles/journal.h"

#include <stddef.h>
#include <string.h>
#include <xxhash.h>

#include "fuzz.h"

#define FILE_MAX (JOURNAL_RECORD_BYTES * (JOURNAL_RECORDS_MAX + 1))

const char *(*const fuzz_prepare)(void) = fuzz_nothing;

static void make_right(uint8_t *file, size_t n)
{
	for (size_t at = 0; at + JOURNAL_RECORD_BYTES <= n; at += JOURNAL_RECORD_BYTES) {
		uint64_t sum = XXH3_64bits(file + at, offsetof(struct journal_record, checksum));

		memcpy(file + at + offsetof(struct journal_record, checksum), &sum, sizeof(sum));
	}
}

static void check(const struct journal_record *r, size_t n)
{
	MUST(r->mark > MARK_NONE && r->mark < MARK_COUNT);
	MUST(r->destination < 2);
	MUST(r->seq >= 1 && r->seq <= n / JOURNAL_RECORD_BYTES);
	MUST(strnlen(r->id, sizeof(r->id)) < sizeof(r->id));
	MUST(strnlen(r->boot_id, sizeof(r->boot_id)) < sizeof(r->boot_id));
	MUST(strnlen(r->peer_boot_id, sizeof(r->peer_boot_id)) < sizeof(r->peer_boot_id));
	MUST(strnlen(r->comm, sizeof(r->comm)) < sizeof(r->comm));
	MUST(strnlen(r->peer, sizeof(r->peer)) < sizeof(r->peer));
	MUST(strnlen(r->key, sizeof(r->key)) < sizeof(r->key));
	MUST(strnlen(r->host, sizeof(r->host)) < sizeof(r->host));
}

int fuzz_one(const uint8_t *data, size_t n)
{
	struct journal_record last, shorter;
	uint8_t file[FILE_MAX];

	if (n < 1)
		return 0;
	n = MIN(n - 1, sizeof(file));
	memcpy(file, data + 1, n);
	if (data[0] & 1)
		make_right(file, n);
	if (!journal_last(file, n, &last))
		return 0;
	check(&last, n);
	/* What lies behind it counts for nothing, and without it the one before counts. */
	MUST(journal_last(file, last.seq * JOURNAL_RECORD_BYTES, &shorter));
	MUST(!memcmp(&last, &shorter, sizeof(last)));
	MUST(journal_last(file, last.seq * JOURNAL_RECORD_BYTES - 1, &shorter) == (last.seq > 1));
	MUST(last.seq == 1 || shorter.seq == last.seq - 1);
	return 0;
}
