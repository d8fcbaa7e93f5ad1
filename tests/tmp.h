/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Temporary files of C tests: in TMPDIR, which tests/run makes for each test and finds empty
 * afterwards, or in /tmp.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TMP_BYTES 64

/* "DIR/NAME-XXXXXX" for mkdtemp and mkstemp; NAME has at most 20 characters. */
static inline char *tmp_template(char path[TMP_BYTES], const char *name)
{
	const char *dir = getenv("TMPDIR");

	/* Names of sockets are added, and those are short. */
	if (!dir || dir[0] != '/' || strlen(dir) > 32)
		dir = "/tmp";
	snprintf(path, TMP_BYTES, "%.32s/%.20s-XXXXXX", dir, name);
	return path;
}
