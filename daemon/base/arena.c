// SPDX-License-Identifier: Apache-2.0
#include "base/arena.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES 8192
#define ALIGN_BYTES 16

struct chunk {
	struct chunk *next;
	size_t used, size;
	_Alignas(ALIGN_BYTES) char data[];
};

struct arena {
	struct chunk *head;
	size_t bytes;
};

struct arena *arena_new(void)
{
	return xcalloc(1, sizeof(struct arena));
}

void arena_free(struct arena *a)
{
	struct chunk *next;

	if (!a)
		return;
	for (struct chunk *c = a->head; c; c = next) {
		next = c->next;
		free(c);
	}
	free(a);
}

void arena_freep(struct arena **a)
{
	arena_free(*a);
	*a = NULL;
}

static struct chunk *chunk_add(struct arena *a, size_t bytes)
{
	size_t size = MAX((size_t)CHUNK_BYTES, bytes);
	struct chunk *c = xcalloc(1, sizeof(*c) + size);

	c->size = size;
	/* A large block goes behind the head, which keeps its free room. */
	if (a->head && bytes > CHUNK_BYTES / 2) {
		c->next = a->head->next;
		a->head->next = c;
	} else {
		c->next = a->head;
		a->head = c;
	}
	return c;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
	struct chunk *c = a->head;
	void *p;

	if (bytes > SIZE_MAX / 2)
		abort();
	bytes = (MAX(bytes, (size_t)1) + ALIGN_BYTES - 1) & ~(size_t)(ALIGN_BYTES - 1);
	if (!c || c->size - c->used < bytes)
		c = chunk_add(a, bytes);
	p = c->data + c->used;
	c->used += bytes;
	a->bytes += bytes;
	return p;
}

void *arena_array(struct arena *a, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes))
		abort();
	return arena_alloc(a, bytes);
}

void *arena_dup(struct arena *a, const void *data, size_t bytes)
{
	void *p = arena_alloc(a, bytes);

	if (bytes)
		memcpy(p, data, bytes);
	return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_dup(a, s, strlen(s) + 1);
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	autofree char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = xvprintf(fmt, ap);
	va_end(ap);
	return arena_strdup(a, text);
}

void *arena_grow(struct arena *a, void *old, size_t *cap, size_t n, size_t size)
{
	size_t want = MAX(*cap, (size_t)8);
	void *grown;

	if (n <= *cap)
		return old;
	while (want < n)
		want *= 2;
	grown = arena_array(a, want, size);
	if (*cap)
		memcpy(grown, old, *cap * size);
	*cap = want;
	return grown;
}

size_t arena_bytes(const struct arena *a)
{
	return a->bytes;
}
