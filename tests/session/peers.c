// SPDX-License-Identifier: Apache-2.0
/* Addresses, fingerprints and the list of peers: what a user types, what the file says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "session/peers.h"

#define KEY_A "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define KEY_B "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"

#define KEY_C "SHA256:CAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define KEY_D "SHA256:DAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define KEY_E "SHA256:EAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

static void assert_code(struct err *e, enum err_code code)
{
	assert_non_null(e);
	assert_int_equal(err_code(e), code);
	err_free(e);
}

static void assert_any_of(struct err *e, enum err_code one, enum err_code other)
{
	assert_non_null(e);
	assert_true(err_code(e) == one || err_code(e) == other);
	err_free(e);
}

static void address_forms(void **state unused_arg)
{
	static const struct {
		const char *text, *host;
		uint16_t port;
	} good[] = {
		{ "b", "b", 0 },
		{ "b.example:99", "b.example", 99 },
		{ "10.0.0.1:7420", "10.0.0.1", 7420 },
		{ "fd00::1", "fd00::1", 0 },
		{ "[fd00::1]", "fd00::1", 0 },
		{ "[fe80::1%eth0]:65535", "fe80::1%eth0", 65535 },
	};
	static const char *const bad[] = { "", ":1", "b:", "b:0", "b:65536", "b:1x", "[::1",
		"[::1]x", "[::1]:", "[]:1", "a b", "a/b", "b:-1", "a;b", "a\nb" };
	struct address a;
	char text[ADDRESS_BYTES];

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct address again;

		assert_null(address_parse(good[i].text, &a));
		assert_string_equal(a.host, good[i].host);
		assert_int_equal(a.port, good[i].port);
		address_text(&a, text);
		assert_null(address_parse(text, &again));
		assert_string_equal(again.host, a.host);
		assert_int_equal(again.port, a.port);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_code(address_parse(bad[i], &a), ERR_INVALID);
}

static void address_too_long(void **state unused_arg)
{
	char text[HOST_BYTES + 1];
	struct address a;

	memset(text, 'a', HOST_BYTES);
	text[HOST_BYTES] = 0;
	assert_code(address_parse(text, &a), ERR_INVALID);
	text[HOST_BYTES - 1] = 0;
	assert_null(address_parse(text, &a));
}

static void address_listen_forms(void **state unused_arg)
{
	struct address a;

	assert_null(address_parse_listen("", &a));
	assert_string_equal(a.host, "");
	assert_int_equal(a.port, 0);
	assert_null(address_parse_listen(":7421", &a));
	assert_string_equal(a.host, "");
	assert_int_equal(a.port, 7421);
	assert_null(address_parse_listen("*:7421", &a));
	assert_int_equal(a.port, 7421);
	assert_null(address_parse_listen("[::1]:1", &a));
	assert_string_equal(a.host, "::1");
	assert_code(address_parse_listen(":x", &a), ERR_INVALID);
}

static void fingerprints(void **state unused_arg)
{
	static const char *const bad[] = { "", "SHA256:", "MD5:AAAA",
		"SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",   /* short */
		"SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", /* long */
		"SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA!A",
		"SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB", /* bits behind the end */
		"sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" };
	char out[FINGERPRINT_BYTES];

	assert_null(fingerprint_parse(KEY_B, out));
	assert_string_equal(out, KEY_B);
	assert_null(fingerprint_parse(KEY_B "=", out));
	assert_string_equal(out, KEY_B);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_code(fingerprint_parse(bad[i], out), ERR_INVALID);
}

static void list_round_trip(void **state unused_arg)
{
	autopeers struct peers p = { NULL, 0 }, q = { NULL, 0 };
	autofree char *text = NULL;

	assert_null(peers_add(&p, "a", "10.77.0.1", KEY_A));
	assert_null(peers_add(&p, "b", "[fd00::2]:99", KEY_B));
	assert_null(peers_add(&p, "a", "10.77.0.9", KEY_A)); /* replaces */
	assert_int_equal(p.n, 2);
	text = peers_text(&p);
	assert_null(peers_parse(&q, text));
	assert_int_equal(q.n, 2);
	assert_string_equal(q.v[0].address.host, "10.77.0.9");
	assert_int_equal(q.v[1].address.port, 99);
	assert_string_equal(peers_by_key(&q, KEY_B)->name, "b");
	assert_null(peers_remove(&q, "b", NULL));
	assert_null(peers_by_key(&q, KEY_B));
	assert_code(peers_remove(&q, "b", NULL), ERR_INVALID);
}

