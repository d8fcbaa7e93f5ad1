/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka and struct err. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants these in front */
#include <cmocka.h>

#include <stdlib.h>

#include "base/err.h"

/* Success, or the test fails with the error's text. */
static inline void ok(struct err *e)
{
	char *line = e ? err_line(e) : NULL;

	if (line)
		print_message("%s\n", line);
	free(line);
	assert_null(e);
}

/* Failure with this code; its text is printed. */
static inline void fails(struct err *e, enum err_code code)
{
	char *line;

	assert_non_null(e);
	line = err_line(e);
	print_message("  %s\n", line);
	free(line);
	assert_int_equal(err_code(e), code);
	err_free(e);
}
