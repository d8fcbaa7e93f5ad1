// SPDX-License-Identifier: Apache-2.0
/*
 * Shared memory objects: memfds and anonymous shared mappings. Both are unlinked files on the
 * kernel's internal tmpfs, known by its device number; the inode number is the object's id. So are
 * System V segments, which are found here like the others, and made by kinds/sysv_shm.c.
 *
 * A memfd is made anew by memfd_create with the same name, so maps shows it in the same way. An
 * anonymous object is made by an anonymous shared mapping of our own, of which /proc/self/map_files
 * gives a descriptor: what is mapped through that again shows as "/dev/zero (deleted)", as at the
 * source. It is made with MAP_NORESERVE, as memfds are: it counts as committed page by page. Both
 * can be resized by ftruncate (the size of such an object may exceed all mappings that are left of
 * it). Seals come when all contents are there.
 */
#include "kinds/memory_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/io.h"
#include "kinds/unlinked.h"
#include "shm.pb-c.h"

#define MEMFD_PREFIX "/memfd:"
#define ANON_PATH    "/dev/zero (deleted)"
#define NAMED_PREFIX "[anon_shmem:"
#define DELETED      " (deleted)"
/* memfd_create(2): NAME_MAX minus "memfd:" */
#define MEMFD_NAME_MAX 249

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* Linux 6.3 */
#endif

static bool is_memfd(const char *path)
{
	return !strncmp(path, MEMFD_PREFIX, strlen(MEMFD_PREFIX));
}

bool shm_path(const char *path)
{
	uint32_t key;

	return is_memfd(path) || !strcmp(path, ANON_PATH) ||
	       !strncmp(path, NAMED_PREFIX, strlen(NAMED_PREFIX)) || sysv_shm_path(path, &key) ||
	       proc_unlinked_path(path);
}

bool shm_vma_space(const struct vma *v, uint64_t *space)
{
	/* The internal tmpfs has a device number without a driver; a file system that a user mounts
	 * there could not have an unlinked file of such a name in its root. */
	if (!v->shared || !v->inode || v->dev_major || !shm_path(v->path) ||
		((v->inode & VMA_UNLINKED) && !unlinked_is_tracked(v->path)))
		return false;
	*space = v->inode;
	return true;
}

struct err *shm_true_path(struct arena *a, pid_t pid, const struct vma *v, const char **ret)
{
	char *path;

	*ret = v->path;
	if (strncmp(v->path, NAMED_PREFIX, strlen(NAMED_PREFIX)) != 0)
		return NULL;
	TRY(proc_link(a, pid, arena_printf(a, "map_files/%" PRIx64 "-%" PRIx64, v->start, v->end),
		&path));
	*ret = shm_path(path) ? path : ANON_PATH; /* a segment never has a name */
	return NULL;
}

struct err *shm_device(uint32_t *major_ret, uint32_t *minor_ret)
{
	autoclose int fd = memfd_create("migrated", MFD_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(errno, "make a memfd");
	*major_ret = major(st.st_dev);
	*minor_ret = minor(st.st_dev);
	return NULL;
}

/* ---- making ---- */

static struct err *make_memfd(const char *path, int *fd)
{
	size_t n = strlen(path), tail = strlen(DELETED), head = strlen(MEMFD_PREFIX);
	char name[MEMFD_NAME_MAX + 1];

	if (n < head + tail || strcmp(path + n - tail, DELETED) != 0 ||
		n - head - tail > MEMFD_NAME_MAX)
		return err_new(ERR_PEER, "memfd with an impossible name");
	snprintf(name, sizeof(name), "%.*s", (int)(n - head - tail), path + head);
	/* Always sealable: a memfd that is not has F_SEAL_SEAL, and gets it in the end. */
	*fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	if (*fd < 0 && errno == EINVAL)
		*fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return *fd < 0 ? err_errno(errno, "make memfd \"%s\"", name) : NULL;
}

static struct err *make_anon(int *fd)
{
	int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
	char *p = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
	char path[80];
	struct err *e;

