// SPDX-License-Identifier: Apache-2.0
#include "roles/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "engine/patience.h"
#include "engine/process_list.h"

#define FILE_MAX  (1 << 20)
#define SECOND    1000000LL
#define COUNT_MAX 1000

void config_init(struct config *c)
{
	*c = (struct config){
		.hooks_dir = xstrdup("/etc/migrated/hooks.d"),
		.hook_limit_us = 10 * SECOND,
		.frozen_us = ENGINE_FROZEN_LIMIT_US,
		.handshake_us = 10 * SECOND,
		.connect_us = 10 * SECOND,
		.kernel_tls = true,
		.max_migrations = 64,
		.receive = { .allow = true, .allow_capabilities = true, .max_incoming = COUNT_MAX },
		.tracker = "auto",
		.pages = "auto",
		.sink = "auto",
	};
}

void config_fini(struct config *c)
{
	free(c->hooks_dir);
	free(c->cgroup_dir);
	uid_set_fini(&c->receive.uids);
	ip_set_fini(&c->receive.addresses);
	for (size_t i = 0; i < c->n_peers; i++) {
		uid_set_fini(&c->peers[i].receive.uids);
		ip_set_fini(&c->peers[i].receive.addresses);
	}
	free(c->peers);
	*c = (struct config){ .n_listen = 0 };
}

struct err *config_listen(struct config *c, const char *value)
{
	if (strcmp(value, "none") == 0) {
		c->listen_none = true;
		return NULL;
	}
	if (c->n_listen == CONFIG_LISTEN_MAX)
		return err_new(ERR_LIMIT, "more than %d addresses to listen on", CONFIG_LISTEN_MAX);
	TRY(address_parse_listen(value, &c->listen[c->n_listen]));
	c->n_listen++;
	return NULL;
}

static struct err *set_listen(void *base, const char *value, size_t offset unused_arg)
{
	return config_listen(base, value);
}

static struct err *set_path(void *base, const char *value, size_t offset)
{
	char **field = (char **)(void *)((char *)base + offset);

	if (value[0] != '/')
		return err_new(ERR_INVALID, "\"%s\" is no absolute path", value);
	free(*field);
	*field = xstrdup(value);
	return NULL;
}

static struct err *set_seconds(void *base, const char *value, size_t offset)
{
	int64_t *field = (int64_t *)(void *)((char *)base + offset);
	uint64_t n;

	TRY(text_u64(value, 10, "number of seconds", &n));
	if (n == 0 || n > 3600)
		return err_new(ERR_INVALID, "%s is not between 1 and 3600 seconds", value);
	*field = (int64_t)n * SECOND;
	return NULL;
}

static struct err *count_up_to(const char *value, uint64_t max, uint64_t *field)
{
	uint64_t n;

	TRY(text_u64(value, 10, "number", &n));
	if (n == 0 || n > max)
		return err_new(ERR_INVALID, "%s is not between 1 and %ju", value, (uintmax_t)max);
	*field = n;
	return NULL;
}

static struct err *set_count(void *base, const char *value, size_t offset)
{
	return count_up_to(value, COUNT_MAX, (uint64_t *)(void *)((char *)base + offset));
}

static struct err *set_rate(void *base, const char *value, size_t offset)
{
	uint64_t *field = (uint64_t *)(void *)((char *)base + offset);

	if (strcmp(value, "any") == 0) {
		*field = 0;
		return NULL;
	}
	return set_count(base, value, offset);
}

static struct err *set_processes(void *base, const char *value, size_t offset)
{
	uint64_t *field = (uint64_t *)(void *)((char *)base + offset);

	if (strcmp(value, "any") == 0) {
		*field = 0;
		return NULL;
	}
	return count_up_to(value, PROCESSES_MAX, field);
}

static struct err *set_size(void *base, const char *value, size_t offset)
{
	uint64_t *field = (uint64_t *)(void *)((char *)base + offset);

	if (strcmp(value, "any") == 0) {
		*field = 0;
		return NULL;
	}
	return text_size(value, "size", field);
}

static struct err *set_bool(void *base, const char *value, size_t offset)
{
	bool *field = (bool *)(void *)((char *)base + offset);

	if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
		return err_new(ERR_INVALID, "\"%s\" is neither yes nor no", value);
	*field = strcmp(value, "yes") == 0;
	return NULL;
}

static struct err *set_auto(void *base, const char *value, size_t offset)
{
	bool *field = (bool *)(void *)((char *)base + offset);

	if (strcmp(value, "auto") != 0 && strcmp(value, "no") != 0)
		return err_new(ERR_INVALID, "\"%s\" is neither auto nor no", value);
	*field = strcmp(value, "auto") == 0;
	return NULL;
}

static struct err *set_users(void *base, const char *value, size_t offset unused_arg)
{
	struct config *c = base;

	if (strcmp(value, "none") != 0 && strcmp(value, "own") != 0)
		return err_new(ERR_INVALID, "\"%s\" is neither none nor own", value);
	c->allow_users_own = strcmp(value, "own") == 0;
	return NULL;
}

