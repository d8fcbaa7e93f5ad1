// SPDX-License-Identifier: Apache-2.0
#include "kinds/cache.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "kernel/proc.h"

struct entry {
	struct stat st;
	const uint8_t *bytes;
	size_t len;
};

struct kind_cache {
	struct arena *arena;
	struct entry *v;
	size_t n, cap;
	struct common {
		enum kind_cache_what what;
		uint64_t id;
		const void *bytes;
	} * common;
	size_t n_common, cap_common;
	struct outside *outside; /* NULL before the first look */
};

struct kind_cache *kind_cache_new(void)
{
	struct kind_cache *k = xcalloc(1, sizeof(*k));

	k->arena = arena_new();
	return k;
}

void kind_cache_free(struct kind_cache *k)
{
	if (!k)
		return;
	arena_free(k->arena);
	outside_free(k->outside);
	free(k);
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool unchanged(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       same_time(&a->st_mtim, &b->st_mtim) && same_time(&a->st_ctim, &b->st_ctim);
}

const uint8_t *kind_cache_get(const struct kind_cache *k, const struct stat *st, size_t *len)
{
	for (size_t i = k ? k->n : 0; i > 0; i--) {
		const struct entry *e = &k->v[i - 1];

		if (unchanged(&e->st, st)) {
			*len = e->len;
			return e->bytes;
		}
	}
	return NULL;
}

void kind_cache_put(struct kind_cache *k, const struct stat *st, const void *bytes, size_t len)
{
	if (!k)
		return;
	k->v = arena_grow(k->arena, k->v, &k->cap, k->n + 1, sizeof(*k->v));
	k->v[k->n++] = (struct entry){
		.st = *st,
		.bytes = arena_dup(k->arena, bytes, len),
		.len = len,
	};
}

const void *kind_cache_common(const struct kind_cache *k, enum kind_cache_what what, uint64_t id)
{
	for (size_t i = 0; k && i < k->n_common; i++)
		if (k->common[i].what == what && k->common[i].id == id)
			return k->common[i].bytes;
	return NULL;
}

const void *kind_cache_keep(
	struct kind_cache *k, enum kind_cache_what what, uint64_t id, const void *bytes, size_t len)
{
	struct common c = { what, id, NULL };

	if (!k)
		return NULL;
	c.bytes = arena_dup(k->arena, bytes, len);
	k->common = arena_grow(
		k->arena, k->common, &k->cap_common, k->n_common + 1, sizeof(*k->common));
	k->common[k->n_common++] = c;
	return c.bytes;
}

bool kind_cache_held_outside(struct kind_cache *k, const struct pids *inside, bool frozen,
	const char *link, struct holder_name *by)
{
	autoarena struct arena *a = arena_new();
	const struct outside_holder *h;
	struct proc_stat ps = { .comm = "?" };

	if (!k)
		return false;
	if (!k->outside) {
		autoerr struct err *e = frozen ? NULL : outside_scan(inside, &k->outside);

		/* Without /proc nothing else works either: somebody else reports it. */
		if (frozen || e)
			return false;
	}
	h = outside_find(k->outside, link);
	if (!h)
		return false;
	autoerr struct err *e = proc_stat(a, h->pid, 0, &ps);
	snprintf(by->text, sizeof(by->text), "process %d (%.16s)", h->pid, e ? "?" : ps.comm);
	return true;
}