static void several_keys(void **state unused_arg)
{
	autopeers struct peers p = { NULL, 0 }, q = { NULL, 0 };
	autofree char *text = NULL;
	const struct peer *a;

	assert_null(peers_add(&p, "a", "h", KEY_A));
	assert_null(peers_add(&p, "a", "h2", KEY_B));
	assert_code(peers_add(&p, "b", "h", KEY_B), ERR_INVALID); /* it is a's */
	assert_null(peers_add(&p, "b", "h", KEY_C));
	assert_code(peers_add(&p, "a", "elsewhere", KEY_C), ERR_INVALID);
	text = peers_text(&p);
	assert_null(peers_parse(&q, text));
	a = peers_by_name(&q, "a");
	assert_string_equal(a->address.host, "h2"); /* an error changed nothing */
	assert_int_equal(a->n_keys, 2);
	assert_true(peers_by_key(&q, KEY_A) == a && peers_by_key(&q, KEY_B) == a);
	assert_code(peers_remove(&q, "a", KEY_C), ERR_INVALID);
	assert_code(peers_remove(&q, "a", "SHA256:x"), ERR_INVALID);
	assert_null(peers_remove(&q, "a", KEY_A "="));
	assert_null(peers_by_key(&q, KEY_A));
	assert_non_null(peers_by_key(&q, KEY_B));
	assert_code(peers_remove(&q, "a", KEY_B), ERR_INVALID); /* its last */
	assert_null(peers_add(&q, "a", "h", KEY_A));
	assert_null(peers_add(&q, "a", "h", KEY_D));
	assert_null(peers_add(&q, "a", "h", KEY_E));
	assert_null(peers_add(&q, "a", "h", KEY_E));
	assert_null(peers_remove(&q, "b", NULL));
	assert_code(peers_add(&q, "a", "h", KEY_C), ERR_LIMIT);
	assert_int_equal(peers_by_name(&q, "a")->n_keys, 4);
}

static void list_bad(void **state unused_arg)
{
	static const char *const bad[] = { "a\n", "a h\n", "a h " KEY_A " x\n", "a h SHA256:x\n",
		"a h " KEY_A "\na h " KEY_B "\n", "-a h " KEY_A, "a/b h " KEY_A,
		"a h " KEY_A " " KEY_A, "a h " KEY_A "\nb h " KEY_A,
		"a h " KEY_A " " KEY_B " " KEY_C " " KEY_D " " KEY_E };
	autopeers struct peers p = { NULL, 0 };

	assert_null(peers_parse(&p, "# comment\n\n a\th " KEY_A " \r\n"));
	assert_int_equal(p.n, 1);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_any_of(peers_parse(&p, bad[i]), ERR_INVALID, ERR_LIMIT);
		assert_int_equal(p.n, 1); /* as before */
	}
	assert_code(peers_add(&p, "a b", "h", KEY_A), ERR_INVALID);
	assert_code(peers_add(&p, "", "h", KEY_A), ERR_INVALID);
	assert_code(peers_add(&p, "x\ny", "h", KEY_A), ERR_INVALID);
}

static void find(void **state unused_arg)
{
	autopeers struct peers p = { NULL, 0 };
	const struct peer *peer;
	struct address to;

	assert_null(peers_add(&p, "one", "host.example", KEY_A));
	assert_null(peers_add(&p, "two", "host.example:7421", KEY_B));
	assert_null(peers_find(&p, "one", &peer, &to));
	assert_int_equal(to.port, PORT_DEFAULT);
	assert_null(peers_find(&p, "two", &peer, &to));
	assert_int_equal(to.port, 7421);
	assert_null(peers_find(&p, "HOST.example", &peer, &to));
	assert_string_equal(peer->name, "one");
	assert_null(peers_find(&p, "host.example:7421", &peer, &to));
	assert_string_equal(peer->name, "two");
	assert_null(peers_find(&p, "one:99", &peer, &to));
	assert_string_equal(to.host, "host.example");
	assert_int_equal(to.port, 99);
	assert_code(peers_find(&p, "three", &peer, &to), ERR_PEER);
	assert_code(peers_find(&p, "a b", &peer, &to), ERR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(address_forms),
		cmocka_unit_test(address_too_long),
		cmocka_unit_test(address_listen_forms),
		cmocka_unit_test(fingerprints),
		cmocka_unit_test(list_round_trip),
		cmocka_unit_test(several_keys),
		cmocka_unit_test(list_bad),
		cmocka_unit_test(find),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
