/* SPDX-License-Identifier: Apache-2.0 */
/* A growing string, and numbers out of text that are checked to the last character. */
#pragma once

#include "base/err.h"

struct text {
	char *s; /* NUL-terminated when len > 0; NULL at first */
	size_t len, cap;
};

void text_fini(struct text *t);
#define autotext AUTO(text_fini)
void text_addf(struct text *t, const char *fmt, ...) printf_like(2, 3);
void text_add(struct text *t, const char *s, size_t n);
/* The string so far, "" when nothing was added. Owned by t. */
const char *text_str(const struct text *t);

/* The whole string must be the number: no sign, no blanks, no rest. `what` names it in the error
 * (INVALID). */
struct err *text_u64(const char *s, unsigned base, const char *what, uint64_t *ret) must_check;
/* A size in bytes: digits and at most one of K M G T (powers of 1024). */
struct err *text_size(const char *s, const char *what, uint64_t *ret) must_check;
/* For parsers of kernel text: reads a number at *p, moves *p behind it; false if there is none or
 * it does not fit. */
bool text_scan_u64(const char **p, unsigned base, uint64_t *ret);
/* Moves *p behind `lit` if it stands there. */
bool text_scan_lit(const char **p, const char *lit);
/* 1 to `max` letters, digits, - and _, the first of them one of the first two: fit for file names,
 * logs and terminals. */
bool text_is_id(const char *s, size_t max);
