// SPDX-License-Identifier: Apache-2.0
/*
 * An open regular file, or an O_PATH descriptor: the path and how it was opened; the content stays
 * where it is. Whether the other host has the file is decided by kinds/identity: a descriptor that
 * can write needs the same file, one that only reads is content with an equal one.
 *
 * Files that the kernel generates (/proc, /sys) have no identity to compare; they are opened again
 * by path, for reading only.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "file.pb-c.h"
#include "kinds/cache.h"
#include "kinds/identity.h"
#include "kinds/kind.h"

/* open(2) flags that a description keeps and open() takes again. O_TMPFILE only says how the file
 * was made. */
#define KEPT_OPEN_FLAGS \
	(O_ACCMODE | O_APPEND | O_DSYNC | O_SYNC | O_DIRECT | O_NOATIME | O_PATH | O_NOFOLLOW)
/* What fcntl(F_SETFL) sets afterwards. */
#define STATUS_FLAGS (O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | O_ASYNC)

#define DELETED " (deleted)" /* proc(5) */

#define MAGIC_MQUEUE 0x19800202 /* not in linux/magic.h */

/* While the target stands still, a file that was not read in the rehearsal is only read up to this
 * size; a larger one must be the same file. */
#define FROZEN_READ_MAX (1 << 20)

static bool is_generated(unsigned long magic)
{
	return magic == PROC_SUPER_MAGIC || magic == SYSFS_MAGIC;
}

static bool writes(uint64_t flags)
{
	return !(flags & O_PATH) && (flags & O_ACCMODE) != O_RDONLY;
}

/* Does the content matter? A place (O_PATH of a directory, a link) is only a name. */
static bool reads_content(const Migrate__Kind__File *m)
{
	return S_ISREG(m->type) && !writes(m->flags);
}

/* /proc/PID/fdinfo/N and /proc/PID/task/TID/fdinfo/N are there when the descriptor is. */
static bool about_descriptor(const char *path)
{
	const char *p = path;
	uint64_t number;

	if (!text_scan_lit(&p, "/proc/") || !text_scan_u64(&p, 10, &number) ||
		!text_scan_lit(&p, "/"))
		return false;
	if (text_scan_lit(&p, "task/") &&
		(!text_scan_u64(&p, 10, &number) || !text_scan_lit(&p, "/")))
		return false;
	return text_scan_lit(&p, "fdinfo/");
}

/* It is opened by the process itself, in which its descriptors are then. */
static struct err *check_alone(const struct file *f, const char *path)
{
	for (size_t i = 1; about_descriptor(path) && i < f->n_slots; i++)
		if (f->slots[i].pid != f->slots[0].pid)
			return err_hint(
				err_new(ERR_UNSUPPORTED, "%s is open in several processes", path),
				"let the programs close it");
	return NULL;
}

static bool file_claims(const struct file *f)
{
	if (f->link[0] != '/' || file_is_queue(f))
		return false;
	return S_ISREG(f->st.st_mode) || (f->flags & O_PATH);
}

/* Below /proc/PID/net the kernel forgets a name whenever somebody looks it up, and then says of the
 * file that is open under it that it is deleted. */
static const char *path_of(struct capture *c, bool generated)
{
	const char *link = c->file->link;
	size_t n = strlen(link), tail = strlen(DELETED);

	if (!generated || n <= tail || strcmp(link + n - tail, DELETED) != 0)
		return link;
	return arena_printf(c->arena, "%.*s", (int)(n - tail), link);
}

/* The message, from the cache if the file is as it was when its content was read. */
static struct err *take_identity(
	struct capture *c, int fd, bool content, Migrate__Kind__FileIdentity **ret)
{
	ProtobufCAllocator alloc = arena_allocator(c->arena);
	const uint8_t *known;
	struct stat st;
	size_t len;

