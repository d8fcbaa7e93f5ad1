// SPDX-License-Identifier: Apache-2.0
/* A chain of sentences: see err.h. Outer sentences are put in front; the list is short. */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A longer chain than this is a loop of ours: inner sentences are kept, outer ones dropped. */
#define ERR_TEXTS_MAX 16

struct err {
	enum err_code code;
	int sysno;
	char *hint;
	size_t n;
	char *texts[ERR_TEXTS_MAX]; /* innermost first */
};

static const struct {
	enum err_code code;
	const char *name;
} names[] = {
	{ ERR_UNSUPPORTED, "UNSUPPORTED" },
	{ ERR_DENIED, "DENIED" },
	{ ERR_GONE, "GONE" },
	{ ERR_PEER, "PEER" },
	{ ERR_LIMIT, "LIMIT" },
	{ ERR_KERNEL, "KERNEL" },
	{ ERR_CANCELLED, "CANCELLED" },
	{ ERR_BUG, "BUG" },
	{ ERR_MISMATCH, "MISMATCH" },
	{ ERR_TIMEOUT, "TIMEOUT" },
	{ ERR_INVALID, "INVALID" },
};

static const struct {
	int no;
	enum err_code code;
} errno_codes[] = {
	{ ESRCH, ERR_GONE },
	{ EPERM, ERR_DENIED },
	{ EACCES, ERR_DENIED },
	{ ETIMEDOUT, ERR_TIMEOUT },
	{ ENOMEM, ERR_LIMIT },
	{ ENOSPC, ERR_LIMIT },
	{ EMFILE, ERR_LIMIT },
	{ ENFILE, ERR_LIMIT },
	{ ECONNREFUSED, ERR_PEER },
	{ ECONNRESET, ERR_PEER },
	{ EPIPE, ERR_PEER },
	{ EHOSTUNREACH, ERR_PEER },
	{ ENETUNREACH, ERR_PEER },
	{ EDQUOT, ERR_LIMIT },
};

__attribute__((format(printf, 2, 0))) static void add_text(
	struct err *e, const char *fmt, va_list ap)
{
	if (e->n < ERR_TEXTS_MAX)
		e->texts[e->n++] = xvprintf(fmt, ap);
}

struct err *err_new(enum err_code code, const char *fmt, ...)
{
	struct err *e = xcalloc(1, sizeof(*e));
	va_list ap;

	e->code = code;
	va_start(ap, fmt);
	add_text(e, fmt, ap);
	va_end(ap);
	return e;
}

struct err *err_errno(int no, const char *fmt, ...)
{
	struct err *e = xcalloc(1, sizeof(*e));
	va_list ap;

	e->code = ERR_KERNEL;
	e->sysno = no;
	for (size_t i = 0; i < ARRAY_LEN(errno_codes); i++)
		if (errno_codes[i].no == no)
			e->code = errno_codes[i].code;
	e->texts[e->n++] = xstrdup(strerror(no));
	va_start(ap, fmt);
	add_text(e, fmt, ap);
	va_end(ap);
	return e;
}

struct err *err_in(struct err *inner, const char *fmt, ...)
{
	va_list ap;

	if (!inner)
		return NULL;
	va_start(ap, fmt);
	add_text(inner, fmt, ap);
	va_end(ap);
	return inner;
}

struct err *err_hint(struct err *e, const char *fmt, ...)
{
	va_list ap;

	if (!e || e->hint)
		return e;
	va_start(ap, fmt);
	e->hint = xvprintf(fmt, ap);
	va_end(ap);
	return e;
}

void err_free(struct err *e)
{
	if (!e)
		return;
	for (size_t i = 0; i < e->n; i++)
		free(e->texts[i]);
	free(e->hint);
	free(e);
}

void err_freep(struct err **e)
{
	err_free(*e);
	*e = NULL;
}

enum err_code err_code(const struct err *e)
{
	return e->code;
}

const char *err_code_name(enum err_code code)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (names[i].code == code)
			return names[i].name;
	return "UNKNOWN";
}

int err_sysno(const struct err *e)
{
	return e->sysno;
}

const char *err_text(const struct err *e, size_t i)
{
	return i < e->n ? e->texts[e->n - 1 - i] : NULL;
}

const char *err_hint_text(const struct err *e)
{
	return e->hint;
}

char *err_line(const struct err *e)
{
	size_t len = 1;
	char *line, *end;

	for (size_t i = 0; i < e->n; i++)
		len += strlen(e->texts[i]) + 2;
	end = line = xcalloc(1, len);
	for (size_t i = 0; i < e->n; i++) {
		end = stpcpy(end, i ? ": " : "");
		end = stpcpy(end, err_text(e, i));
	}
	return line;
}
