// SPDX-License-Identifier: Apache-2.0
/*
 * /proc/PID/stat and status.
 *
 * stat is one line of numbers with the name in parentheses in front; the name is not escaped and
 * may hold blanks, parentheses and newlines, so it ends at the last ')'. In status the name is
 * escaped.
 */
#include "kernel/proc_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

/* ---- stat ---- */

/* Fields by their number in proc(5), from ppid (4) to exit_code (52). */
#define STAT_FIRST 4
#define STAT_LAST  52
/* Workers of the kernel have longer names than threads of programs. */
#define COMM_MAX 64

struct stat_field {
	bool minus;
	uint64_t v;
};

static bool scan_field(const char **p, struct stat_field *f)
{
	f->minus = text_scan_lit(p, "-");
	return text_scan_u64(p, 10, &f->v);
}

static bool field_int(const struct stat_field *f, int64_t low, int64_t high, int64_t *ret)
{
	int64_t v;

	if (f->v > INT64_MAX)
		return false;
	v = f->minus ? -(int64_t)f->v : (int64_t)f->v;
	if (v < low || v > high)
		return false;
	*ret = v;
	return true;
}

static const struct {
	int field;
	bool wide; /* uint64_t, else int */
	size_t offset;
	int64_t low, high; /* not for wide ones */
} stat_fields[] = {
	{ 4, false, offsetof(struct proc_stat, ppid), 0, INT32_MAX },
	{ 5, false, offsetof(struct proc_stat, pgrp), -1, INT32_MAX },
	{ 6, false, offsetof(struct proc_stat, sid), -1, INT32_MAX },
	{ 7, false, offsetof(struct proc_stat, tty_nr), INT32_MIN, INT32_MAX },
	{ 9, true, offsetof(struct proc_stat, flags), 0, 0 },
	{ 11, true, offsetof(struct proc_stat, child_faults), 0, 0 },
	{ 19, false, offsetof(struct proc_stat, nice), -20, 19 },
	{ 22, true, offsetof(struct proc_stat, start_time), 0, 0 },
	{ 24, true, offsetof(struct proc_stat, rss_pages), 0, 0 },
	{ 26, true, offsetof(struct proc_stat, start_code), 0, 0 },
	{ 27, true, offsetof(struct proc_stat, end_code), 0, 0 },
	{ 28, true, offsetof(struct proc_stat, start_stack), 0, 0 },
	{ 38, false, offsetof(struct proc_stat, exit_signal), -1, 64 },
	{ 40, false, offsetof(struct proc_stat, rt_priority), 0, 99 },
	{ 41, false, offsetof(struct proc_stat, policy), 0, 255 },
	{ 45, true, offsetof(struct proc_stat, start_data), 0, 0 },
	{ 46, true, offsetof(struct proc_stat, end_data), 0, 0 },
	{ 47, true, offsetof(struct proc_stat, start_brk), 0, 0 },
	{ 48, true, offsetof(struct proc_stat, arg_start), 0, 0 },
	{ 49, true, offsetof(struct proc_stat, arg_end), 0, 0 },
	{ 50, true, offsetof(struct proc_stat, env_start), 0, 0 },
	{ 51, true, offsetof(struct proc_stat, env_end), 0, 0 },
	{ 52, false, offsetof(struct proc_stat, exit_code), INT32_MIN, INT32_MAX },
};

static bool store_fields(const struct stat_field f[STAT_LAST + 1], struct proc_stat *s)
{
	for (size_t i = 0; i < ARRAY_LEN(stat_fields); i++) {
		const struct stat_field *from = &f[stat_fields[i].field];
		char *to = (char *)s + stat_fields[i].offset;
		int64_t v;
		int narrow;

		if (stat_fields[i].wide) {
			if (from->minus)
				return false;
			memcpy(to, &from->v, sizeof(from->v));
			continue;
		}
		if (!field_int(from, stat_fields[i].low, stat_fields[i].high, &v))
			return false;
		narrow = (int)v;
		memcpy(to, &narrow, sizeof(narrow));
	}
	return field_int(&f[20], 0, PROC_THREADS_MAX * 128LL, &s->num_threads);
}

struct err *proc_parse_stat(const char *text, struct proc_stat *ret)
{
	struct stat_field f[STAT_LAST + 1] = { 0 };
	struct line all = { text, strlen(text) };
	struct proc_stat s = { 0 };
	const char *p = text, *open, *close = strrchr(text, ')');
	uint64_t pid;
	size_t len;

