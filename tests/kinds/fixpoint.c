// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel's own text, canonical: one fact per line, headed by the file it is from. Neighbouring
 * mappings that differ in nothing are joined (tracking splits them). Of descriptors that have no
 * text of their own (sockets) every option that can be asked without harm is asked by number, so an
 * option that nobody thought of shows too.
 */
#include "fixpoint.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/io.h"

#define FILE_MAX  (64u << 20)
#define LINES_SAY 20

/* ---- what may change ---- */

static const struct {
	const char *file, *line;
	const char *why;
} volatile_lines[] = {
	{ "status", "State:", "it is looked at while it runs" },
	{ "status", "Ngid:", "what the NUMA balancer has found out so far" },
	{ "status", "FDSize:", "room of the table, which grows by habit" },
	{ "status", "VmPeak:", "history" },
	{ "status", "VmHWM:", "history" },
	{ "status", "VmRSS:", "which pages of files and of zeroes are mapped at the moment" },
	{ "status", "RssAnon:", "as VmRSS: pages of zeroes are not sent" },
	{ "status", "RssFile:", "as VmRSS" },
	{ "status", "RssShmem:", "as VmRSS" },
	{ "status", "VmPTE:", "as VmRSS" },
	{ "status", "VmSwap:", "as VmRSS" },
	{ "status", "SigQ:", "counts the signals of all processes of the user" },
	{ "status", "voluntary_ctxt_switches:", "history" },
	{ "status", "nonvoluntary_ctxt_switches:", "history" },
	{ "fdinfo", "mnt_id:", "the kernel's running number; another mount namespace" },
	{ "fdinfo", "eventfd-id:", "the kernel's running number" },
	{ "fdinfo", "ticks:", "time passes" },
	{ "fdinfo", "it_value:", "time passes" },
};
/* Besides, where only a part of a line changes: inode numbers of what has no name (sockets, pipes,
 * memfds, unlinked and anonymous files) and of /proc, also where epoll shows those of its items;
 * and who took a flock(2), which the process does itself there although a parent may have. */

/* VmFlags, where `without` is not set too. */
static const struct {
	const char *flag, *without, *why;
} volatile_flags[] = {
	{ " sd", NULL, "soft-dirty: written since somebody cleared it" },
	{ " gu", NULL, "a hint that there may have been guard pages" },
	{ " sh", " mw", "how a file was opened, when it can never be written through here" },
	{ " ac", " wr", "read-only memory without contents counts as committed no longer" },
};

/* Options that change by themselves, name an object without a name, or are not only read. */
static const struct {
	int level, name;
	const char *why;
} volatile_options[] = {
	{ SOL_SOCKET, 4, "SO_ERROR: reading takes it" },
	{ SOL_SOCKET, 49, "SO_INCOMING_CPU: of the last packet" },
	{ SOL_SOCKET, 55, "SO_MEMINFO: memory in use at the moment" },
	{ SOL_SOCKET, 56, "SO_INCOMING_NAPI_ID: of the last packet" },
	{ SOL_SOCKET, 57, "SO_COOKIE: the kernel's running number" },
	{ SOL_SOCKET, 71, "SO_NETNS_COOKIE: the kernel's running number" },
	{ SOL_SOCKET, 77, "SO_PEERPIDFD: makes a descriptor" },
	{ SOL_IP, 14, "IP_MTU: of the route" },
	{ SOL_IPV6, 24, "IPV6_MTU: of the route" },
	{ SOL_TCP, 24, "TCP_TIMESTAMP: a clock" },
	{ SOL_TCP, 11, "TCP_INFO: counts and times" },
	{ SOL_TCP, 26, "TCP_CC_INFO: counts and times" },
	{ SOL_TCP, 35, "TCP_ZEROCOPY_RECEIVE: not only read" },
}, volatile_when_connected[] = {
	{ SOL_IP, 33, "IP_MULTICAST_TTL: what the peer's first packet had" },
	{ SOL_IPV6, 17, "IPV6_MULTICAST_IF: where the peer's first packet came in" },
	{ SOL_IPV6, 18, "IPV6_MULTICAST_HOPS: what the peer's first packet had" },
	{ SOL_IPV6, 26, "IPV6_V6ONLY: on whatever was bound to one IPv6 address" },
	{ SOL_TCP, 2, "TCP_MAXSEG: what fits just now" },
	{ SOL_TCP, 12, "TCP_QUICKACK: how the conversation goes" },
};

