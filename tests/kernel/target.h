/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process with threads in every kind of wait, each of which notices when something was done to
 * it: a call that ends early or with EINTR, a lost register, another signal stack. It runs until it
 * is killed; `bad` counts what it saw, `beats` shows that each thread still goes on.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { BEAT_FUTEX, BEAT_SLEEP, BEAT_READ, BEAT_SPIN, BEAT_EPOLL, BEAT_MAIN, BEATS };

struct target_shared {
	uint64_t beats[BEATS];
	uint32_t bad, eintr, ready, word;
	char why[128];
	int pipe[2], event, epoll;
	uint32_t urg, urg_code, urg_value;
	uint32_t open_urg; /* set by the test: unblock SIGURG */
	uint32_t main_blocks_urg;
};

/* Starts one; the shared page stays valid after its end. */
pid_t target_start(struct target_shared **ret);
/* It calls this before all else. */
pid_t target_start_as(void (*prepare)(void), struct target_shared **ret);
void target_end(pid_t pid, struct target_shared *s);
/* Every thread makes progress, the waiting ones are woken. False when one does not within 20 s. */
bool target_alive(pid_t pid, struct target_shared *s);
