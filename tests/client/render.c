// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/json.h"
#include "client/render.h"

#define IS(t, s) assert_string_equal(text_str(&(t)), s)

static Migrate__Progress progress(void)
{
	Migrate__Progress p = MIGRATE__PROGRESS__INIT;

	p.id = (char *)"abc123";
	p.pid = 4242;
	p.comm = (char *)"redis-server";
	p.peer = (char *)"host-b";
	p.state = (char *)"precopy";
	p.owner = (char *)"source";
	p.round = 3;
	p.resident_bytes = 512 << 20;
	p.bytes_sent = 540 << 20;
	p.bandwidth_bytes_s = 800 << 20;
	p.dirty_rate_bytes_s = 12 << 20;
	p.predicted_downtime_us = 3100;
	p.downtime_us = 3100;
	p.total_us = 1420000;
	return p;
}

static void numbers(void **state unused_arg)
{
	autotext struct text t = { 0 };

	render_bytes(&t, 0);
	text_addf(&t, "|");
	render_bytes(&t, 1023);
	text_addf(&t, "|");
	render_bytes(&t, 1536);
	text_addf(&t, "|");
	render_bytes(&t, 5ull << 30);
	text_addf(&t, "|");
	render_us(&t, 3100);
	text_addf(&t, "|");
	render_us(&t, 42000);
	text_addf(&t, "|");
	render_us(&t, 1420000);
	text_addf(&t, "|");
	render_us(&t, 200000000);
	IS(t, "0 B|1023 B|1.5 KiB|5.0 GiB|3.1 ms|42 ms|1.42 s|200 s");
}

static void progress_line(void **state unused_arg)
{
	Migrate__Progress p = progress();
	autotext struct text t = { 0 }, narrow = { 0 };

	render_progress(&t, &p, 0);
	IS(t, "4242 redis-server -> host-b  precopy 3  540.0 MiB of 512.0 MiB  800.0 MiB/s  "
	      "dirty 12.0 MiB/s  downtime ~3.1 ms");
	render_progress(&narrow, &p, 20);
	assert_int_equal(narrow.len, 20);
}

static void terminal_is_not_commanded(void **state unused_arg)
{
	Migrate__Progress p = progress();
	autotext struct text t = { 0 };

	p.comm = (char *)"a\033[2Jb\n";
	render_progress(&t, &p, 0);
	assert_null(strchr(text_str(&t), '\033'));
	assert_null(strchr(text_str(&t), '\n'));
}

static void moved(void **state unused_arg)
{
	Migrate__Progress p = progress();
	Migrate__Done d = MIGRATE__DONE__INIT;
	autotext struct text t = { 0 }, tree = { 0 };

	d.last = &p;
	d.outcome = (char *)"moved";
	render_done(&t, &d, HERE_GONE);
	IS(t, "4242 runs on host-b now: downtime 3.1 ms, 3 rounds, 1.42 s in all, 540.0 MiB sent "
	      "(512.0 MiB resident)\n");
	p.processes = 13;
	render_done(&tree, &d, HERE_GONE);
	IS(tree, "4242 runs on host-b with 12 descendants now: downtime 3.1 ms, 3 rounds, 1.42 s "
		 "in all, "
		 "540.0 MiB sent (512.0 MiB resident)\n");
}

static void moved_with_network(void **state unused_arg)
{
	char *addresses[] = { (char *)"10.77.0.100", (char *)"fd77::100" };
	Migrate__Progress p = progress();
	Migrate__Done d = MIGRATE__DONE__INIT;
	autotext struct text one = { 0 }, all = { 0 };
	autofree char *moved = NULL, *kept = NULL;

	d.last = &p;
	d.outcome = (char *)"moved";
	p.connections = 1;
	render_done(&one, &d, HERE_GONE);
	assert_non_null(strstr(text_str(&one), " resident), 1 connection\n"));
	p.connections = 20;
	d.addresses = addresses;
	d.n_addresses = 2;
	render_done(&all, &d, HERE_GONE);
	assert_non_null(strstr(
		text_str(&all), " resident), 20 connections, with 10.77.0.100, fd77::100\n"));
	moved = json_line(json_done(&d, "host-b"));
	assert_non_null(
		strstr(moved, "\"connections\":20,\"addresses\":[\"10.77.0.100\",\"fd77::100\"]"));
	d.outcome = (char *)"kept";
	kept = json_line(json_done(&d, "host-b"));
	assert_non_null(strstr(kept, "\"addresses\":[]"));
}

static void kept(void **state unused_arg)
{
	char *texts[] = { (char *)"cannot capture descriptor 17 of 4242 (inotify)",
		(char *)"watch 3 points at a deleted directory" };
	Migrate__Progress p = progress();
	Migrate__Error e = MIGRATE__ERROR__INIT;
	Migrate__Done d = MIGRATE__DONE__INIT;
	autotext struct text t = { 0 };

	e.texts = texts;
	e.n_texts = 2;
	e.hint = (char *)"close that watch";
	e.state = (char *)"rehearse";
	d.last = &p;
	d.error = &e;
	d.outcome = (char *)"kept";
	render_done(&t, &d, HERE_RUNS);
	IS(t, "4242 keeps running here: not moved (ended in rehearse, before any freeze)\n"
	      "  cannot capture descriptor 17 of 4242 (inotify)\n"
	      "  watch 3 points at a deleted directory\n"
	      "try: close that watch\n");
}

