// SPDX-License-Identifier: Apache-2.0
/* Sets of addresses, what a peer may bring of them, and which ones a client wants to take along. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "roles/policy.h"
#include "roles/take.h"

static void assert_error(struct err *e, enum err_code code, const char *part)
{
	autofree char *line = NULL;

	assert_non_null(e);
	line = err_line(e);
	if (!strstr(line, part))
		fail_msg("\"%s\" does not say \"%s\"", line, part);
	assert_int_equal(err_code(e), code);
	err_free(e);
}

static struct net_ip ip(const char *text)
{
	struct net_ip v;

	assert_true(net_ip_parse(text, &v));
	return v;
}

static bool has(const struct ip_set *s, const char *text)
{
	const struct net_ip v = ip(text);

	return ip_set_has(s, &v);
}

static void sets(void **state unused_arg)
{
	AUTO(ip_set_fini) struct ip_set s = { NULL, 0, false };

	assert_true(has(&s, "10.0.0.1") && has(&s, "fd77::1"));
	assert_null(ip_set_parse(&s, "10.77.0.100, 10.77.0.96/30 fd77::/63"));
	assert_true(has(&s, "10.77.0.100"));
	assert_false(has(&s, "10.77.0.101"));
	assert_true(has(&s, "10.77.0.96") && has(&s, "10.77.0.99"));
	assert_false(has(&s, "10.77.0.95"));
	assert_true(has(&s, "fd77::1") && has(&s, "fd77:0:0:1::1"));
	assert_false(has(&s, "fd77:0:0:2::"));
	/* bits of one family are none of the other */
	assert_null(ip_set_parse(&s, "0.0.0.0/0"));
	assert_true(has(&s, "255.255.255.255"));
	assert_false(has(&s, "::"));
	assert_null(ip_set_parse(&s, "none"));
	assert_false(has(&s, "10.77.0.100") || has(&s, "::1"));
	assert_null(ip_set_parse(&s, "any"));
	assert_true(has(&s, "10.77.0.100") && has(&s, "::1"));
}

/* What is wrong leaves the set as it was: a policy never becomes wider by a mistake. */
static void no_sets(void **state unused_arg)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "", "no address in an empty list" },
		{ " , ", "no address in an empty list" },
		{ "10.0.0", "\"10.0.0\" is no address" },
		{ "10.0.0.1/33", "too long a prefix" },
		{ "fd77::/129", "too long a prefix" },
		{ "10.0.0.1/", "prefix length" },
		{ "10.0.0.1/x", "prefix length" },
		{ "10.0.0.1/-1", "prefix length" },
		{ "10.0.0.1, any", "\"any\" is no address" },
		{ "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc", "is no address" },
	};
	AUTO(ip_set_fini) struct ip_set s = { NULL, 0, false };

	assert_null(ip_set_parse(&s, "10.0.0.1"));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_error(ip_set_parse(&s, bad[i].text), ERR_INVALID, bad[i].says);
		assert_true(has(&s, "10.0.0.1") && !has(&s, "10.0.0.2"));
	}
}

/* As the monitor hands it to a worker. */
static void as_text(void **state unused_arg)
{
	static const char *const texts[] = { "any", "none", "10.77.0.96/28,fd77::/64,::1/128" };
	AUTO(ip_set_fini) struct ip_set s = { NULL, 0, false }, copy = { NULL, 0, false };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		autofree char *text = NULL, *again = NULL;

		assert_null(ip_set_parse(&s, texts[i]));
		text = ip_set_text(&s);
		assert_string_equal(text, texts[i]);
		ip_set_copy(&copy, &s);
		again = ip_set_text(&copy);
		assert_string_equal(again, texts[i]);
	}
}

static void policy(void **state unused_arg)
{
	struct receive_policy p = { .allow = true };
	const struct net_ip in = ip("fd77::100"), out = ip("10.77.0.2");

	assert_null(policy_address(&p, &in));
	assert_null(ip_set_parse(&p.addresses, "fd77::/64"));
	assert_null(policy_address(&p, &in));
	assert_error(policy_address(&p, &out), ERR_DENIED, "10.77.0.2 may not come here");
	assert_null(ip_set_parse(&p.addresses, "none"));
	assert_error(policy_address(&p, &in), ERR_DENIED, "fd77::100 may not come here");
	ip_set_fini(&p.addresses);
}

static void takings(void **state unused_arg)
{
	const struct net_ip four = ip("10.77.0.100"), six = ip("fd77::100");
	struct taking t;

	assert_null(taking_parse("", &t));
	assert_true(t.take == TAKE_AUTO && t.n == 0);
	assert_null(taking_parse("none", &t));
	assert_true(t.take == TAKE_NONE && t.n == 0);
	assert_null(taking_parse("auto", &t));
	assert_true(t.take == TAKE_AUTO && t.n == 0);
	assert_null(taking_parse("10.77.0.100,fd77::100", &t));
	assert_true(t.take == TAKE_GIVEN && t.n == 2);
	assert_true(net_ip_equal(&t.v[0], &four) && net_ip_equal(&t.v[1], &six));
}

/* From a client of another version, or of somebody else's. */
static void no_takings(void **state unused_arg)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ ",", "\"\" is no address to take" },
		{ "10.0.0.1,", "\"\" is no address to take" },
		{ "10.0.0.1,,10.0.0.2", "\"\" is no address to take" },
		{ "10.0.0.1/32", "\"10.0.0.1/32\" is no address to take" },
		{ "auto,10.0.0.1", "\"auto\" is no address to take" },
		{ "every", "\"every\" is no address to take" },
		{ "::1,::2,::3,::4,::5,::6,::7,::8,::9,::a,::b,::c,::d,::e,::f,::10,::11",
			"more than 16 addresses" },
	};
	struct taking t = { .take = TAKE_NONE };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_error(taking_parse(bad[i].text, &t), ERR_INVALID, bad[i].says);
		assert_true(t.take == TAKE_NONE && t.n == 0);
	}
	assert_null(taking_parse(
		"::1,::2,::3,::4,::5,::6,::7,::8,::9,::a,::b,::c,::d,::e,::f,::10", &t));
	assert_int_equal(t.n, TAKE_ADDRESSES_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sets),
		cmocka_unit_test(no_sets),
		cmocka_unit_test(as_text),
		cmocka_unit_test(policy),
		cmocka_unit_test(takings),
		cmocka_unit_test(no_takings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
