// SPDX-License-Identifier: Apache-2.0
/*
 * Making objects: the id is chosen, then the process itself makes the object (shmget and so on are
 * remote calls), so that it counts as the one who did. The user who made it is for ever in it
 * (cuid): the process is that user for the time of the call. Somebody else may make an object in
 * between and get the id: then ours has another one, and it is tried again.
 */
#include "kinds/sysv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kinds/calls.h"
#include "kinds/scratch_notes.h"
#include "kinds/sysv_notes.h"

#define TRIES 5

/* ---- source ---- */

enum sysv_user sysv_user(const struct capture *c, pid_t pid)
{
	char dir[32];

	if (pid <= 0)
		return SYSV_NOBODY;
	if (capture_inside(c, pid))
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

/* ---- notes: "sysv.SORT.ID" ---- */

#define NOTE "sysv."

static const char *note_path(const struct rebuild *r, enum sysv sort, int id)
{
	return arena_printf(r->arena, "%s/" NOTE "%u.%d", r->scratch_dir, (unsigned)sort, id);
}

bool sysv_made(const struct rebuild *r, enum sysv sort, int id)
{
	return note_there(note_path(r, sort, id));
}

void sysv_discard(const struct rebuild *r, enum sysv sort, int id)
{
	if (!sysv_made(r, sort, id))
		return;
	err_free(sysv_remove(sort, id));
	note_drop(note_path(r, sort, id));
}

struct noted {
	sysv_noted_fn fn;
	void *arg;
};

static struct err *look_at_noted(void *arg, const char *file, const char *text unused_arg)
{
	const struct noted *n = arg;
	struct sysv_object o;
	unsigned sort;
	bool found;
	int id;

	if (sscanf(file, NOTE "%u.%d", &sort, &id) != 2 || sort >= SYSV_SORTS || id < 0)
		return NULL;
	TRY(sysv_get((enum sysv)sort, id, &o, &found));
	return found ? n->fn(n->arg, (enum sysv)sort, &o) : NULL;
}

struct err *sysv_notes_each(const char *scratch_dir, sysv_noted_fn fn, void *arg)
{
	return notes_walk(scratch_dir, NOTE, look_at_noted, &(struct noted){ fn, arg });
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

struct err *sysv_yield(
	struct capture *c unused_arg, const struct object *o unused_arg, const void *msg unused_arg)
{
	return NULL;
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

static struct err *keep(struct rebuild *r, enum sysv sort, int id)
{
	struct err *e = note_make(note_path(r, sort, id), "-");

	if (e)
		err_free(sysv_remove(sort, id));
	return e;
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
			return keep(r, w->sort, m->id);
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