/* Of a restless process: its memory, and signals that it gives itself. */
static const char *const restless_lines[] = { "VmSize:", "VmData:", "VmStk:", "VmLck:", "SigPnd:" };

static bool is_volatile(const char *file, const char *line)
{
	for (size_t i = 0; i < ARRAY_LEN(volatile_lines); i++)
		if (!strcmp(file, volatile_lines[i].file) &&
			!strncmp(line, volatile_lines[i].line, strlen(volatile_lines[i].line)))
			return true;
	return false;
}

static bool is_restless(const char *line)
{
	for (size_t i = 0; i < ARRAY_LEN(restless_lines); i++)
		if (!strncmp(line, restless_lines[i], strlen(restless_lines[i])))
			return true;
	return false;
}

/* ---- plain files ---- */

struct look {
	pid_t pid;
	bool restless; /* its mappings change all the time */
	struct arena *arena;
	struct text *t;
	/* Descriptors that were looked at already. */
	struct seen {
		int number;
		const char *link;
	} * seen;
	size_t n_seen, cap_seen;
};

static char *slurp(const struct look *l, const char *path, size_t *len)
{
	char *text;
	struct err *e = io_read_file(l->arena, path, FILE_MAX, &text, len);

	err_free(e);
	return e ? NULL : text;
}

/* "status: SigBlk: ..." for every line that stays. */
static void add_lines(const struct look *l, const char *dir, const char *file)
{
	char *path = arena_printf(l->arena, "/proc/%s/%s", dir, file);
	char *text = slurp(l, path, NULL), *save = NULL;

	for (char *p = text ? strtok_r(text, "\n", &save) : NULL; p;
		p = strtok_r(NULL, "\n", &save))
		if (!is_volatile(file, p) && !(l->restless && is_restless(p)))
			text_addf(l->t, "%s/%s: %s\n", dir, file, p);
}

static void add_hex(const struct look *l, const char *what, const void *data, size_t n)
{
	const uint8_t *p = data;

	text_addf(l->t, "%s: ", what);
	for (size_t i = 0; i < n; i++)
		text_addf(l->t, isprint(p[i]) && p[i] != '\\' ? "%c" : "\\%02x", p[i]);
	text_addf(l->t, "\n");
}

static void add_binary(const struct look *l, const char *dir, const char *file)
{
	size_t n = 0;
	char *text = slurp(l, arena_printf(l->arena, "/proc/%s/%s", dir, file), &n);

	if (text)
		add_hex(l, arena_printf(l->arena, "%s/%s", dir, file), text, n);
}

static const char *link_of(const struct look *l, const char *dir, const char *file)
{
	char buf[4096];
	ssize_t n =
		readlink(arena_printf(l->arena, "/proc/%s/%s", dir, file), buf, sizeof(buf) - 1);

	buf[MAX(n, 0)] = '\0';
	/* Names below it are forgotten whenever somebody looks them up, as we do. */
	if (strncmp(buf, "/proc/", 6) == 0 && strstr(buf, "/net/"))
		buf[strcspn(buf, " ")] = '\0';
	return arena_strdup(l->arena, buf);
}

/* The fields of stat that no other file has. */
static const struct {
	int field;
	const char *name;
} stat_fields[] = {
	{ 4, "ppid" },
	{ 5, "pgrp" },
	{ 6, "session" },
	{ 7, "tty_nr" },
	{ 8, "tpgid" },
	{ 18, "priority" },
	{ 19, "nice" },
	{ 20, "num_threads" },
	{ 26, "startcode" },
	{ 27, "endcode" },
	{ 28, "startstack" },
	{ 38, "exit_signal" },
	{ 40, "rt_priority" },
	{ 41, "policy" },
	{ 45, "start_data" },
	{ 46, "end_data" },
	{ 47, "start_brk" },
	{ 48, "arg_start" },
	{ 49, "arg_end" },
	{ 50, "env_start" },
	{ 51, "env_end" },
};

