// SPDX-License-Identifier: Apache-2.0
/*
 * Files and words of the administrator and of users: peers, when they were seen, migrated.conf,
 * addresses, sizes, ranges of users. First byte: which. What was taken must be taken again when it
 * is written.
 */
#include "base/text.h"
#include "fuzz.h"
#include "roles/config.h"
#include "roles/seen.h"
#include "session/peers.h"

const char *(*const fuzz_prepare)(void) = fuzz_nothing;

static struct err *peers(const char *text)
{
	autopeers struct peers p = { 0 }, again = { 0 };
	autofree char *written = NULL, *twice = NULL;
	struct err *e;

	TRY(peers_parse(&p, text));
	written = peers_text(&p);
	e = peers_parse(&again, written);
	MUST(!e && again.n == p.n);
	twice = peers_text(&again);
	MUST(!strcmp(written, twice));
	return NULL;
}

static struct err *config(const char *text)
{
	struct config c;
	struct err *e;

	config_init(&c);
	e = config_parse(&c, "fuzz", text);
	config_fini(&c);
	return e;
}

static struct err *address(const char *text)
{
	struct address a, again;
	char out[ADDRESS_BYTES];
	struct err *e;

	err_free(address_parse_listen(text, &a));
	TRY(address_parse(text, &a));
	address_text(&a, out);
	e = address_parse(out, &again);
	MUST(!e && !strcmp(a.host, again.host) && a.port == again.port);
	return NULL;
}

static struct err *uids(const char *text)
{
	struct uid_set s = { 0 }, again = { 0 };
	autofree char *written = NULL;
	struct err *e = uid_set_parse(&s, text);

	if (!e) {
		written = uid_set_text(&s);
		e = uid_set_parse(&again, written);
		MUST(!e && again.n == s.n);
	}
	uid_set_fini(&s);
	uid_set_fini(&again);
	return e;
}

static struct err *seen(const char *text)
{
	struct seen s = { 0 }, again = { 0 };
	autofree char *written = NULL, *twice = NULL;

	seen_parse(&s, text);
	written = seen_text(&s);
	seen_parse(&again, written);
	twice = seen_text(&again);
	MUST(again.n == s.n && !strcmp(written, twice));
	seen_fini(&s);
	seen_fini(&again);
	return NULL;
}

static struct err *numbers(const char *text)
{
	uint64_t v;

	err_free(text_u64(text, 10, "number", &v));
	err_free(text_u64(text, 16, "number", &v));
	return text_size(text, "size", &v);
}

int fuzz_one(const uint8_t *data, size_t n)
{
	static struct err *(*const parsers[])(
		const char *text) = { peers, config, address, uids, numbers, seen };
	struct feed f = { data, n };
	uint8_t which = feed_u8(&f);
	autofree char *text = feed_text(&f);

	err_free(parsers[which % ARRAY_LEN(parsers)](text));
	return 0;
}
