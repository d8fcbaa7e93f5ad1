// SPDX-License-Identifier: Apache-2.0
/*
 * Resource limits, the OOM killer's adjustment, the core dump filter and the nice value of the
 * session's autogroup. They are set late (STAGE_LIMIT), because while it is rebuilt the process
 * needs the daemon's own. The limits are asked by the process itself: those of another user are
 * told to CAP_SYS_RESOURCE only.
 *
 * Only CAP_SYS_RESOURCE may raise a hard limit or lower oom_score_adj; without it (containers) a
 * higher one is refused by name, before anything is stopped.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "kernel/capability.h"
#include "kinds/calls.h"
#include "kinds/kind.h"
#include "limits.pb-c.h"

static const char *const names[] = {
	[RLIMIT_CPU] = "cpu",
	[RLIMIT_FSIZE] = "fsize",
	[RLIMIT_DATA] = "data",
	[RLIMIT_STACK] = "stack",
	[RLIMIT_CORE] = "core",
	[RLIMIT_RSS] = "rss",
	[RLIMIT_NPROC] = "nproc",
	[RLIMIT_NOFILE] = "nofile",
	[RLIMIT_MEMLOCK] = "memlock",
	[RLIMIT_AS] = "as",
	[RLIMIT_LOCKS] = "locks",
	[RLIMIT_SIGPENDING] = "sigpending",
	[RLIMIT_MSGQUEUE] = "msgqueue",
	[RLIMIT_NICE] = "nice",
	[RLIMIT_RTPRIO] = "rtprio",
	[RLIMIT_RTTIME] = "rttime",
};
#define LIMITS ARRAY_LEN(names)

#define NUMBER_BYTES 64

static struct err *read_number(struct arena *a, pid_t pid, const char *file, char **text)
{
	char *path = arena_printf(a, "/proc/%d/%s", (int)pid, file);

	TRY(io_read_file(a, path, NUMBER_BYTES, text, NULL));
	(*text)[strcspn(*text, "\n")] = 0;
	return NULL;
}

static struct err *oom_score_adj(struct arena *a, pid_t pid, int32_t *ret)
{
	char *text, *end;
	long value;

	TRY(read_number(a, pid, "oom_score_adj", &text));
	value = strtol(text, &end, 10);
	if (end == text || *end || value < -1000 || value > 1000)
		return err_new(ERR_KERNEL, "oom_score_adj reads \"%s\"", text);
	*ret = (int32_t)value;
	return NULL;
}

/* Kernels without CONFIG_ELF_CORE have no such file: then there is nothing to carry. */
static struct err *coredump_filter(struct arena *a, pid_t pid, uint32_t *ret, bool *has)
{
	char *text;
	uint64_t value;
	autoerr struct err *e = read_number(a, pid, "coredump_filter", &text);

	*has = e == NULL;
	if (e)
		return err_sysno(e) == ENOENT ? NULL : take(&e);
	TRY(text_u64(text, 16, "coredump_filter", &value));
	*ret = (uint32_t)value;
	return NULL;
}

/* "/autogroup-25 nice 0"; 0 where there is no such thing. */
static struct err *autogroup_nice(struct arena *a, pid_t pid, int32_t *ret)
{
	char *text, *nice;
	autoerr struct err *e = read_number(a, pid, "autogroup", &text);

	*ret = 0;
	if (e)
		return err_sysno(e) == ENOENT ? NULL : take(&e);
	nice = strstr(text, " nice ");
	if (nice)
		*ret = (int32_t)strtol(nice + strlen(" nice "), NULL, 10);
	return NULL;
}

static struct err *ask_limits(struct capture *c, struct rlimit now[LIMITS])
{
	uint64_t at = remote_scratch(c->task).v;
	struct calls calls = { 0 };

	for (unsigned i = 0; i < LIMITS; i++)
		CALL(&calls, "ask for its limits", SYS_prlimit64, 0, i, 0, at + i * sizeof(*now));
	TRY(calls_run(&calls, c->task, c->thread));
	return remote_get(c->task, 0, now, LIMITS * sizeof(*now));
}

static struct err *limits_capture(struct capture *c)
{
	Migrate__Kind__Limits m = MIGRATE__KIND__LIMITS__INIT;
	Migrate__Kind__Limits__Limit limits[LIMITS], *list[LIMITS];
	struct rlimit now[LIMITS];
	pid_t pid = c->task->pid;
	bool has_filter;

