// SPDX-License-Identifier: Apache-2.0
/* Who may do what: the tables, every cell of them; rates; and the lines that say so in the log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "roles/audit.h"
#include "roles/policy.h"
#include "roles/rates.h"

static void assert_error(struct err *e, enum err_code code, const char *part)
{
	autofree char *line = NULL;

	assert_non_null(e);
	line = err_line(e);
	if (part && !strstr(line, part))
		fail_msg("\"%s\" does not say \"%s\"", line, part);
	assert_int_equal(err_code(e), code);
	err_free(e);
}

/* uid 7, group 70, and also in 71 and 72. */
static uint32_t groups[] = { 71, 72 };
static const struct asker seven = { .uid = 7, .gid = 70, .groups = groups, .n_groups = 2 };
static const struct asker root = { .uid = 0 };

static const uint32_t own_uids[] = { 7, 7, 7, 7, 7, 7, 7, 7 };
static const uint32_t own_gids[] = { 70, 70, 70, 70, 71, 72, 70, 70, 70, 70, 71 };

/* Of two threads, all 7's. */
struct scene {
	uint32_t uids[8], gids[11];
	struct subject s;
};
static const struct subject *mine(struct scene *x)
{
	memcpy(x->uids, own_uids, sizeof(own_uids));
	memcpy(x->gids, own_gids, sizeof(own_gids));
	x->s = (struct subject){ .pid = 50, .comm = "prog", .owner = 7 };
	x->s.rights = (struct rights){ x->uids, 8, x->gids, 11, 0, 0 };
	return &x->s;
}

static void who_may_send(void **state unused_arg)
{
	struct scene x;

	assert_null(policy_send(&root, false, mine(&x)));
	assert_null(policy_send(&seven, true, mine(&x)));
	assert_error(policy_send(&seven, false, mine(&x)), ERR_DENIED, "only root");
	assert_error(policy_send(&(struct asker){ .uid = 8, .gid = 70 }, true, mine(&x)),
		ERR_DENIED, "not yours");
	/* one id of one thread is another's: set-user-id programs, and half of a privilege drop */
	for (size_t i = 0; i < ARRAY_LEN(own_uids); i++) {
		(void)mine(&x);
		x.uids[i] = i % 2 ? 0 : 8;
		assert_error(policy_send(&seven, true, &x.s), ERR_DENIED, "not yours");
		assert_null(policy_send(&root, false, &x.s));
	}
	/* a group that the asker has not: set-group-id programs */
	for (size_t i = 0; i < ARRAY_LEN(own_gids); i++) {
		(void)mine(&x);
		x.gids[i] = 73;
		assert_error(policy_send(&seven, true, &x.s), ERR_DENIED, "group 73");
		assert_null(policy_send(&root, false, &x.s));
	}
	(void)mine(&x);
	x.s.owner = 0;
	assert_error(policy_send(&seven, true, &x.s), ERR_DENIED, "not dumpable");
	(void)mine(&x);
	x.s.rights.capabilities = 1;
	assert_error(policy_send(&seven, true, &x.s), ERR_DENIED, "capabilities");
	assert_null(policy_send(&root, false, &x.s));
}

static void what_cannot_be_sent(void **state unused_arg)
{
	struct scene x;

	(void)mine(&x);
	x.s.kernel_thread = true;
	assert_error(policy_send(&root, true, &x.s), ERR_UNSUPPORTED, "kernel");
	(void)mine(&x);
	x.s.ours = true;
	assert_error(policy_send(&root, true, &x.s), ERR_UNSUPPORTED, "migrated itself");
	(void)mine(&x);
	x.s.pid = 1;
	assert_error(policy_send(&root, true, &x.s), ERR_UNSUPPORTED, "init");
	(void)mine(&x);
	x.s.zombie = true;
	assert_error(policy_send(&root, true, &x.s), ERR_GONE, "has ended");
}

/* Root, the owner, somebody else; the same table as in SECURITY.md. */
static void verbs(void **state unused_arg)
{
	static const struct {
		enum policy_verb verb;
		bool owner, other;
	} table[] = {
		{ MAY_LIST, true, true },
		{ MAY_IDENTITY, true, true },
		{ MAY_PEERS, true, true },
		{ MAY_SEND, true, false },
		{ MAY_DETAILS, true, false },
		{ MAY_CANCEL, true, false },
		{ MAY_RESOLVE, true, false },
		{ MAY_CHANGE_PEERS, false, false },
		{ MAY_CHANGE_KEY, false, false },
	};

	assert_int_equal(ARRAY_LEN(table), MAY_VERBS);
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		assert_int_equal(table[i].verb, i);
		assert_null(policy_may(table[i].verb, 0, 7));
		assert_null(policy_may(table[i].verb, 0, 0));
		if (table[i].owner)
			assert_null(policy_may(table[i].verb, 7, 7));
		else
			assert_error(policy_may(table[i].verb, 7, 7), ERR_DENIED, "you are uid 7");
		if (table[i].other) {
			assert_null(policy_may(table[i].verb, 8, 7));
			continue;
		}
		assert_error(policy_may(table[i].verb, 8, 7), ERR_DENIED, "you are uid 8");
		assert_error(policy_may(table[i].verb, 8, 0), ERR_DENIED, "you are uid 8");
	}
}

