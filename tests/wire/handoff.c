// SPDX-License-Identifier: Apache-2.0
/* The first byte on the pair: it comes alone, with its descriptors, and the wait for it ends. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "wire/handoff.h"

#define LIMIT_US 60000000

static void pair_open(int pair[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

static void pair_close(int pair[2])
{
	fd_closep(&pair[0]);
	fd_closep(&pair[1]);
}

/* What follows it stays where it is. */
static void test_alone(void **state unused_arg)
{
	enum handoff how;
	int pair[2], fds[2];
	char text[8];

	pair_open(pair);
	assert_null(handoff_say(pair[0], HANDOFF_PLAIN, NULL, 0));
	assert_int_equal(send(pair[0], "frame", 5, 0), 5);
	assert_null(handoff_hear(pair[1], deadline_in(LIMIT_US), &how, fds));
	assert_int_equal(how, HANDOFF_PLAIN);
	assert_int_equal(fds[0], -1);
	assert_int_equal(fds[1], -1);
	assert_int_equal(recv(pair[1], text, sizeof(text), MSG_DONTWAIT), 5);
	assert_memory_equal(text, "frame", 5);
	pair_close(pair);
}

static void test_with_descriptors(void **state unused_arg)
{
	int pair[2], ends[2], fds[2];
	enum handoff how;
	char text[8];

	pair_open(pair);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_null(handoff_say(pair[0], HANDOFF_RING, ends, 2));
	pair_close(ends);
	assert_int_equal(send(pair[0], "frame", 5, 0), 5);
	assert_null(handoff_hear(pair[1], deadline_in(LIMIT_US), &how, fds));
	assert_int_equal(how, HANDOFF_RING);
	assert_int_equal(write(fds[1], "pipe", 4), 4);
	assert_int_equal(read(fds[0], text, sizeof(text)), 4);
	assert_memory_equal(text, "pipe", 4);
	assert_int_equal(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
	pair_close(fds);
	assert_int_equal(recv(pair[1], text, sizeof(text), MSG_DONTWAIT), 5);
	pair_close(pair);
}

static void assert_code(struct err *e, enum err_code code)
{
	assert_non_null(e);
	assert_int_equal(err_code(e), code);
	err_free(e);
}

static void test_nobody(void **state unused_arg)
{
	enum handoff how;
	int pair[2], fds[2];

	pair_open(pair);
	assert_code(handoff_hear(pair[1], deadline_in(1000), &how, fds), ERR_TIMEOUT);
	fd_closep(&pair[0]);
	assert_code(handoff_hear(pair[1], deadline_in(LIMIT_US), &how, fds), ERR_GONE);
	pair_close(pair);
	pair_open(pair);
	fd_closep(&pair[1]);
	assert_code(handoff_say(pair[0], HANDOFF_PLAIN, NULL, 0), ERR_PEER);
	pair_close(pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_with_descriptors),
		cmocka_unit_test(test_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
