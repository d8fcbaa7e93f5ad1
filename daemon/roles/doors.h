/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that were accepted and have not said a byte: a descriptor each and nothing more, so
 * that whoever only connects costs next to nothing. Too many of them make room by
 * session/admission.h; each has a limit of time.
 */
#pragma once

#include <event2/event.h>
#include <netinet/in.h>

#include "session/admission.h"

struct doors {
	struct event_base *base;
	int priority; /* of the events */
	int64_t limit_us;
	struct admission waiting;
	void *arg;
	/* It has said something, or has ended. Takes fd, or returns false: asked again soon. */
	bool (*knocked)(void *arg, int fd, const struct in6_addr *source);
	/* It has said nothing until now. Does not take fd. */
	void (*silent)(void *arg, int fd);
	/* It had to go for others. */
	void (*dropped)(void *arg);
};

/* The rest of *d is set. */
void doors_init(struct doors *d, size_t max, size_t max_per_source);
/* Closes one, of who has most of them: descriptors have run out. False: there is none. */
bool doors_drop(struct doors *d);
/* Takes fd. */
void doors_open(struct doors *d, int fd, const struct in6_addr *source);
void doors_fini(struct doors *d);
