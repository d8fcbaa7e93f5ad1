// SPDX-License-Identifier: Apache-2.0
/* kernel/proc*: text of /proc/PID files, as a process can make it look (names of files, of
 * mappings, of itself). First byte: which of the parsers. */
#include "kernel/proc.h"
#include "fuzz.h"

const char *(*const fuzz_prepare)(void) = fuzz_nothing;

static struct err *maps(struct arena *a, const char *text)
{
	struct vma_list l;

	TRY(proc_parse_maps(a, text, &l));
	for (size_t i = 0; i < l.n; i++)
		MUST(l.v[i].path && l.v[i].end > l.v[i].start);
	return NULL;
}

static struct err *smaps(struct arena *a, const char *text)
{
	struct vma_list l;

	TRY(proc_parse_smaps(a, text, &l));
	for (size_t i = 0; i < l.n; i++)
		MUST(l.v[i].path && l.v[i].unknown_flags);
	return NULL;
}

static struct err *stat_line(struct arena *a unused_arg, const char *text)
{
	struct proc_stat s;

	TRY(proc_parse_stat(text, &s));
	MUST(strnlen(s.comm, sizeof(s.comm)) < sizeof(s.comm));
	return NULL;
}

static struct err *status(struct arena *a, const char *text)
{
	struct proc_status s;

	return proc_parse_status(a, text, &s);
}

static struct err *timers(struct arena *a, const char *text)
{
	struct proc_timer *t;
	size_t n;

	return proc_parse_timers(a, text, &t, &n);
}

static struct err *fdinfo(struct arena *a unused_arg, const char *text)
{
	static const char *const fields[] = { "pos", "flags", "eventfd-count", "sigmask",
		"clockid" };
	uint64_t v;

	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		struct err *e = fdinfo_u64(text, fields[i], i % 2 ? 8 : 16, &v);

		MUST(e || fdinfo_has(text, fields[i]));
		err_free(e);
	}
	return NULL;
}

int fuzz_one(const uint8_t *data, size_t n)
{
	static struct err *(*const parsers[])(struct arena * a, const char *text) = { maps, smaps,
		stat_line, status, timers, fdinfo };
	autoarena struct arena *a = arena_new();
	struct feed f = { data, n };
	uint8_t which = feed_u8(&f);
	char *text = feed_text(&f);

	err_free(parsers[which % ARRAY_LEN(parsers)](a, text));
	free(text);
	return 0;
}
