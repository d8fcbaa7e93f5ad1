// SPDX-License-Identifier: Apache-2.0
/* Messages between roles: descriptors arrive, queues are kept in order, nonsense ends a connection.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "roles/ipc.h"

static void progress_init(Migrate__Ipc *ipc, Migrate__Progress *p, uint64_t number)
{
	migrate__ipc__init(ipc);
	migrate__progress__init(p);
	p->round = (uint32_t)number;
	ipc->body_case = MIGRATE__IPC__BODY_PROGRESS;
	ipc->progress = p;
}

static void blocking(void **state unused_arg)
{
	autoipc struct ipc_msg got = { .m = NULL };
	Migrate__Progress p;
	Migrate__Ipc m;
	int fds[2], pipe_fds[2];
	char c;
	struct err *e;

	assert_null(ipc_pair(fds));
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	progress_init(&m, &p, 7);
	assert_null(ipc_send(fds[0], &m, pipe_fds, 2, deadline_in(60000000)));
	assert_null(ipc_recv(fds[1], DEADLINE_NEVER, &got));
	assert_int_equal(got.m->progress->round, 7);
	assert_int_equal(got.n_fds, 2);
	assert_true(fcntl(got.fds[0], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(got.fds[1], "x", 1), 1);
	assert_int_equal(read(pipe_fds[0], &c, 1), 1);
	ipc_msg_fini(&got);
	e = ipc_recv(fds[1], deadline_in(1000), &got);
	assert_non_null(e);
	assert_int_equal(err_code(e), ERR_TIMEOUT);
	err_free(e);
	/* Its last words come although it never reads ours. */
	assert_null(ipc_send(fds[1], &m, NULL, 0, deadline_in(60000000)));
	assert_null(ipc_send(fds[0], &m, NULL, 0, deadline_in(60000000)));
	close(fds[0]);
	assert_null(ipc_recv(fds[1], DEADLINE_NEVER, &got));
	ipc_msg_fini(&got);
	e = ipc_recv(fds[1], DEADLINE_NEVER, &got);
	assert_non_null(e);
	assert_int_equal(err_code(e), ERR_GONE);
	err_free(e);
	e = ipc_send(fds[1], &m, NULL, 0, deadline_in(60000000));
	assert_non_null(e);
	assert_int_equal(err_code(e), ERR_GONE);
	err_free(e);
	close(fds[1]);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static void nobody_reads(void **state unused_arg)
{
	Migrate__Progress p;
	Migrate__Ipc m;
	struct err *e = NULL;
	int fds[2];

	assert_null(ipc_pair(fds));
	progress_init(&m, &p, 1);
	for (int i = 0; i < 1000000 && !e; i++)
		e = ipc_send(fds[0], &m, NULL, 0, deadline_in(100000));
	assert_non_null(e);
	assert_int_equal(err_code(e), ERR_TIMEOUT);
	err_free(e);
	close(fds[0]);
	close(fds[1]);
}

struct peer {
	struct event_base *base;
	struct ipc *ipc;
	uint64_t next;
	bool closed, free_in_handler;
};

static void on_progress(void *arg, struct ipc *from, struct ipc_msg *msg)
{
	struct peer *p = arg;

	assert_int_equal(msg->m->progress->round, p->next++);
	if (p->free_in_handler) {
		p->ipc = NULL;
		ipc_free(from);
	}
}

static void on_closed(void *arg, struct ipc *from)
{
	struct peer *p = arg;

	p->closed = true;
	p->ipc = NULL;
	ipc_free(from);
	event_base_loopbreak(p->base);
}

static const struct ipc_handlers handlers = {
	.by_case = { [MIGRATE__IPC__BODY_PROGRESS] = on_progress },
	.closed = on_closed,
};

static void peer_open(struct peer *p, int *other)
{
	int fds[2];

	*p = (struct peer){ .base = event_base_new() };
	assert_null(ipc_pair(fds));
	p->ipc = ipc_new(p->base, fds[0], &handlers, p);
	*other = fds[1];
}

static void peer_close(struct peer *p)
{
	ipc_free(p->ipc);
	event_base_free(p->base);
}

/* More than the socket holds, to one who reads late: all of it, in order. */
static void queue(void **state unused_arg)
{
	enum { N = 20000 };
	struct peer p;
	int other;

	peer_open(&p, &other);
	for (uint64_t i = 0; i < N; i++) {
		Migrate__Progress progress;
		Migrate__Ipc m;

		progress_init(&m, &progress, i);
		ipc_post(p.ipc, &m, NULL, 0);
	}
	assert_true(ipc_pending(p.ipc));
	for (uint64_t i = 0; i < N; i++) {
		autoipc struct ipc_msg got = { .m = NULL };

		event_base_loop(p.base, EVLOOP_NONBLOCK);
		assert_null(ipc_recv(other, DEADLINE_NEVER, &got));
		assert_int_equal(got.m->progress->round, i);
	}
	assert_false(ipc_pending(p.ipc));
	close(other);
	peer_close(&p);
}