	if (fstat(fd, &st) < 0)
		return err_errno(errno, "stat");
	if (!content)
		return file_identity(c->arena, fd, false, ret);
	known = kind_cache_get(c->cache, &st, &len);
	if (known) {
		*ret = migrate__kind__file_identity__unpack(&alloc, len, known);
		if (*ret && (*ret)->content)
			return NULL;
	}
	if (c->stopped && st.st_size > FROZEN_READ_MAX)
		return file_identity(c->arena, fd, false, ret);
	TRY(file_identity(c->arena, fd, true, ret));
	kind_pack(c->arena, &(*ret)->base, &known, &len);
	kind_cache_put(c->cache, &st, known, len);
	return NULL;
}

static struct err *file_capture(struct capture *c)
{
	Migrate__Kind__File m = MIGRATE__KIND__FILE__INIT;
	const struct file *f = c->file;
	struct statfs fs;
	bool generated;
	int home;

	TRY(capture_home(c, &home));
	if (fstatfs(home, &fs) < 0)
		return err_errno(errno, "statfs %s", f->link);
	if (fs.f_type == MAGIC_MQUEUE)
		return err_new(ERR_UNSUPPORTED,
			"a POSIX message queue that was opened by a path (%s) belongs to this host",
			f->link);
	if (f->st.st_nlink == 0)
		return err_hint(
			err_new(ERR_UNSUPPORTED, "%s was deleted while it was open", f->link),
			"a deleted file cannot be opened on the other host; let the program close "
			"it");
	generated = is_generated((unsigned long)fs.f_type);
	m.path = (char *)path_of(c, generated);
	TRY(file_process_check(c->task->pid, m.path));
	TRY(check_alone(f, m.path));
	TRY(file_path_check(home, m.path));
	if (!S_ISLNK(f->st.st_mode)) /* a place: its path would be followed */
		TRY(file_mount_check(home, m.path));
	/* An NFS client's name for a deleted file that is open: gone when the source closes it. */
	if (strstr(f->link, "/.nfs"))
		return err_new(ERR_UNSUPPORTED, "%s was deleted while it was open", f->link);
	m.type = f->st.st_mode & S_IFMT;
	m.flags = f->flags;
	m.pos = f->pos;
	if (generated) {
		if (writes(f->flags))
			return err_new(ERR_UNSUPPORTED,
				"%s belongs to the kernel and is open for writing", f->link);
	} else {
		TRY_IN(take_identity(c, home, reads_content(&m), &m.identity), "%s", f->link);
	}
	if (writes(f->flags)) {
		m.size = (uint64_t)f->st.st_size;
		/* The server of a network file system must have it before another host looks. */
		if (identity_fs_shareable((uint64_t)fs.f_type) && fdatasync(home) < 0)
			return err_errno(errno, "write back %s", f->link);
	}
	capture_emit(c, f->id, &m.base);
	return NULL;
}

/* "/proc/N/NAME" or "/proc/N/task/N/NAME", and nothing that leads on from there: the process itself
 * may read it, whoever it is. */
static bool own_proc_file(const char *path)
{
	const char *p = path;
	uint64_t number;

	if (!text_scan_lit(&p, "/proc/") || !text_scan_u64(&p, 10, &number) ||
		!text_scan_lit(&p, "/"))
		return false;
	if (text_scan_lit(&p, "task/") &&
		(!text_scan_u64(&p, 10, &number) || !text_scan_lit(&p, "/")))
		return false;
	return !strchr(p, '/') && strcmp(p, "..") != 0;
}

/* Without an identity only what the kernel generates will do, as the source says it is: for
 * reading, about nobody else, and what everybody may read; the process need not be root's, and we
 * are. */
static struct err *check_generated(const Migrate__Kind__File *m, int found, const struct stat *st)
{
	struct statfs fs;

	if (fstatfs(found, &fs) < 0)
		return err_errno(errno, "look at the file system of %s", m->path);
	if (!is_generated((unsigned long)fs.f_type) || writes(m->flags))
		return err_new(ERR_PEER, "%s without its identity", m->path);
	if (!(m->flags & O_PATH) && !(st->st_mode & S_IROTH) && !own_proc_file(m->path))
		return err_new(ERR_UNSUPPORTED, "%s is not for everybody to read there", m->path);
	return NULL;
}

