/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every subject shares: a subject makes state, says ready, waits until it was moved, verifies,
 * says ok. It links nothing of ours. The launcher starts it in an empty directory of its own with
 * stdin from /dev/null and stdout and stderr in the file `out`, moves it when `out` says "ready",
 * creates the file `go` there, and expects exit status 0. It may be moved several times before
 * `go`.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A subject that cannot run here exits with this and a reason on stdout. */
#define SUBJECT_SKIP 77

#define CHECK(cond) \
	do { \
		if (!(cond)) { \
			dprintf(1, "FAIL %s:%d: %s (errno %d %s)\n", __FILE__, __LINE__, #cond, \
				errno, strerror(errno)); \
			_exit(1); \
		} \
	} while (0)

#define SKIP(...) \
	do { \
		dprintf(1, "SKIP: " __VA_ARGS__); \
		dprintf(1, "\n"); \
		_exit(SUBJECT_SKIP); \
	} while (0)

static inline void subject_sleep_ms(long ms)
{
	struct timespec left = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

/* For a subject whose mappings change all the time, before it says ready: only what the kernel says
 * about the rest of it must be the same after a move. */
static inline void subject_restless(void)
{
	dprintf(1, "restless\n");
}

/* Says ready and returns when the launcher has moved us. Uses nothing but nanosleep and access. */
static inline void subject_wait_moved(void)
{
	dprintf(1, "ready\n");
	while (access("go", F_OK) < 0)
		subject_sleep_ms(2);
}

/* Flags that mean nothing to most descriptors, and are kept for all. The launcher compares them. */
static inline void subject_odd_flags(int fd)
{
	CHECK(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_APPEND | O_NOATIME) == 0);
}

static inline int subject_ok(void)
{
	dprintf(1, "ok\n");
	return 0;
}