static struct err *set_uids(void *base, const char *value, size_t offset)
{
	return uid_set_parse((struct uid_set *)(void *)((char *)base + offset), value);
}

static struct err *set_ips(void *base, const char *value, size_t offset)
{
	return ip_set_parse((struct ip_set *)(void *)((char *)base + offset), value);
}

static struct err *set_tracker(void *base, const char *value, size_t offset unused_arg)
{
	struct config *c = base;
	static const char *const names[] = { "auto", "wp", "soft", "none" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(value, names[i]) != 0)
			continue;
		c->tracker = names[i];
		return NULL;
	}
	return err_new(ERR_INVALID, "\"%s\" is neither auto, wp, soft nor none", value);
}

static struct err *set_pages(void *base, const char *value, size_t offset unused_arg)
{
	struct config *c = base;
	static const char *const names[] = { "auto", "copy", "pump" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(value, names[i]) != 0)
			continue;
		c->pages = names[i];
		return NULL;
	}
	return err_new(ERR_INVALID, "\"%s\" is neither auto, copy nor pump", value);
}

static struct err *set_sink(void *base, const char *value, size_t offset unused_arg)
{
	struct config *c = base;
	static const char *const names[] = { "auto", "copy", "splice" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(value, names[i]) != 0)
			continue;
		c->sink = names[i];
		return NULL;
	}
	return err_new(ERR_INVALID, "\"%s\" is neither auto, copy nor splice", value);
}

#define FIELD(f)   offsetof(struct config, f)
#define RECEIVE(f) offsetof(struct receive_policy, f)
static const struct key {
	const char *key;
	struct err *(*set)(void *base, const char *value, size_t offset);
	size_t offset;
	bool receive; /* of struct receive_policy: may stand in a section, too */
	bool repeats;
} keys[] = {
	{ "allow_addresses", set_ips, RECEIVE(addresses), true, false },
	{ "allow_capabilities", set_bool, RECEIVE(allow_capabilities), true, false },
	{ "allow_receive", set_bool, RECEIVE(allow), true, false },
	{ "allow_uids", set_uids, RECEIVE(uids), true, false },
	{ "allow_users", set_users, 0, false, false },
	{ "cgroup", set_path, FIELD(cgroup_dir), false, false },
	{ "connect_timeout", set_seconds, FIELD(connect_us), false, false },
	{ "debug", set_bool, FIELD(debug), false, false },
	{ "frozen_timeout", set_seconds, FIELD(frozen_us), false, false },
	{ "handshake_timeout", set_seconds, FIELD(handshake_us), false, false },
	{ "hook_timeout", set_seconds, FIELD(hook_limit_us), false, false },
	{ "hooks_dir", set_path, FIELD(hooks_dir), false, false },
	{ "kernel_tls", set_auto, FIELD(kernel_tls), false, false },
	{ "listen", set_listen, 0, false, true },
	{ "max_incoming", set_count, RECEIVE(max_incoming), true, false },
	{ "max_memory", set_size, RECEIVE(max_memory), true, false },
	{ "max_memory_total", set_size, RECEIVE(max_total), true, false },
	{ "max_migrations", set_count, FIELD(max_migrations), false, false },
	{ "max_per_minute", set_rate, RECEIVE(max_per_minute), true, false },
	{ "max_processes", set_processes, RECEIVE(max_processes), true, false },
	{ "pages", set_pages, 0, false, false },
	{ "sink", set_sink, 0, false, false },
	{ "tracker", set_tracker, 0, false, false },
};
_Static_assert(ARRAY_LEN(keys) <= 64, "seen is a 64-bit mask");

static char *trim(char *s)
{
	char *end;

	while (isspace((unsigned char)*s))
		s++;
	end = s + strlen(s);
	while (end > s && isspace((unsigned char)end[-1]))
		end--;
	*end = 0;
	return s;
}

/* Where in the file we are. */
struct parse {
	struct config *c;
	struct peer_section *section; /* NULL: what holds for all */
	uint64_t seen;                /* keys, of this section */
};

static struct err *set_value(struct parse *p, const struct key *k, const char *value)
{
	struct receive_policy *receive = p->section ? &p->section->receive : &p->c->receive;

	if (p->section && !k->receive)
		return err_hint(err_new(ERR_INVALID, "%s is not of a single peer", k->key),
			"put it before the first section");
	return k->set(k->receive ? (void *)receive : p->c, value, k->offset);
}

static struct err *set_key(struct parse *p, const char *key, const char *value)
{
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (strcmp(keys[i].key, key) != 0)
			continue;
		if ((p->seen & (1ULL << i)) && !keys[i].repeats)
			return err_new(ERR_INVALID, "%s is there twice", key);
		p->seen |= 1ULL << i;
		TRY_IN(set_value(p, &keys[i], value), "%s", key);
		return NULL;
	}
	return err_hint(
		err_new(ERR_INVALID, "unknown key %s", key), "see migrated.conf(5) for all keys");
}

static struct peer_section *find_section(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->n_peers; i++)
		if (strcmp(c->peers[i].name, name) == 0)
			return &c->peers[i];
	return NULL;
}

