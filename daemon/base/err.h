/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one way to fail: a fallible function returns struct err *, NULL is success.
 *
 * An err is a chain of sentences, outermost first, with one stable code, an errno where a system
 * call failed, and at most one hint. Sentences have no capital, no full stop, no newline and no
 * "failed to": "open /proc/812/maps". Results go to out-parameters, written on success only.
 */
#pragma once

#include "base/base.h"

/* Stable: these are on the wire, in JSON and in the documentation. Never renumber. */
enum err_code {
	ERR_UNSUPPORTED = 1, /* an object that cannot be moved (yet) */
	ERR_DENIED = 2,      /* permission or policy */
	ERR_GONE = 3,        /* the process or the object ended meanwhile */
	ERR_PEER = 4,        /* the other host: unreachable, lost, or speaks nonsense */
	ERR_LIMIT = 5,       /* a named limit, or no room */
	ERR_KERNEL = 6,      /* a system call failed in a way that no other code names */
	ERR_CANCELLED = 7,   /* somebody asked for it */
	ERR_BUG = 8,         /* our own fault */
	ERR_MISMATCH = 9,    /* the hosts differ in something that matters (file, CPU, kernel) */
	ERR_TIMEOUT = 10,    /* a deadline passed */
	ERR_INVALID = 11,    /* input that makes no sense (option, config, request) */
};

struct err;

/* A new error. The text is the innermost sentence. */
struct err *err_new(enum err_code code, const char *fmt, ...) printf_like(2, 3) must_check;
/* A new error from an errno value; the code is derived from it (ESRCH is GONE, EPERM and EACCES
 * are DENIED, ETIMEDOUT is TIMEOUT, anything else KERNEL), and its text is appended as a cause. */
struct err *err_errno(int no, const char *fmt, ...) printf_like(2, 3) must_check;
/* Puts the next larger thing in front. Takes and returns `inner`; NULL stays NULL. */
struct err *err_in(struct err *inner, const char *fmt, ...) printf_like(2, 3) must_check;
/* Sets what to try; the innermost hint wins (a later one is ignored). Takes and returns `e`; NULL
 * stays NULL. */
struct err *err_hint(struct err *e, const char *fmt, ...) printf_like(2, 3) must_check;
void err_free(struct err *e);
/* Frees *e and sets it to NULL: for AUTO(). */
void err_freep(struct err **e);
#define autoerr AUTO(err_freep)

enum err_code err_code(const struct err *e);
/* "UNSUPPORTED", "DENIED", ...; "UNKNOWN" for a number that we do not know. */
const char *err_code_name(enum err_code code);
/* 0 when no system call was involved. */
int err_sysno(const struct err *e);
/* Sentence i, 0 is the outermost; NULL behind the last one. Owned by e. */
const char *err_text(const struct err *e, size_t i);
/* NULL when there is none. Owned by e. */
const char *err_hint_text(const struct err *e);
/* All sentences, "outer: inner: innermost", in one string that the caller frees. */
char *err_line(const struct err *e) must_check;

#define TRY(expr) \
	do { \
		struct err *e_ = (expr); \
		if (e_) \
			return e_; \
	} while (0)
#define TRY_IN(expr, ...) \
	do { \
		struct err *e_ = (expr); \
		if (e_) \
			return err_in(e_, __VA_ARGS__); \
	} while (0)
