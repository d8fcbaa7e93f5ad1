/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every file may use: attributes, ownership by scope, small array helpers.
 *
 * Ownership: whoever declares a variable cleans it up (AUTO, autoclose, autofree, autoerr).
 * Moving it out of the scope is written take(&p) or take_fd(&fd).
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define must_check        __attribute__((warn_unused_result))
#define printf_like(f, a) __attribute__((format(printf, f, a)))
#define unused_arg        __attribute__((unused))
#define AUTO(fn)          __attribute__((cleanup(fn)))
#define autoclose         AUTO(fd_closep)
#define autofree          AUTO(mem_freep)

#define ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)                       ((a) < (b) ? (a) : (b))
#define MAX(a, b)                       ((a) > (b) ? (a) : (b))
#define PAGE_BYTES                      4096ULL
#define PAGE_DOWN(x)                    ((x) & ~(PAGE_BYTES - 1))
#define PAGE_UP(x)                      PAGE_DOWN((x) + PAGE_BYTES - 1)
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Takes the value out of a pointer variable and leaves NULL there. */
#define take(pp) \
	({ \
		__typeof__(*(pp)) taken_ = *(pp); \
		*(pp) = NULL; \
		taken_; \
	})

/* Takes a descriptor out of its variable and leaves -1 there. */
static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Closes *fd when it is one and sets it to -1; keeps errno. */
void fd_closep(int *fd);
/* Frees what *(void **)p points to. */
void mem_freep(void *p);

/* Allocation that never returns NULL: without memory the process aborts (a worker is one
 * migration, and the kernel undoes what it holds). xrealloc_array checks the product. */
void *xcalloc(size_t n, size_t size) must_check;
void *xrealloc_array(void *p, size_t n, size_t size) must_check;
char *xstrdup(const char *s) must_check;
char *xvprintf(const char *fmt, va_list ap) printf_like(1, 0) must_check;
