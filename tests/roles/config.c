// SPDX-License-Identifier: Apache-2.0
/* The configuration file, and the policy that it makes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "roles/config.h"

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

static void defaults(void **state unused_arg)
{
	AUTO(config_fini) struct config c;

	config_init(&c);
	assert_null(config_parse(&c, "f", ""));
	assert_null(config_parse(&c, "f", "\n  # only a comment\n\t\n"));
	assert_false(c.allow_users_own);
	assert_true(c.receive.allow_capabilities);
	assert_int_equal(c.receive.max_memory, 0);
	assert_int_equal(c.max_migrations, 64);
	assert_true(c.kernel_tls);
	assert_int_equal(c.n_listen, 0);
	assert_true(uid_set_has(&c.receive.uids, 12345));
}

static void every_key(void **state unused_arg)
{
	static const char text[] = "allow_capabilities = no\n"
				   "allow_uids = 0, 1000-1999\n"
				   "allow_users=own # mine\n"
				   "cgroup = /sys/fs/cgroup/x\n"
				   "connect_timeout = 3\n"
				   "debug = yes\n"
				   "handshake_timeout = 4\n"
				   "hook_timeout = 5\n"
				   "hooks_dir = /h\n"
				   "kernel_tls = no\n"
				   "listen = 10.0.0.1:99\r\n"
				   "listen = [::1]\n"
				   "max_memory = 16G\n"
				   "pages = copy\n"
				   "tracker = soft\n"
				   "sink = copy\n"
				   "  max_migrations\t=\t7  \n";
	AUTO(config_fini) struct config c;

	config_init(&c);
	assert_null(config_parse(&c, "f", text));
	assert_false(c.receive.allow_capabilities);
	assert_true(c.allow_users_own);
	assert_true(c.debug);
	assert_false(c.kernel_tls);
	assert_string_equal(c.cgroup_dir, "/sys/fs/cgroup/x");
	assert_string_equal(c.hooks_dir, "/h");
	assert_int_equal(c.connect_us, 3000000);
	assert_int_equal(c.handshake_us, 4000000);
	assert_int_equal(c.hook_limit_us, 5000000);
	assert_int_equal(c.n_listen, 2);
	assert_int_equal(c.listen[0].port, 99);
	assert_string_equal(c.listen[1].host, "::1");
	assert_true(c.receive.max_memory == 16ULL << 30);
	assert_string_equal(c.tracker, "soft");
	assert_string_equal(c.sink, "copy");
	assert_string_equal(c.pages, "copy");
	assert_int_equal(c.max_migrations, 7);
	assert_true(uid_set_has(&c.receive.uids, 0));
	assert_true(uid_set_has(&c.receive.uids, 1999));
	assert_false(uid_set_has(&c.receive.uids, 2000));
	assert_false(uid_set_has(&c.receive.uids, 999));
}

static void errors(void **state unused_arg)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "x = 1", "f line 1: unknown key x" },
		{ "\n\nlisten", "f line 3: \"listen\" is not key = value" },
		{ "listen =", "listen has no value" },
		{ "listen = a b", "line 1: listen:" },
		{ "listen = none\nlisten = :1", "none and an address" },
		{ "debug = maybe", "neither yes nor no" },
		{ "kernel_tls = yes", "neither auto nor no" },
		{ "debug = yes\ndebug = no", "line 2: debug is there twice" },
		{ "allow_users = all", "neither none nor own" },
		{ "allow_uids = 5-4", "5-4 is no range" },
		{ "allow_uids = 4294967295", "no range" },
		{ "allow_uids = x", "uid" },
		{ "allow_uids = ,", "names no uid" },
		{ "hooks_dir = here", "no absolute path" },
		{ "hook_timeout = 0", "between 1 and 3600" },
		{ "hook_timeout = 10s", "number of seconds" },
		{ "max_migrations = 0", "between 1 and 1000" },
		{ "tracker = magic", "magic" },
		{ "sink = pump", "pump" },
		{ "pages = steal", "steal" },
		{ "max_memory = much", "size" },
		{ "max_memory = 99999999999999999999", "size" },
		{ "= 5", "unknown key" },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		AUTO(config_fini) struct config c;

		config_init(&c);
		assert_error(config_parse(&c, "f", bad[i].text), ERR_INVALID, bad[i].says);
	}
}

static void missing_file(void **state unused_arg)
{
	AUTO(config_fini) struct config c;

	config_init(&c);
	assert_null(config_load(&c, "/nonexistent/f", false));
	assert_error(config_load(&c, "/nonexistent/f", true), ERR_KERNEL, "/nonexistent/f");
	assert_error(config_load(&c, "/proc/self/cmdline", true), ERR_INVALID, "text file");
}

static void uid_text(void **state unused_arg)
{
	AUTO(uid_set_fini) struct uid_set s = { NULL, 0 }, again = { NULL, 0 };
	autofree char *text = NULL, *any = uid_set_text(&s);

	assert_string_equal(any, "any");
	assert_null(uid_set_parse(&s, "7 9-11,13"));
	text = uid_set_text(&s);
	assert_null(uid_set_parse(&again, text));
	for (uint32_t u = 0; u < 20; u++)
		assert_int_equal(uid_set_has(&s, u), uid_set_has(&again, u));
}

static const struct subject mine = {
	.pid = 50, .comm = "prog", .uids = { 7, 7, 7, 7 }, .owner = 7
};

static void who_may_send(void **state unused_arg)
{
	struct subject s = mine;

	assert_null(policy_send(0, false, &s));
	assert_null(policy_send(7, true, &s));
	assert_error(policy_send(7, false, &s), ERR_DENIED, "only root");
	assert_error(policy_send(8, true, &s), ERR_DENIED, "not yours");
	s.uids[1] = 0; /* set-user-id */
	assert_error(policy_send(7, true, &s), ERR_DENIED, "not yours");
	s = mine;
	s.owner = 0; /* not dumpable */
	assert_error(policy_send(7, true, &s), ERR_DENIED, "not yours");
	s = mine;
	s.capabilities = 1;
	assert_error(policy_send(7, true, &s), ERR_DENIED, "not yours");
	assert_null(policy_send(0, false, &s));
}

