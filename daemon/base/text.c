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

/* ---- plain text ---- */

static const struct code_range {
	uint32_t first, last;
} not_plain[] = {
	{ 0x00, 0x1f },
	{ 0x7f, 0x9f },
	{ 0x061c, 0x061c },
	{ 0x200e, 0x200f },
	{ 0x2028, 0x202e },
	{ 0x2066, 0x2069 },
	{ 0xd800, 0xdfff },
};

/* Bytes of the well-formed UTF-8 character at s; 0: there is none. */
static size_t decode(const unsigned char *s, uint32_t *code)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

	if (n == 0 || s[0] > 0xf4)
		return 0;
	*code = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80) /* the end of the string, too */
			return 0;
		*code = *code << 6 | (s[i] & 0x3f);
	}
	return *code >= least[n] && *code <= 0x10ffff ? n : 0;
}

void text_plain(char *s)
{
	unsigned char *from = (unsigned char *)s, *to = from;

	while (*from) {
		uint32_t code = 0;
		size_t n = decode(from, &code);
		bool good = n > 0;

		for (size_t i = 0; i < ARRAY_LEN(not_plain); i++)
			good = good && !(code >= not_plain[i].first && code <= not_plain[i].last);
		n = n ? n : 1;
		if (good)
			memmove(to, from, n);
		else
			*to = '?';
		to += good ? n : 1;
		from += n;
	}
	*to = '\0';
}

void text_value(struct text *t, const char *s)
{
	static const char harmless[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				       "0123456789.:_-+/@%,[]";
	autofree char *plain = xstrdup(s);

	text_plain(plain);
	if (plain[0] && plain[strspn(plain, harmless)] == '\0') {
		text_addf(t, "%s", plain);
		return;
	}
	text_addf(t, "\"");
	for (const char *c = plain; *c; c++)
		text_addf(t, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
	text_addf(t, "\"");
}

/* ---- numbers ---- */

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