/* The type is what the peer says it is: what is opened for more than its name must be a file. */
static struct err *check_message(const Migrate__Kind__File *m)
{
	if (m->path[0] != '/')
		return err_new(ERR_PEER, "path %s is not absolute", m->path);
	if (!S_ISREG(m->type) && !(m->flags & O_PATH))
		return err_new(ERR_PEER, "%s is said to be no file", m->path);
	return NULL;
}

/* Opens what has the path here, without side effects: never a device or a FIFO. */
static struct err *find(const Migrate__Kind__File *m, int *fd)
{
	autoclose int found = -1;
	struct stat st;

	TRY(check_message(m));
	found = open(m->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (found < 0 && (errno == ENOENT || errno == ENOTDIR))
		return err_hint(err_new(ERR_MISMATCH, "%s does not exist there", m->path),
			"provide the file on both hosts");
	if (found < 0 || fstat(found, &st) < 0)
		return err_errno(errno, "open %s", m->path);
	if ((st.st_mode & S_IFMT) != m->type)
		return err_new(ERR_MISMATCH, "%s is of another type there", m->path);
	if (!m->identity)
		TRY(check_generated(m, found, &st));
	*fd = take_fd(&found);
	return NULL;
}

static struct err *check_identity(struct rebuild *r, const Migrate__Kind__File *m, int fd)
{
	const uint8_t *want, *known;
	size_t want_len, len;
	Migrate__Kind__FileIdentity id;
	struct stat st;
	struct err *e;

	if (!m->identity || (!S_ISREG(m->type) && (m->flags & O_PATH)))
		return NULL;
	id = *m->identity;
	/* Equal bytes are the same file to who reads; who writes means that very one. */
	if (writes(m->flags))
		id.content = false;
	kind_pack(r->arena, &id.base, &want, &want_len);
	if (fstat(fd, &st) < 0)
		return err_errno(errno, "stat %s", m->path);
	known = kind_cache_get(r->cache, &st, &len);
	if (known && len == want_len && memcmp(known, want, len) == 0)
		return NULL;
	e = file_identity_check(fd, &id);
	if (!e) {
		kind_cache_put(r->cache, &st, want, want_len);
		return NULL;
	}
	if (writes(m->flags))
		return err_hint(err_in(e, "%s is open for writing", m->path),
			"put it on storage that both hosts share, or let the program close it");
	return err_hint(err_in(e, "%s", m->path),
		"copy the file to that host, or put it on storage that both hosts share");
}

static struct err *file_check(struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__File *m = msg;
	autoclose int fd = -1;

	TRY(check_message(m));
	/* What the kernel generates may be about the process itself, which does not exist yet. */
	if (!m->identity)
		return NULL;
	TRY(find(m, &fd));
	return check_identity(r, m, fd);
}

/* What was looked at, and nothing that somebody has put in its place since. O_NOFOLLOW stays with
 * the description and does not go through the link: then at least no link is followed. */
static struct err *open_found(const Migrate__Kind__File *m, int found, int flags, int *ret)
{
	char again[40];
	bool by_name = flags & (O_PATH | O_NOFOLLOW);

	snprintf(again, sizeof(again), "/proc/self/fd/%d", found);
	/* O_NONBLOCK: do not wait for somebody's lease. */
	*ret = open(by_name ? m->path : again, flags | (flags & O_PATH ? 0 : O_NONBLOCK));
	return *ret < 0 ? err_errno(errno, "open %s", m->path) : NULL;
}

static struct err *file_rebuild(
	struct rebuild *r, const struct object *o unused_arg, const void *msg, int *fd)
{
	const Migrate__Kind__File *m = msg;
	/* Only an O_PATH descriptor keeps how it was found. */
	int kept = m->flags & O_PATH ? KEPT_OPEN_FLAGS | O_DIRECTORY : KEPT_OPEN_FLAGS;
	int flags = (int)(m->flags & (uint64_t)kept) | O_CLOEXEC | O_NOCTTY;
	autoclose int found = -1, made = -1;
	struct stat st_found, st;

