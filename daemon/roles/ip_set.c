// SPDX-License-Identifier: Apache-2.0
/* Sets of addresses, as the configuration names them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "roles/policy.h"

/* In one list. */
#define IP_RANGES_MAX 1000

void ip_set_fini(struct ip_set *s)
{
	free(s->v);
	*s = (struct ip_set){ NULL, 0, false };
}

void ip_set_copy(struct ip_set *s, const struct ip_set *from)
{
	struct ip_range *v = from->n ? xrealloc_array(NULL, from->n, sizeof(*v)) : NULL;

	if (from->n)
		memcpy(v, from->v, from->n * sizeof(*v));
	ip_set_fini(s);
	*s = (struct ip_set){ v, from->n, from->none };
}

static struct err *parse_range(const char *word, struct ip_range *ret)
{
	char ip[NET_IP_TEXT];
	size_t len = strcspn(word, "/");
	uint64_t prefix;

	if (len >= sizeof(ip))
		return err_new(ERR_INVALID, "\"%s\" is no address", word);
	memcpy(ip, word, len);
	ip[len] = '\0';
	if (!net_ip_parse(ip, &ret->ip))
		return err_new(ERR_INVALID, "\"%s\" is no address", ip);
	prefix = net_ip_len(ret->ip.family) * 8;
	if (word[len] == '/')
		TRY(text_u64(word + len + 1, 10, "prefix length", &prefix));
	if (prefix > net_ip_len(ret->ip.family) * 8)
		return err_new(ERR_INVALID, "\"%s\" has too long a prefix", word);
	ret->prefix = (unsigned)prefix;
	return NULL;
}

static struct err *parse_list(struct ip_set *s, char *list)
{
	char *rest = NULL;

	for (char *w = strtok_r(list, ", \t", &rest); w; w = strtok_r(NULL, ", \t", &rest)) {
		if (s->n == IP_RANGES_MAX)
			return err_new(ERR_LIMIT, "more than %d addresses", IP_RANGES_MAX);
		s->v = xrealloc_array(s->v, s->n + 1, sizeof(*s->v));
		TRY(parse_range(w, &s->v[s->n]));
		s->n++;
	}
	return s->n ? NULL : err_new(ERR_INVALID, "no address in an empty list");
}

struct err *ip_set_parse(struct ip_set *s, const char *text)
{
	AUTO(ip_set_fini) struct ip_set next = { NULL, 0, strcmp(text, "none") == 0 };
	autofree char *copy = xstrdup(text);

	if (!next.none && strcmp(text, "any") != 0)
		TRY(parse_list(&next, copy));
	ip_set_fini(s);
	*s = next;
	next.v = NULL;
	return NULL;
}

static bool within(const struct net_ip *ip, const struct ip_range *r)
{
	unsigned whole = r->prefix / 8, rest = r->prefix % 8;

	if (ip->family != r->ip.family || memcmp(ip->bytes, r->ip.bytes, whole) != 0)
		return false;
	return !rest || (ip->bytes[whole] ^ r->ip.bytes[whole]) >> (8 - rest) == 0;
}

bool ip_set_has(const struct ip_set *s, const struct net_ip *ip)
{
	for (size_t i = 0; i < s->n; i++)
		if (within(ip, &s->v[i]))
			return true;
	return s->n == 0 && !s->none;
}

char *ip_set_text(const struct ip_set *s)
{
	struct text t = { NULL, 0, 0 };
	char ip[NET_IP_TEXT];

	if (!s->n)
		text_addf(&t, "%s", s->none ? "none" : "any");
	for (size_t i = 0; i < s->n; i++)
		text_addf(
			&t, "%s%s/%u", i ? "," : "", net_ip_text(&s->v[i].ip, ip), s->v[i].prefix);
	return t.s;
}

struct err *policy_address(const struct receive_policy *p, const struct net_ip *ip)
{
	char text[NET_IP_TEXT];

	if (ip_set_has(&p->addresses, ip))
		return NULL;
	return err_hint(err_new(ERR_DENIED, "the address %s may not come here from your host",
				net_ip_text(ip, text)),
		"see allow_addresses in migrated.conf of the destination");
}
