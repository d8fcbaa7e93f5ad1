// SPDX-License-Identifier: Apache-2.0
#include "session/admission.h"

#include <string.h>

void admission_init(struct admission *a, size_t max, size_t max_per_source)
{
	*a = (struct admission){ .max = max, .max_per_source = max_per_source };
	a->last = &a->first;
}

struct in6_addr admission_source(const struct sockaddr_storage *ss)
{
	struct in6_addr a = IN6ADDR_ANY_INIT;

	if (ss->ss_family == AF_INET6) {
		a = ((const struct sockaddr_in6 *)ss)->sin6_addr;
		if (!IN6_IS_ADDR_V4MAPPED(&a))
			memset(a.s6_addr + 8, 0, 8);
		return a;
	}
	if (ss->ss_family == AF_INET)
		memcpy(a.s6_addr + 12, &((const struct sockaddr_in *)ss)->sin_addr, 4);
	a.s6_addr[10] = a.s6_addr[11] = 0xff;
	return a;
}

static bool same(const struct in6_addr *a, const struct in6_addr *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static size_t count(const struct admission *a, const struct in6_addr *source)
{
	size_t n = 0;

	for (const struct waiting *w = a->first; w; w = w->next)
		n += same(&w->source, source);
	return n;
}

static struct waiting *oldest(const struct admission *a, const struct in6_addr *source)
{
	struct waiting *w = a->first;

	while (w && !same(&w->source, source))
		w = w->next;
	return w;
}

struct waiting *admission_crowd(const struct admission *a)
{
	struct waiting *victim = NULL;
	size_t most = 0;

	/* The first of a source that is met is its oldest one. */
	for (struct waiting *w = a->first; w; w = w->next) {
		size_t n = count(a, &w->source);

		if (n > most) {
			most = n;
			victim = w;
		}
	}
	return victim;
}

struct waiting *admission_victim(const struct admission *a, const struct in6_addr *source)
{
	if (count(a, source) >= a->max_per_source)
		return oldest(a, source);
	return a->n < a->max ? NULL : admission_crowd(a);
}

void admission_add(struct admission *a, struct waiting *w)
{
	w->next = NULL;
	*a->last = w;
	a->last = &w->next;
	a->n++;
}

void admission_remove(struct admission *a, struct waiting *w)
{
	struct waiting **link = &a->first;

	while (*link && *link != w)
		link = &(*link)->next;
	if (!*link)
		return;
	*link = w->next;
	if (!*link)
		a->last = link;
	a->n--;
}