static void last_words(void **state unused_arg)
{
	Migrate__Progress progress;
	Migrate__Ipc m;
	struct peer p;
	int other;

	peer_open(&p, &other);
	for (uint64_t i = 0; i < 3; i++) {
		progress_init(&m, &progress, i);
		assert_null(ipc_send(other, &m, NULL, 0, deadline_in(60000000)));
	}
	close(other);
	ipc_drain(p.ipc);
	assert_int_equal(p.next, 3);
	assert_true(p.closed);
	peer_close(&p);
}

static void nonsense(void **state unused_arg)
{
	static const uint8_t bytes[] = { 0xff, 0xff, 0xff, 0xff, 0x01 };
	Migrate__RoleReady ready = MIGRATE__ROLE_READY__INIT;
	Migrate__Ipc m = MIGRATE__IPC__INIT;
	struct peer p;
	int other;

	peer_open(&p, &other);
	assert_int_equal(send(other, bytes, sizeof(bytes), 0), sizeof(bytes));
	event_base_dispatch(p.base);
	assert_true(p.closed);
	close(other);
	peer_close(&p);

	/* A message that may not come here. */
	peer_open(&p, &other);
	m.body_case = MIGRATE__IPC__BODY_READY;
	m.ready = &ready;
	assert_null(ipc_send(other, &m, NULL, 0, deadline_in(60000000)));
	event_base_dispatch(p.base);
	assert_true(p.closed);
	close(other);
	peer_close(&p);

	/* An empty one: no body at all. */
	peer_open(&p, &other);
	assert_int_equal(send(other, "", 0, 0), 0);
	event_base_dispatch(p.base);
	assert_true(p.closed);
	close(other);
	peer_close(&p);
}

static void freed_in_handler(void **state unused_arg)
{
	Migrate__Progress progress;
	Migrate__Ipc m;
	struct peer p;
	int other;

	peer_open(&p, &other);
	p.free_in_handler = true;
	progress_init(&m, &progress, 0);
	assert_null(ipc_send(other, &m, NULL, 0, deadline_in(60000000)));
	assert_null(ipc_send(other, &m, NULL, 0, deadline_in(60000000)));
	ipc_drain(p.ipc);
	assert_int_equal(p.next, 1);
	close(other);
	peer_close(&p);
}

/* No number is free for a descriptor any more, or all are again. */
static void allow_descriptors(bool more)
{
	struct rlimit r;
	int next = dup(STDIN_FILENO);

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &r), 0);
	r.rlim_cur = more ? r.rlim_max : (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &r), 0);
	if (next >= 0)
		close(next);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &r), 0);
}

/* What has descriptors is sent where there is no room for another, and comes without them where
 * there is none, which is said and is nobody's fault. */
static void no_room(void **state unused_arg)
{
	autoipc struct ipc_msg got = { .m = NULL };
	Migrate__Progress progress;
	Migrate__Ipc m;
	struct err *e;
	struct peer p;
	int other;

	peer_open(&p, &other);
	progress_init(&m, &progress, 0);
	allow_descriptors(false);
	assert_int_equal(dup(STDIN_FILENO), -1);
	ipc_post(p.ipc, &m, (int[]){ STDIN_FILENO }, 1);
	assert_false(ipc_was_cut(p.ipc));
	assert_null(ipc_recv(other, deadline_in(60000000), &got));
	assert_int_equal(got.n_fds, 0);
	e = ipc_no_room(&got);
	assert_non_null(e);
	assert_int_equal(err_code(e), ERR_LIMIT);
	err_free(e);
	ipc_msg_fini(&got);
	assert_null(ipc_send(other, &m, (int[]){ STDIN_FILENO }, 1, deadline_in(60000000)));
	ipc_drain(p.ipc);
	assert_int_equal(p.next, 1);
	assert_false(p.closed);
	allow_descriptors(true);
	close(other);
	peer_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocking),
		cmocka_unit_test(nobody_reads),
		cmocka_unit_test(queue),
		cmocka_unit_test(last_words),
		cmocka_unit_test(nonsense),
		cmocka_unit_test(freed_in_handler),
		cmocka_unit_test(no_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