	if (p == MAP_FAILED)
		return err_errno(errno, "make anonymous shared memory");
	snprintf(path, sizeof(path), "/proc/self/map_files/%" PRIxPTR "-%" PRIxPTR, (uintptr_t)p,
		(uintptr_t)p + (uintptr_t)PAGE_BYTES);
	e = io_open(path, O_RDWR, fd);
	munmap(p, PAGE_BYTES);
	return e;
}

struct err *shm_make(const char *path, int *fd)
{
	if (proc_unlinked_path(path))
		return unlinked_make(path, fd);
	return is_memfd(path) ? make_memfd(path, fd) : make_anon(fd);
}

/* ---- finding ---- */

struct found {
	uint64_t id;
	const char *path;
	int fd;
	bool open;   /* the target has a descriptor */
	bool shared; /* or a mapping by which it can change, or be changed by others */
	struct stat st;
};

struct finder {
	struct capture *c;
	struct found *v;
	size_t n, cap;
	uint32_t dev_major, dev_minor;
};

static void finder_fini(struct finder *f)
{
	for (size_t i = 0; i < f->n; i++)
		fd_closep(&f->v[i].fd);
}

static struct found *found_by_id(const struct finder *f, uint64_t id)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->v[i].id == id)
			return &f->v[i];
	return NULL;
}

/* Takes fd. */
static struct err *found_add(struct finder *f, uint64_t id, const char *path, int fd)
{
	autoclose int mine = fd;
	struct stat st;

	if (fstat(mine, &st) < 0)
		return err_errno(errno, "look at %s", path);
	f->v = arena_grow(f->c->arena, f->v, &f->cap, f->n + 1, sizeof(*f->v));
	f->v[f->n++] = (struct found){
		.id = id, .path = arena_strdup(f->c->arena, path), .st = st, .fd = take_fd(&mine)
	};
	return NULL;
}

static bool other_deleted(const char *maps)
{
	for (const char *at = maps; (at = strstr(at, DELETED "\n")); at++)
		if (at - maps < (ptrdiff_t)strlen("/dev/zero") ||
			strncmp(at - strlen("/dev/zero"), "/dev/zero", strlen("/dev/zero")) != 0)
			return true;
	return false;
}

/* Is it the kind of object that its path says? */
static bool on_device(const struct finder *f, const struct vma *v)
{
	return (v->inode & VMA_UNLINKED) ||
	       (v->dev_major == f->dev_major && v->dev_minor == f->dev_minor);
}

/* Of a descriptor; 0: no object. */
static uint64_t file_space(const struct finder *f, const struct file *file)
{
	const struct stat *st = &file->st;
	uint64_t id;

	if ((file->flags & O_PATH) || file_is_queue(file))
		return 0;
	if (unlinked_of(file->link, st, &id))
		return id;
	return is_memfd(file->link) && st->st_dev == makedev(f->dev_major, f->dev_minor)
		       ? st->st_ino
		       : 0;
}

/* Most processes have none, and reading numbers takes longer than looking for words. The pump's
 * memory looks like one, in two lines. */
static bool any_object(const struct task *t, const char *maps)
{
	int anon = t->pump.tid ? -2 : 0;

	for (const char *at = maps; anon <= 0 && (at = strstr(at, ANON_PATH)); at++)
		anon++;
	return anon > 0 || strstr(maps, MEMFD_PREFIX) || strstr(maps, NAMED_PREFIX) ||
	       strstr(maps, SYSV_PREFIX) || other_deleted(maps);
}

static struct err *find_mapped(struct finder *f)
{
	autoarena struct arena *a = arena_new();
	pid_t pid = f->c->task->pid;
	struct vma_list maps = { 0 };
	char path[96], *text;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	TRY(io_read_file(a, path, PROC_TEXT_BYTES, &text, NULL));
	if (any_object(f->c->task, text))
		TRY(proc_parse_maps(a, text, &maps));
	for (size_t i = 0; i < maps.n; i++) {
		const struct vma *v = &maps.v[i];
		const char *object_path;
		struct found *known;
		struct err *e;
		int fd;

		if (task_pump_has(f->c->task, v->start))
			continue;
		if (!v->inode || !on_device(f, v) || !shm_path(v->path))
			continue;
		known = found_by_id(f, v->inode);
		if (known) {
			known->shared |= v->shared;
			continue;
		}
		snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid,
			v->start, v->end);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 && errno == ENOENT && !f->c->stopped)
			continue; /* unmapped meanwhile */
		if (fd < 0)
			return err_errno(errno, "open the shared memory at %#" PRIx64, v->start);
		e = shm_true_path(f->c->arena, pid, v, &object_path);
		if (e) {
			close(fd);
			return e;
		}
		TRY(found_add(f, v->inode, object_path, fd));
		f->v[f->n - 1].shared = v->shared;
	}
	return NULL;
}

static struct err *find_open(struct finder *f)
{
	const struct file_table *t = f->c->files;