static void in_doubt(void **state unused_arg)
{
	Migrate__Progress p = progress();
	Migrate__Done d = MIGRATE__DONE__INIT;
	autotext struct text t = { 0 };

	d.last = &p;
	d.outcome = (char *)"in_doubt";
	render_done(&t, &d, HERE_RUNS);
	IS(t, "4242 stands still here and may run on host-b: in doubt\n"
	      "try: wait, it is asked again and again; or look there, then: "
	      "migratectl resolve abc123 here|there\n");
}

static void blocked(void **state unused_arg)
{
	char *one[] = { (char *)"descriptor 3 is an inotify" },
	     *two[] = { (char *)"descriptor 4 is a terminal", (char *)"it is /dev/pts/0" };
	Migrate__Error a = MIGRATE__ERROR__INIT, b = MIGRATE__ERROR__INIT, *all[] = { &a, &b };
	Migrate__Progress p = progress();
	Migrate__Done d = MIGRATE__DONE__INIT;
	autotext struct text t = { 0 };

	a.texts = one;
	a.n_texts = 1;
	b.texts = two;
	b.n_texts = 2;
	b.hint = (char *)"start it with nohup";
	p.resident_bytes = 0;
	d.last = &p;
	d.blockers = all;
	d.n_blockers = 2;
	d.outcome = (char *)"blocked";
	render_check(&t, &d, "host-b");
	IS(t, "4242 (redis-server) cannot move to host-b: 2 things hinder it\n"
	      "  descriptor 3 is an inotify\n"
	      "  descriptor 4 is a terminal\n"
	      "    it is /dev/pts/0\n"
	      "    try: start it with nohup\n");
}

static void prediction(void **state unused_arg)
{
	Migrate__Progress p = progress();
	struct prediction r;

	/* 512 MiB at 800 MiB/s: 640 ms, in which 7.7 MiB get dirty: 9.6 ms */
	r = render_predict(&p, 50000);
	assert_int_equal(r.rounds, 1);
	assert_in_range(r.downtime_us, 9000, 10000);
	assert_in_range(r.total_us, 640000, 660000);
	assert_true(r.converges);
	r = render_predict(&p, 5000);
	assert_int_equal(r.rounds, 2);
	p.dirty_rate_bytes_s = 900 << 20;
	r = render_predict(&p, 5000);
	assert_false(r.converges);
	p.bandwidth_bytes_s = 0;
	r = render_predict(&p, 5000);
	assert_int_equal(r.total_us, 0);
}

static void json_is_stable(void **state unused_arg)
{
	Migrate__Progress p = progress();
	Migrate__Done d = MIGRATE__DONE__INIT;
	Migrate__Error e = MIGRATE__ERROR__INIT;
	char *texts[] = { (char *)"one", (char *)"two" };
	autofree char *s = NULL, *s2 = NULL;

	d.last = &p;
	d.outcome = (char *)"moved";
	s = json_line(json_done(&d, "host-b"));
	assert_non_null(strstr(s,
		"{\"event\":\"done\",\"id\":\"abc123\",\"outcome\":\"moved\",\"pid\":4242,"
		"\"host\":\"host-b\",\"rounds\":3,\"total_ms\":1420.0,\"downtime_ms\":3.1,"
		"\"bytes_sent\":566231040,\"bytes_resident\":536870912,\"stall_ms\":0.0"));
	e.code = ERR_UNSUPPORTED;
	e.texts = texts;
	e.n_texts = 2;
	d.error = &e;
	d.outcome = (char *)"kept";
	s2 = json_line(json_done(&d, "host-b"));
	assert_non_null(
		strstr(s2, "\"error\":{\"code\":\"UNSUPPORTED\",\"side\":\"\",\"state\":\"\","
			   "\"message\":\"one\",\"causes\":[\"two\"],\"hint\":\"\"}"));
}

static void json_of_odd_names(void **state unused_arg)
{
	Migrate__Progress p = progress();
	autofree char *s = NULL;

	p.comm = (char *)"\xff\"x";
	s = json_line(json_progress(&p));
	assert_non_null(strstr(s, "\"comm\":\"?\\\"x\""));
}

static void carrier(void **state unused_arg)
{
	Migrate__Progress p = progress();
	autofree char *s = NULL;
	autotext struct text none = { 0 }, some = { 0 };

	render_status(&none, &p);
	assert_null(strstr(text_str(&none), "carried by"));
	p.stream = (char *)"ktls";
	p.source = (char *)"pump";
	p.streams = 4;
	render_status(&some, &p);
	assert_non_null(strstr(text_str(&some),
		"\ncarried by   ktls\npages by     pump\npages over   4 streams\n"));
	s = json_line(json_progress(&p));
	assert_non_null(strstr(s, "\"stream\":\"ktls\",\"source\":\"pump\""));
	assert_non_null(strstr(s, "\"streams\":4"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers),
		cmocka_unit_test(progress_line),
		cmocka_unit_test(terminal_is_not_commanded),
		cmocka_unit_test(moved),
		cmocka_unit_test(moved_with_network),
		cmocka_unit_test(kept),
		cmocka_unit_test(in_doubt),
		cmocka_unit_test(blocked),
		cmocka_unit_test(prediction),
		cmocka_unit_test(json_is_stable),
		cmocka_unit_test(json_of_odd_names),
		cmocka_unit_test(carrier),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
