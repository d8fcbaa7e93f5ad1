// SPDX-License-Identifier: Apache-2.0
#include "roles/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "engine/patience.h"

#define FILE_MAX (1 << 20)
#define SECOND   1000000LL

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
		.receive = { .allow_capabilities = true },
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

static struct err *set_listen(struct config *c, const char *value, size_t offset unused_arg)
{
	return config_listen(c, value);
}

static struct err *set_path(struct config *c, const char *value, size_t offset)
{
	char **field = (char **)(void *)((char *)c + offset);

	if (value[0] != '/')
		return err_new(ERR_INVALID, "\"%s\" is no absolute path", value);
	free(*field);
	*field = xstrdup(value);
	return NULL;
}

static struct err *set_seconds(struct config *c, const char *value, size_t offset)
{
	int64_t *field = (int64_t *)(void *)((char *)c + offset);
	uint64_t n;

	TRY(text_u64(value, 10, "number of seconds", &n));
	if (n == 0 || n > 3600)
		return err_new(ERR_INVALID, "%s is not between 1 and 3600 seconds", value);
	*field = (int64_t)n * SECOND;
	return NULL;
}

static struct err *set_count(struct config *c, const char *value, size_t offset)
{
	uint64_t *field = (uint64_t *)(void *)((char *)c + offset), n;

	TRY(text_u64(value, 10, "number", &n));
	if (n == 0 || n > 1000)
		return err_new(ERR_INVALID, "%s is not between 1 and 1000", value);
	*field = n;
	return NULL;
}

static struct err *set_size(struct config *c, const char *value, size_t offset)
{
	uint64_t *field = (uint64_t *)(void *)((char *)c + offset);

	if (strcmp(value, "any") == 0) {
		*field = 0;
		return NULL;
	}
	return text_size(value, "size", field);
}

static struct err *set_bool(struct config *c, const char *value, size_t offset)
{
	bool *field = (bool *)(void *)((char *)c + offset);

	if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
		return err_new(ERR_INVALID, "\"%s\" is neither yes nor no", value);
	*field = strcmp(value, "yes") == 0;
	return NULL;
}

static struct err *set_auto(struct config *c, const char *value, size_t offset)
{
	bool *field = (bool *)(void *)((char *)c + offset);

	if (strcmp(value, "auto") != 0 && strcmp(value, "no") != 0)
		return err_new(ERR_INVALID, "\"%s\" is neither auto nor no", value);
	*field = strcmp(value, "auto") == 0;
	return NULL;
}

static struct err *set_users(struct config *c, const char *value, size_t offset unused_arg)
{
	if (strcmp(value, "none") != 0 && strcmp(value, "own") != 0)
		return err_new(ERR_INVALID, "\"%s\" is neither none nor own", value);
	c->allow_users_own = strcmp(value, "own") == 0;
	return NULL;
}

static struct err *set_uids(struct config *c, const char *value, size_t offset unused_arg)
{
	return uid_set_parse(&c->receive.uids, value);
}

static struct err *set_tracker(struct config *c, const char *value, size_t offset unused_arg)
{
	static const char *const names[] = { "auto", "wp", "soft", "none" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(value, names[i]) != 0)
			continue;
		c->tracker = names[i];
		return NULL;
	}
	return err_new(ERR_INVALID, "\"%s\" is neither auto, wp, soft nor none", value);
}

static struct err *set_pages(struct config *c, const char *value, size_t offset unused_arg)
{
	static const char *const names[] = { "auto", "copy", "pump" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(value, names[i]) != 0)
			continue;
		c->pages = names[i];
		return NULL;
	}
	return err_new(ERR_INVALID, "\"%s\" is neither auto, copy nor pump", value);
}

static struct err *set_sink(struct config *c, const char *value, size_t offset unused_arg)
{
	static const char *const names[] = { "auto", "copy", "splice" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(value, names[i]) != 0)
			continue;
		c->sink = names[i];
		return NULL;
	}
	return err_new(ERR_INVALID, "\"%s\" is neither auto, copy nor splice", value);
}

#define FIELD(f) offsetof(struct config, f)
static const struct {
	const char *key;
	struct err *(*set)(struct config *c, const char *value, size_t offset);
	size_t offset;
	bool repeats;
} keys[] = {
	{ "allow_capabilities", set_bool, FIELD(receive.allow_capabilities), false },
	{ "allow_uids", set_uids, 0, false },
	{ "allow_users", set_users, 0, false },
	{ "cgroup", set_path, FIELD(cgroup_dir), false },
	{ "connect_timeout", set_seconds, FIELD(connect_us), false },
	{ "debug", set_bool, FIELD(debug), false },
	{ "frozen_timeout", set_seconds, FIELD(frozen_us), false },
	{ "handshake_timeout", set_seconds, FIELD(handshake_us), false },
	{ "hook_timeout", set_seconds, FIELD(hook_limit_us), false },
	{ "hooks_dir", set_path, FIELD(hooks_dir), false },
	{ "kernel_tls", set_auto, FIELD(kernel_tls), false },
	{ "listen", set_listen, 0, true },
	{ "max_memory", set_size, FIELD(receive.max_memory), false },
	{ "max_migrations", set_count, FIELD(max_migrations), false },
	{ "pages", set_pages, 0, false },
	{ "sink", set_sink, 0, false },
	{ "tracker", set_tracker, 0, false },
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

static struct err *set_key(struct config *c, const char *key, const char *value, uint64_t *seen)
{
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (strcmp(keys[i].key, key) != 0)
			continue;
		if ((*seen & (1ULL << i)) && !keys[i].repeats)
			return err_new(ERR_INVALID, "%s is there twice", key);
		*seen |= 1ULL << i;
		TRY_IN(keys[i].set(c, value, keys[i].offset), "%s", key);
		return NULL;
	}
	return err_hint(
		err_new(ERR_INVALID, "unknown key %s", key), "see migrated.conf(5) for all keys");
}

static struct err *parse_line(struct config *c, char *line, uint64_t *seen)
{
	char *comment = strchr(line, '#'), *equals, *key, *value;

	if (comment)
		*comment = 0;
	line = trim(line);
	if (!*line)
		return NULL;
	equals = strchr(line, '=');
	if (!equals)
		return err_new(ERR_INVALID, "\"%s\" is not key = value", line);
	*equals = 0;
	key = trim(line);
	value = trim(equals + 1);
	if (!*value)
		return err_new(ERR_INVALID, "%s has no value", key);
	return set_key(c, key, value, seen);
}

struct err *config_parse(struct config *c, const char *name, const char *text)
{
	autofree char *copy = xstrdup(text);
	char *next = copy, *line;
	uint64_t seen = 0;

	for (size_t number = 1; (line = strsep(&next, "\n")); number++)
		TRY_IN(parse_line(c, line, &seen), "%s line %zu", name, number);
	if (c->listen_none && c->n_listen)
		return err_new(ERR_INVALID, "%s: listen is none and an address", name);
	return NULL;
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
