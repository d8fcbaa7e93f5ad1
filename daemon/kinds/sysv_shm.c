// SPDX-License-Identifier: Apache-2.0
/*
 * System V shared memory. A segment is an unlinked file on the kernel's internal tmpfs, so its
 * contents are found and sent as those of any shared memory object (kinds/shm.c); what makes it a
 * segment is that it is attached by shmat(2), not mapped, and has an id and a key.
 *
 * Only segments that the process has attached go along, and only if nobody else has: the kernel
 * counts attachments as mappings (a fork, or an mprotect of a part, makes one more), so the count
 * is compared with the process's own mappings. One that is attached nowhere any more cannot be
 * looked at without attaching it.
 *
 * Its pages can be attached, written and detached at any time, which leaves no trace in the
 * process's mappings, but in the segment's own time stamps, of whole seconds.
 */
#include "kinds/memory_priv.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "kinds/sysv.h"
#include "sysv_shm.pb-c.h"

#define DELETED    " (deleted)"
#define KEY_DIGITS 8

#define ENDED_STEPS   100
#define ENDED_STEP_US 10000

static int id_of(uint64_t space)
{
	return (int)(space & ~VMA_SYSV);
}

bool sysv_shm_path(const char *path, uint32_t *key)
{
	size_t n = strlen(SYSV_PREFIX);
	char digits[KEY_DIGITS + 1] = "";

	if (strncmp(path, SYSV_PREFIX, n) != 0 || strlen(path + n) < KEY_DIGITS ||
		strcmp(path + n + KEY_DIGITS, DELETED) != 0)
		return false;
	memcpy(digits, path + n, KEY_DIGITS);
	for (size_t i = 0; i < KEY_DIGITS; i++)
		if (!isxdigit((unsigned char)digits[i]))
			return false;
	*key = (uint32_t)strtoul(digits, NULL, 16);
	return true;
}

struct err *sysv_shm_stamps(struct shm_space *s)
{
	struct sysv_object o;
	bool found;

	TRY(sysv_get(SYSV_SHM, id_of(s->space), &o, &found));
	if (!found) /* removed, and detached just now */
		o = (struct sysv_object){ 0 };
	/* The end of that second: before it, a second change would not show. */
	s->mtime = (struct timespec){ .tv_sec = o.in_s + 1 };
	s->ctime = (struct timespec){ .tv_sec = o.out_s + 1 };
	return NULL;
}

/* ---- attachments ---- */

struct attached {
	int id;
	const char *path;
	size_t n;  /* mappings */
	bool huge; /* of hugetlbfs: kinds/memory refuses it */
};

struct attached_list {
	struct attached *v;
	size_t n, cap;
};

static struct attached *attached_find(const struct attached_list *l, int id)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].id == id)
			return &l->v[i];
	return NULL;
}

/* What a process has attached, added to the list. */
static struct err *attached_add(struct arena *a, pid_t pid, struct attached_list *l)
{
	autoarena struct arena *tmp = arena_new();
	struct vma_list maps = { 0 };
	uint32_t major, minor;
	char path[40], *text;

	TRY(shm_device(&major, &minor));
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	TRY(io_read_file(tmp, path, PROC_TEXT_BYTES, &text, NULL));
	if (strstr(text, SYSV_PREFIX))
		TRY(proc_parse_maps(tmp, text, &maps));
	for (size_t i = 0; i < maps.n; i++) {
		const struct vma *v = &maps.v[i];
		struct attached *at;

		if (!(v->inode & VMA_SYSV))
			continue;
		at = attached_find(l, id_of(v->inode));
		if (!at) {
			l->v = arena_grow(a, l->v, &l->cap, l->n + 1, sizeof(*l->v));
			at = &l->v[l->n++];
			*at = (struct attached){ .id = id_of(v->inode),
				.path = arena_strdup(a, v->path),
				.huge = v->dev_major != major || v->dev_minor != minor };
		}
		at->n++;
	}
	return NULL;
}

/* What all have attached that move. Of those that have ended there is nothing to read. */
static struct err *attached_read(struct capture *c, struct attached_list *ret)
{
	const struct pids one = { .v = &c->task->pid, .n = 1 };
	const struct pids *pids = c->inside ? c->inside : &one;

	*ret = (struct attached_list){ 0 };
	for (size_t i = 0; i < pids->n; i++) {
		struct err *e = attached_add(c->arena, pids->v[i], ret);

		if (e && pids->v[i] == c->task->pid && c->stopped)
			return e;
		err_free(e);
	}
	return NULL;
}

