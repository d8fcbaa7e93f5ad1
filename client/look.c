// SPDX-License-Identifier: Apache-2.0
#include "client/look.h"

#include <string.h>

#include "base/io.h"

static bool is_held(struct arena *a, int32_t pid)
{
	autoerr struct err *e = NULL;
	char *text;

	e = io_read_file(a, arena_printf(a, "/proc/%d/cgroup", pid), 65536, &text, NULL);
	return !e && strstr(text, "/migrated-hold-");
}

enum whereabouts look(int32_t pid)
{
	autoarena struct arena *a = arena_new();
	autoerr struct err *e = NULL;
	const char *state;
	char *text;

	e = io_read_file(a, arena_printf(a, "/proc/%d/stat", pid), 4096, &text, NULL);
	state = e ? NULL : strrchr(text, ')');
	if (!state || strchr("ZX", state[1] ? state[2] : 'X'))
		return HERE_GONE;
	return state[2] == 't' || is_held(a, pid) ? HERE_HELD : HERE_RUNS;
}