static void peers(void **state unused_arg)
{
	struct receive_policy p = { .allow = true, .allow_capabilities = true };
	uint32_t uids[] = { 1000, 1000, 1001, 1000 };
	struct rights r = { uids, 4, NULL, 0, 1 << 21, 1 << 20 };

	assert_null(policy_receive(&p, 0, UINT64_MAX));
	p.max_memory = 100 << 20;
	assert_null(policy_receive(&p, 0, 100 << 20));
	assert_error(policy_receive(&p, 0, 101 << 20), ERR_DENIED, "101 MiB");
	assert_null(uid_set_parse(&p.uids, "1000-1001"));
	assert_error(policy_receive(&p, 0, 1), ERR_DENIED, "uid 0");
	assert_null(policy_receive(&p, 1000, 1));
	assert_null(policy_rebuilt(&p, &r));
	p.allow_capabilities = false;
	assert_error(policy_rebuilt(&p, &r), ERR_DENIED, "0x200000");
	r.capabilities = 0;
	assert_null(policy_rebuilt(&p, &r));
	r.memory_bytes = 200 << 20;
	assert_error(policy_rebuilt(&p, &r), ERR_DENIED, "200 MiB");
	r.memory_bytes = 0;
	uids[2] = 0;
	assert_error(policy_rebuilt(&p, &r), ERR_DENIED, "uid 0");
	uids[2] = 1000;
	assert_null(policy_count(&p, 4096));
	p.max_processes = 2;
	assert_null(policy_count(&p, 2));
	assert_error(policy_count(&p, 3), ERR_DENIED, "3 processes");
	p.allow = false;
	assert_error(policy_receive(&p, 1000, 1), ERR_DENIED, "from your host");
	uid_set_fini(&p.uids);
}

#define S INT64_C(1000000)

static void buckets(void **state unused_arg)
{
	struct bucket b = { false, 0 };
	int64_t wait_us = 0, now_us = 5; /* just booted */

	for (int i = 0; i < 3; i++)
		assert_true(bucket_take(&b, 3, 6, now_us, &wait_us));
	assert_false(bucket_take(&b, 3, 6, now_us, &wait_us));
	assert_int_equal(wait_us, 10 * S);
	assert_false(bucket_take(&b, 3, 6, now_us + 10 * S - 1, &wait_us));
	assert_int_equal(wait_us, 1);
	assert_true(bucket_take(&b, 3, 6, now_us + 10 * S, &wait_us));
	assert_false(bucket_take(&b, 3, 6, now_us + 10 * S, NULL));
	bucket_give_back(&b, 6);
	assert_true(bucket_take(&b, 3, 6, now_us + 10 * S, NULL));
	/* no more than the burst, however long it was quiet */
	now_us += 3600 * S;
	for (int i = 0; i < 3; i++)
		assert_true(bucket_take(&b, 3, 6, now_us, NULL));
	assert_false(bucket_take(&b, 3, 6, now_us, NULL));
}

static void named(void **state unused_arg)
{
	struct rates r = { NULL, 0 };
	int64_t wait_us = 0;

	for (int i = 0; i < 100; i++)
		assert_true(rates_take(&r, "free", 0, 1, &wait_us));
	assert_int_equal(r.n, 0);
	assert_true(rates_take(&r, "a", 2, 1, &wait_us));
	assert_true(rates_take(&r, "a", 2, 1, &wait_us));
	assert_false(rates_take(&r, "a", 2, 1, &wait_us));
	assert_int_equal(wait_us, 30 * S);
	assert_true(rates_take(&r, "b", 2, 1, &wait_us)); /* has one of its own */
	assert_int_equal(r.n, 2);
	assert_true(rates_take(&r, "a", 2, 1 + 30 * S, &wait_us));
	assert_true(rates_take(&r, "a", 2, 1 + 300 * S, &wait_us));
	assert_int_equal(r.n, 1); /* b is forgotten */
	rates_fini(&r);
}

static void lines(void **state unused_arg)
{
	autoerr struct err *e = err_in(err_new(ERR_DENIED, "no\n\033[31m\" decision=allowed"), "x");
	autofree char *all = audit_text(&(struct audit){ .what = "send",
		.who = &seven,
		.from = "[::1]:5",
		.peer = "b",
		.key = "SHA256:a+b/c",
		.id = "0abc",
		.pid = 42,
		.comm = "web server",
		.has_uid = true,
		.uid = 9,
		.other = "host b",
		.denied = e });
	autofree char *few = audit_text(&(struct audit){ .what = "connect", .id = "" });

	assert_string_equal(all,
		"audit what=send decision=denied uid=7 client=0 from=[::1]:5 peer=b "
		"key=SHA256:a+b/c id=0abc pid=42 comm=\"web server\" process-uid=9 "
		"argument=\"host b\" code=DENIED "
		"reason=\"x: no??[31m\\\" decision=allowed\"");
	assert_string_equal(few, "audit what=connect decision=allowed");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_may_send),
		cmocka_unit_test(what_cannot_be_sent),
		cmocka_unit_test(verbs),
		cmocka_unit_test(peers),
		cmocka_unit_test(buckets),
		cmocka_unit_test(named),
		cmocka_unit_test(lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
