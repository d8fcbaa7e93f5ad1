// SPDX-License-Identifier: Apache-2.0
/*
 * The v2 hierarchy may be mounted anywhere (hybrid set-ups have it below the v1 one), and a group's
 * path counts from the root of our cgroup namespace, which is what a mount made inside shows too; a
 * mount from outside names its root in mountinfo, and that part is taken off.
 */
#include "kernel/freezer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/text.h"

#define FREEZE_US  1000000
#define THAW_US    1000000
#define TEXT_BYTES (1u << 20)
#define NAP_MS     5

struct mount {
	char *root, *point; /* arena */
};

/* One line of mountinfo: "ID PARENT MAJ:MIN ROOT POINT OPTIONS [FIELDS] - TYPE ..." */
static bool parse_mount(char *line, struct mount *m)
{
	char *save = NULL, *field[5];
	const char *type = strstr(line, " - ");

	if (!type || strncmp(type, " - cgroup2 ", 11) != 0)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(field); i++) {
		field[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!field[i])
			return false;
	}
	*m = (struct mount){ field[3], field[4] };
	return true;
}

/* Not hidden by a later mount, and not above the root of our cgroup namespace. */
static bool usable(const struct mount *m)
{
	struct statfs st;

	return strncmp(m->root, "/..", 3) != 0 && statfs(m->point, &st) == 0 &&
	       st.f_type == CGROUP2_SUPER_MAGIC;
}

static struct err *find_mount(struct arena *a, struct mount *ret)
{
	char *text, *save = NULL;
	struct mount m;

	TRY(io_read_file(a, "/proc/self/mountinfo", TEXT_BYTES, &text, NULL));
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		if (!parse_mount(l, &m) || !usable(&m))
			continue;
		*ret = m;
		return NULL;
	}
	return err_hint(err_new(ERR_UNSUPPORTED, "cgroup v2 is not mounted"),
		"mount -t cgroup2 none /sys/fs/cgroup");
}

struct err *freezer_root(char **dir)
{
	autoarena struct arena *a = arena_new();
	struct mount m;

	TRY(find_mount(a, &m));
	*dir = xstrdup(m.point);
	return NULL;
}

/* Its path, or NULL. */
static char *find_below(const char *dir, const char *name)
{
	DIR *d = opendir(dir);
	char *found = NULL;

	for (const struct dirent *de; !found && d && (de = readdir(d));) {
		autotext struct text path = { 0 };

		if (de->d_type != DT_DIR || de->d_name[0] == '.')
			continue;
		text_addf(&path, "%s/%s", dir, de->d_name);
		found = strcmp(de->d_name, name) == 0 ? xstrdup(text_str(&path))
						      : find_below(text_str(&path), name);
	}
	if (d)
		closedir(d);
	return found;
}

struct err *freezer_find(const char *name, char **dir)
{
	autofree char *root = NULL;

	TRY(freezer_root(&root));
	*dir = find_below(root, name);
	return NULL;
}

struct err *freezer_current(pid_t pid, char **dir)
{
	autoarena struct arena *a = arena_new();
	autotext struct text path = { 0 };
	char *text, *group;
	struct mount m;
	size_t root_len;

	TRY(find_mount(a, &m));
	TRY(io_read_file(a, arena_printf(a, "/proc/%d/cgroup", (int)pid), TEXT_BYTES, &text, NULL));
	group = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
	if (!group)
		return err_new(ERR_UNSUPPORTED, "process %d is in no v2 group", (int)pid);
	group = strchr(group, '/');
	if (!group)
		return err_new(ERR_UNSUPPORTED, "process %d is in no v2 group", (int)pid);
	group[strcspn(group, "\n")] = '\0';
	root_len = strcmp(m.root, "/") == 0 ? 0 : strlen(m.root);
	if (root_len && strncmp(group, m.root, root_len) == 0 &&
		(group[root_len] == '/' || group[root_len] == '\0'))
		group += root_len;
	text_addf(&path, "%s%s", m.point, strcmp(group, "/") == 0 ? "" : group);
	*dir = xstrdup(text_str(&path));
	return NULL;
}

