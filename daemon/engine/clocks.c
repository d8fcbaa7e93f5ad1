// SPDX-License-Identifier: Apache-2.0
#include "engine/clocks.h"

#include <stdio.h>
#include <string.h>

#include "base/io.h"

#define OFFSETS_BYTES_MAX 4096

/* "NAME SECONDS NANOSECONDS"; seconds may be negative, nanoseconds are not. */
static struct err *parse_one(const char *text, const char *name, int64_t *ret)
{
	const char *line = strstr(text, name);
	long long seconds, nanoseconds;

	if (!line || sscanf(line + strlen(name), "%lld %lld", &seconds, &nanoseconds) != 2)
		return err_new(ERR_KERNEL, "no %s in timens_offsets", name);
	*ret = seconds * 1000000000 + nanoseconds;
	return NULL;
}

struct err *clock_parse_offsets(const char *text, int64_t *monotonic_ns, int64_t *boottime_ns)
{
	TRY(parse_one(text, "monotonic", monotonic_ns));
	return parse_one(text, "boottime", boottime_ns);
}

static struct err *offsets_of(const char *who, int64_t *monotonic_ns, int64_t *boottime_ns)
{
	autoarena struct arena *a = arena_new();
	char path[64], *text;

	snprintf(path, sizeof(path), "/proc/%s/timens_offsets", who);
	TRY(io_read_file(a, path, OFFSETS_BYTES_MAX, &text, NULL));
	return clock_parse_offsets(text, monotonic_ns, boottime_ns);
}

struct err *clock_process_offsets(pid_t pid, int64_t *monotonic_ns, int64_t *boottime_ns)
{
	int64_t mono, boot, my_mono, my_boot;
	char who[16];

	snprintf(who, sizeof(who), "%d", pid);
	TRY(offsets_of(who, &mono, &boot));
	TRY(offsets_of("self", &my_mono, &my_boot));
	*monotonic_ns = mono - my_mono;
	*boottime_ns = boot - my_boot;
	return NULL;
}
