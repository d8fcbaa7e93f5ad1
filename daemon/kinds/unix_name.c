// SPDX-License-Identifier: Apache-2.0
/*
 * Pathname unix sockets. What getsockname() shows is the text that bind() got, byte by byte
 * (relative or not), while clients find the socket by the inode of the file. Both have to be right,
 * and nobody must see the file before COMMIT. So the socket is bound in a hidden directory beside
 * the final place: a thread of ours makes that directory its root (CLONE_FS unshared: the rest of
 * the daemon keeps its own), makes the directories that the text names, and binds the very same
 * text there. The file then lies in the same file system and needs only a rename(2).
 *
 * That is slow (directories, a thread), so it happens in the rehearsal. A link in the scratch
 * directory says where the hidden directory is: for publish, and to remove it when the object
 * changes, vanishes or the migration is given up.
 *
 * Everything goes by descriptors of directories that are ours alone (root, mode 0700), because the
 * final place may belong to somebody who plays with links.
 *
 * A name whose file is gone at the source, or which is only a text, is bound in the scratch
 * directory and unlinked at once.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "kinds/unix.h"

/* In the hidden directory: the socket once it is bound, and a link that says what it will be
 * called. */
#define HIDDEN_FILE "s"
#define HIDDEN_NAME "name"
#define NOTE        "unix-"

socklen_t unix_sockaddr(const Migrate__Kind__Unix *m, struct sockaddr_un *a)
{
	const size_t n = MIN(m->address.len, sizeof(a->sun_path));

	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	memcpy(a->sun_path, m->address.data, n);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
}

/* ---- source ---- */

/* Where the text leads, links of its directory resolved; NULL if nowhere. */
static const char *resolve(struct capture *c, const char *text, const char *cwd)
{
	const char *whole = text[0] == '/' ? text : arena_printf(c->arena, "%s/%s", cwd, text);
	const char *slash = strrchr(whole, '/');
	char *dir = arena_dup(c->arena, whole, (size_t)(slash - whole) + 2);
	char real[PATH_MAX];

	dir[slash - whole] = 0;
	if (!realpath(dir[0] ? dir : "/", real))
		return NULL;
	return arena_printf(c->arena, "%s/%s", strcmp(real, "/") == 0 ? "" : real, slash + 1);
}

struct err *unix_file_capture(struct capture *c, const struct diag_unix *d, Migrate__Kind__Unix *m)
{
	const char *text = (const char *)m->address.data, *path;
	char *cwd, *root;
	struct stat st;

	m->file = arena_alloc(c->arena, sizeof(*m->file));
	migrate__kind__unix_file__init(m->file);
	TRY(proc_link(c->arena, c->task->pid, "cwd", &cwd));
	TRY(proc_link(c->arena, c->task->pid, "root", &root));
	if (strcmp(root, "/") != 0)
		return err_new(
			ERR_UNSUPPORTED, "its name is below another root directory, %s", root);
	path = resolve(c, text, cwd);
	if (path && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && d->has_file &&
		(uint32_t)st.st_ino == d->file_inode) {
		m->file->path = arena_strdup(c->arena, path);
		m->file->mode = st.st_mode & 07777;
		m->file->uid = st.st_uid;
		m->file->gid = st.st_gid;
		return NULL;
	}
	/* A relative name may be alive where the process was when it bound it. */
	if (text[0] != '/')
		return err_new(ERR_UNSUPPORTED,
			"its relative name does not lead to it from the working directory %s", cwd);
	capture_warn(
		c, "the name of unix socket %s is gone already: nobody can connect to it", text);
	return NULL;
}

/* How many sockets have this abstract name: an accepted one shares that of its listener. Lines of
 * /proc/net/unix end in "@name", with "@" for every NUL. */
static struct err *count_abstract(struct capture *c, const Migrate__Kind__Unix *m, size_t *ret)
{
	char name[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 2] = " ";
	char *text;
	size_t n = 0;

	for (size_t i = 0; i < m->address.len; i++)
		name[1 + i] = m->address.data[i] ? (char)m->address.data[i] : '@';
	TRY(io_read_file(c->arena, "/proc/net/unix", 64 << 20, &text, NULL));
	for (char *save, *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		const size_t len = strlen(l), want = 1 + m->address.len;

		if (len > want && strcmp(l + len - want, name) == 0)
			n++;
	}
	*ret = n;
	return NULL;
}

struct err *unix_text_capture(struct capture *c, Migrate__Kind__Unix *m)
{
	size_t n;

	if (m->address.data[0] != 0) {
		m->file = arena_alloc(c->arena, sizeof(*m->file));
		migrate__kind__unix_file__init(m->file);
		return NULL;
	}
	TRY(count_abstract(c, m, &n));
	if (n > 1)
		return err_new(ERR_UNSUPPORTED, "a connection that shares an abstract name");
	return NULL;
}