	for (size_t i = 0; t && i < t->n; i++) {
		const struct file *file = &t->v[i];
		struct found *known;
		uint64_t id;
		char path[64];
		struct err *e;
		int fd;

		id = file_space(f, file);
		if (!id)
			continue;
		known = found_by_id(f, id);
		if (known) {
			known->open = true;
			continue;
		}
		/* Not by pidfd_getfd: looking for holes would move the target's position. */
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", f->c->task->pid,
			file->slots[0].number);
		e = io_open(path, O_RDONLY, &fd);
		if (e && !f->c->stopped) {
			err_free(e); /* closed meanwhile */
			continue;
		}
		if (e)
			return e;
		TRY(found_add(f, id, file->link, fd));
		f->v[f->n - 1].open = true;
	}
	return NULL;
}

static struct err *find_all(struct capture *c, struct finder *f)
{
	f->c = c;
	TRY(shm_device(&f->dev_major, &f->dev_minor));
	TRY(find_mapped(f));
	return find_open(f);
}

/* Its mappings are those of an ordinary file. */
static bool is_untracked(const struct found *o)
{
	return (o->id & VMA_UNLINKED) && !unlinked_is_tracked(o->path);
}

struct err *shm_spaces(struct capture *c, struct shm_space **ret, size_t *n)
{
	struct finder f AUTO(finder_fini) = { 0 };
	struct shm_space *v;

	TRY(find_all(c, &f));
	v = arena_array(c->arena, f.n, sizeof(*v));
	for (size_t i = 0; i < f.n; i++)
		v[i] = (struct shm_space){ .space = f.v[i].id,
			.fd = take_fd(&f.v[i].fd),
			.open = f.v[i].open || (f.v[i].shared && is_untracked(&f.v[i])),
			.shared = f.v[i].shared,
			.bytes = (uint64_t)f.v[i].st.st_size,
			.mtime = f.v[i].st.st_mtim,
			.ctime = f.v[i].st.st_ctim };
	for (size_t i = 0; i < f.n; i++)
		if (v[i].space & VMA_SYSV)
			TRY(sysv_shm_stamps(&v[i]));
	*ret = v;
	*n = f.n;
	return NULL;
}

/* ---- sharing with processes that stay behind ---- */

/* Many processes have the same unlinked library mapped, each for itself. */
static bool may_change(const struct found *o)
{
	return o->open || o->shared || !(o->id & VMA_UNLINKED);
}

static void refuse_shared(struct finder *f, const struct found *o, pid_t pid, const char *how)
{
	autoarena struct arena *a = arena_new();
	autoerr struct err *e = NULL;
	struct proc_stat st;

	e = proc_stat(a, pid, 0, &st);
	capture_refuse(
		f->c, err_new(ERR_UNSUPPORTED, "%s is %s by process %d (%s), which stays behind",
			      o->path, how, pid, e ? "?" : st.comm));
}

static bool outside_maps(struct finder *f, pid_t pid)
{
	autoarena struct arena *a = arena_new();
	autoerr struct err *e = NULL;
	struct vma_list maps;

	e = proc_maps(a, pid, &maps);
	for (size_t i = 0; !e && i < maps.n; i++) {
		const struct vma *v = &maps.v[i];
		const struct found *o = NULL;

		if (v->inode && on_device(f, v))
			o = found_by_id(f, v->inode);
		/* Who has attached a segment kinds/sysv_shm.c finds out. */
		if (o && may_change(o) && !(o->id & VMA_SYSV)) {
			refuse_shared(f, o, pid, "also mapped");
			return true;
		}
	}
	return false;
}

static void outside_opens(struct finder *f, pid_t pid)
{
	autoarena struct arena *a = arena_new();
	autoerr struct err *e = NULL;
	const dev_t dev = makedev(f->dev_major, f->dev_minor);
	int *fds;
	size_t n;

	e = proc_fds(a, pid, &fds, &n);
	for (size_t i = 0; !e && i < n; i++) {
		const struct found *o;
		struct stat st;
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fds[i]);
		if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink)
			continue;
		o = found_by_id(f, st.st_dev == dev ? st.st_ino
						    : proc_unlinked_id(major(st.st_dev),
							      minor(st.st_dev), st.st_ino));
		if (o && may_change(o)) {
			refuse_shared(f, o, pid, "also open");
			return;
		}
	}
}

/* Ourselves, or another worker of ours: the one that has just built this process may not have ended
 * yet. */
static bool is_ours(pid_t pid)
{
	autoarena struct arena *a = arena_new();
	autoerr struct err *e = NULL;
	struct stat mine, other;
	struct proc_stat st;
	char path[40];

	if (pid == getpid())
		return true;
	e = proc_stat(a, pid, 0, &st);
	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	return !e && st.ppid == getppid() && stat(path, &other) == 0 &&
	       stat("/proc/self/exe", &mine) == 0 && mine.st_ino == other.st_ino &&
	       mine.st_dev == other.st_dev;
}