static void add_stat(const struct look *l, const char *dir)
{
	char *text = slurp(l, arena_printf(l->arena, "/proc/%s/stat", dir), NULL);
	char *p = text ? strrchr(text, ')') : NULL, *save = NULL;
	int field = 2;

	for (p = p ? strtok_r(p, " \n", &save) : NULL; p; p = strtok_r(NULL, " \n", &save), field++)
		for (size_t i = 0; i < ARRAY_LEN(stat_fields); i++)
			if (stat_fields[i].field == field)
				text_addf(l->t, "%s/stat: %s %s\n", dir, stat_fields[i].name, p);
}

/* ---- mappings ---- */

struct mapping {
	uint64_t start, end, offset;
	char attrs[512]; /* protection, device, inode, flags, path */
	bool file;
};

static bool is_shared_memory(const char *path)
{
	return !strncmp(path, "/memfd:", 7) || !strncmp(path, "[anon_shmem:", 12) ||
	       !strcmp(path, "/dev/zero (deleted)");
}

/* A file without a name shows the one that it had, or the number that it was made with. */
static const char *shown_path(const struct look *l, const char *path)
{
	static const char deleted[] = " (deleted)";
	const char *slash = strrchr(path, '/');
	size_t n = strlen(path), tail = sizeof(deleted) - 1;

	if (path[0] != '/' || is_shared_memory(path) || !strncmp(path, "/SYSV", 5) || n < tail ||
		strcmp(path + n - tail, deleted) != 0)
		return path;
	return arena_printf(l->arena, "%.*s/unlinked", (int)(slash - path), path);
}

static void add_mapping(const struct look *l, const struct mapping *m)
{
	if (m->end)
		text_addf(l->t, "smaps: %jx-%jx %jx %s\n", (uintmax_t)m->start, (uintmax_t)m->end,
			(uintmax_t)m->offset, m->attrs);
}

static void take_mapping(const struct look *l, struct mapping *last, const struct mapping *m)
{
	if (last->end == m->start && !strcmp(last->attrs, m->attrs) &&
		(!m->file || last->offset + (last->end - last->start) == m->offset)) {
		last->end = m->end;
		return;
	}
	add_mapping(l, last);
	*last = *m;
}

/* Takes the flags that may change out of " rd wr mr ...". */
static void drop_flags(char *flags)
{
	for (size_t i = 0; i < ARRAY_LEN(volatile_flags); i++) {
		char *p = strstr(flags, volatile_flags[i].flag);

		if (p && !(volatile_flags[i].without && strstr(flags, volatile_flags[i].without)))
			memmove(p, p + 3, strlen(p + 3) + 1);
	}
}

/* "7f00-7f01 rw-p 00000000 00:01 123   /path" */
static bool parse_mapping(const struct look *l, const char *line, struct mapping *m)
{
	unsigned long long start, end, offset, inode;
	char perms[8], dev[16];
	const char *path;
	int at = 0;

	if (sscanf(line, "%llx-%llx %7s %llx %15s %llu %n", &start, &end, perms, &offset, dev,
		    &inode, &at) < 6)
		return false;
	*m = (struct mapping){ start, end, offset, .file = inode != 0 };
	path = shown_path(l, line + at);
	if (is_shared_memory(path) || path != line + at)
		snprintf(m->attrs, sizeof(m->attrs), "%s %s", perms, path);
	else
		snprintf(m->attrs, sizeof(m->attrs), "%s %s %llu %s", perms, dev, inode, line + at);
	return true;
}

static void add_smaps(const struct look *l)
{
	char *text = slurp(l, arena_printf(l->arena, "/proc/%d/smaps", l->pid), NULL);
	char *save = NULL;
	struct mapping last = { 0 }, m = { 0 };

	for (char *p = text ? strtok_r(text, "\n", &save) : NULL; p;
		p = strtok_r(NULL, "\n", &save)) {
		size_t n = strlen(m.attrs);

		if (strncmp(p, "VmFlags:", 8) != 0) {
			(void)parse_mapping(l, p, &m);
			continue;
		}
		drop_flags(p + 8);
		snprintf(m.attrs + n, sizeof(m.attrs) - n, "%s", p + 8);
		take_mapping(l, &last, &m);
	}
	add_mapping(l, &last);
}

