// SPDX-License-Identifier: Apache-2.0
/*
 * systemd names the control group of a unit after it: .../system.slice/redis.service, with escapes
 * (\x2d) as the unit's name itself has them. The hierarchy that systemd uses is the unified one
 * ("0::PATH") or, on cgroup v1, the one named systemd ("1:name=systemd:PATH"). A leading "_" is
 * put in front of a name that looks like a file of the kernel's.
 */
#include "kernel/unit.h"

#include <string.h>

#include "base/io.h"

#define CGROUP_BYTES 65536

static bool ends_with(const char *s, size_t n, const char *end)
{
	size_t m = strlen(end);

	return n > m && memcmp(s + n - m, end, m) == 0;
}

/* The last path component that ends in .service, or NULL. A scope inside a service (a login
 * session, a container) is no part of it: systemd does not restart that. */
static const char *service_in(struct arena *a, const char *path, size_t len)
{
	const char *found = NULL, *end = path + len;

	while (path < end) {
		const char *slash = memchr(path, '/', (size_t)(end - path));
		size_t n = (size_t)((slash ? slash : end) - path);

		if (ends_with(path, n, ".scope"))
			found = NULL;
		if (ends_with(path, n, ".service"))
			found = arena_printf(
				a, "%.*s", (int)(n - (*path == '_')), path + (*path == '_'));
		path += n + 1;
	}
	return found;
}

const char *unit_in_cgroups(struct arena *a, const char *text)
{
	static const char *const ours[] = { "0::", "name=systemd:" };
	const char *found = NULL;

	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n");

		for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
			const char *at = memmem(line, len, ours[i], strlen(ours[i]));
			const char *path = at ? at + strlen(ours[i]) : NULL;

			if (path && *path == '/' && !found)
				found = service_in(a, path, len - (size_t)(path - line));
		}
		line += len + (line[len] == '\n');
	}
	return found ? found : "";
}

struct err *unit_of(struct arena *a, pid_t pid, const char **ret)
{
	char *text;

	TRY(io_read_file(
		a, arena_printf(a, "/proc/%d/cgroup", (int)pid), CGROUP_BYTES, &text, NULL));
	*ret = unit_in_cgroups(a, text);
	return NULL;
}