static struct err *walk_outside(struct finder *f)
{
	DIR *d;

	if (!f->n)
		return NULL;
	d = opendir("/proc");
	if (!d)
		return err_errno(errno, "list processes");
	for (const struct dirent *de; (de = readdir(d));) {
		pid_t pid = (pid_t)strtol(de->d_name, NULL, 10);

		if (pid > 0 && !capture_inside(f->c, pid) && !is_ours(pid) && !outside_maps(f, pid))
			outside_opens(f, pid);
	}
	closedir(d);
	return NULL;
}

struct err *shm_check_outside(struct capture *c)
{
	struct finder f AUTO(finder_fini) = { 0 };

	TRY(find_all(c, &f));
	return walk_outside(&f);
}

struct err *shm_check_left(struct capture *c, const struct shm_space *v, size_t n)
{
	struct finder f = { .c = c };

	TRY(shm_device(&f.dev_major, &f.dev_minor));
	f.v = arena_array(c->arena, n, sizeof(*f.v));
	for (size_t i = 0; i < n; i++)
		f.v[f.n++] = (struct found){ .id = v[i].space,
			.path = "shared memory",
			.fd = -1,
			.open = v[i].open,
			.shared = v[i].shared };
	return walk_outside(&f);
}

/* ---- the kind ---- */

static struct err *capture(struct capture *c)
{
	struct finder f AUTO(finder_fini) = { 0 };

	TRY(find_all(c, &f));
	for (size_t i = 0; i < f.n; i++) {
		Migrate__Kind__SharedMemory m = MIGRATE__KIND__SHARED_MEMORY__INIT;
		const struct found *o = &f.v[i];
		int seals;

		if (o->id & VMA_SYSV)
			continue;
		if (o->id & VMA_UNLINKED) {
			seals = 0;
			TRY(unlinked_check(o->path, o->fd));
		} else {
			seals = fcntl(o->fd, F_GET_SEALS);
		}
		if (seals < 0)
			return err_errno(errno, "ask for the seals of %s", o->path);
		m.seals = (uint32_t)seals;
		m.path = arena_strdup(c->arena, o->path);
		m.bytes = (uint64_t)o->st.st_size;
		m.mode = o->st.st_mode & 07777;
		m.uid = o->st.st_uid;
		m.gid = o->st.st_gid;
		capture_emit(c, o->id, &m.base);
	}
	return NULL;
}

/* Again after a change: the descriptor stays, since mappings lead to the object. */
static struct err *rebuild(
	struct rebuild *r, const struct object *o, const void *msg, int *none unused_arg)
{
	const Migrate__Kind__SharedMemory *m = msg;
	int fd = rebuild_space_get(r, o->id);
	struct stat st;

	if (!o->id || (o->id & VMA_SYSV) || !shm_path(m->path) || m->bytes > INT64_MAX ||
		m->mode > 07777 || !(o->id & VMA_UNLINKED) == proc_unlinked_path(m->path))
		return err_new(ERR_PEER, "impossible shared memory object");
	if (fd < 0) {
		TRY(shm_make(m->path, &fd));
		rebuild_space_put(r, o->id, fd);
	}
	if (ftruncate(fd, (off_t)m->bytes) < 0)
		return err_errno(errno, "resize %s to %" PRIu64 " bytes", m->path, m->bytes);
	if (fstat(fd, &st) < 0)
		return err_errno(errno, "look at %s", m->path);
	if ((st.st_uid != m->uid || st.st_gid != m->gid) && fchown(fd, m->uid, m->gid) < 0)
		return err_errno(errno, "give %s to its owner", m->path);
	if ((st.st_mode & 07777) != m->mode && fchmod(fd, m->mode) < 0)
		return err_errno(errno, "set the mode of %s", m->path);
	return NULL;
}

/* A memfd that nobody has open any more can still be sealed; for others the memfd kind finds it
 * done. */
static struct err *finish(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__SharedMemory *m = msg;
	int fd = rebuild_space_get(r, o->id);
	int have = m->seals ? fcntl(fd, F_GET_SEALS) : 0;

	if (have < 0)
		return err_errno(errno, "ask for the seals of %s", m->path);
	if ((m->seals & ~(uint32_t)have) && fcntl(fd, F_ADD_SEALS, m->seals & ~(uint32_t)have) < 0)
		return err_errno(errno, "seal %s", m->path);
	return NULL;
}

const struct kind kind_shm = {
	.id = 11,
	.name = "shared memory",
	.scope = KIND_PROCESS,
	.stage = STAGE_MEMORY,
	.msg = &migrate__kind__shared_memory__descriptor,
	.capture = capture,
	.rebuild = rebuild,
	.finish = finish,
};
