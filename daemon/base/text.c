// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void text_fini(struct text *t)
{
	free(t->s);
	*t = (struct text){ 0 };
}

static void reserve(struct text *t, size_t n)
{
	if (t->len + n + 1 <= t->cap)
		return;
	t->cap = MAX(t->cap * 2, t->len + n + 64);
	t->s = xrealloc_array(t->s, t->cap, 1);
}

void text_add(struct text *t, const char *s, size_t n)
{
	reserve(t, n);
	if (n)
		memcpy(t->s + t->len, s, n);
	t->len += n;
	t->s[t->len] = '\0';
}

void text_addf(struct text *t, const char *fmt, ...)
{
	autofree char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	s = xvprintf(fmt, ap);
	va_end(ap);
	text_add(t, s, strlen(s));
}

const char *text_str(const struct text *t)
{
	return t->len ? t->s : "";
}

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

bool text_scan_u64(const char **p, unsigned base, uint64_t *ret)
{
	const char *s = *p;
	uint64_t v = 0;

	for (int d = digit_of(*s); d < (int)base; d = digit_of(*++s))
		if (__builtin_mul_overflow(v, (uint64_t)base, &v) ||
			__builtin_add_overflow(v, (uint64_t)d, &v))
			return false;
	if (s == *p)
		return false;
	*p = s;
	*ret = v;
	return true;
}

bool text_scan_lit(const char **p, const char *lit)
{
	size_t n = strlen(lit);

	if (strncmp(*p, lit, n) != 0)
		return false;
	*p += n;
	return true;
}

struct err *text_u64(const char *s, unsigned base, const char *what, uint64_t *ret)
{
	const char *p = s;
	uint64_t v;

	if (!text_scan_u64(&p, base, &v) || *p)
		return err_new(ERR_INVALID, "%s \"%s\" is not a number", what, s);
	*ret = v;
	return NULL;
}

struct err *text_size(const char *s, const char *what, uint64_t *ret)
{
	static const char units[] = "KMGT";
	const char *p = s, *unit;
	uint64_t v;

	if (!text_scan_u64(&p, 10, &v))
		return err_new(ERR_INVALID, "%s \"%s\" is not a size", what, s);
	if (*p) {
		unit = strchr(units, toupper((unsigned char)*p));
		if (!unit || p[1])
			return err_new(ERR_INVALID, "%s \"%s\" is not a size", what, s);
		if (__builtin_mul_overflow(v, 1ULL << (10 * (unit - units + 1)), &v))
			return err_new(ERR_INVALID, "%s \"%s\" is too large", what, s);
	}
	*ret = v;
	return NULL;
}

bool text_is_id(const char *s, size_t max)
{
	size_t len = strnlen(s, max + 1);

	if (len == 0 || len > max)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)s[i]) && !(i && strchr("-_", s[i])))
			return false;
	return true;
}