/* ---- descriptors ---- */

static bool option_stays(int level, int name, bool connected)
{
	for (size_t i = 0; connected && i < ARRAY_LEN(volatile_when_connected); i++)
		if (level == volatile_when_connected[i].level &&
			name == volatile_when_connected[i].name)
			return false;
	for (size_t i = 0; i < ARRAY_LEN(volatile_options); i++)
		if (level == volatile_options[i].level && name == volatile_options[i].name)
			return false;
	return true;
}

static void add_socket(const struct look *l, int number, int fd)
{
	static const int levels[] = { SOL_SOCKET, SOL_IP, SOL_IPV6, SOL_TCP, SOL_UDP };
	struct sockaddr_storage a;
	socklen_t n = sizeof(a);
	bool connected = getpeername(fd, (struct sockaddr *)&a, &n) == 0;

	for (size_t i = 0; i < ARRAY_LEN(levels); i++)
		for (int name = 0; name < 128; name++) {
			_Alignas(8) char v[256] = { 0 };

			n = sizeof(v);
			/* 64 and on of SOL_IP and SOL_IPV6 mostly belong to the packet filter. */
			if (option_stays(levels[i], name, connected) &&
				getsockopt(fd, levels[i], name, v, &n) == 0)
				add_hex(l,
					arena_printf(l->arena, "socket %d: option %d %d", number,
						levels[i], name),
					v, MIN(n, (socklen_t)sizeof(v)));
		}
	n = sizeof(a);
	memset(&a, 0, sizeof(a));
	if (getsockname(fd, (struct sockaddr *)&a, &n) == 0)
		add_hex(l, arena_printf(l->arena, "socket %d: name", number), &a, n);
	n = sizeof(a);
	memset(&a, 0, sizeof(a));
	if (getpeername(fd, (struct sockaddr *)&a, &n) == 0)
		add_hex(l, arena_printf(l->arena, "socket %d: peer", number), &a, n);
}

/* What fcntl tells, and whether it is the description of a lower number. */
static void add_description(const struct look *l, int number, const char *link)
{
	struct f_owner_ex owner = { 0 };
	autoclose int pidfd = pidfd_open(l->pid, 0), fd = -1;
	struct stat st;

	fd = pidfd_getfd(pidfd, number, 0);
	if (fd < 0)
		return;
	text_addf(l->t, "fd %d: signal %d", number, fcntl(fd, F_GETSIG));
	if (fcntl(fd, F_GETOWN_EX, &owner) == 0)
		text_addf(l->t, " to %d %d", owner.type, owner.pid);
	text_addf(l->t, " pipe %d seals %d\n", fcntl(fd, F_GETPIPE_SZ), fcntl(fd, F_GET_SEALS));
	if (fstat(fd, &st) == 0 && !(l->restless && strstr(link, "/memfd:")))
		text_addf(l->t, "fd %d: mode %o of %u:%u, size %jd\n", number, st.st_mode,
			st.st_uid, st.st_gid, (intmax_t)(S_ISDIR(st.st_mode) ? 0 : st.st_size));
	if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode))
		add_socket(l, number, fd);
	for (size_t i = 0; i < l->n_seen; i++)
		if (!strcmp(link, l->seen[i].link) &&
			!syscall(SYS_kcmp, l->pid, l->pid, KCMP_FILE, number, l->seen[i].number)) {
			text_addf(l->t, "fd %d: same as %d\n", number, l->seen[i].number);
			return;
		}
}

/* "fe:00:123" of a lock on a file without a name. */
static void drop_file(char *line)
{
	for (char *p = strchr(line, ' '); p; p = strchr(p + 1, ' ')) {
		unsigned major, minor, inode;
		int n = 0;

		if (sscanf(p, " %x:%x:%u%n", &major, &minor, &inode, &n) == 3) {
			memmove(p, p + n, strlen(p + n) + 1);
			return;
		}
	}
}

