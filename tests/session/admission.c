// SPDX-License-Identifier: Apache-2.0
/* Who has to go when too many wait: never one of a quiet source while another has more. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "session/admission.h"

static struct in6_addr source(const char *text)
{
	struct sockaddr_storage ss = { .ss_family = strchr(text, ':') ? AF_INET6 : AF_INET };
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&ss;
	struct sockaddr_in *four = (struct sockaddr_in *)&ss;

	assert_int_equal(inet_pton(ss.ss_family, text,
				 ss.ss_family == AF_INET6 ? (void *)&six->sin6_addr
							  : (void *)&four->sin_addr),
		1);
	return admission_source(&ss);
}

static bool same(const char *a, const char *b)
{
	struct in6_addr x = source(a), y = source(b);

	return memcmp(&x, &y, sizeof(x)) == 0;
}

static void sources(void **state unused_arg)
{
	assert_true(same("10.0.0.1", "10.0.0.1"));
	assert_false(same("10.0.0.1", "10.0.0.2"));
	assert_true(same("10.0.0.1", "::ffff:10.0.0.1")); /* as a socket for both has it */
	assert_false(same("::ffff:10.0.0.1", "::ffff:10.0.0.2"));
	assert_true(same("fd00:1:2:3::1", "fd00:1:2:3:ffff::9"));
	assert_false(same("fd00:1:2:3::1", "fd00:1:2:4::1"));
}

/* As net does; returns who had to go. */
static struct waiting *come(struct admission *a, struct waiting *w, const char *from)
{
	struct waiting *victim;

	w->source = source(from);
	victim = admission_victim(a, &w->source);
	if (victim)
		admission_remove(a, victim);
	admission_add(a, w);
	return victim;
}

static void per_source(void **state unused_arg)
{
	struct admission a;
	struct waiting w[10];

	admission_init(&a, 100, 3);
	for (size_t i = 0; i < 3; i++)
		assert_null(come(&a, &w[i], "10.0.0.1"));
	assert_ptr_equal(come(&a, &w[3], "10.0.0.1"), &w[0]);
	assert_null(come(&a, &w[4], "10.0.0.2"));
	assert_ptr_equal(come(&a, &w[5], "10.0.0.1"), &w[1]);
	assert_int_equal(a.n, 4);
	admission_remove(&a, &w[3]); /* it has said who it is */
	admission_remove(&a, &w[3]); /* once only */
	assert_int_equal(a.n, 3);
	assert_null(come(&a, &w[6], "10.0.0.1"));
}

static void in_total(void **state unused_arg)
{
	struct admission a;
	struct waiting w[12];

	admission_init(&a, 6, 4);
	assert_null(come(&a, &w[0], "10.0.0.9")); /* the oldest, and quiet */
	for (size_t i = 1; i < 4; i++)
		assert_null(come(&a, &w[i], "fd00::1"));
	for (size_t i = 4; i < 6; i++)
		assert_null(come(&a, &w[i], "10.0.0.1"));
	assert_ptr_equal(come(&a, &w[6], "10.0.0.2"), &w[1]); /* of who has most */
	assert_ptr_equal(come(&a, &w[7], "10.0.0.3"), &w[2]);
	assert_ptr_equal(come(&a, &w[8], "10.0.0.4"), &w[4]);
	assert_ptr_equal(come(&a, &w[9], "10.0.0.5"), &w[0]); /* all alike: who waits longest */
	assert_int_equal(a.n, 6);
	while (a.first)
		admission_remove(&a, admission_crowd(&a));
	assert_null(admission_crowd(&a));
}

/* A thousand of one source against one of another, at every moment: it stays. */
static void flood(void **state unused_arg)
{
	struct waiting *w = calloc(1000, sizeof(*w)), good;
	struct admission a;

	admission_init(&a, 160, 96);
	for (size_t i = 0; i < 500; i++)
		(void)come(&a, &w[i], "10.0.0.1");
	assert_int_equal(a.n, 96);
	assert_null(come(&a, &good, "10.0.0.2"));
	for (size_t i = 500; i < 1000; i++)
		assert_ptr_equal(come(&a, &w[i], "10.0.0.1"), &w[i - 96]);
	assert_int_equal(a.n, 97);
	admission_remove(&a, &good);
	assert_int_equal(a.n, 96);
	while (a.first)
		admission_remove(&a, a.first);
	assert_int_equal(a.n, 0);
	assert_null(come(&a, &w[0], "10.0.0.1"));
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sources),
		cmocka_unit_test(per_source),
		cmocka_unit_test(in_total),
		cmocka_unit_test(flood),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
