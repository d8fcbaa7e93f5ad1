// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/options.h"

#define ARGV_MAX 24

/* Splits `line` at blanks and parses it. */
static struct err *parse(const char *line, struct options *o)
{
	static char buf[256]; /* options point into it */
	char *argv[ARGV_MAX];
	int argc = 0;

	strncpy(buf, line, sizeof(buf) - 1);
	for (char *p = strtok(buf, " "); p && argc < ARGV_MAX; p = strtok(NULL, " "))
		argv[argc++] = p;
	return options_parse(argc, argv, o);
}

static void send_takes_all(void **state unused_arg)
{
	struct options o;

	assert_null(
		parse("m --control=/x send 42 --downtime 20 host-b:1 --bandwidth=10M "
		      "--force-switch --max-rounds 7 --streams 4 --timeout 3 --unit stop --json",
			&o));
	assert_int_equal(o.verb, VERB_SEND);
	assert_int_equal(o.pid, 42);
	assert_string_equal(o.args[1], "host-b:1");
	assert_string_equal(o.control, "/x");
	assert_int_equal(o.downtime_us, 20000);
	assert_int_equal(o.timeout_us, 3000000);
	assert_int_equal(o.bandwidth, 10 << 20);
	assert_int_equal(o.max_rounds, 7);
	assert_int_equal(o.streams, 4);
	assert_string_equal(o.unit, "stop");
	assert_true(o.force_switch && o.json && !o.dry_run);
}

static void defaults(void **state unused_arg)
{
	struct options o;

	assert_null(parse("m check 7", &o));
	assert_int_equal(o.verb, VERB_CHECK);
	assert_null(o.args[1]);
	assert_string_equal(o.control, CONTROL_DEFAULT);
	assert_int_equal(o.downtime_us, 0);
	assert_int_equal(o.streams, 0);
	assert_string_equal(o.unit, "refuse");
}

static void verbs_of_two_words(void **state unused_arg)
{
	struct options o;

	assert_null(parse("m peer add b 10.0.0.1 SHA256:x", &o));
	assert_int_equal(o.verb, VERB_PEER_ADD);
	assert_int_equal(o.n_args, 3);
	assert_null(parse("m peer remove b --key SHA256:x", &o));
	assert_int_equal(o.verb, VERB_PEER_REMOVE);
	assert_string_equal(o.key, "SHA256:x");
	assert_null(parse("m identity", &o));
	assert_int_equal(o.verb, VERB_IDENTITY);
	assert_null(parse("m identity rotate", &o));
	assert_int_equal(o.verb, VERB_IDENTITY_ROTATE);
	assert_null(parse("m identity retire --force", &o));
	assert_int_equal(o.verb, VERB_IDENTITY_RETIRE);
	assert_true(o.force);
	assert_null(parse("m peer list", &o));
	assert_int_equal(o.verb, VERB_PEER_LIST);
	assert_null(parse("m --json peer remove -- --odd", &o));
	assert_string_equal(o.args[0], "--odd");
}

static void refused(void **state unused_arg)
{
	static const struct {
		const char *line;
		enum err_code code;
		const char *text;
	} rows[] = {
		{ "m", ERR_INVALID, "no verb" },
		{ "m nonsense", ERR_INVALID, "there is no verb nonsense" },
		{ "m peer", ERR_INVALID, "peer needs one of add|list|remove" },
		{ "m peer frob", ERR_INVALID, "peer needs one of add|list|remove" },
		{ "m send 1", ERR_INVALID, "send needs PID HOST[:PORT]" },
		{ "m send 1 b c", ERR_INVALID, "send: too many arguments (c)" },
		{ "m send 0 b", ERR_INVALID, "PID must be 1 to 2147483647, not 0" },
		{ "m send 2147483648 b", ERR_INVALID,
			"PID must be 1 to 2147483647, not 2147483648" },
		{ "m send 1 b --odd", ERR_INVALID, "there is no option --odd" },
		{ "m send 1 b --downtime", ERR_INVALID, "--downtime needs a value (MS)" },
		{ "m send 1 b --dry-run=1", ERR_INVALID, "--dry-run takes no value" },
		{ "m check 1 --downtime 5", ERR_INVALID, "--downtime does not go with check" },
		{ "m send 1 b --pid some", ERR_INVALID, "--pid is one of keep|new|auto, not some" },
		{ "m send 1 b --downtime 0", ERR_INVALID,
			"--downtime must be 1 to 3600000, not 0" },
		{ "m send 1 b --streams 0", ERR_INVALID, "--streams must be 1 to 4, not 0" },
		{ "m send 1 b --streams 5", ERR_INVALID, "--streams must be 1 to 4, not 5" },
		{ "m send 1 b --files carry", ERR_UNSUPPORTED, "--files carry has not landed yet" },
		{ "m send 1 b --pid new", ERR_UNSUPPORTED, "--pid new has not landed yet" },
		{ "m send 1 b --tty detach", ERR_UNSUPPORTED, "--tty detach has not landed yet" },
		{ "m send 1 b --unix-external close", ERR_UNSUPPORTED,
			"--unix-external close has not landed yet" },
		{ "m send 1 b --take-address 10.0.0", ERR_INVALID,
			"--take-address: 10.0.0 is no IP address" },
		{ "m send 1 b --take-address fd00::1,,10.0.0.9", ERR_INVALID,
			"--take-address:  is no IP address" },
		{ "m send 1 b --take-address 1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,"
		  "1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,"
		  "1.1.1.1",
			ERR_INVALID, "--take-address: more than 16 addresses" },
		{ "m send 1 b --accept-queue drop", ERR_INVALID,
			"--accept-queue is one of refuse|reset, not drop" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct options o;
		autoerr struct err *e = parse(rows[i].line, &o);

		assert_non_null(e);
		assert_string_equal(err_text(e, 0), rows[i].text);
		assert_int_equal(err_code(e), rows[i].code);
	}
}

static void pid_that_is_no_number(void **state unused_arg)
{
	struct options o;
	autoerr struct err *e = parse("m send redis b", &o);

	assert_int_equal(err_code(e), ERR_INVALID);
}

static void what_is_default_is_accepted(void **state unused_arg)
{
	struct options o;

	assert_null(parse("m send 1 b --streams 1 --pid keep --files verify --tty refuse "
			  "--take-address none",
		&o));
}

static void help_names_every_verb(void **state unused_arg)
{
	autotext struct text t = { 0 };
	struct options o;

	assert_null(parse("m --help", &o));
	options_help(o.verb, &t);
	for (int v = 0; v < VERBS; v++)
		assert_non_null(strstr(text_str(&t), verb_name((enum verb)v)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(send_takes_all),
		cmocka_unit_test(defaults),
		cmocka_unit_test(verbs_of_two_words),
		cmocka_unit_test(refused),
		cmocka_unit_test(pid_that_is_no_number),
		cmocka_unit_test(what_is_default_is_accepted),
		cmocka_unit_test(help_names_every_verb),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