static void add_fdinfo(const struct look *l, int number, bool named)
{
	char *path = arena_printf(l->arena, "/proc/%d/fdinfo/%d", l->pid, number), *save = NULL;
	char *text = slurp(l, path, NULL), *ino, access[8];
	unsigned flags;
	int at;

	for (char *p = text ? strtok_r(text, "\n", &save) : NULL; p;
		p = strtok_r(NULL, "\n", &save)) {
		if (is_volatile("fdinfo", p) || (!named && !strncmp(p, "ino:", 4)))
			continue;
		if (!named && !strncmp(p, "lock:", 5))
			drop_file(p);
		ino = strncmp(p, "tfd:", 4) ? NULL : strstr(p, " pos:");
		if (ino)
			*ino = '\0';
		if (sscanf(p, "flags: %o", &flags) == 1 && (flags & O_TMPFILE) == O_TMPFILE)
			text_addf(l->t, "fdinfo %d: flags:\t0%o\n", number,
				flags & ~(unsigned)O_TMPFILE);
		else if (sscanf(p, "lock: %*d: FLOCK ADVISORY %7s %*d %n", access, &at) == 1)
			text_addf(l->t, "fdinfo %d: flock %s %s\n", number, access, p + at);
		else
			text_addf(l->t, "fdinfo %d: %s\n", number, p);
	}
}

/* Of a restless process: what it opens for a moment, by its name; or it is closed already. */
static bool comes_and_goes(const char *link)
{
	size_t len = strlen(link);

	return !len || strstr(link, "/comes-and-goes") ||
	       (len > 5 && !strcmp(link + len - 5, "/maps"));
}

/* A POSIX message queue has a name, but in no file system. */
static bool is_queue(const char *link)
{
	return link[0] == '/' && !strchr(link + 1, '/') && access(link, F_OK) < 0;
}

static void add_fd(struct look *l, int number)
{
	const char *link = link_of(
		l, arena_printf(l->arena, "%d/fd", l->pid), arena_printf(l->arena, "%d", number));
	const char *shown = shown_path(l, link);
	bool named = link[0] == '/' && shown == link && !is_shared_memory(link) &&
		     !is_queue(link) && strncmp(link, "/proc/", 6);

	if (l->restless && comes_and_goes(link))
		return;
	text_addf(l->t, "fd %d: %.*s\n", number,
		(int)(named || link[0] == '/' ? strlen(shown) : strcspn(link, "0123456789")),
		shown);
	add_fdinfo(l, number, named);
	add_description(l, number, link);
	l->seen = arena_grow(l->arena, l->seen, &l->cap_seen, l->n_seen + 1, sizeof(*l->seen));
	l->seen[l->n_seen++] = (struct seen){ number, link };
}

/* ---- threads ---- */

static void add_thread(struct look *l, pid_t tid)
{
	char *dir = arena_printf(l->arena, "%d", tid);
	_Alignas(8) uint8_t attr[64] = { 0 };
	void *head = NULL;
	size_t bytes = 0;

	add_lines(l, dir, "status");
	add_lines(l, dir, "comm");
	add_lines(l, dir, "timerslack_ns");
	add_lines(l, dir, "personality");
	add_lines(l, arena_printf(l->arena, "%d/task/%d", l->pid, tid), "children");
	add_binary(l, dir, "attr/current");
	add_stat(l, dir);
	if (syscall(SYS_sched_getattr, tid, attr, sizeof(attr), 0) == 0)
		add_hex(l, arena_printf(l->arena, "%d: sched_attr", tid), attr, sizeof(attr));
	text_addf(l->t, "%d: ioprio %ld\n", tid, syscall(SYS_ioprio_get, 1, tid));
	if (syscall(SYS_get_robust_list, tid, &head, &bytes) == 0)
		text_addf(l->t, "%d: robust list %p %zu\n", tid, head, bytes);
}