/* For the refusal only: looks through all processes. 0: none that we can see. */
static pid_t other_holder(struct capture *c, int id)
{
	DIR *d = opendir("/proc");
	pid_t found = 0;

	for (const struct dirent *de; d && !found && (de = readdir(d));) {
		autoarena struct arena *a = arena_new();
		pid_t pid = (pid_t)strtol(de->d_name, NULL, 10);
		struct attached_list l = { 0 };
		autoerr struct err *e = NULL;

		if (pid <= 0 || sysv_user(c, pid) != SYSV_STAYS)
			continue;
		e = attached_add(a, pid, &l);
		if (!e && attached_find(&l, id))
			found = pid;
	}
	if (d)
		closedir(d);
	return found;
}

/* ---- source ---- */

static struct err *capture_one(struct capture *c, const struct attached *at)
{
	Migrate__Kind__SysvShm m = MIGRATE__KIND__SYSV_SHM__INIT;
	struct sysv_object o;
	bool found;

	TRY(sysv_get(SYSV_SHM, at->id, &o, &found));
	if (!found)
		return err_new(ERR_BUG, "the kernel knows nothing of segment %d, which is attached",
			at->id);
	if (o.n != at->n)
		return sysv_shared(c, SYSV_SHM, &o, other_holder(c, at->id));
	TRY(sysv_may_take(c, SYSV_SHM, &o));
	m.identity = sysv_identity(c->arena, &o);
	m.path = arena_strdup(c->arena, at->path);
	m.bytes = o.bytes;
	m.destroyed = o.mode & SYSV_SHM_DEST;
	m.untouched = !o.in_s;
	m.locked = o.mode & SYSV_SHM_LOCKED;
	capture_emit(c, VMA_SYSV | (uint64_t)at->id, &m.base);
	return NULL;
}

/* It has made it, or used it last, and has not attached it now. One that nobody has ever attached
 * is empty: it is about to be. */
static struct err *look_at_detached(struct capture *c, const struct sysv_object *o)
{
	const char *what = sysv_say(c->arena, SYSV_SHM, o->id, o->key);

	if (sysv_user(c, o->first) != SYSV_MOVES && sysv_user(c, o->last) != SYSV_MOVES)
		return NULL;
	if (!o->n && !o->in_s)
		return capture_one(c, &(struct attached){ .id = o->id,
					      .path = arena_printf(c->arena,
						      SYSV_PREFIX "%08x" DELETED, o->key) });
	if (!o->n)
		return err_hint(err_new(ERR_UNSUPPORTED,
					"%s, which it has used, is not attached by anybody", what),
			"remove it with ipcrm if it is not needed any more");
	capture_warn(c, "%s, which it has used, stays here: others have attached it", what);
	return NULL;
}

static void blocker(struct capture *c, struct err *e)
{
	if (e)
		capture_refuse(c, e);
}

static struct err *capture(struct capture *c)
{
	struct attached_list l;
	struct sysv_object *all;
	size_t n;

	if (!capture_is_root(c))
		return NULL;
	TRY(attached_read(c, &l));
	for (size_t i = 0; i < l.n; i++)
		if (!l.v[i].huge)
			blocker(c, capture_one(c, &l.v[i]));
	TRY(sysv_list(c->arena, SYSV_SHM, &all, &n));
	for (size_t i = 0; i < n; i++)
		if (!attached_find(&l, all[i].id))
			blocker(c, look_at_detached(c, &all[i]));
	return NULL;
}

/* Removed while the original, which is about to be ended, may still have it attached: then it goes
 * when that has ended, and nobody can come in between. Who attached it meanwhile keeps it. */
static struct err *leave(struct capture *c, const Migrate__Kind__SysvShm *m)
{
	for (int i = 0; i < ENDED_STEPS; i++) {
		struct attached_list l = { 0 };
		const struct attached *at;
		struct sysv_object o;
		bool still;

		err_free(attached_read(c, &l)); /* none: they have ended */
		at = attached_find(&l, m->identity->id);
		TRY(sysv_still(SYSV_SHM, m->identity, &o, &still));
		if (!still)
			return NULL;
		if (o.n == (at ? at->n : 0))
			return sysv_remove(SYSV_SHM, m->identity->id);
		usleep(ENDED_STEP_US);
	}
	return err_new(ERR_LIMIT, "another process has attached it meanwhile");
}

