// SPDX-License-Identifier: Apache-2.0
/* Hooks: order, what they are told, veto, time limit, what is skipped or not trusted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/text.h"
#include "roles/hooks.h"
#include "roles/ipc.h"
#include "tests/tmp.h"

struct box {
	char dir[64], hooks[80], out[80];
	bool told_only;
};

static int setup(void **state)
{
	struct box *b = calloc(1, sizeof(*b));

	if (!b || !mkdtemp(tmp_template(b->dir, "hooks")))
		return -1;
	snprintf(b->hooks, sizeof(b->hooks), "%s/hooks.d", b->dir);
	snprintf(b->out, sizeof(b->out), "%s/out", b->dir);
	*state = b;
	return mkdir(b->hooks, 0755);
}

static int teardown(void **state)
{
	struct box *b = *state;
	char cmd[128];
	int rc;

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", b->dir);
	rc = system(cmd);
	free(b);
	return rc;
}

static void hook(const struct box *b, const char *name, mode_t mode, const char *script)
{
	char path[200];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", b->hooks, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "#!/bin/sh\n%s\n", script);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
}

static struct err *run_with(struct box *b, int64_t limit_us, int stop_fd, int network_fd)
{
	Migrate__Progress p = MIGRATE__PROGRESS__INIT;
	Migrate__HookRun r = MIGRATE__HOOK_RUN__INIT;
	char event[] = "pre-freeze", id[] = "abc", side[] = "source", comm[] = "p\xff\"q";

	p.id = id;
	p.side = side;
	p.comm = comm;
	p.pid = 4242;
	r.event = event;
	r.told_only = b->told_only;
	r.progress = &p;
	r.hooks_dir = b->hooks;
	r.limit_us = (uint64_t)limit_us;
	return hooks_run(&r, stop_fd, network_fd);
}

static struct err *run_stoppable(struct box *b, int64_t limit_us, int stop_fd)
{
	return run_with(b, limit_us, stop_fd, -1);
}

static struct err *run(struct box *b, int64_t limit_us)
{
	return run_stoppable(b, limit_us, -1);
}

static char *output(struct arena *a, const struct box *b)
{
	char *text;

	assert_null(io_read_file(a, b->out, 1 << 20, &text, NULL));
	return text;
}

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

static void nothing(void **state)
{
	struct box *b = *state;

	assert_int_equal(hooks_count(b->hooks), 0);
	assert_null(run(b, 1000000));
	rmdir(b->hooks);
	assert_int_equal(hooks_count(b->hooks), 0);
	assert_null(run(b, 1000000));
}

static void order(void **state)
{
	autoarena struct arena *a = arena_new();
	struct box *b = *state;
	char script[200];

	snprintf(script, sizeof(script), "echo ${0##*/} $1 >> %s", b->out);
	hook(b, "20-two", 0755, script);
	hook(b, "10-one", 0755, script);
	hook(b, "30-three", 0755, script);
	hook(b, "15-not-executable", 0644, script);
	hook(b, ".hidden", 0755, script);
	hook(b, "10-one~", 0755, script);
	assert_int_equal(hooks_count(b->hooks), 3);
	assert_null(run(b, 5000000));
	assert_string_equal(
		output(a, b), "10-one pre-freeze\n20-two pre-freeze\n30-three pre-freeze\n");
}

static void told(void **state)
{
	autoarena struct arena *a = arena_new();
	struct box *b = *state;
	char script[400], *text;

	setenv("SECRET", "x", 1);
	snprintf(script, sizeof(script), "cat > %s; env | sort >> %s; pwd >> %s", b->out, b->out,
		b->out);
	hook(b, "x", 0755, script);
	assert_null(run(b, 5000000));
	text = output(a, b);
	assert_non_null(strstr(text, "\"event\":\"pre-freeze\""));
	assert_non_null(strstr(text, "\"pid\":4242"));
	assert_non_null(strstr(text, "\"comm\":null")); /* it is not UTF-8 */
	assert_non_null(strstr(text, "\nMIGRATED_PID=4242\n"));
	assert_non_null(strstr(text, "MIGRATED_EVENT=pre-freeze\n"));
	assert_non_null(strstr(text, "MIGRATED_SIDE=source\n"));
	assert_null(strstr(text, "SECRET"));
}

