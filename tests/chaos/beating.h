/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs that are counted from outside have in common: each of their threads numbers its
 * beats, and appends every one to a file with the name of the host that it runs on. The file is the
 * same on all hosts, so if ever two copies run, or one runs on that should not, a number is there
 * twice; if a copy was rebuilt from an older state, too; and if the process has lost something, one
 * is missing.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* What follows in the file is read by beats.py. */
struct beat {
	uint64_t number;
	uint64_t when_ns; /* CLOCK_REALTIME, one for all hosts of a lab */
	uint32_t pid;
	uint16_t thread;
	uint8_t host;  /* the first letter of its name */
	uint8_t wrong; /* what was found wrong */
	uint32_t unused[2];
};

/* beats.py has words for them. */
enum wrong {
	WRONG_PAGE = 1,
	WRONG_LINK = 2,
	WRONG_CALL = 4,
	WRONG_SHARED = 8,
	WRONG_PARENT = 16,
	WRONG_CHILD = 32,
	WRONG_LOCK = 64,
};

/* One thread. Its pages hold the beat of their last writing, 0 at first. */
struct beater {
	unsigned number;
	uint64_t beats;
	volatile uint64_t *pages;
	size_t n_pages;
};

/* Opens the file of this process; -1: it cannot. */
int beating_open(const char *path);
/* New memory for `b`; NULL: there is none. */
void *beating_pages(struct beater *b, size_t bytes);
/* Looks at the pages and writes down the next beat, with what was found wrong before. */
void beating_beat(struct beater *b, int log_fd, uint8_t wrong);
