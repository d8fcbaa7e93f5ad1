// SPDX-License-Identifier: Apache-2.0
/* What a source may make a destination keep, before anything is built. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

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
		e = site_layout(s, body, len);
	assert_non_null(e);
	assert_int_equal(err_code(e), ERR_LIMIT);
	site_free(s);
	free(o.body.data);
	free(body);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_descriptions) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
