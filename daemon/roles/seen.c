// SPDX-License-Identifier: Apache-2.0
#include "roles/seen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

void seen_fini(struct seen *s)
{
	free(s->v);
	*s = (struct seen){ NULL, 0 };
}

static struct seen_peer *find(const struct seen *s, const char *name)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->v[i].name, name) == 0)
			return &s->v[i];
	return NULL;
}

const struct seen_peer *seen_find(const struct seen *s, const char *name)
{
	return find(s, name);
}

void seen_note(struct seen *s, const char *name, uint64_t when_s, const char *key, const char *own)
{
	struct seen_peer *p = find(s, name);

	if (!p && s->n == PEERS_MAX)
		return;
	if (!p) {
		s->v = xrealloc_array(s->v, s->n + 1, sizeof(*s->v));
		p = &s->v[s->n++];
	}
	*p = (struct seen_peer){ .when_s = when_s };
	snprintf(p->name, sizeof(p->name), "%s", name);
	snprintf(p->key, sizeof(p->key), "%s", key);
	snprintf(p->own, sizeof(p->own), "%s", own);
}

void seen_tidy(struct seen *s, const struct peers *p)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->n; i++)
		if (peers_by_name(p, s->v[i].name))
			s->v[kept++] = s->v[i];
	s->n = kept;
}

static void parse_line(struct seen *s, char *line)
{
	char *save = NULL, *name = strtok_r(line, " ", &save), *when = strtok_r(NULL, " ", &save);
	char *key = strtok_r(NULL, " ", &save), *own = strtok_r(NULL, " ", &save);
	char k[FINGERPRINT_BYTES], o[FINGERPRINT_BYTES];
	uint64_t when_s = 0;
	autoerr struct err *e = NULL;

	if (!own || strlen(name) >= PEER_NAME_BYTES)
		return;
	e = text_u64(when, 10, "time", &when_s);
	if (!e)
		e = fingerprint_parse(key, k);
	if (!e)
		e = fingerprint_parse(own, o);
	if (!e)
		seen_note(s, name, when_s, k, o);
}

void seen_parse(struct seen *s, const char *text)
{
	autofree char *copy = xstrdup(text);
	char *next = copy, *line;

	seen_fini(s);
	while ((line = strsep(&next, "\n")))
		parse_line(s, line);
}

char *seen_text(const struct seen *s)
{
	struct text t = { NULL, 0, 0 };

	for (size_t i = 0; i < s->n; i++)
		text_addf(&t, "%s %ju %s %s\n", s->v[i].name, (uintmax_t)s->v[i].when_s,
			s->v[i].key, s->v[i].own);
	return t.s ? t.s : xstrdup("");
}
