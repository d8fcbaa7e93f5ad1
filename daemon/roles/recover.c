// SPDX-License-Identifier: Apache-2.0
#include "roles/recover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "engine/engine.h"
#include "kernel/freezer.h"
#include "kinds/mqueue_notes.h"
#include "kinds/sysv_notes.h"
#include "kinds/unix.h"
#include "roles/place.h"
#include "roles/subject.h"

static const char *const verdicts[] = { "kept", "moved", "in_doubt" };

const char *verdict_name(enum verdict v)
{
	return verdicts[v];
}

static bool is(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* The process's group, if it is one of ours by this name; *f is empty otherwise. */
static struct err *find_group(pid_t pid, const char *prefix, const char *rest, struct freezer *f)
{
	autofree char *dir = NULL;
	struct err *e = freezer_current(pid, &dir);
	const char *name;

	if (e && err_code(e) == ERR_UNSUPPORTED) {
		err_free(e);
		return NULL;
	}
	TRY(e);
	name = strrchr(dir, '/');
	if (!name || strncmp(name + 1, prefix, strlen(prefix)) != 0 ||
		!is(name + 1 + strlen(prefix), rest))
		return NULL;
	f->home = xcalloc(1, (size_t)(name - dir) + 1);
	memcpy(f->home, dir, (size_t)(name - dir));
	f->dir = take(&dir);
	return NULL;
}

/* *there: it is the very process, and not another one that has its number now. */
static struct err *find_subject(const struct journal_record *r, bool *there)
{
	AUTO(subject_fini) struct subject s = { .pid = 0 };
	struct err *e = subject_read(r->pid, &s);

	*there = !e && s.start_time == r->start_time && !s.zombie;
	if (e && err_code(e) == ERR_GONE) {
		err_free(e);
		return NULL;
	}
	return e;
}

bool recover_alive(const struct journal_record *r, const char *boot_id)
{
	bool there = false;
	autoerr struct err *e = find_subject(r, &there);

	return (there || e) && is(r->boot_id, boot_id);
}

/* A pidfd of the very process; -1: it is gone. */
static struct err *open_subject(const struct journal_record *r, int *ret)
{
	autoclose int fd = r->pid > 1 ? (int)syscall(SYS_pidfd_open, r->pid, 0) : -1;
	bool there;

	*ret = -1;
	if (fd < 0)
		return r->pid <= 1 || errno == ESRCH ? NULL
						     : err_errno(errno, "open process %d", r->pid);
	/* Looked at after it was opened: the descriptor is of the process that was looked at. */
	TRY(find_subject(r, &there));
	if (there)
		*ret = take_fd(&fd);
	return NULL;
}

/* ---- source ---- */

/* The root has ended, so it does not tell where our group was; *f is empty if there is none. */
static struct err *find_left(const struct journal_record *r, struct freezer *f)
{
	char name[128];
	struct err *e;

	snprintf(name, sizeof(name), ENGINE_HOLD_GROUP "%s", r->id);
	e = freezer_find(name, &f->dir);
	if (e && err_code(e) == ERR_UNSUPPORTED) {
		err_free(e);
		return NULL;
	}
	TRY(e);
	if (!f->dir)
		return NULL;
	f->home = xstrdup(f->dir);
	*strrchr(f->home, '/') = '\0';
	return NULL;
}

/* That group, and the one that was made for it when it came here by a move itself. Its other
 * processes, if it has any, end or go on. */
static struct err *remove_left(const struct journal_record *r, bool end)
{
	AUTO(freezer_fini) struct freezer f = { NULL, NULL };
	const char *base;
	char site[32];

	TRY(find_left(r, &f));
	if (!f.dir)
		return NULL;
	if (end)
		TRY(freezer_kill(&f));
	TRY(end ? freezer_remove(&f) : freezer_undo(&f, 0));
	snprintf(site, sizeof(site), "/" ENGINE_SITE_GROUP "%d", r->pid);
	base = strrchr(f.home, '/');
	if (base && is(base, site))
		rmdir(f.home); /* stays if somebody else is in it */
	return NULL;
}

static bool without_groups(void)
{
	autofree char *root = NULL;
	autoerr struct err *e = freezer_root(&root);

	return e && err_code(e) == ERR_UNSUPPORTED;
}

struct err *recover_group(const struct journal_record *r, char **dir)
{
	AUTO(freezer_fini) struct freezer f = { NULL, NULL };
	bool there;

	*dir = NULL;
	TRY(find_subject(r, &there));
	/* Others of its tree may still stand when it has ended itself. */
	TRY(there ? find_group(r->pid, ENGINE_HOLD_GROUP, r->id, &f) : find_left(r, &f));
	*dir = take(&f.dir);
	return NULL;
}

struct err *recover_keep(const struct journal_record *r)
{
	AUTO(freezer_fini) struct freezer f = { NULL, NULL };
	autoclose int fd = -1;

	TRY(open_subject(r, &fd));
	if (fd < 0)
		return remove_left(r, false);
	TRY(find_group(r->pid, ENGINE_HOLD_GROUP, r->id, &f));
	if (f.dir)
		return freezer_undo(&f, r->pid);
	/* Then it was held by SIGSTOP. */
	if (without_groups() && syscall(SYS_pidfd_send_signal, fd, SIGCONT, NULL, 0) < 0 &&
		errno != ESRCH)
		return err_errno(errno, "let process %d go on", r->pid);
	/* It has left the group, which nobody removed. */
	return remove_left(r, false);
}

struct err *recover_end(const struct journal_record *r)
{
	AUTO(freezer_fini) struct freezer f = { NULL, NULL };
	autoclose int fd = -1;

	TRY(open_subject(r, &fd));
	if (fd < 0)
		return remove_left(r, true);
	TRY(find_group(r->pid, ENGINE_HOLD_GROUP, r->id, &f));
	if (syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return err_errno(errno, "end the original %d", r->pid);
	if (f.dir) {
		TRY(freezer_kill(&f));
		TRY(freezer_remove(&f));
	}
	return remove_left(r, true);
}

struct err *recover_source(const struct journal_record *r, const char *boot_id, enum verdict *ret)
{
	/* What was written after the last fsync may be lost with the power: COMMIT, too. */
	bool rebooted = !is(r->boot_id, boot_id);

	*ret = VERDICT_DOUBT;
	if (r->mark == MARK_MOVED) {
		if (!rebooted)
			TRY(recover_end(r));
		*ret = VERDICT_MOVED;
	} else if (r->mark == MARK_INTENT && !rebooted) {
		TRY(recover_keep(r));
		*ret = VERDICT_KEPT;
	}
	return NULL;
}

/* ---- destination ---- */

/* The group in which it was built, though its root is gone; *f is empty if there is none. */
static struct err *find_site(
	const struct journal_record *r, const char *cgroup_dir, struct freezer *f)
{
	autofree char *dir = NULL;

	TRY(place_group(cgroup_dir, &dir));
	if (!dir || r->pid <= 1)
		return NULL;
	if (asprintf(&f->dir, "%s/" ENGINE_SITE_GROUP "%d", dir, r->pid) < 0)
		abort();
	if (access(f->dir, F_OK) < 0)
		mem_freep(&f->dir);
	return NULL;
}

/* It stands in its group, or is still traced and about to die with its tracer. */
static struct err *discard(const struct journal_record *r, const char *cgroup_dir)
{
	AUTO(freezer_fini) struct freezer f = { NULL, NULL };
	autoclose int fd = -1;
	char pid[16];

	TRY(open_subject(r, &fd));
	snprintf(pid, sizeof(pid), "%d", r->pid);
	TRY(fd < 0 ? find_site(r, cgroup_dir, &f) : find_group(r->pid, ENGINE_SITE_GROUP, pid, &f));
	if (fd >= 0 && syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return err_errno(errno, "end %d, which was being built", r->pid);
	if (!f.dir)
		return NULL;
	TRY(freezer_kill(&f));
	return freezer_remove(&f);
}

static struct err *finish(const struct journal_record *r, const char *cgroup_dir, enum verdict *ret)
{
	AUTO(freezer_fini) struct freezer f = { NULL, NULL };
	char pid[16];
	bool there;

	TRY(find_subject(r, &there));
	*ret = VERDICT_MOVED;
	if (!there && r->mark == MARK_COMMITTED && without_groups())
		*ret = VERDICT_DOUBT;
	snprintf(pid, sizeof(pid), "%d", r->pid);
	TRY(there ? find_group(r->pid, ENGINE_SITE_GROUP, pid, &f) : find_site(r, cgroup_dir, &f));
	return f.dir && r->mark == MARK_COMMITTED ? freezer_set(&f, false, false) : NULL;
}

/* ---- scratch directories ---- */

static void empty(DIR *d)
{
	for (const struct dirent *de; (de = readdir(d));)
		if (!is(de->d_name, ".") && !is(de->d_name, ".."))
			(void)unlinkat(dirfd(d), de->d_name, 0);
}

/* Of a migration that nobody is at any more. */
static void settle_scratch(const char *state_dir, const char *id, bool moved)
{
	autofree char *path = NULL;
	DIR *d;

	if (asprintf(&path, "%s/" ENGINE_SCRATCH "%s", state_dir, id) < 0)
		abort();
	d = opendir(path);
	if (!d)
		return;
	if (flock(dirfd(d), LOCK_EX | LOCK_NB) == 0) {
		unix_files_settle(path, moved);
		sysv_notes_settle(path, moved);
		mqueue_notes_settle(path, moved);
		empty(d);
		(void)rmdir(path);
	}
	closedir(d);
}

static bool has_journal(const char *state_dir, const char *id)
{
	autofree char *path = NULL;

	if (asprintf(&path, "%s/journal/%s.destination", state_dir, id) < 0)
		abort();
	return access(path, F_OK) == 0;
}

void recover_scratch(const char *state_dir)
{
	const size_t prefix = strlen(ENGINE_SCRATCH);
	DIR *d = opendir(state_dir);

	for (const struct dirent *de; d && (de = readdir(d));)
		if (strncmp(de->d_name, ENGINE_SCRATCH, prefix) == 0 &&
			!has_journal(state_dir, de->d_name + prefix))
			settle_scratch(state_dir, de->d_name + prefix, false);
	if (d)
		closedir(d);
}

/* ---- the destination as a whole ---- */

struct err *recover_destination(struct journal *j, const struct recover_host *h, enum verdict *ret)
{
	const struct journal_record *r = &j->last;
	bool committed = r->mark >= MARK_COMMITTED, rebooted = !is(r->boot_id, h->boot_id);

	*ret = committed ? VERDICT_MOVED : rebooted ? VERDICT_DOUBT : VERDICT_KEPT;
	if (!rebooted)
		TRY(committed ? finish(r, h->cgroup_dir, ret) : discard(r, h->cgroup_dir));
	settle_scratch(h->state_dir, r->id, committed && !rebooted);
	/* Thawed once, by us: whoever freezes its group later means it. That it was committed is
	 * enough to answer the source. */
	if (!rebooted && *ret == VERDICT_MOVED && r->mark == MARK_COMMITTED)
		err_free(journal_add(j, MARK_RUNNING));
	return NULL;
}
