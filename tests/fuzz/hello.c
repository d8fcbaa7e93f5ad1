// SPDX-License-Identifier: Apache-2.0
/* session/hello: what comes out of TLS first, on either side (first byte: dialling or accepting).
 */
#include <ctype.h>

#include "fuzz.h"
#include "session/hello.h"

const char *(*const fuzz_prepare)(void) = fuzz_nothing;

static struct feed in;

struct err *__wrap_tls_read_full(struct tls *t, void *buf, size_t n, struct deadline d);
struct err *__wrap_tls_read_full(
	struct tls *t unused_arg, void *buf, size_t n, struct deadline d unused_arg)
{
	struct feed some = feed_take(&in, n);

	if (some.n < n)
		return err_new(ERR_PEER, "the end");
	if (n)
		memcpy(buf, some.p, n);
	return NULL;
}

struct err *__wrap_tls_write_full(struct tls *t, const void *buf, size_t n, struct deadline d);
struct err *__wrap_tls_write_full(struct tls *t unused_arg, const void *buf unused_arg,
	size_t n unused_arg, struct deadline d unused_arg)
{
	return NULL;
}

static struct err *may_join(void *arg unused_arg, const struct hello_join *j)
{
	MUST(j->number >= 1 && j->number <= JOIN_NUMBER_MAX);
	return j->token[0] ? err_new(ERR_GONE, "no such migration") : NULL;
}

static void must_be_clean(const char *s, size_t room)
{
	MUST(strnlen(s, room) < room);
	for (; *s; s++)
		MUST(isprint((unsigned char)*s));
}

int fuzz_one(const uint8_t *data, size_t n)
{
	const struct hello_self self = { .software = "fuzz", .boot_id = "x", .may_join = may_join };
	struct feed f = { data, n };
	bool dials = feed_u8(&f) & 1;
	struct tls t = { 0 };
	struct hello_peer peer = { 0 };
	struct err *e;

	in = f;
	e = dials ? hello_dial(&t, &self, DEADLINE_NEVER, &peer)
		  : hello_accept(&t, &self, DEADLINE_NEVER, &peer);
	if (!e) {
		MUST(peer.version >= PROTOCOL_MIN && peer.version <= PROTOCOL_MAX);
		must_be_clean(peer.software, sizeof(peer.software));
		must_be_clean(peer.boot_id, sizeof(peer.boot_id));
	}
	err_free(e);
	return 0;
}