/* `line` is "[peer NAME]". */
static struct err *begin_section(struct parse *p, char *line)
{
	struct config *c = p->c;
	size_t len = strlen(line);
	char *save = NULL, *word, *name, *more;

	if (line[len - 1] != ']')
		return err_new(ERR_INVALID, "\"%s\" is no section: a ] is missing", line);
	line[len - 1] = 0;
	word = strtok_r(line + 1, " \t", &save);
	name = strtok_r(NULL, " \t", &save);
	more = strtok_r(NULL, " \t", &save);
	if (!word || strcmp(word, "peer") != 0 || !name || more)
		return err_hint(err_new(ERR_INVALID, "unknown section"),
			"a section begins with [peer NAME]");
	TRY(peer_check_name(name));
	if (find_section(c, name))
		return err_new(ERR_INVALID, "[peer %s] is there twice", name);
	c->peers = xrealloc_array(c->peers, c->n_peers + 1, sizeof(*c->peers));
	p->section = &c->peers[c->n_peers++];
	p->seen = 0;
	*p->section = (struct peer_section){ .receive = c->receive };
	snprintf(p->section->name, sizeof(p->section->name), "%s", name);
	p->section->receive.uids = (struct uid_set){ NULL, 0 };
	uid_set_copy(&p->section->receive.uids, &c->receive.uids);
	p->section->receive.addresses = (struct ip_set){ NULL, 0, false };
	ip_set_copy(&p->section->receive.addresses, &c->receive.addresses);
	return NULL;
}

static struct err *parse_line(struct parse *p, char *line)
{
	char *comment = strchr(line, '#'), *equals, *key, *value;

	if (comment)
		*comment = 0;
	line = trim(line);
	if (!line[0])
		return NULL;
	if (line[0] == '[')
		return begin_section(p, line);
	equals = strchr(line, '=');
	if (!equals)
		return err_new(ERR_INVALID, "\"%s\" is not key = value", line);
	*equals = 0;
	key = trim(line);
	value = trim(equals + 1);
	if (!value[0])
		return err_new(ERR_INVALID, "%s has no value", key);
	return set_key(p, key, value);
}

struct err *config_parse(struct config *c, const char *name, const char *text)
{
	autofree char *copy = xstrdup(text);
	char *next = copy, *line;
	struct parse p = { .c = c };

	for (size_t number = 1; (line = strsep(&next, "\n")); number++)
		TRY_IN(parse_line(&p, line), "%s line %zu", name, number);
	if (c->listen_none && c->n_listen)
		return err_new(ERR_INVALID, "%s: listen is none and an address", name);
	return NULL;
}

const struct receive_policy *config_receive(const struct config *c, const char *peer)
{
	const struct peer_section *s = find_section(c, peer);

	return s ? &s->receive : &c->receive;
}

static bool same_listen(const struct config *a, const struct config *b)
{
	bool same = a->n_listen == b->n_listen && a->listen_none == b->listen_none;

	for (size_t i = 0; same && i < a->n_listen; i++)
		same = a->listen[i].port == b->listen[i].port &&
		       strcmp(a->listen[i].host, b->listen[i].host) == 0;
	return same;
}

/* What the other roles were told, or what is open, stays. */
static void keep(struct config *c, struct config *next, struct text *what)
{
	const char *old = c->cgroup_dir ? c->cgroup_dir : "";
	const struct {
		const char *key;
		bool changed;
	} fixed[] = {
		{ "listen", !same_listen(c, next) },
		{ "handshake_timeout", c->handshake_us != next->handshake_us },
		{ "connect_timeout", c->connect_us != next->connect_us },
		{ "kernel_tls", c->kernel_tls != next->kernel_tls },
		{ "cgroup", strcmp(old, next->cgroup_dir ? next->cgroup_dir : "") != 0 },
	};
	char *cgroup = c->cgroup_dir;

	for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
		if (fixed[i].changed)
			text_addf(what, "%s%s", what->len ? ", " : "", fixed[i].key);
	c->cgroup_dir = next->cgroup_dir;
	next->cgroup_dir = cgroup;
	memcpy(next->listen, c->listen, sizeof(next->listen));
	next->n_listen = c->n_listen;
	next->listen_none = c->listen_none;
	next->handshake_us = c->handshake_us;
	next->connect_us = c->connect_us;
	next->kernel_tls = c->kernel_tls;
}

char *config_reload(struct config *c, struct config *next)
{
	struct text what = { NULL, 0, 0 };
	struct config old;

	keep(c, next, &what);
	old = *c;
	*c = *next;
	*next = old;
	return what.s;
}

struct err *config_load(struct config *c, const char *path, bool required)
{
	autoarena struct arena *a = arena_new();
	char *text;
	size_t len;

	if (!required && access(path, F_OK) < 0 && errno == ENOENT)
		return NULL;
	TRY(io_read_file(a, path, FILE_MAX, &text, &len));
	if (strlen(text) != len)
		return err_new(ERR_INVALID, "%s is not a text file", path);
	return config_parse(c, path, text);
}