static void release(
	struct capture *c, const struct object *o unused_arg, const void *msg, enum outcome out)
{
	const Migrate__Kind__SysvShm *m = msg;
	autoerr struct err *e = out == OUTCOME_MOVED && !m->destroyed ? leave(c, m) : NULL;
	autofree char *line = e ? err_line(e) : NULL;

	if (line)
		capture_warn(c, "%s stays here, too: %s",
			sysv_say(c->arena, SYSV_SHM, m->identity->id, m->identity->key), line);
}

/* ---- destination ---- */

static struct err *valid(const struct object *o, const Migrate__Kind__SysvShm *m)
{
	uint32_t key;

	if (!m->identity || o->id != (VMA_SYSV | (uint64_t)m->identity->id) ||
		m->identity->id < 0 || !sysv_shm_path(m->path, &key) || !m->bytes ||
		m->bytes > SEGMENT_BYTES_MAX || (!m->destroyed && key != m->identity->key))
		return err_new(ERR_PEER, "impossible System V segment");
	return NULL;
}

static struct err *check(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__SysvShm *m = msg;

	TRY(valid(o, m));
	return sysv_check(r, SYSV_SHM, m->identity);
}

/* A descriptor of its memory, by an attachment of our own. It stays until the process has its own:
 * what is removed already goes with the last one. */
static struct err *open_memory(int id, uint64_t bytes, int *fd)
{
	char *at = shmat(id, NULL, 0), path[80];
	struct err *e;

	if (at == (void *)-1)
		return err_errno(errno, "attach segment %d", id);
	snprintf(path, sizeof(path), "/proc/self/map_files/%" PRIxPTR "-%" PRIxPTR, (uintptr_t)at,
		(uintptr_t)at + (uintptr_t)PAGE_UP(bytes));
	e = io_open(path, O_RDWR, fd);
	if (e)
		shmdt(at);
	return e;
}

static struct err *detach_ours(uint64_t space)
{
	autoarena struct arena *a = arena_new();
	struct vma_list maps;

	TRY(proc_maps(a, getpid(), &maps));
	for (size_t i = 0; i < maps.n; i++)
		if (maps.v[i].inode == space && shmdt((void *)(uintptr_t)maps.v[i].start) < 0)
			return err_errno(errno, "detach segment %d", id_of(space));
	return NULL;
}

/* Two of ours have had the same key: the first has lost it since, and been removed. */
static struct err *free_key(struct rebuild *r, int id, uint32_t key)
{
	struct sysv_object by;
	bool taken;

	TRY(sysv_taken(SYSV_SHM, id, key, &by, &taken));
	if (taken && key && by.key == key && by.id != id && sysv_made(r, SYSV_SHM, by.id))
		TRY(sysv_remove(SYSV_SHM, by.id));
	return NULL;
}

static struct err *make(
	struct rebuild *r, const Migrate__Kind__SysvIdentity *m, uint32_t key, uint64_t bytes)
{
	struct sysv_making w = { .sort = SYSV_SHM,
		.identity = m,
		.key = key,
		.get = { .nr = SYS_shmget, .args = { 0, bytes, 0 } },
		.flags = 2 };
	struct err *e = free_key(r, m->id, key);

	if (!e)
		e = sysv_make(r, &w);
	/* It may have been one that takes no memory before it is used, which does not show. */
	if (e && err_sysno(e) == ENOMEM) {
		err_free(e);
		w.get.args[2] = SHM_NORESERVE;
		e = sysv_make(r, &w);
	}
	return e;
}

static struct err *find_memory(struct rebuild *r, int id, uint64_t bytes)
{
	int fd;

	TRY(open_memory(id, bytes, &fd));
	rebuild_space_put(r, VMA_SYSV | (uint64_t)id, fd);
	return NULL;
}

/* One that a LAYOUT was the first to speak of may have gone before there was an object of it. */
#define LOOSE "loose."

static const char *loose_note(struct rebuild *r, int id)
{
	return arena_printf(r->arena, "%s/" LOOSE "%d", r->scratch_dir, id);
}

struct err *sysv_shm_settle(struct rebuild *r)
{
	DIR *d = opendir(r->scratch_dir);
	struct err *e = NULL;

	for (const struct dirent *de; d && !e && (de = readdir(d));) {
		int id;

		if (sscanf(de->d_name, LOOSE "%d", &id) != 1 || id < 0)
			continue;
		sysv_discard(r, SYSV_SHM, id);
		rebuild_space_put(r, VMA_SYSV | (uint64_t)id, -1);
		e = detach_ours(VMA_SYSV | (uint64_t)id);
	}
	if (d)
		closedir(d);
	return e;
}