static int network_file(const char *text)
{
	int fd = memfd_create("network", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_null(io_write_full(fd, text, strlen(text), "network"));
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static void told_the_network(void **state)
{
	autoclose int fd =
		network_file("{\"connections\":[{\"local\":\"10.77.0.100:6379\","
			     "\"remote\":\"10.77.0.3:40000\"}],\"addresses\":[],\"pid\":1}");
	autoclose int cut = network_file("{\"connections\":[");
	autoarena struct arena *a = arena_new();
	struct box *b = *state;
	char script[200], *text;

	snprintf(script, sizeof(script), "cat > %s", b->out);
	hook(b, "x", 0755, script);
	assert_null(run_with(b, 5000000, -1, fd));
	text = output(a, b);
	assert_non_null(strstr(text, "\"connections\":[{\"local\":\"10.77.0.100:6379\","
				     "\"remote\":\"10.77.0.3:40000\"}]"));
	assert_non_null(strstr(text, "\"addresses\":[]"));
	assert_non_null(strstr(text, "\"pid\":4242")); /* what the monitor says stays */
	assert_null(strstr(text, "\"pid\":1}"));
	/* what is no JSON does not spoil the rest */
	assert_null(run_with(b, 5000000, -1, cut));
	text = output(a, b);
	assert_null(strstr(text, "connections"));
	assert_non_null(strstr(text, "\"pid\":4242"));
	assert_null(run(b, 5000000));
	assert_null(strstr(output(a, b), "connections"));
}

/* 10,000 connections are more than a message or a pipe takes. */
static void told_of_many(void **state)
{
	autoarena struct arena *a = arena_new();
	autotext struct text many = { 0 };
	struct box *b = *state;
	char script[200];
	autoclose int fd = -1;

	text_addf(&many, "{\"connections\":[");
	for (int i = 0; i < 10000; i++)
		text_addf(&many,
			"%s{\"local\":\"[fd77::100]:6379\",\"remote\":\"[fd77::%x]:40000\"}",
			i ? "," : "", (unsigned)i + 1);
	text_addf(&many, "]}");
	fd = network_file(text_str(&many));
	snprintf(script, sizeof(script), "tr ',' '\\n' | grep -c '\"remote\"' > %s", b->out);
	hook(b, "x", 0755, script);
	assert_null(run_with(b, 20000000, -1, fd));
	assert_string_equal(output(a, b), "10000\n");
}

static void veto(void **state)
{
	struct box *b = *state;
	char script[200];

	snprintf(script, sizeof(script), "echo ran > %s", b->out);
	hook(b, "1", 0755, "echo noise; echo 'not on a Sunday' >&2; exit 3");
	hook(b, "2", 0755, script);
	assert_error(run(b, 5000000), ERR_DENIED, "hook 1 said no (exit 3): not on a Sunday");
	assert_int_equal(access(b->out, F_OK), -1);
	hook(b, "1", 0755, "kill -9 $$");
	assert_error(run(b, 5000000), ERR_DENIED, "signal 9");
	hook(b, "1", 0755, "printf 'a\\033[31mb\\n'; exit 1");
	assert_error(run(b, 5000000), ERR_DENIED, "a?[31mb");
	hook(b, "1", 0755, "");
	assert_null(run(b, 5000000));
}

static void cannot_run(void **state)
{
	struct box *b = *state;
	char path[200];
	FILE *f;

	snprintf(path, sizeof(path), "%s/1", b->hooks);
	f = fopen(path, "w");
	fputs("#!/nonexistent/interpreter\n", f);
	fclose(f);
	chmod(path, 0755);
	assert_error(run(b, 5000000), ERR_DENIED, "cannot be executed");
}

static void time_limit(void **state)
{
	struct box *b = *state;
	int64_t began = clock_us();

	hook(b, "slow", 0755, "sleep 60");
	assert_error(run(b, 300000), ERR_TIMEOUT, "hook slow took longer than 300 ms");
	assert_true(clock_us() - began < 5000000);
}

/* One that leaves a daemon with its output open is not waited for. */
static void daemonizes(void **state)
{
	struct box *b = *state;
	int64_t began = clock_us();

	hook(b, "d", 0755, "(trap '' HUP; sleep 3) &\nexit 0");
	assert_null(run(b, 10000000));
	assert_true(clock_us() - began < 2000000);
}

/* Much output does not block it. */
static void talks(void **state)
{
	struct box *b = *state;

	hook(b, "t", 0755, "head -c 300000 /dev/zero | tr '\\0' 'x'; echo; echo end; exit 1");
	assert_error(run(b, 10000000), ERR_DENIED, ": end");
}

/* The one that runs is killed, whatever it has begun with it; those behind it are not begun. */
static void told_to_stop(void **state)
{
	Migrate__HookStop stop = MIGRATE__HOOK_STOP__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	struct box *b = *state;
	char never[160];
	int fds[2];

	ipc.body_case = MIGRATE__IPC__BODY_HOOK_STOP;
	ipc.hook_stop = &stop;
	assert_null(ipc_pair(fds));
	assert_null(ipc_send(fds[0], &ipc, NULL, 0, deadline_in(1000000)));
	hook(b, "1", 0755, "sleep 1000");
	snprintf(never, sizeof(never), "touch %s", b->out);
	hook(b, "2", 0755, never);
	assert_error(
		run_stoppable(b, INT64_C(600000000), fds[1]), ERR_TIMEOUT, "hook 1 was killed");
	assert_int_equal(access(b->out, F_OK), -1);
	/* Nobody is left to say anything. */
	close(fds[0]);
	assert_error(
		run_stoppable(b, INT64_C(600000000), fds[1]), ERR_TIMEOUT, "hook 1 was killed");
	b->told_only = true;
	hook(b, "1", 0755, "sleep 0.1; exit 0");
	hook(b, "2", 0755, "exit 1");
	assert_error(run_stoppable(b, INT64_C(600000000), fds[1]), ERR_DENIED, "hook 2 said no");
	close(fds[1]);
}

static void not_trusted(void **state)
{
	struct box *b = *state;

	hook(b, "1", 0757, "exit 0");
	assert_error(run(b, 1000000), ERR_DENIED, "can be changed by others");
	hook(b, "1", 0755, "exit 0");
	chmod(b->hooks, 0777);
	assert_error(run(b, 1000000), ERR_DENIED, "can be changed by others");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = { T(nothing), T(order), T(told), T(told_the_network),
		T(told_of_many), T(veto), T(cannot_run), T(time_limit), T(daemonizes), T(talks),
		T(told_to_stop), T(not_trusted) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
