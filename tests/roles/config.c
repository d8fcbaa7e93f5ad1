// SPDX-License-Identifier: Apache-2.0
/* The configuration file. */
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

static void assert_addresses(const struct receive_policy *p, const char *text)
{
	autofree char *is = ip_set_text(&p->addresses);

	assert_string_equal(is, text);
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
	assert_addresses(&c.receive, "any");
}

static void every_key(void **state unused_arg)
{
	static const char text[] = "allow_addresses = 10.77.0.96/28, fd77::1\n"
				   "allow_capabilities = no\n"
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
				   "max_memory_total = 32G\n"
				   "max_incoming = 8\n"
				   "max_per_minute = 9\n"
				   "max_processes = 4096\n"
				   "allow_receive = no\n"
				   "pages = copy\n"
				   "tracker = soft\n"
				   "sink = copy\n"
				   "  max_migrations\t=\t7  \n";
	AUTO(config_fini) struct config c;

	config_init(&c);
	assert_null(config_parse(&c, "f", text));
	assert_addresses(&c.receive, "10.77.0.96/28,fd77::1/128");
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
	assert_true(c.receive.max_total == 32ULL << 30);
	assert_int_equal(c.receive.max_incoming, 8);
	assert_int_equal(c.receive.max_per_minute, 9);
	assert_int_equal(c.receive.max_processes, 4096);
	assert_false(c.receive.allow);
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
		{ "allow_addresses = ,", "no address in an empty list" },
		{ "allow_addresses = 10.0.0.0/40", "too long a prefix" },
		{ "[peer b]\nallow_addresses = b", "line 2: allow_addresses: \"b\" is no address" },
		{ "hooks_dir = here", "no absolute path" },
		{ "hook_timeout = 0", "between 1 and 3600" },
		{ "hook_timeout = 10s", "number of seconds" },
		{ "max_migrations = 0", "between 1 and 1000" },
		{ "tracker = magic", "magic" },
		{ "sink = pump", "pump" },
		{ "pages = steal", "steal" },
		{ "max_memory = much", "size" },
		{ "max_processes = 4097", "between 1 and 4096" },
		{ "max_processes = 0", "between 1 and 4096" },
		{ "max_memory = 99999999999999999999", "size" },
		{ "= 5", "unknown key" },
		{ "[peer", "line 1: \"[peer\" is no section" },
		{ "[peer]", "unknown section" },
		{ "[host b]", "unknown section" },
		{ "[peer b c]", "unknown section" },
		{ "[peer b]\n[peer c]\n[peer b]", "line 3: [peer b] is there twice" },
		{ "[peer b/c]", "no peer's name" },
		{ "[peer b]\n\nlisten = :1", "line 3: listen: listen is not of a single peer" },
		{ "[peer b]\nmax_memory = 1\nmax_memory = 2", "line 3: max_memory is there twice" },
		{ "[peer b]\nx = 1", "line 2: unknown key x" },
		{ "max_incoming = 0", "between 1 and 1000" },
		{ "max_per_minute = -1", "number" },
		{ "allow_receive = perhaps", "neither yes nor no" },
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

static void sections(void **state unused_arg)
{
	static const char text[] = "allow_uids = 1000-1999\n"
				   "allow_addresses = 10.77.0.96/28\n"
				   "max_memory = 1G\n"
				   "[peer b] # of the team\n"
				   "allow_uids = 0\n"
				   "allow_addresses = fd77::/64\n"
				   "max_incoming = 2\n"
				   "max_per_minute = 6\n"
				   "\n"
				   " [ peer  c.example ] \n"
				   "allow_receive = no\n"
				   "allow_addresses = none\n"
				   "max_memory = any\n"
				   "max_memory_total = 3G\n"
				   "[peer d]\n";
	AUTO(config_fini) struct config c;
	const struct receive_policy *p;

	config_init(&c);
	assert_null(config_parse(&c, "f", text));
	p = config_receive(&c, "b");
	assert_true(uid_set_has(&p->uids, 0));
	assert_false(uid_set_has(&p->uids, 1000));
	assert_addresses(p, "fd77::/64");
	assert_true(p->allow && p->max_memory == 1ULL << 30);
	assert_true(p->max_incoming == 2 && p->max_per_minute == 6);
	p = config_receive(&c, "c.example");
	assert_false(p->allow);
	assert_addresses(p, "none");
	assert_true(p->max_memory == 0 && p->max_total == 3ULL << 30);
	assert_true(uid_set_has(&p->uids, 1999) && !uid_set_has(&p->uids, 0));
	p = config_receive(&c, "d");
	assert_addresses(p, "10.77.0.96/28"); /* what holds for all */
	assert_true(p != &c.receive && p->allow && p->max_memory == 1ULL << 30);
	assert_ptr_equal(config_receive(&c, "nobody"), &c.receive);
	assert_true(c.receive.max_per_minute == 0 && c.receive.max_incoming == 1000);
}

/* What can change does, the rest is said; what is wrong changes nothing. */
static void reloaded(void **state unused_arg)
{
	AUTO(config_fini) struct config c, next;
	autofree char *restart = NULL, *nothing = NULL;

	config_init(&c);
	config_init(&next);
	assert_null(config_parse(
		&c, "f", "listen = :1\nmax_migrations = 5\n[peer b]\nmax_incoming = 1\n"));
	assert_null(config_parse(&next, "f",
		"listen = :2\ncgroup = /x\nmax_migrations = 6\n[peer c]\nmax_incoming = 3\n"));
	restart = config_reload(&c, &next);
	assert_string_equal(restart, "listen, cgroup");
	assert_int_equal(c.listen[0].port, 1);
	assert_null(c.cgroup_dir);
	assert_int_equal(c.max_migrations, 6);
	assert_ptr_equal(config_receive(&c, "b"), &c.receive);
	assert_int_equal(config_receive(&c, "c")->max_incoming, 3);
	config_fini(&next);
	config_init(&next);
	assert_null(config_parse(&next, "f", "listen = :1\n"));
	nothing = config_reload(&c, &next);
	assert_null(nothing);
	assert_int_equal(c.max_migrations, 64);
	assert_int_equal(c.n_peers, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(every_key),
		cmocka_unit_test(errors),
		cmocka_unit_test(missing_file),
		cmocka_unit_test(uid_text),
		cmocka_unit_test(sections),
		cmocka_unit_test(reloaded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