	if (!text_scan_u64(&p, 10, &pid) || !text_scan_lit(&p, " (") || !close || close < p)
		return line_unknown(all, "stat");
	open = p;
	len = (size_t)(close - open);
	if (len > COMM_MAX)
		return line_unknown(all, "stat");
	memcpy(s.comm, open, MIN(len, sizeof(s.comm) - 1));
	p = close + 1;
	if (!text_scan_lit(&p, " ") || *p <= ' ' || *p > '~')
		return line_unknown(all, "stat");
	s.state = *p++;
	for (int i = STAT_FIRST; i <= STAT_LAST; i++)
		if (!text_scan_lit(&p, " ") || !scan_field(&p, &f[i]))
			return line_unknown(all, "stat");
	/* Newer kernels may append numbers. */
	while (text_scan_lit(&p, " "))
		if (!scan_field(&p, &f[0]))
			return line_unknown(all, "stat");
	text_scan_lit(&p, "\n");
	if (*p || !store_fields(f, &s))
		return line_unknown(all, "stat");
	*ret = s;
	return NULL;
}

static struct err *read_text(struct arena *a, pid_t pid, pid_t tid, const char *name, char **text)
{
	char path[64];

	if (!tid)
		return proc_read(a, pid, name, text);
	snprintf(path, sizeof(path), "task/%d/%s", tid, name);
	return proc_read(a, pid, path, text);
}

/* A thread's file that is missing means that the thread ended. */
static struct err *read_of(struct arena *a, pid_t pid, pid_t tid, const char *name, char **text)
{
	struct err *e = read_text(a, pid, tid, name, text);

	if (!e || !tid || err_code(e) != ERR_UNSUPPORTED)
		return e;
	err_free(e);
	return err_new(ERR_GONE, "thread %d of process %d has ended", tid, pid);
}

struct err *proc_stat(struct arena *a, pid_t pid, pid_t tid, struct proc_stat *ret)
{
	char *text;

	TRY(read_of(a, pid, tid, "stat", &text));
	TRY_IN(proc_parse_stat(text, ret), "read stat of process %d", pid);
	return NULL;
}

/* ---- status ---- */

struct value {
	struct arena *a;
	const char *p, *end;
};

static void skip_blanks(struct value *v)
{
	while (v->p < v->end && (*v->p == ' ' || *v->p == '\t'))
		v->p++;
}

static bool scan_in(struct value *v, unsigned base, uint64_t max, uint64_t *ret)
{
	skip_blanks(v);
	return v->p < v->end && text_scan_u64(&v->p, base, ret) && *ret <= max;
}

static bool at_end(struct value *v)
{
	skip_blanks(v);
	return v->p == v->end;
}

static bool get_hex(struct value *v, void *to)
{
	uint64_t n;

	if (!scan_in(v, 16, UINT64_MAX, &n) || !at_end(v))
		return false;
	memcpy(to, &n, sizeof(n));
	return true;
}

static bool get_int_base(struct value *v, unsigned base, void *to)
{
	uint64_t n;
	int narrow;

	if (!scan_in(v, base, INT32_MAX, &n) || !at_end(v))
		return false;
	narrow = (int)n;
	memcpy(to, &narrow, sizeof(narrow));
	return true;
}

static bool get_int(struct value *v, void *to)
{
	return get_int_base(v, 10, to);
}

static bool get_octal(struct value *v, void *to)
{
	return get_int_base(v, 8, to);
}

static bool get_kib(struct value *v, void *to)
{
	uint64_t n;

	if (!scan_in(v, 10, UINT64_MAX / 1024, &n) || !text_scan_lit(&v->p, " kB") || !at_end(v))
		return false;
	n *= 1024;
	memcpy(to, &n, sizeof(n));
	return true;
}

static bool get_ids(struct value *v, void *to)
{
	for (int i = 0; i < 4; i++) {
		uint64_t id;
		uint32_t narrow;

		if (!scan_in(v, 10, UINT32_MAX, &id))
			return false;
		narrow = (uint32_t)id;
		memcpy((char *)to + (size_t)i * sizeof(narrow), &narrow, sizeof(narrow));
	}
	return at_end(v);
}

static bool get_bool(struct value *v, void *to)
{
	uint64_t n;

	if (!scan_in(v, 10, 1, &n) || !at_end(v))
		return false;
	*(bool *)to = n != 0;
	return true;
}

static bool get_text(struct value *v, void *to)
{
	char *s;

	skip_blanks(v);
	s = arena_alloc(v->a, (size_t)(v->end - v->p) + 1);
	memcpy(s, v->p, (size_t)(v->end - v->p));
	memcpy(to, &s, sizeof(s));
	return true;
}

static bool get_hash(struct value *v, void *to)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	skip_blanks(v);
	for (; v->p < v->end; v->p++)
		h = (h ^ (uint8_t)*v->p) * 0x100000001b3ULL;
	memcpy(to, &h, sizeof(h));
	return true;
}

