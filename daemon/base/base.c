// SPDX-License-Identifier: Apache-2.0
#include "base/base.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fd_closep(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

void mem_freep(void *p)
{
	free(*(void **)p);
	*(void **)p = NULL;
}

static void *or_abort(void *p)
{
	if (p)
		return p;
	fputs("out of memory\n", stderr);
	abort();
}

void *xcalloc(size_t n, size_t size)
{
	return or_abort(calloc(n ? n : 1, size ? size : 1));
}

void *xrealloc_array(void *p, size_t n, size_t size)
{
	return or_abort(reallocarray(p, n ? n : 1, size ? size : 1));
}

char *xvprintf(const char *fmt, va_list ap)
{
	char *text;

	return or_abort(vasprintf(&text, fmt, ap) < 0 ? NULL : text);
}

char *xstrdup(const char *s)
{
	return or_abort(strdup(s));
}