	TRY(ask_limits(c, now));
	m.limits = list;
	for (unsigned i = 0; i < LIMITS; i++) {
		migrate__kind__limits__limit__init(&limits[i]);
		limits[i].resource = i;
		limits[i].soft = now[i].rlim_cur;
		limits[i].hard = now[i].rlim_max;
		list[m.n_limits++] = &limits[i];
	}
	if (now[RLIMIT_CPU].rlim_cur != RLIM_INFINITY)
		capture_warn(c, "the CPU time that its limit counts begins at 0 again");
	TRY(oom_score_adj(c->arena, pid, &m.oom_score_adj));
	TRY(coredump_filter(c->arena, pid, &m.coredump_filter, &has_filter));
	TRY(autogroup_nice(c->arena, pid, &m.autogroup_nice));
	capture_emit(c, 0, &m.base);
	return NULL;
}

static void print_limit(char *buf, size_t room, uint64_t v)
{
	if (v == RLIM_INFINITY)
		snprintf(buf, room, "unlimited");
	else
		snprintf(buf, room, "%ju", (uintmax_t)v);
}

static struct err *limits_check(
	struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Limits *m = msg;
	bool may_raise;
	int32_t adj;

	TRY(capability_have(r->arena, CAPABILITY_SYS_RESOURCE, &may_raise));
	for (size_t i = 0; i < m->n_limits; i++) {
		const Migrate__Kind__Limits__Limit *l = m->limits[i];
		struct rlimit own;
		char want[24], here[24];

		if (l->resource >= LIMITS || l->soft > l->hard)
			return err_new(ERR_PEER, "limit %u makes no sense", l->resource);
		if (getrlimit((enum __rlimit_resource)l->resource, &own) < 0)
			return err_errno(errno, "ask for our own %s limit", names[l->resource]);
		if (may_raise || l->hard <= own.rlim_max)
			continue;
		print_limit(want, sizeof(want), l->hard);
		print_limit(here, sizeof(here), own.rlim_max);
		rebuild_refuse(r,
			err_hint(err_new(ERR_LIMIT,
					 "its hard %s limit is %s and the daemon there can give %s",
					 names[l->resource], want, here),
				"raise that limit of the daemon there, or lower the process's: "
				"prlimit --pid"));
	}
	TRY(oom_score_adj(r->arena, getpid(), &adj));
	if (!may_raise && m->oom_score_adj < adj)
		rebuild_refuse(r,
			err_new(ERR_LIMIT,
				"its oom_score_adj is %d and the daemon there cannot go below %d",
				m->oom_score_adj, adj));
	return NULL;
}

static struct err *limits_finish(
	struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Limits *m = msg;
	pid_t pid = r->task->pid;
	uint32_t filter;
	bool has_filter;
	int32_t adj, nice;

	for (size_t i = 0; i < m->n_limits; i++) {
		const Migrate__Kind__Limits__Limit *l = m->limits[i];
		struct rlimit want = { l->soft, l->hard };

		if (l->resource >= LIMITS)
			return err_new(ERR_PEER, "there is no limit %u", l->resource);
		if (prlimit(pid, (enum __rlimit_resource)l->resource, &want, NULL) < 0)
			return err_errno(errno, "set the %s limit", names[l->resource]);
	}
	TRY(oom_score_adj(r->arena, pid, &adj));
	if (adj != m->oom_score_adj)
		TRY(io_write_file(arena_printf(r->arena, "/proc/%d/oom_score_adj", (int)pid),
			arena_printf(r->arena, "%d", m->oom_score_adj)));
	TRY(coredump_filter(r->arena, pid, &filter, &has_filter));
	if (has_filter && filter != m->coredump_filter)
		TRY(io_write_file(arena_printf(r->arena, "/proc/%d/coredump_filter", (int)pid),
			arena_printf(r->arena, "0x%x", m->coredump_filter)));
	TRY(autogroup_nice(r->arena, pid, &nice));
	if (nice != m->autogroup_nice)
		TRY(io_write_file(arena_printf(r->arena, "/proc/%d/autogroup", (int)pid),
			arena_printf(r->arena, "%d", m->autogroup_nice)));
	return NULL;
}

const struct kind kind_limits = {
	.id = 9,
	.name = "resource limits",
	.scope = KIND_PROCESS,
	.stage = STAGE_LIMIT,
	.msg = &migrate__kind__limits__descriptor,
	.capture = limits_capture,
	.check = limits_check,
	.finish = limits_finish,
};