struct err *freezer_make(const char *parent, const char *name, struct freezer *ret)
{
	autotext struct text path = { 0 };

	text_addf(&path, "%s/%s", parent, name);
	/* What an ended process has left behind; one in use stays, and is in the way. */
	rmdir(text_str(&path));
	if (mkdir(text_str(&path), 0755) < 0)
		return err_errno(errno, "make control group %s", text_str(&path));
	text_add(&path, "/cgroup.freeze", strlen("/cgroup.freeze"));
	if (access(text_str(&path), W_OK) < 0) {
		path.s[path.len - strlen("/cgroup.freeze")] = '\0';
		rmdir(path.s);
		return err_new(ERR_UNSUPPORTED, "control group %s cannot be frozen", path.s);
	}
	path.s[path.len - strlen("/cgroup.freeze")] = '\0';
	*ret = (struct freezer){ .dir = xstrdup(path.s) };
	return NULL;
}

static struct err *write_in(const char *dir, const char *file, int number)
{
	autotext struct text path = { 0 }, value = { 0 };

	text_addf(&path, "%s/%s", dir, file);
	text_addf(&value, "%d", number);
	return io_write_file(text_str(&path), text_str(&value));
}

struct err *freezer_join(struct freezer *f, pid_t pid)
{
	char *home = NULL;

	TRY(freezer_current(pid, &home));
	if (!f->home)
		f->home = take(&home);
	free(home);
	return write_in(f->dir, "cgroup.procs", (int)pid);
}

/* cgroup.events wakes a poll for POLLPRI when a line of it changes. */
static struct err *await_frozen(const char *dir)
{
	autotext struct text path = { 0 };
	autoclose int fd = -1;
	struct deadline d = deadline_in(FREEZE_US);
	char buf[256];

	text_addf(&path, "%s/cgroup.events", dir);
	TRY(io_open(text_str(&path), O_RDONLY, &fd));
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLPRI };
		ssize_t n = pread(fd, buf, sizeof(buf) - 1, 0);

		if (n < 0)
			return err_errno(errno, "read %s", text_str(&path));
		buf[n] = '\0';
		if (strstr(buf, "frozen 1"))
			return NULL;
		if (deadline_passed(d))
			return err_new(ERR_TIMEOUT, "control group %s does not freeze", dir);
		poll(&p, 1, MIN(deadline_poll_ms(d), NAP_MS));
	}
}

struct err *freezer_set(struct freezer *f, bool frozen, bool wait)
{
	TRY(write_in(f->dir, "cgroup.freeze", frozen));
	return frozen && wait ? await_frozen(f->dir) : NULL;
}

static struct err *read_members(struct arena *a, const struct freezer *f, char **ret)
{
	return io_read_file(a, arena_printf(a, "%s/cgroup.procs", f->dir), TEXT_BYTES, ret, NULL);
}

static struct pids parse_members(struct arena *a, char *text)
{
	char *save = NULL;
	pid_t *v = NULL;
	size_t n = 0, cap = 0;

	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		v = arena_grow(a, v, &cap, n + 1, sizeof(*v));
		v[n++] = atoi(l);
	}
	return pids_sort(v, n);
}

struct err *freezer_members(struct arena *a, const struct freezer *f, struct pids *ret)
{
	char *text;

	TRY(read_members(a, f, &text));
	*ret = parse_members(a, text);
	return NULL;
}

struct err *freezer_check(const struct freezer *f, const struct pids *pids)
{
	autoarena struct arena *a = arena_new();
	autofree char *now = NULL;
	struct pids in;
	char *text;

