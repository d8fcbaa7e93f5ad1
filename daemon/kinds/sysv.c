// SPDX-License-Identifier: Apache-2.0
/*
 * Making objects: the id is chosen, then the process itself makes the object (shmget and so on are
 * remote calls), so that it counts as the one who did. The user who made it is for ever in it
 * (cuid): the process is that user for the time of the call. Somebody else may make an object in
 * between and get the id: then ours has another one, and it is tried again.
 */
#include "kinds/sysv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kinds/calls.h"
#include "kinds/sysv_notes.h"

#define TRIES 5

/* ---- source ---- */

enum sysv_user sysv_user(const struct capture *c, pid_t pid)
{
	char dir[32];

	if (pid <= 0)
		return SYSV_NOBODY;
	if (pid == c->task->pid)
		return SYSV_MOVES;
	snprintf(dir, sizeof(dir), "/proc/%d", (int)pid);
	return access(dir, F_OK) == 0 ? SYSV_STAYS : SYSV_NOBODY;
}

enum sysv_user sysv_users(enum sysv_user a, enum sysv_user b)
{
	return MAX(a, b);
}

const char *sysv_say(struct arena *a, enum sysv sort, int id, uint32_t key)
{
	return key ? arena_printf(a, "%s %d (key %#010x)", sysv_names[sort], id, key)
		   : arena_printf(a, "%s %d", sysv_names[sort], id);
}

struct err *sysv_shared(struct capture *c, enum sysv sort, const struct sysv_object *o, pid_t pid)
{
	struct proc_stat st = { .comm = "?" };
	autoerr struct err *e = pid > 0 ? proc_stat(c->arena, pid, 0, &st) : NULL;
	const char *what = sysv_say(c->arena, sort, o->id, o->key);

	if (pid <= 0)
		return err_new(ERR_UNSUPPORTED, "%s is used by a process that stays behind", what);
	return err_hint(
		err_new(ERR_UNSUPPORTED, "%s is used by process %d (%.16s), which stays behind",
			what, (int)pid, e ? "?" : st.comm),
		"processes that work together by it must stay on one host");
}

static bool is_owner(const struct capture *c, const struct sysv_object *o)
{
	return c->status->uid[1] == o->uid || c->status->uid[1] == o->cuid;
}

struct err *sysv_may_take(struct capture *c, enum sysv sort, const struct sysv_object *o)
{
	if (is_owner(c, o) || c->status->uid[1] == 0)
		return NULL;
	return err_new(ERR_UNSUPPORTED, "%s belongs to uid %u, and would have to go along",
		sysv_say(c->arena, sort, o->id, o->key), o->uid);
}

void sysv_unknown_add(struct capture *c, struct sysv_unknown *u, const struct sysv_object *o)
{
	size_t at = strlen(u->text);

	if (!is_owner(c, o))
		return;
	u->n++;
	if (at < sizeof(u->text) - 16)
		snprintf(u->text + at, sizeof(u->text) - at, "%s%d", at ? ", " : "", o->id);
	else if (u->text[at - 1] != '.')
		snprintf(u->text + at, sizeof(u->text) - at, ", ...");
}

void sysv_unknown_warn(struct capture *c, enum sysv sort, const struct sysv_unknown *u)
{
	if (u->n)
		capture_warn(c,
			"%s%s %s of its user stay%s here: whether it uses %s nobody can tell",
			sysv_names[sort], u->n > 1 ? "s" : "", u->text, u->n > 1 ? "" : "s",
			u->n > 1 ? "them" : "it");
}

Migrate__Kind__SysvIdentity *sysv_identity(struct arena *a, const struct sysv_object *o)
{
	Migrate__Kind__SysvIdentity *m = arena_alloc(a, sizeof(*m));

	migrate__kind__sysv_identity__init(m);
	m->id = o->id;
	m->key = o->key;
	m->uid = o->uid;
	m->gid = o->gid;
	m->cuid = o->cuid;
	m->cgid = o->cgid;
	m->mode = o->mode & 0777;
	return m;
}

struct err *sysv_still(
	enum sysv sort, const Migrate__Kind__SysvIdentity *m, struct sysv_object *o, bool *still)
{
	bool found;

	TRY(sysv_get(sort, m->id, o, &found));
	*still = found && o->key == m->key && o->cuid == m->cuid && o->cgid == m->cgid;
	return NULL;
}

/* ---- notes ---- */

#define NOTE     "sysv."
#define BOOT_ID  "/proc/sys/kernel/random/boot_id"
#define ID_BYTES 36

static void boot_id(char to[ID_BYTES + 1])
{
	autoclose int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, to, ID_BYTES);

	to[MAX(n, (ssize_t)0)] = '\0';
}

static void note_name(char to[64], enum sysv sort, int id)
{
	snprintf(to, 64, NOTE "%u.%d", (unsigned)sort, id);
}

static const char *note_path(const struct rebuild *r, enum sysv sort, int id)
{
	char name[64];

	note_name(name, sort, id);
	return arena_printf(r->arena, "%s/%s", r->scratch_dir, name);
}

/* A link to nowhere: the id of this boot, for ids begin anew with each. */
static struct err *note(const struct rebuild *r, enum sysv sort, int id)
{
	const char *path = note_path(r, sort, id);
	char boot[ID_BYTES + 1];

	boot_id(boot);
	if (symlink(boot, path) < 0)
		return err_errno(errno, "make %s", path);
	return NULL;
}

static bool of_this_boot(int dir, const char *name)
{
	char now[ID_BYTES + 1], then[ID_BYTES + 1] = "";

	boot_id(now);
	return readlinkat(dir, name, then, ID_BYTES) > 0 && !strcmp(now, then);
}

