/* SPDX-License-Identifier: Apache-2.0 */
/* For subjects about memory: mapping it, and contents that tell where they belong. */
#pragma once

#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>

#include "subject.h"

#define PAGE 4096UL
#define RW   (PROT_READ | PROT_WRITE)

static inline void fill(void *p, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n / 8; i++)
		((uint64_t *)p)[i] = seed * 0x9E3779B97F4A7C15ULL + i;
}

static inline void check_filled(const void *p, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n / 8; i++)
		CHECK(((const uint64_t *)p)[i] == seed * 0x9E3779B97F4A7C15ULL + i);
}

static inline void *map(size_t pages, int prot, int flags, int fd, off_t offset)
{
	void *p = mmap(NULL, pages * PAGE, prot, flags, fd, offset);

	CHECK(p != MAP_FAILED);
	return p;
}
