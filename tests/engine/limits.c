// SPDX-License-Identifier: Apache-2.0
/* What a source may make a destination keep, before anything is built. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/objects.h"
#include "engine/rebuild.h"
#include "proto/frame.h"
#include "session.pb-c.h"

#define BIG (8u << 20)

/* The same object again and again, each time as large as it may be. */
static void test_descriptions(void **state)
{
	const struct site_spec spec = { .pid = 4242, .interrupt_fd = -1 };
	struct site *s = site_new(&spec);
	Migrate__Objects all = MIGRATE__OBJECTS__INIT;
	Migrate__Object o = MIGRATE__OBJECT__INIT, *list = &o;
	autoerr struct err *e = NULL;
	uint8_t *body;
	size_t len;

	(void)state;
	o.kind = 1;
	o.body = (ProtobufCBinaryData){ BIG, calloc(1, BIG) };
	all.changed = &list;
	all.n_changed = 1;
	len = migrate__objects__get_packed_size(&all);
	body = malloc(len);
	migrate__objects__pack(&all, body);
	for (int i = 0; i < 15 && !e; i++)
		e = site_objects(s, body, len);
	assert_null(e);
	for (int i = 0; i < 2 && !e; i++)
		e = site_layout(s, 0, body, len);
	assert_non_null(e);
	assert_int_equal(err_code(e), ERR_LIMIT);
	site_free(s);
	free(o.body.data);
	free(body);
}

/* One frame with these objects. */
static struct err *send(struct site *s, Migrate__Object **list, size_t n)
{
	Migrate__Objects all = MIGRATE__OBJECTS__INIT;
	autofree uint8_t *body = NULL;
	size_t len;

	all.changed = list;
	all.n_changed = n;
	len = migrate__objects__get_packed_size(&all);
	body = malloc(len + 1);
	migrate__objects__pack(&all, body);
	return site_objects(s, body, len);
}

static void refused(struct err *e, enum err_code code)
{
	assert_non_null(e);
	assert_int_equal(err_code(e), code);
	err_free(e);
}

static void test_keys(void **state)
{
	const struct site_spec spec = { .pid = 4242, .interrupt_fd = -1 };
	struct site *s = site_new(&spec);
	Migrate__Object o = MIGRATE__OBJECT__INIT, other = o, *twice[] = { &o, &other, &o };

	(void)state;
	o.kind = other.kind = 1;
	other.id = 7;
	refused(send(s, twice, 3), ERR_PEER);
	assert_null(send(s, twice, 2));
	o.kind = 999;
	refused(send(s, twice, 2), ERR_PEER);
	site_free(s);
}

static void test_threads(void **state)
{
	static const uint64_t none[] = { 0, 1, (uint64_t)INT32_MAX + 1, UINT64_MAX };
	const struct site_spec spec = { .pid = 4242, .interrupt_fd = -1 };
	struct site *s = site_new(&spec);
	Migrate__Object o = MIGRATE__OBJECT__INIT, *list = &o;
	struct err *e = NULL;
	size_t n = 0;

	(void)state;
	o.kind = 2;
	for (size_t i = 0; i < ARRAY_LEN(none); i++) {
		o.id = none[i];
		refused(send(s, &list, 1), ERR_PEER);
	}
	for (; !e; n++) {
		o.id = 2 + n;
		e = send(s, &list, 1);
	}
	refused(e, ERR_LIMIT);
	assert_int_equal(n, PROC_THREADS_MAX + 1);
	site_free(s);
}

/* Two bytes that become a hundred: half of a frame is refused before it is in memory. */
static void test_amplified(void **state)
{
	const struct site_spec spec = { .pid = 4242, .interrupt_fd = -1 };
	struct site *s = site_new(&spec);
	autofree uint8_t *body = calloc(1, BIG);

	(void)state;
	for (size_t i = 0; i < BIG; i += 2)
		body[i] = 2 << 3 | 2; /* Objects.changed, empty */
	refused(site_objects(s, body, BIG), ERR_PEER);
	site_free(s);
}

static void test_interrupted(void **state)
{
	int ends[2];
	struct site_spec spec = { .pid = 4242 };
	Migrate__Object o = MIGRATE__OBJECT__INIT, *list = &o;
	struct notes notes = { 0 };
	struct site *s;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	spec.interrupt_fd = ends[0];
	spec.notes = &notes;
	s = site_new(&spec);
	o.kind = 1;
	assert_null(send(s, &list, 1));
	assert_null(site_check(s));
	assert_int_equal(write(ends[1], "c", 1), 1);
	refused(site_check(s), ERR_CANCELLED);
	site_free(s);
	notes_fini(&notes);
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descriptions),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_amplified),
		cmocka_unit_test(test_interrupted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