/* The whole struct, because two fields are filled. */
static bool get_groups(struct value *v, void *to)
{
	struct proc_status *s = to;
	size_t cap = 0;

	while (!at_end(v)) {
		uint64_t id;

		/* NGROUPS_MAX */
		if (s->n_groups == 65536 || !scan_in(v, 10, UINT32_MAX, &id))
			return false;
		s->groups = arena_grow(v->a, s->groups, &cap, s->n_groups + 1, sizeof(*s->groups));
		s->groups[s->n_groups++] = (uint32_t)id;
	}
	return true;
}

/* The process's number in each namespace, ours first. */
static bool get_ns_pids(struct value *v, void *to)
{
	struct proc_status *s = to;

	do {
		uint64_t pid;

		if (!scan_in(v, 10, INT32_MAX, &pid))
			return false;
		s->ns_pid = (pid_t)pid;
		s->ns_depth++;
	} while (!at_end(v));
	return true;
}

#define AT(member) offsetof(struct proc_status, member)
static const struct {
	const char *key;
	bool required; /* zombies and kernel threads have no memory, some kernels no seccomp */
	bool (*get)(struct value *v, void *to);
	size_t offset;
} status_fields[] = {
	{ "Umask", false, get_octal, AT(umask) },
	{ "TracerPid", true, get_int, AT(tracer) },
	{ "Uid", true, get_ids, AT(uid) },
	{ "Gid", true, get_ids, AT(gid) },
	{ "Groups", true, get_groups, 0 },
	{ "NSpid", true, get_ns_pids, 0 },
	{ "VmSize", false, get_kib, AT(vm_size_bytes) },
	{ "VmLck", false, get_kib, AT(vm_locked_bytes) },
	{ "VmRSS", false, get_kib, AT(vm_rss_bytes) },
	{ "VmSwap", false, get_kib, AT(vm_swap_bytes) },
	{ "CoreDumping", false, get_bool, AT(coredump) },
	{ "SigPnd", true, get_hex, AT(sig_pending) },
	{ "ShdPnd", true, get_hex, AT(sig_shared_pending) },
	{ "SigBlk", true, get_hex, AT(sig_blocked) },
	{ "SigIgn", true, get_hex, AT(sig_ignored) },
	{ "SigCgt", true, get_hex, AT(sig_caught) },
	{ "CapInh", true, get_hex, AT(cap_inh) },
	{ "CapPrm", true, get_hex, AT(cap_prm) },
	{ "CapEff", true, get_hex, AT(cap_eff) },
	{ "CapBnd", true, get_hex, AT(cap_bnd) },
	{ "CapAmb", true, get_hex, AT(cap_amb) },
	{ "NoNewPrivs", true, get_int, AT(no_new_privs) },
	{ "Seccomp", false, get_int, AT(seccomp) },
	{ "Cpus_allowed", true, get_hash, AT(cpus_allowed_hash) },
	{ "Cpus_allowed_list", true, get_text, AT(cpus_allowed_list) },
	{ "Mems_allowed_list", true, get_text, AT(mems_allowed_list) },
};

static size_t status_field(const char *key, size_t len)
{
	size_t i = 0;

	while (i < ARRAY_LEN(status_fields) && (strlen(status_fields[i].key) != len ||
						       memcmp(status_fields[i].key, key, len) != 0))
		i++;
	return i;
}

struct err *proc_parse_status(struct arena *a, const char *text, struct proc_status *ret)
{
	struct proc_status s = { .cpus_allowed_list = "", .mems_allowed_list = "" };
	bool seen[ARRAY_LEN(status_fields)] = { 0 };

	for (struct line l = line_next(&text); l.p; l = line_next(&text)) {
		const char *colon = memchr(l.p, ':', l.len);
		struct value v = { .a = a, .end = l.p + l.len };
		size_t i;

		if (!colon || colon == l.p)
			return line_unknown(l, "status");
		i = status_field(l.p, (size_t)(colon - l.p));
		if (i == ARRAY_LEN(status_fields))
			continue;
		v.p = colon + 1;
		if (seen[i] || !status_fields[i].get(&v, (char *)&s + status_fields[i].offset))
			return line_unknown(l, "status");
		seen[i] = true;
	}
	for (size_t i = 0; i < ARRAY_LEN(status_fields); i++)
		if (status_fields[i].required && !seen[i])
			return err_new(ERR_UNSUPPORTED, "status has no field \"%s\"",
				status_fields[i].key);
	*ret = s;
	return NULL;
}

struct err *proc_status(struct arena *a, pid_t pid, pid_t tid, struct proc_status *ret)
{
	char *text;

	TRY(read_of(a, pid, tid, "status", &text));
	TRY_IN(proc_parse_status(a, text, ret), "read status of process %d", pid);
	return NULL;
}