	if (!m->identity)
		TRY(file_process_check(r->task->pid, m->path));
	if (!m->identity && about_descriptor(m->path)) {
		TRY(check_message(m));
		/* For file_link to replace. */
		return io_open("/proc/self/status", O_RDONLY, fd);
	}
	TRY(find(m, &found));
	TRY(check_identity(r, m, found));
	TRY(open_found(m, found, flags, &made));
	if (fstat(found, &st_found) < 0 || fstat(made, &st) < 0)
		return err_errno(errno, "stat %s", m->path);
	if (st.st_ino != st_found.st_ino || st.st_dev != st_found.st_dev)
		return err_new(ERR_MISMATCH, "%s was replaced meanwhile", m->path);
	if (!(m->flags & O_PATH)) {
		if (fcntl(made, F_SETFL, (int)(m->flags & STATUS_FLAGS)) < 0)
			return err_errno(errno, "set the flags of %s", m->path);
		if (lseek(made, (off_t)m->pos, SEEK_SET) < 0)
			return err_errno(
				errno, "set the position of %s to %ju", m->path, (uintmax_t)m->pos);
	}
	*fd = take_fd(&made);
	return NULL;
}

static struct err *open_there(struct rebuild *r, const Migrate__Kind__File *m, int64_t *fd)
{
	const uint64_t flags = (m->flags & KEPT_OPEN_FLAGS) | O_CLOEXEC | O_NOCTTY;

	if (writes(m->flags) || strlen(m->path) >= REMOTE_SCRATCH_BYTES)
		return err_new(ERR_PEER, "impossible file of a descriptor");
	TRY(remote_put(r->task, 0, m->path, strlen(m->path) + 1));
	return REMOTE(r->task, r->thread, fd, m->path, SYS_openat, (uint64_t)AT_FDCWD,
		remote_scratch(r->task).v, flags, 0);
}

static struct err *file_link(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__File *m = msg;
	int64_t fd;

	if (m->identity || !about_descriptor(m->path))
		return NULL;
	TRY(open_there(r, m, &fd));
	TRY(REMOTE(r->task, r->thread, NULL, "set the position", SYS_lseek, (uint64_t)fd, m->pos,
		SEEK_SET));
	for (size_t i = 0; i < o->n_slots; i++)
		TRY(REMOTE(r->task, r->thread, NULL, "give it its number", SYS_dup3, (uint64_t)fd,
			(uint64_t)o->slots[i].number, o->slots[i].cloexec ? O_CLOEXEC : 0));
	return REMOTE(r->task, r->thread, NULL, "close a descriptor", SYS_close, (uint64_t)fd);
}

/* The last look: all that the process wrote must be here (others may have appended more). */
static struct err *file_finish(
	struct rebuild *r unused_arg, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__File *m = msg;
	struct statx sx;

	if (!m->identity || !writes(m->flags))
		return NULL;
	/* FORCE_SYNC: a network file system asks its server. */
	if (statx(AT_FDCWD, m->path, AT_SYMLINK_NOFOLLOW | AT_STATX_FORCE_SYNC,
		    STATX_SIZE | STATX_INO, &sx) < 0)
		return err_errno(errno, "statx %s", m->path);
	if (sx.stx_size < m->size)
		return err_new(ERR_MISMATCH, "%s has %ju bytes there and %ju on the source",
			m->path, (uintmax_t)sx.stx_size, (uintmax_t)m->size);
	return NULL;
}

const struct kind kind_file = {
	.id = 20,
	.name = "file",
	.scope = KIND_FILE,
	.stage = STAGE_FILE,
	.msg = &migrate__kind__file__descriptor,
	.claims = file_claims,
	.capture = file_capture,
	.check = file_check,
	.rebuild = file_rebuild,
	.rebuilt_late = true,
	.link = file_link,
	.finish = file_finish,
};