/* ---- destination ---- */

static const char *base_name(const char *path)
{
	return strrchr(path, '/') + 1;
}

static struct err *open_dir_of(const char *path, int *ret)
{
	autofree char *dir = xstrdup(path);
	int fd;

	*strrchr(dir, '/') = 0;
	fd = open(dir[0] ? dir : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_hint(err_errno(errno, "directory %s of a unix socket", dir),
			"make that directory on the destination");
	*ret = fd;
	return NULL;
}

struct err *unix_file_check(const Migrate__Kind__Unix *m)
{
	const char *path = m->file->path;
	autoclose int dir = -1;
	struct stat st;
	bool used;

	if (!path[0])
		return NULL;
	TRY(open_dir_of(path, &dir));
	if (fstatat(dir, base_name(path), &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? NULL : err_errno(errno, "look at %s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_new(ERR_MISMATCH, "%s exists here and is no socket", path);
	/* With a shared file system it is the moved process's own; one that nobody listens on is
	 * left over from earlier. Either is replaced. */
	TRY(diag_unix_file_used(st.st_ino, &used));
	if (used)
		return err_hint(err_new(ERR_MISMATCH, "a socket is bound to %s here", path),
			"find who has it with `ss -xlp`, and stop it");
	return NULL;
}

/* Unique per migration and object. */
static void hidden_name(struct rebuild *r, const struct sock *s, char name[NAME_MAX + 1])
{
	const char *slash = strrchr(r->scratch_dir, '/');
	struct stat st = { 0 };

	(void)stat(r->scratch_dir, &st);
	(void)snprintf(name, NAME_MAX + 1, ".%.100s-%jx-%ju", slash ? slash + 1 : r->scratch_dir,
		(uintmax_t)st.st_ino, (uintmax_t)s->o->id);
}

/* The link of this object in the scratch directory. */
static const char *note_path(struct rebuild *r, const struct sock *s)
{
	return arena_printf(r->arena, "%s/" NOTE "%ju", r->scratch_dir, (uintmax_t)s->o->id);
}

/* Splits what the link says into directory and name; false if there is no link. */
static bool note_read(const char *note, int *parent, char name[NAME_MAX + 1])
{
	char at[PATH_MAX] = "";
	autoerr struct err *e = NULL;

	if (readlink(note, at, sizeof(at) - 1) < 0 || at[0] != '/')
		return false;
	(void)snprintf(name, NAME_MAX + 1, "%s", base_name(at));
	e = open_dir_of(at, parent);
	return !e;
}

static struct err *open_hidden(int parent, const char *name, int *ret)
{
	autoclose int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(errno, "open the hidden directory %s", name);
	if (st.st_uid != geteuid() || (st.st_mode & 0077))
		return err_new(ERR_DENIED, "somebody else's directory %s", name);
	*ret = take_fd(&fd);
	return NULL;
}

struct bind_job {
	int dir, fd;
	const Migrate__Kind__Unix *m;
	int no;           /* result: 0 or an errno */
	const char *what; /* that failed */
};

static void each_directory(const char *text, bool make)
{
	size_t n = strlen(text);

	for (size_t i = 1; i < n; i++) {
		const size_t at = make ? i : n - i; /* removing goes from the end */
		char prefix[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 1] = "";

		if (text[at] != '/' || at >= sizeof(prefix))
			continue;
		memcpy(prefix, text, at);
		/* What is there already, "." or "..", fails and is right so. */
		(void)(make ? mkdir(prefix, 0700) : rmdir(prefix));
	}
}

static int bind_steps(struct bind_job *j)
{
	struct sockaddr_un a;
	const socklen_t len = unix_sockaddr(j->m, &a);
	char text[sizeof(a.sun_path) + 1] = "";

	memcpy(text, a.sun_path, len - offsetof(struct sockaddr_un, sun_path));
	j->what = "enter the hidden directory";
	if (unshare(CLONE_FS) < 0 || fchdir(j->dir) < 0 || chroot(".") < 0)
		return errno;
	each_directory(text, true);
	j->what = "bind";
	if (bind(j->fd, (struct sockaddr *)&a, len) < 0)
		return errno;
	j->what = "rename in the hidden directory";
	if (renameat(AT_FDCWD, text, j->dir, HIDDEN_FILE) < 0)
		return errno;
	each_directory(text, false);
	j->what = "set owner and mode of the socket file";
	if (fchownat(j->dir, HIDDEN_FILE, j->m->file->uid, j->m->file->gid, AT_SYMLINK_NOFOLLOW) <
			0 ||
		fchmodat(j->dir, HIDDEN_FILE, j->m->file->mode, 0) < 0)
		return errno;
	return 0;
}

static void *bind_thread(void *arg)
{
	struct bind_job *j = arg;

	j->no = bind_steps(j);
	return NULL;
}

static struct err *bind_in(int dir, const Migrate__Kind__Unix *m, int fd)
{
	struct bind_job j = { .dir = dir, .fd = fd, .m = m, .what = "start" };
	pthread_t t;
	int no = pthread_create(&t, NULL, bind_thread, &j);

	if (no == 0)
		no = pthread_join(t, NULL);
	if (no)
		return err_errno(no, "start a thread");
	return j.no ? err_errno(j.no, "%s", j.what) : NULL;
}

static void remove_hidden(int parent, const char *name)
{
	autoclose int dir = -1;
	autoerr struct err *e = open_hidden(parent, name, &dir);

	if (e)
		return;
	(void)unlinkat(dir, HIDDEN_FILE, 0);
	(void)unlinkat(dir, HIDDEN_NAME, 0);
	(void)unlinkat(parent, name, AT_REMOVEDIR);
}

/* Notes where it will be before it is there. */
static struct err *make_hidden(
	struct rebuild *r, const struct sock *s, int *parent, char name[NAME_MAX + 1], int *dir)
{
	const Migrate__Kind__Unix *m = s->state;
	const bool gone = !m->file->path[0];
	const char *beside = gone ? arena_printf(r->arena, "%s/s", r->scratch_dir) : m->file->path;
	const char *at;

	hidden_name(r, s, name);
	TRY(open_dir_of(beside, parent));
	at = arena_printf(r->arena, "%.*s%s", (int)(base_name(beside) - beside), beside, name);
	if (symlink(at, note_path(r, s)) < 0)
		return err_errno(errno, "note the hidden directory %s", at);
	/* One that is there was left by a migration that ended badly: take it over. */
	if (mkdirat(*parent, name, 0700) < 0 && errno != EEXIST)
		return err_errno(errno, "make the hidden directory %s", at);
	TRY(open_hidden(*parent, name, dir));
	(void)unlinkat(*dir, HIDDEN_FILE, 0);
	(void)unlinkat(*dir, HIDDEN_NAME, 0);
	if (!gone && symlinkat(base_name(m->file->path), *dir, HIDDEN_NAME) < 0)
		return err_errno(errno, "note a name in %s", at);
	return NULL;
}

struct err *unix_file_bind(struct rebuild *r, const struct sock *s, int fd)
{
	const Migrate__Kind__Unix *m = s->state;
	autoclose int parent = -1, dir = -1;
	char name[NAME_MAX + 1];
	struct err *e;

	unix_file_discard(r, s);
	e = make_hidden(r, s, &parent, name, &dir);
	if (!e)
		e = bind_in(dir, m, fd);
	if (e || !m->file->path[0])
		unix_file_discard(r, s);
	return e ? err_in(e, "name %.*s", (int)m->address.len, (const char *)m->address.data)
		 : NULL;
}

/* By the note alone: whoever made it may be gone. */
static struct err *publish(const char *note)
{
	autoclose int parent = -1, dir = -1;
	char hidden[NAME_MAX + 1], name[NAME_MAX + 1] = "";
	struct stat st;

	if (!note_read(note, &parent, hidden))
		return err_new(ERR_BUG, "the hidden file of a socket was not noted");
	TRY(open_hidden(parent, hidden, &dir));
	if (readlinkat(dir, HIDDEN_NAME, name, sizeof(name) - 1) < 0)
		return err_errno(errno, "read the name of a hidden socket");
	/* It was looked at in the rehearsal; what else came there since is not ours to replace. */
	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISSOCK(st.st_mode))
		return err_new(ERR_MISMATCH, "%s exists here and is no socket", name);
	if (renameat(dir, HIDDEN_FILE, parent, name) < 0)
		return err_errno(errno, "put the socket file %s into place", name);
	return NULL;
}

static void discard(const char *note)
{
	autoclose int parent = -1;
	char name[NAME_MAX + 1];

	if (note_read(note, &parent, name))
		remove_hidden(parent, name);
	(void)unlink(note);
}

struct err *unix_file_publish(struct rebuild *r, const struct sock *s)
{
	const Migrate__Kind__Unix *m = s->state;

	TRY_IN(publish(note_path(r, s)), "%s", m->file->path);
	unix_file_discard(r, s);
	return NULL;
}

void unix_file_discard(struct rebuild *r, const struct sock *s)
{
	discard(note_path(r, s));
}

void unix_files_settle(const char *scratch_dir, bool moved)
{
	DIR *d = opendir(scratch_dir);

	for (const struct dirent *de; d && (de = readdir(d));) {
		autofree char *note = NULL;

		if (strncmp(de->d_name, NOTE, strlen(NOTE)) != 0)
			continue;
		if (asprintf(&note, "%s/%s", scratch_dir, de->d_name) < 0)
			abort();
		/* What is in its way now, or there already, stays. */
		if (moved)
			err_free(publish(note));
		discard(note);
	}
	if (d)
		closedir(d);
}
