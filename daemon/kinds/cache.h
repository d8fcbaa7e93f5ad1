/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is dear to find out about a file and stays true as long as the file is not changed (inode,
 * size, modification and change time): its digest, or that it was compared already. The engine
 * makes one cache on each side of a migration and hands it to every capture and rebuild, so that a
 * file is read in the rehearsal and not again in the frozen stretch. All functions take NULL for
 * "no cache".
 */
#pragma once

#include <sys/stat.h>

#include "base/base.h"
#include "kernel/outside.h"

struct kind_cache;

struct kind_cache *kind_cache_new(void) must_check;
void kind_cache_free(struct kind_cache *k);

/* The bytes that were put for this file in its present state, or NULL. Owned by the cache. */
const uint8_t *kind_cache_get(const struct kind_cache *k, const struct stat *st, size_t *len);
/* Copies the bytes; a later put for the same file wins. */
void kind_cache_put(struct kind_cache *k, const struct stat *st, const void *bytes, size_t len);

/* Whatever else is the same for many objects of a migration, by a number that its kind chooses;
 * made by nobody but who finds none. NULL: none yet, or no cache. */
enum kind_cache_what { KIND_CACHE_SOCKET_DEFAULTS };
const void *kind_cache_common(const struct kind_cache *k, enum kind_cache_what what, uint64_t id);
/* Copies the bytes and returns the copy, which is the cache's; NULL without a cache. */
const void *kind_cache_keep(struct kind_cache *k, enum kind_cache_what what, uint64_t id,
	const void *bytes, size_t len);

/* Who else holds the pipe or socket with this link: `by` describes it ("process 812 (sh)"). False
 * when nobody does, and when it was not looked up yet and the target is frozen (the look takes too
 * long then; the rehearsal has done it). The first call scans all processes but those
 * `inside`. */
struct holder_name {
	char text[64];
};
bool kind_cache_held_outside(struct kind_cache *k, const struct pids *inside, bool frozen,
	const char *link, struct holder_name *by);