struct err *sysv_shm_need(
	struct rebuild *r, uint64_t space, const char *path, uint64_t bytes, int *fd)
{
	Migrate__Kind__SysvIdentity m = MIGRATE__KIND__SYSV_IDENTITY__INIT;

	*fd = rebuild_space_get(r, space);
	if (*fd >= 0)
		return NULL;
	m.id = id_of(space);
	m.cuid = geteuid();
	m.cgid = getegid();
	if (!sysv_shm_path(path, &m.key) || !bytes || bytes > SEGMENT_BYTES_MAX)
		return err_new(ERR_PEER, "impossible System V segment");
	if (!sysv_made(r, SYSV_SHM, m.id)) {
		const char *note = loose_note(r, m.id);

		if (symlink("-", note) < 0 && errno != EEXIST)
			return err_errno(errno, "make %s", note);
		TRY(make(r, &m, m.key, bytes));
	}
	TRY(find_memory(r, m.id, bytes));
	*fd = rebuild_space_get(r, space);
	return NULL;
}

/* With the key that it had when it was made, which its mappings show. Since it was removed that may
 * be another one's; so it is removed at once here, too. */
static struct err *key_to_make(const Migrate__Kind__SysvShm *m, uint32_t *key)
{
	struct sysv_object by;
	bool taken;

	*key = m->identity->key;
	if (!m->destroyed || !sysv_shm_path(m->path, key) || !*key)
		return NULL;
	TRY(sysv_taken(SYSV_SHM, m->identity->id, *key, &by, &taken));
	if (taken)
		*key = 0;
	return NULL;
}

static struct err *rebuild(
	struct rebuild *r, const struct object *o, const void *msg, int *none unused_arg)
{
	const Migrate__Kind__SysvShm *m = msg;
	int id = id_of(o->id);
	struct sysv_object is;
	uint32_t key;
	bool found;

	TRY(valid(o, m));
	if (!sysv_made(r, SYSV_SHM, id)) {
		TRY(key_to_make(m, &key));
		TRY(make(r, m->identity, key, m->bytes));
	}
	(void)unlink(loose_note(r, id));
	if (!m->untouched && rebuild_space_get(r, o->id) < 0)
		TRY(find_memory(r, id, m->bytes));
	if (m->destroyed)
		TRY(sysv_remove(SYSV_SHM, id));
	TRY(sysv_get(SYSV_SHM, id, &is, &found));
	return found && is.bytes == m->bytes
		       ? NULL
		       : err_new(ERR_PEER, "a System V segment of another size");
}

/* So that it, not we, has attached it last. */
static struct err *touch(struct rebuild *r, int id)
{
	struct thread *th = task_leader(r->task);
	int64_t at;

	TRY(REMOTE(r->task, th, &at, "attach a segment", SYS_shmat, (uint64_t)id, 0, SHM_RDONLY));
	return REMOTE(r->task, th, NULL, "detach a segment", SYS_shmdt, (uint64_t)at);
}

static struct err *finish(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__SysvShm *m = msg;

	TRY(sysv_own(r, SYSV_SHM, m->identity));
	if (m->locked)
		TRY(REMOTE(r->task, task_leader(r->task), NULL, "lock a segment", SYS_shmctl,
			(uint64_t)m->identity->id, SHM_LOCK, 0));
	if (m->untouched)
		return NULL;
	TRY(detach_ours(o->id));
	return touch(r, m->identity->id);
}

static void discard(struct rebuild *r, const struct object *o, const void *msg unused_arg)
{
	sysv_discard(r, SYSV_SHM, id_of(o->id));
	err_free(detach_ours(o->id));
}

static struct err *take_away(struct rebuild *r, const struct object *o, const void *msg unused_arg)
{
	sysv_discard(r, SYSV_SHM, id_of(o->id));
	rebuild_space_put(r, o->id, -1);
	return detach_ours(o->id);
}

const struct kind kind_sysv_shm = {
	.id = 60,
	.name = "System V shared memory",
	.scope = KIND_PROCESS,
	.stage = STAGE_MEMORY,
	.msg = &migrate__kind__sysv_shm__descriptor,
	.capture = capture,
	.check = check,
	.rebuild = rebuild,
	.remove = take_away,
	.finish = finish,
	.discard = discard,
	.yield = sysv_yield,
	.release = release,
};