	TRY(read_members(a, f, &text));
	in = parse_members(a, arena_strdup(a, text));
	for (size_t i = 0; i < pids->n; i++) {
		if (pids_have(&in, pids->v[i]))
			continue;
		TRY(freezer_current(pids->v[i], &now));
		return err_new(ERR_KERNEL, "process %d is in control group %s, not in %s",
			pids->v[i], now, f->dir);
	}
	if (in.n == pids->n)
		return NULL;
	for (char *c = text; *c; c++)
		*c = *c == '\n' ? ' ' : *c;
	return err_new(
		ERR_KERNEL, "in control group %s are other processes too: %.64s", f->dir, text);
}

struct err *freezer_get(const struct freezer *f, bool *frozen)
{
	autoarena struct arena *a = arena_new();
	char *text;

	TRY(io_read_file(a, arena_printf(a, "%s/cgroup.freeze", f->dir), 64, &text, NULL));
	*frozen = text[0] == '1';
	return NULL;
}

struct err *freezer_kill(const struct freezer *f)
{
	return write_in(f->dir, "cgroup.kill", 1);
}

/* The next group below that `d` lists, or NULL; the caller frees it. */
static char *next_below(DIR *d, const char *dir)
{
	for (const struct dirent *de; d && (de = readdir(d));) {
		autotext struct text path = { 0 };

		if (de->d_type != DT_DIR || de->d_name[0] == '.')
			continue;
		text_addf(&path, "%s/%s", dir, de->d_name);
		return xstrdup(text_str(&path));
	}
	return NULL;
}

/* Groups that somebody else has made in ours; those in use stay. */
static void remove_below(const char *dir)
{
	DIR *d = opendir(dir);

	for (char *sub; (sub = next_below(d, dir)); free(sub)) {
		remove_below(sub);
		(void)rmdir(sub);
	}
	if (d)
		closedir(d);
}

/* A group is busy until its last process has been reaped or moved, all of it. */
struct err *freezer_remove(const struct freezer *f)
{
	struct deadline d = deadline_in(THAW_US);

	while (rmdir(f->dir) < 0) {
		if (errno == ENOENT)
			return NULL;
		if (errno != EBUSY || deadline_passed(d))
			return err_errno(errno, "remove control group %s", f->dir);
		remove_below(f->dir);
		usleep(1000);
	}
	return NULL;
}

static struct err *move_home(const struct freezer *f, pid_t pid)
{
	struct err *e = write_in(f->home, "cgroup.procs", (int)pid);

	if (!e || err_sysno(e) != ESRCH)
		return e;
	err_free(e); /* it has ended: nothing to move */
	return NULL;
}

/* What it has started between its coming and its stop is there, too, and in a group below ours
 * whom somebody has moved there. */
static struct err *empty(const struct freezer *f, const char *dir)
{
	autoarena struct arena *a = arena_new();
	const struct freezer here = { .dir = (char *)(uintptr_t)dir };
	struct err *e = NULL;
	struct pids in;
	DIR *d;

	TRY(freezer_members(a, &here, &in));
	for (size_t i = 0; i < in.n; i++)
		if (in.v[i] > 1) /* 0: not visible from our pid namespace */
			TRY(move_home(f, in.v[i]));
	d = opendir(dir);
	for (char *sub; !e && (sub = next_below(d, dir)); free(sub))
		e = empty(f, sub);
	if (d)
		closedir(d);
	return e;
}

struct err *freezer_undo(struct freezer *f, pid_t pid)
{
	struct err *e = f->home && pid > 1 ? move_home(f, pid) : NULL;

	if (!e && f->home)
		err_free(empty(f, f->dir)); /* should it fail, removing says so */
	if (!e)
		e = freezer_remove(f);
	/* A home that takes nobody any more (its children have controllers) is no reason to stand.
	 */
	if (e)
		err_free(freezer_set(f, false, false));
	return e;
}

void freezer_fini(struct freezer *f)
{
	free(f->dir);
	free(f->home);
	*f = (struct freezer){ 0 };
}