static void what_cannot_be_sent(void **state unused_arg)
{
	struct subject s = mine;

	s.kernel_thread = true;
	assert_error(policy_send(0, true, &s), ERR_UNSUPPORTED, "kernel");
	s = mine;
	s.ours = true;
	assert_error(policy_send(0, true, &s), ERR_UNSUPPORTED, "migrated itself");
	s = mine;
	s.pid = 1;
	assert_error(policy_send(0, true, &s), ERR_UNSUPPORTED, "init");
	s = mine;
	s.zombie = true;
	assert_error(policy_send(0, true, &s), ERR_GONE, "has ended");
}

static void others(void **state unused_arg)
{
	struct receive_policy p = { .allow_capabilities = true };
	uint32_t uids[] = { 1000, 1000, 1001, 1000 };
	struct rights r = { uids, 4, 1 << 21, 1 << 20 };

	assert_null(policy_cancel(0, 7));
	assert_null(policy_cancel(7, 7));
	assert_error(policy_cancel(8, 7), ERR_DENIED, "not yours");
	assert_error(policy_cancel(8, 0), ERR_DENIED, "not yours");
	assert_null(policy_peers(0));
	assert_error(policy_peers(7), ERR_DENIED, "only root");

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
	uid_set_fini(&p.uids);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(every_key),
		cmocka_unit_test(errors),
		cmocka_unit_test(missing_file),
		cmocka_unit_test(uid_text),
		cmocka_unit_test(who_may_send),
		cmocka_unit_test(what_cannot_be_sent),
		cmocka_unit_test(others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
