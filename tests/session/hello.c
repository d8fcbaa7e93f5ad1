// SPDX-License-Identifier: Apache-2.0
/*
 * Connections that join another one's migration: what HELLO says of it, who is asked, and what the
 * dialling side hears. Versions and nonsense: tls.c.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "proto/frame.h"
#include "session/hello.h"

#define LIMIT_US 60000000

static struct identity *id;

static int setup(void **state unused_arg)
{
	signal(SIGPIPE, SIG_IGN);
	return identity_new(&id) ? -1 : 0;
}

static int teardown(void **state unused_arg)
{
	identity_free(id);
	return 0;
}

static struct err *any_key(void *arg unused_arg, const char *fingerprint unused_arg)
{
	return NULL;
}

/* What one end does, in a thread of its own, and what came of it. */
struct end {
	enum tls_side side;
	struct hello_self self;
	const uint8_t *raw; /* dialling: a frame instead of HELLO */
	size_t raw_bytes;
	int fd;
	struct hello_peer peer;
	struct err *error;
};

static struct err *talk(struct end *end, struct tls *t)
{
	struct deadline d = deadline_in(LIMIT_US);

	if (end->raw)
		return tls_write_full(t, end->raw, end->raw_bytes, d);
	if (end->side == TLS_DIAL)
		return hello_dial(t, &end->self, d, &end->peer);
	return hello_accept(t, &end->self, d, &end->peer);
}

static void *run(void *arg)
{
	struct end *end = arg;
	struct tls_ctx ctx;
	struct tls *t = NULL;

	end->self.software = "test";
	end->self.boot_id = "boot";
	assert_null(tls_ctx_init(&ctx, id, end->side));
	assert_null(tls_handshake(
		&ctx, end->fd, (struct tls_verify){ any_key, NULL }, deadline_in(LIMIT_US), &t));
	end->error = talk(end, t);
	tls_close(t, deadline_in(LIMIT_US));
	tls_ctx_fini(&ctx);
	return NULL;
}

static void both(struct end *dial, struct end *accept)
{
	pthread_t thread;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	dial->side = TLS_DIAL;
	dial->fd = fds[0];
	accept->side = TLS_ACCEPT;
	accept->fd = fds[1];
	assert_int_equal(pthread_create(&thread, NULL, run, accept), 0);
	run(dial);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

/* Who is asked, and what is answered. */
struct doorman {
	struct hello_join seen;
	unsigned asked;
	enum err_code refuse; /* 0: may */
};

static struct err *may_join(void *arg, const struct hello_join *j)
{
	struct doorman *d = arg;

	d->seen = *j;
	d->asked++;
	return d->refuse ? err_new(d->refuse, "no such migration") : NULL;
}

static void first_connection_gets_a_token(void **state unused_arg)
{
	struct doorman door = { .asked = 0 };
	struct end a = { .raw = NULL }, b = { .self = { .may_join = may_join, .arg = &door } };
	struct end c = { .raw = NULL }, d = b;

	both(&a, &b);
	assert_null(a.error);
	assert_null(b.error);
	assert_int_equal(door.asked, 0);
	assert_true(a.peer.can_join && b.peer.can_join);
	assert_int_equal(a.peer.join.number, 0);
	assert_int_equal(b.peer.join.number, 0);
	assert_memory_equal(a.peer.join.token, b.peer.join.token, JOIN_TOKEN_BYTES);
	both(&c, &d);
	assert_memory_not_equal(a.peer.join.token, c.peer.join.token, JOIN_TOKEN_BYTES);
}

static void joins(void **state unused_arg)
{
	struct doorman door = { .asked = 0 };
	struct end a = { .self = { .join = { 7, "fifteen letters" } } };
	struct end b = { .self = { .may_join = may_join, .arg = &door } };

	both(&a, &b);
	assert_null(a.error);
	assert_null(b.error);
	assert_int_equal(door.asked, 1);
	assert_int_equal(door.seen.number, 7);
	assert_memory_equal(door.seen.token, a.self.join.token, JOIN_TOKEN_BYTES);
	assert_int_equal(b.peer.join.number, 7);
	/* a connection that joins is not joined itself */
	assert_false(a.peer.can_join || b.peer.can_join);
}

static void is_refused(void **state unused_arg)
{
	struct doorman door = { .refuse = ERR_GONE };
	struct end a = { .self = { .join = { 1, "fifteen letters" } } };
	struct end b = { .self = { .may_join = may_join, .arg = &door } };

	both(&a, &b);
	assert_int_equal(err_code(b.error), ERR_GONE);
	/* and told so in those words */
	assert_int_equal(err_code(a.error), ERR_GONE);
	assert_string_equal(err_text(a.error, 0), "the other host refused the connection");
	assert_string_equal(err_text(a.error, 1), "no such migration");
	err_free(a.error);
	err_free(b.error);
}

static void nobody_to_ask(void **state unused_arg)
{
	struct end a = { .self = { .join = { 1, "fifteen letters" } } }, b = { .raw = NULL };

	both(&a, &b);
	assert_int_equal(err_code(a.error), ERR_UNSUPPORTED);
	assert_int_equal(err_code(b.error), ERR_UNSUPPORTED);
	err_free(a.error);
	err_free(b.error);
}

/* A Join that is none never reaches the doorman. */
static void nonsense(void **state unused_arg)
{
	static const struct {
		const char *body;
		size_t n;
	} bad[] = {
		{ "\x08\x01\x10\x01\x3a\x00", 6 },                   /* empty */
		{ "\x08\x01\x10\x01\x3a\x05\x0a\x01x\x10\x01", 11 }, /* a token of one byte */
		{ "\x08\x01\x10\x01\x3a\x12\x0a\x10"
		  "0123456789abcdef",
			24 }, /* number 0 */
		{ "\x08\x01\x10\x01\x3a\x15\x0a\x10"
		  "0123456789abcdef\x10\x80\x02",
			27 }, /* number 256 */
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct doorman door = { .asked = 0 };
		struct end a = { .raw = NULL };
		struct end b = { .self = { .may_join = may_join, .arg = &door } };
		uint8_t frame[64];

		frame_encode(&(struct frame_head){ (uint32_t)bad[i].n, FRAME_HELLO, 0 }, frame);
		memcpy(frame + FRAME_HEAD_BYTES, bad[i].body, bad[i].n);
		a.raw = frame;
		a.raw_bytes = FRAME_HEAD_BYTES + bad[i].n;
		both(&a, &b);
		assert_null(a.error);
		assert_int_equal(err_code(b.error), ERR_PEER);
		assert_non_null(strstr(err_text(b.error, 0), "join"));
		assert_int_equal(door.asked, 0);
		err_free(b.error);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_connection_gets_a_token),
		cmocka_unit_test(joins),
		cmocka_unit_test(is_refused),
		cmocka_unit_test(nobody_to_ask),
		cmocka_unit_test(nonsense),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