static int int_cmp(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Calls fn for every number that is a name in the directory, ascending. */
static void each_number(struct look *l, const char *path, void (*fn)(struct look *, int))
{
	int *v = NULL;
	size_t n = 0, cap = 0;
	DIR *d = opendir(path);

	for (const struct dirent *de; d && (de = readdir(d));) {
		if (!isdigit((unsigned char)de->d_name[0]))
			continue;
		v = arena_grow(l->arena, v, &cap, n + 1, sizeof(*v));
		v[n++] = atoi(de->d_name);
	}
	if (d)
		closedir(d);
	if (n)
		qsort(v, n, sizeof(*v), int_cmp);
	for (size_t i = 0; i < n; i++)
		fn(l, v[i]);
}

/* ---- the whole ---- */

/* Policies that are not the default one. */
static void add_numa(const struct look *l)
{
	char *text = slurp(l, arena_printf(l->arena, "/proc/%d/numa_maps", l->pid), NULL);
	char *save = NULL, start[32], policy[128];

	for (char *p = text ? strtok_r(text, "\n", &save) : NULL; p;
		p = strtok_r(NULL, "\n", &save))
		if (sscanf(p, "%31s %127s", start, policy) == 2 && strcmp(policy, "default"))
			text_addf(l->t, "numa_maps: %s %s\n", start, policy);
}

static void add_autogroup(const struct look *l)
{
	char *text = slurp(l, arena_printf(l->arena, "/proc/%d/autogroup", l->pid), NULL);
	char *nice = text ? strstr(text, "nice") : NULL;

	if (nice)
		text_addf(l->t, "autogroup: %s", nice);
}

void fixpoint_look(pid_t pid, bool restless, struct text *t)
{
	static const char *const files[] = { "limits", "timers", "oom_score_adj", "coredump_filter",
		"uid_map", "gid_map", "setgroups", "loginuid" };
	static const char *const links[] = { "exe", "cwd", "root", "ns/user", "ns/uts",
		"ns/cgroup" };
	static const char *const binaries[] = { "environ", "cmdline", "auxv" };
	autoarena struct arena *a = arena_new();
	struct look l = { .pid = pid, .restless = restless, .arena = a, .t = t };
	char *dir = arena_printf(a, "%d", pid);

	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		add_lines(&l, dir, files[i]);
	for (size_t i = 0; i < ARRAY_LEN(links); i++)
		text_addf(t, "%s: %s\n", links[i], link_of(&l, dir, links[i]));
	text_addf(t, "ns/ipc: %s\n",
		strcmp(link_of(&l, dir, "ns/ipc"), link_of(&l, "1", "ns/ipc")) ? "another"
									       : "the host's");
	for (size_t i = 0; i < ARRAY_LEN(binaries); i++)
		add_binary(&l, dir, binaries[i]);
	add_autogroup(&l);
	if (!restless) {
		add_smaps(&l);
		add_numa(&l);
	}
	each_number(&l, arena_printf(a, "/proc/%d/task", pid), add_thread);
	each_number(&l, arena_printf(a, "/proc/%d/fd", pid), add_fd);
}

/* ---- comparison ---- */

static int line_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t split(char *text, char ***ret)
{
	char **v = NULL, *save = NULL;
	size_t n = 0, cap = 0;

	for (char *p = strtok_r(text, "\n", &save); p; p = strtok_r(NULL, "\n", &save)) {
		if (n == cap) {
			cap = cap * 2 + 256;
			v = xrealloc_array(v, cap, sizeof(*v));
		}
		v[n++] = p;
	}
	if (n)
		qsort(v, n, sizeof(*v), line_cmp);
	*ret = v;
	return n;
}

size_t fixpoint_compare(char *before, char *after, bool say)
{
	autofree char **a = NULL, **b = NULL;
	size_t n = split(before, &a), m = split(after, &b), i = 0, k = 0, differ = 0;

	while (i < n || k < m) {
		int c = i == n ? 1 : k == m ? -1 : strcmp(a[i], b[k]);

		if (c && say && differ < LINES_SAY)
			fprintf(stderr, "  %c %s\n", c < 0 ? '-' : '+', c < 0 ? a[i] : b[k]);
		differ += c != 0;
		i += c <= 0;
		k += c >= 0;
	}
	return differ;
}
