/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads for page work. The engine's own thread stays the only one that traces, decides, and
 * speaks on the control stream. Members all do the same job at a time; meanwhile the engine's
 * thread waits for them (crew_run) and does what only the tracer can do (crew_ask).
 *
 * The first failure, whoever's, ends the job for all: whatever a member waits for must end when
 * crew_stop_fd becomes readable. Such a crew takes no other job.
 */
#pragma once

#include <poll.h>

#include "base/err.h"

#define CREW_MAX 8

struct crew;

/* Members that wait for work; all signals are blocked in them. `begin` (may be NULL) runs in each
 * of them, before this returns; its failure is ours. */
struct err *crew_new(unsigned members, struct err *(*begin)(void), struct crew **ret) must_check;
/* Ends them and waits until they are gone. */
void crew_free(struct crew *c);
/* For the channels of members. */
int crew_stop_fd(const struct crew *c);

struct crew_job {
	/* In each member's thread, once. */
	struct err *(*work)(void *arg, unsigned member);
	/* In the engine's thread: every CREW_TICK_MS, and whenever `also` is ready. May change
	 * `also`. An error ends the job. */
	struct err *(*meanwhile)(void *arg, struct pollfd *also);
	void *arg;
	struct pollfd also; /* fd -1: nothing */
	int interrupt_fd;   /* readable: CANCELLED; -1 for none */
};
#define CREW_TICK_MS 100
/* Returns when no member is at work any more; the first error. */
struct err *crew_run(struct crew *c, struct crew_job *job) must_check;

/* From a member at work: the engine's thread calls fn. CANCELLED when the job ends instead. */
struct err *crew_ask(struct crew *c, struct err *(*fn)(void *arg), void *arg) must_check;
