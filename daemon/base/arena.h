/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One allocation scope: things that live and die together (an object set, a parsed /proc file)
 * are allocated here and never freed one by one.
 */
#pragma once

#include "base/base.h"

struct arena;

struct arena *arena_new(void) must_check;
void arena_free(struct arena *a);
void arena_freep(struct arena **a);
#define autoarena AUTO(arena_freep)

/* Zeroed, aligned for any type, valid until arena_free; never NULL. */
void *arena_alloc(struct arena *a, size_t bytes) must_check;
void *arena_array(struct arena *a, size_t n, size_t size) must_check;
void *arena_dup(struct arena *a, const void *data, size_t bytes) must_check;
char *arena_strdup(struct arena *a, const char *s) must_check;
char *arena_printf(struct arena *a, const char *fmt, ...) printf_like(2, 3) must_check;
/* Grows an array that lives in the arena: returns room for at least n elements and updates *cap.
 * The old copy stays in the arena (doubling keeps the waste below the size of the result). */
void *arena_grow(struct arena *a, void *old, size_t *cap, size_t n, size_t size) must_check;
/* Bytes handed out so far: for limits. */
size_t arena_bytes(const struct arena *a);