static bool note_parse(const char *name, enum sysv *sort, int *id)
{
	char again[64];
	unsigned s;

	if (sscanf(name, NOTE "%u.%d", &s, id) != 2 || s >= SYSV_SORTS || *id < 0)
		return false;
	*sort = (enum sysv)s;
	note_name(again, *sort, *id);
	return !strcmp(again, name);
}

bool sysv_made(const struct rebuild *r, enum sysv sort, int id)
{
	char boot[ID_BYTES + 1];

	return readlink(note_path(r, sort, id), boot, sizeof(boot)) > 0;
}

void sysv_discard(const struct rebuild *r, enum sysv sort, int id)
{
	if (!sysv_made(r, sort, id))
		return;
	err_free(sysv_remove(sort, id));
	unlink(note_path(r, sort, id));
}

struct err *sysv_notes_each(const char *scratch_dir, sysv_noted_fn fn, void *arg)
{
	DIR *d = opendir(scratch_dir);
	struct err *e = NULL;

	for (const struct dirent *de; d && !e && (de = readdir(d));) {
		struct sysv_object o;
		enum sysv sort;
		bool found;
		int id;

		if (!note_parse(de->d_name, &sort, &id) || !of_this_boot(dirfd(d), de->d_name))
			continue;
		e = sysv_get(sort, id, &o, &found);
		if (!e && found)
			e = fn(arg, sort, &o);
	}
	if (d)
		closedir(d);
	return e;
}

static struct err *remove_noted(void *arg unused_arg, enum sysv sort, const struct sysv_object *o)
{
	err_free(sysv_remove(sort, o->id));
	return NULL;
}

void sysv_notes_settle(const char *scratch_dir, bool moved)
{
	if (!moved)
		err_free(sysv_notes_each(scratch_dir, remove_noted, NULL));
}

/* ---- destination ---- */

static struct err *taken_by(
	enum sysv sort, const Migrate__Kind__SysvIdentity *m, const struct sysv_object *by)
{
	bool key = m->key && by->key == m->key;

	return err_hint(key ? err_new(ERR_LIMIT, "key %#010x is taken at the destination by %s %d",
				      m->key, sysv_names[sort], by->id)
			    : err_new(ERR_LIMIT, "id %d is taken at the destination (%s %d)", m->id,
				      sysv_names[sort], by->id),
		"see ipcs there; if nobody needs it any more, remove it with ipcrm");
}

/* What a peer may say at all. */
static struct err *check_identity(const Migrate__Kind__SysvIdentity *m)
{
	if (!m || m->id < 0 || m->mode > 0777)
		return err_new(ERR_PEER, "a System V object without an identity that makes sense");
	return NULL;
}

struct err *sysv_check(struct rebuild *r, enum sysv sort, const Migrate__Kind__SysvIdentity *m)
{
	struct sysv_object by;
	bool taken;

	TRY(check_identity(m));
	TRY(sysv_taken(sort, m->id, m->key, &by, &taken));
	if (taken)
		rebuild_refuse(r, err_in(taken_by(sort, m, &by), "%s %d", sysv_names[sort], m->id));
	return NULL;
}

/* The process is that user while it makes the object. */
static void add_user(struct calls *l, uint32_t uid, uint32_t gid, bool become)
{
	const uint64_t keep = (uint32_t)-1;

	if (gid != getegid() && become)
		CALL(l, "become the group that made it", SYS_setresgid, keep, gid, keep);
	if (uid != geteuid())
		CALL(l, "become the user who made it", SYS_setresuid, keep,
			become ? uid : geteuid(), keep);
	if (gid != getegid() && !become)
		CALL(l, "become root's group again", SYS_setresgid, keep, getegid(), keep);
}

static struct err *make_once(struct rebuild *r, const struct sysv_making *w, int64_t *id)
{
	const Migrate__Kind__SysvIdentity *m = w->identity;
	struct calls calls = { 0 };
	struct call get = w->get;
	size_t at;

	get.args[0] = w->key;
	get.args[w->flags] |= IPC_CREAT | IPC_EXCL;
	add_user(&calls, m->cuid, m->cgid, true);
	at = calls.n;
	calls_add(&calls, "make it", &get, true);
	add_user(&calls, m->cuid, m->cgid, false);
	TRY(sysv_next_id(w->sort, m->id));
	TRY(calls_run(&calls, r->task, task_leader(r->task)));
	*id = calls.v[at].ret;
	return NULL;
}

struct err *sysv_make(struct rebuild *r, const struct sysv_making *w)
{
	const Migrate__Kind__SysvIdentity *m = w->identity;
	const char *what = sysv_names[w->sort];
	struct sysv_object by;
	bool taken;

	TRY(check_identity(m));
	for (unsigned i = 0; i < TRIES; i++) {
		int64_t id;

		TRY(sysv_taken(w->sort, m->id, w->key, &by, &taken));
		if (taken)
			return err_in(taken_by(w->sort, m, &by), "%s %d", what, m->id);
		TRY_IN(make_once(r, w, &id), "make %s %d", what, m->id);
		if (id == m->id)
			return note(r, w->sort, m->id);
		if (id < 0 && id != -EEXIST)
			return err_errno((int)-id, "make %s %d", what, m->id);
		if (id >= 0)
			TRY(sysv_remove(w->sort, (int)id));
	}
	return err_new(ERR_LIMIT, "%s cannot have the id %d at the destination", what, m->id);
}

struct err *sysv_own(
	struct rebuild *r unused_arg, enum sysv sort, const Migrate__Kind__SysvIdentity *m)
{
	return sysv_set_owner(sort, m->id, m->uid, m->gid, m->mode);
}
