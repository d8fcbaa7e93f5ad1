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

/* Somebody else's words on their way to a log or a terminal: what a terminal obeys (C0, DEL, C1 in
 * either form) or shows in another order (bidirectional overrides), line separators, and bytes that
 * are no UTF-8 become '?'. In place; never longer. */
void text_plain(char *s);
/* As the value of key=value in a log line: plain, and in quotes with \ before " and \ unless it is
 * one word of harmless characters. So a value cannot pass for more keys. */
void text_value(struct text *t, const char *s);

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
