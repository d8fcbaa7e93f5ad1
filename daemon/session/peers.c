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

struct err *peer_check_name(const char *name)
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

static size_t key_index(const struct peer *p, const char *fingerprint)
{
	size_t i = 0;

	while (i < p->n_keys && strcmp(p->keys[i], fingerprint) != 0)
		i++;
	return i;
}

bool peer_has_key(const struct peer *p, const char *fingerprint)
{
	return key_index(p, fingerprint) < p->n_keys;
}

static struct err *check_key(const struct peers *p, const struct peer *old, const char *key)
{
	const struct peer *owner = peers_by_key(p, key);

	if (owner && owner != old)
		return err_hint(err_new(ERR_INVALID, "%s is the key of the peer %s already", key,
					owner->name),
			"one key is one host; to rename it: migratectl peer remove %s, then add it "
			"anew",
			owner->name);
	if (!owner && old && old->n_keys == PEER_KEYS_MAX)
		return err_hint(
			err_new(ERR_LIMIT, "%s has %d keys already", old->name, PEER_KEYS_MAX),
			"remove one that it has no more: migratectl peer remove %s --key %s",
			old->name, old->keys[0]);
	return NULL;
}

struct err *peers_add(struct peers *p, const char *name, const char *host, const char *fingerprint)
{
	struct peer new = { .name = "", .n_keys = 1 }, *old;

	TRY(peer_check_name(name));
	TRY(address_parse(host, &new.address));
	TRY(fingerprint_parse(fingerprint, new.keys[0]));
	old = by_name(p, name);
	TRY(check_key(p, old, new.keys[0]));
	if (old) {
		old->address = new.address;
		if (!peer_has_key(old, new.keys[0]))
			memcpy(old->keys[old->n_keys++], new.keys[0], FINGERPRINT_BYTES);
		return NULL;
	}
	if (p->n == PEERS_MAX)
		return err_new(ERR_LIMIT, "there are %d peers already", PEERS_MAX);
	snprintf(new.name, sizeof(new.name), "%s", name);
	p->v = xrealloc_array(p->v, p->n + 1, sizeof(*p->v));
	p->v[p->n++] = new;
	return NULL;
}

static struct err *remove_key(struct peer *p, const char *fingerprint)
{
	char key[FINGERPRINT_BYTES];
	size_t i;

	TRY(fingerprint_parse(fingerprint, key));
	i = key_index(p, key);
	if (i == p->n_keys)
		return err_hint(err_new(ERR_INVALID, "%s has no key %s", p->name, key),
			"migratectl peer list shows its keys");
	if (p->n_keys == 1)
		return err_hint(err_new(ERR_INVALID, "%s has no other key", p->name),
			"add its new key first, or remove the peer: migratectl peer remove %s",
			p->name);
	memmove(p->keys[i], p->keys[i + 1], (p->n_keys - i - 1) * sizeof(p->keys[0]));
	p->n_keys--;
	return NULL;
}

struct err *peers_remove(struct peers *p, const char *name, const char *fingerprint)
{
	struct peer *old = by_name(p, name);

	if (!old)
		return err_hint(err_new(ERR_INVALID, "no peer is called %s", name),
			"migratectl peer list shows all of them");
	if (fingerprint)
		return remove_key(old, fingerprint);
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
	if (!host || !key)
		return err_new(ERR_INVALID, "a line is NAME HOST[:PORT] FINGERPRINT...");
	if (by_name(p, name))
		return err_new(ERR_INVALID, "%s is there twice", name);
	for (; key; key = strtok_r(NULL, " \t\r", &save)) {
		if (by_name(p, name) && peer_has_key(by_name(p, name), key))
			return err_new(ERR_INVALID, "%s is there twice", key);
		TRY(peers_add(p, name, host, key));
	}
	return NULL;
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

	text_addf(&t,
		"# NAME HOST[:PORT] FINGERPRINT...; written by migrated: use migratectl peer\n");
	for (size_t i = 0; i < p->n; i++) {
		address_text(&p->v[i].address, host);
		text_addf(&t, "%s %s", p->v[i].name, host);
		for (size_t k = 0; k < p->v[i].n_keys; k++)
			text_addf(&t, " %s", p->v[i].keys[k]);
		text_addf(&t, "\n");
	}
	return t.s;
}

const struct peer *peers_by_key(const struct peers *p, const char *fingerprint)
{
	for (size_t i = 0; i < p->n; i++)
		if (peer_has_key(&p->v[i], fingerprint))
			return &p->v[i];
	return NULL;
}

const struct peer *peers_by_name(const struct peers *p, const char *name)
{
	return by_name(p, name);
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
