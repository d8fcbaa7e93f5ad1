/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which strangers may wait at the door. Every connection is admitted, and where there are too many
 * already, another one that has not said who it is has to go: the oldest one of the same source, or
 * of the source that has most. So whoever opens a thousand connections closes its own, and a host
 * that comes in between is served, from another source in any case, and from the same one if it is
 * done before as many have come after it.
 *
 * A source is an IPv4 address or an IPv6 /64: who has one address of a /64 has them all. Pure.
 */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/base.h"

struct waiting { /* part of what waits */
	struct waiting *next;
	struct in6_addr source;
};
struct admission {
	size_t max, max_per_source;
	struct waiting *first, **last; /* in the order in which they came */
	size_t n;
};

void admission_init(struct admission *a, size_t max, size_t max_per_source);
struct in6_addr admission_source(const struct sockaddr_storage *ss);
/* Who has to go before one more from `source` comes in; NULL: there is room. It is still in the
 * list. */
struct waiting *admission_victim(const struct admission *a, const struct in6_addr *source);
/* The oldest one of the source that has most; NULL: nobody waits. */
struct waiting *admission_crowd(const struct admission *a);
/* w->source is set. */
void admission_add(struct admission *a, struct waiting *w);
void admission_remove(struct admission *a, struct waiting *w);
