// SPDX-License-Identifier: Apache-2.0
/*
 * OBJECTS bodies, one after the other (each behind its length, 16 bits): the first ones before the
 * rehearsal's check, the rest as changes of what was built. An empty one stands for REHEARSED.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "site.h"

const char *(*const fuzz_prepare)(void) = fuzz_jail;

static struct err *build(struct site *s)
{
	TRY(fuzz_site_layout(s));
	TRY(site_check(s));
	return site_build(s);
}

static struct err *all(struct site *s, struct feed *f)
{
	struct feed body;

	while (feed_piece(f, &body)) {
		if (body.n)
			TRY(site_objects(s, body.p, body.n));
		else if (!site_task(s))
			TRY(build(s));
	}
	if (!site_task(s))
		TRY(build(s));
	return site_finish(s, 0);
}

int fuzz_one(const uint8_t *data, size_t n)
{
	struct feed f = { data, n };
	struct notes notes = { 0 };
	struct site *s;

	MUST(mkdir(SITE_SCRATCH, 0700) == 0);
	s = fuzz_site(&notes);
	fuzz_forget(all(s, &f));
	site_free(s);
	fuzz_notes(&notes);
	MUST(access(SITE_SCRATCH, F_OK) < 0);
	return 0;
}
