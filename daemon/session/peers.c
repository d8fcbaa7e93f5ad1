// SPDX-License-Identifier: Apache-2.0
#include "session/peers.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"

void peers_fini(struct peers *p)
{
	free(p->v);
	*p = (struct peers){ NULL, 0 };
}

static struct err *check_name(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len >= PEER_NAME_BYTES)
		return err_new(
			ERR_INVALID, "a peer's name has 1 to %d characters", PEER_NAME_BYTES - 1);
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && !(i && strchr(".-_", name[i])))
			return err_new(ERR_INVALID,
				"\"%s\" is no peer's name: letters, digits, and . - _ inside",
				name);
	return NULL;
}

static struct peer *by_name(const struct peers *p, const char *name)
{
	for (size_t i = 0; i < p->n; i++)
		if (strcmp(p->v[i].name, name) == 0)
			return &p->v[i];
	return NULL;
}

struct err *peers_add(struct peers *p, const char *name, const char *host, const char *fingerprint)
{
	struct peer new = { .name = "" }, *old;

	TRY(check_name(name));
	TRY(address_parse(host, &new.address));
	TRY(fingerprint_parse(fingerprint, new.fingerprint));
	snprintf(new.name, sizeof(new.name), "%s", name);
	old = by_name(p, name);
	if (old) {
		*old = new;
		return NULL;
	}
	if (p->n == PEERS_MAX)
		return err_new(ERR_LIMIT, "there are %d peers already", PEERS_MAX);
	p->v = xrealloc_array(p->v, p->n + 1, sizeof(*p->v));
	p->v[p->n++] = new;
	return NULL;
}

struct err *peers_remove(struct peers *p, const char *name)
{
	struct peer *old = by_name(p, name);

	if (!old)
		return err_hint(err_new(ERR_INVALID, "no peer is called %s", name),
			"migratectl peer list shows all of them");
	memmove(old, old + 1, (size_t)(p->v + p->n - (old + 1)) * sizeof(*old));
	p->n--;
	return NULL;
}

static struct err *parse_line(struct peers *p, char *line)
{
	char *save = NULL, *name = strtok_r(line, " \t\r", &save);
	char *host = strtok_r(NULL, " \t\r", &save), *key = strtok_r(NULL, " \t\r", &save);

	if (!name || name[0] == '#')
		return NULL;
	if (!host || !key || strtok_r(NULL, " \t\r", &save))
		return err_new(ERR_INVALID, "a line is NAME HOST[:PORT] FINGERPRINT");
	if (by_name(p, name))
		return err_new(ERR_INVALID, "%s is there twice", name);
	return peers_add(p, name, host, key);
}

struct err *peers_parse(struct peers *p, const char *text)
{
	autopeers struct peers new = { NULL, 0 };
	autofree char *copy = xstrdup(text);
	char *next = copy, *line;

	for (size_t number = 1; (line = strsep(&next, "\n")); number++)
		TRY_IN(parse_line(&new, line), "line %zu", number);
	peers_fini(p);
	*p = new;
	new = (struct peers){ NULL, 0 };
	return NULL;
}

char *peers_text(const struct peers *p)
{
	struct text t = { NULL, 0, 0 };
	char host[ADDRESS_BYTES];

	text_addf(&t, "# NAME HOST[:PORT] FINGERPRINT; written by migrated: use migratectl peer\n");
	for (size_t i = 0; i < p->n; i++) {
		address_text(&p->v[i].address, host);
		text_addf(&t, "%s %s %s\n", p->v[i].name, host, p->v[i].fingerprint);
	}
	return t.s;
}

const struct peer *peers_by_key(const struct peers *p, const char *fingerprint)
{
	for (size_t i = 0; i < p->n; i++)
		if (strcmp(p->v[i].fingerprint, fingerprint) == 0)
			return &p->v[i];
	return NULL;
}

static unsigned port_of(const struct address *a)
{
	return a->port ? a->port : PORT_DEFAULT;
}

/* The same port first: two daemons may live on one host. Else the last one at that host: the key
 * must be right in any case. */
static const struct peer *by_address(const struct peers *p, const struct address *a)
{
	const struct peer *found = NULL;

	for (size_t i = 0; i < p->n; i++) {
		const struct peer *c = &p->v[i];

		if (strcasecmp(c->address.host, a->host) != 0)
			continue;
		if (port_of(&c->address) == port_of(a))
			return c;
		found = c;
	}
	return found;
}

struct err *peers_find(
	const struct peers *p, const char *text, const struct peer **peer, struct address *dial)
{
	const struct peer *found = by_name(p, text);
	struct address a;

	if (!found) {
		TRY(address_parse(text, &a));
		found = by_name(p, a.host);
		if (!found)
			found = by_address(p, &a);
		if (!found)
			return err_hint(err_new(ERR_PEER, "%s is not among the known peers", text),
				"run on that host: migratectl identity; then here: "
				"migratectl peer add NAME %s FINGERPRINT",
				text);
		*dial = found->address;
		if (a.port)
			dial->port = a.port;
	} else {
		*dial = found->address;
	}
	if (!dial->port)
		dial->port = PORT_DEFAULT;
	*peer = found;
	return NULL;
}
