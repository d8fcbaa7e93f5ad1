// SPDX-License-Identifier: Apache-2.0
#include "roles/journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/io.h"

#define MAGIC      "MIGRJ001"
#define TEMP       ".new"
#define FILE_BYTES (JOURNAL_RECORD_BYTES * JOURNAL_RECORDS_MAX)

static const char *const sides[] = { "source", "destination" };

/* ---- records ---- */

static uint64_t checksum(const struct journal_record *r)
{
	return XXH3_64bits(r, offsetof(struct journal_record, checksum));
}

static bool ends(const char *text, size_t room)
{
	return memchr(text, 0, room) != NULL;
}

static bool is_whole(const struct journal_record *r)
{
	return memcmp(r->magic, MAGIC, sizeof(r->magic)) == 0 && r->checksum == checksum(r) &&
	       r->mark > MARK_NONE && r->mark < MARK_COUNT && r->destination < 2 &&
	       ends(r->id, sizeof(r->id)) && ends(r->boot_id, sizeof(r->boot_id)) &&
	       ends(r->peer_boot_id, sizeof(r->peer_boot_id)) && ends(r->comm, sizeof(r->comm)) &&
	       ends(r->peer, sizeof(r->peer)) && ends(r->key, sizeof(r->key)) &&
	       ends(r->host, sizeof(r->host));
}

bool journal_last(const uint8_t *bytes, size_t len, struct journal_record *ret)
{
	struct journal_record r;
	bool any = false;

	for (size_t at = 0; at + sizeof(r) <= len; at += sizeof(r)) {
		memcpy(&r, bytes + at, sizeof(r));
		if (!is_whole(&r) || r.seq != at / sizeof(r) + 1)
			break;
		*ret = r;
		any = true;
	}
	return any;
}

static struct err *put(struct journal *j, struct journal_record *r)
{
	struct timespec now, up;
	ssize_t n;

	if (r->seq > JOURNAL_RECORDS_MAX)
		return err_new(ERR_BUG, "too many records in %s", j->path);
	clock_gettime(CLOCK_REALTIME, &now);
	clock_gettime(CLOCK_BOOTTIME, &up);
	memcpy(r->magic, MAGIC, sizeof(r->magic));
	r->written_s = now.tv_sec;
	r->written_up_s = up.tv_sec;
	r->checksum = checksum(r);
	n = pwrite(j->fd, r, sizeof(*r), (off_t)((r->seq - 1) * sizeof(*r)));
	if (n != (ssize_t)sizeof(*r))
		return err_errno(n < 0 ? errno : EIO, "write %s", j->path);
	j->last = *r;
	return NULL;
}

struct err *journal_add(struct journal *j, enum engine_mark mark)
{
	struct journal_record r = j->last;

	r.seq++;
	r.mark = mark;
	return put(j, &r);
}

struct err *journal_sync(const struct journal *j)
{
	return fdatasync(j->fd) < 0 ? err_errno(errno, "write %s to the disk", j->path) : NULL;
}

/* ---- age ---- */

/* Before there was any of these: a clock that nobody has set yet. */
#define NO_DATE_S 1735689600

static int64_t seconds_since(clockid_t clock, int64_t then_s)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec - then_s;
}

/* Within one boot, the time that has passed is known. */
int64_t journal_age_least_s(const struct journal_record *r, const char *boot_id)
{
	int64_t real = seconds_since(CLOCK_REALTIME, r->written_s);

	if (strcmp(r->boot_id, boot_id) != 0)
		return r->written_s < NO_DATE_S ? 0 : real;
	return MIN(real, seconds_since(CLOCK_BOOTTIME, r->written_up_s));
}

/* A virtual machine may have stood still, and its clock been set behind that. */
int64_t journal_age_most_s(const struct journal_record *r, const char *boot_id)
{
	int64_t real = seconds_since(CLOCK_REALTIME, r->written_s);

	if (strcmp(r->boot_id, boot_id) != 0)
		return real;
	return MAX(real, seconds_since(CLOCK_BOOTTIME, r->written_up_s));
}

/* ---- files ---- */

static struct err *sync_dir(const char *path)
{
	autoclose int fd = -1;

	TRY(io_open(path, O_RDONLY | O_DIRECTORY, &fd));
	return fsync(fd) < 0 ? err_errno(errno, "write %s to the disk", path) : NULL;
}

static struct err *open_dir(const char *state_dir, int *fd)
{
	autofree char *path = NULL;

	if (asprintf(&path, "%s/journal", state_dir) < 0)
		abort();
	if (mkdir(path, 0700) == 0)
		TRY(sync_dir(state_dir));
	else if (errno != EEXIST)
		return err_errno(errno, "make %s", path);
	return io_open(path, O_RDONLY | O_DIRECTORY, fd);
}

static char *path_of(const char *state_dir, const char *id, bool destination)
{
	char *path;

	if (asprintf(&path, "%s/journal/%s.%s", state_dir, id, sides[destination]) < 0)
		abort();
	return path;
}

static struct err *fill(struct journal *j, const struct journal_record *first)
{
	struct journal_record r = *first;
	int no = posix_fallocate(j->fd, 0, FILE_BYTES);

	if (no)
		return err_errno(no, "make room for %s", j->path);
	if (flock(j->fd, LOCK_EX | LOCK_NB) < 0)
		return err_errno(errno, "lock %s", j->path);
	r.seq = 1;
	TRY(put(j, &r));
	return fsync(j->fd) < 0 ? err_errno(errno, "write %s to the disk", j->path) : NULL;
}

static struct err *publish(const struct journal *j, const char *temp, int dir)
{
	if (renameat2(AT_FDCWD, temp, AT_FDCWD, j->path, RENAME_NOREPLACE) < 0)
		return errno == EEXIST
			       ? err_new(ERR_INVALID, "there was a migration %s here already",
					 j->last.id)
			       : err_errno(errno, "create %s", j->path);
	if (fsync(dir) == 0)
		return NULL;
	(void)unlink(j->path);
	return err_errno(errno, "write %s to the disk", j->path);
}

/* Who looks for journals finds them locked and with a record, or not at all. */
struct err *journal_create(
	const char *state_dir, const struct journal_record *first, struct journal *ret)
{
	AUTO(journal_close) struct journal j = JOURNAL_NONE;
	autofree char *temp = NULL;
	autoclose int dir = -1;
	struct err *e;

	TRY(open_dir(state_dir, &dir));
	j.path = path_of(state_dir, first->id, first->destination);
	if (asprintf(&temp, "%s" TEMP, j.path) < 0)
		abort();
	j.fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (j.fd < 0)
		return err_errno(errno, "create %s", temp);
	e = fill(&j, first);
	if (!e)
		e = publish(&j, temp, dir);
	if (e) {
		(void)unlink(temp);
		return e;
	}
	*ret = j;
	j = JOURNAL_NONE;
	return NULL;
}

static struct err *read_last(struct journal *j, bool *any)
{
	uint8_t bytes[FILE_BYTES];
	ssize_t n = pread(j->fd, bytes, sizeof(bytes), 0);

	if (n < 0)
		return err_errno(errno, "read %s", j->path);
	*any = journal_last(bytes, (size_t)n, &j->last);
	return NULL;
}

/* Of somebody who died before he had done anything. */
static void remove_temp(int dir, const char *name)
{
	const char *dot = strrchr(name, '.');
	autoclose int fd = -1;

	if (!dot || strcmp(dot, TEMP) != 0)
		return;
	fd = openat(dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
		(void)unlinkat(dir, name, 0);
}

static void remove_temp_of(const char *path)
{
	autofree char *temp = NULL;

	if (asprintf(&temp, "%s" TEMP, path) < 0)
		abort();
	remove_temp(AT_FDCWD, temp);
}

struct err *journal_open(
	const char *state_dir, const char *id, bool destination, struct journal *ret)
{
	AUTO(journal_close) struct journal j = JOURNAL_NONE;
	bool any = false;

	*ret = JOURNAL_NONE;
	j.path = path_of(state_dir, id, destination);
	j.fd = open(j.path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (j.fd < 0 && errno == ENOENT) {
		remove_temp_of(j.path);
		return NULL;
	}
	if (j.fd < 0)
		return err_errno(errno, "open %s", j.path);
	if (flock(j.fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? err_new(ERR_LIMIT, "somebody is at %s", j.path)
					    : err_errno(errno, "lock %s", j.path);
	TRY(read_last(&j, &any));
	if (!any)
		return err_hint(err_new(ERR_INVALID, "nothing in %s can be read", j.path),
			"find out where the process runs, on both hosts, then remove that file");
	if (strcmp(j.last.id, id) != 0 || j.last.destination != destination)
		return err_new(ERR_INVALID, "%s is about another migration", j.path);
	*ret = j;
	j = JOURNAL_NONE;
	return NULL;
}

bool journal_peek(
	const char *state_dir, const char *id, bool destination, struct journal_record *ret)
{
	AUTO(journal_close) struct journal j = JOURNAL_NONE;
	autoerr struct err *e = NULL;
	bool any = false;

	j.path = path_of(state_dir, id, destination);
	j.fd = open(j.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (j.fd >= 0)
		e = read_last(&j, &any);
	if (any)
		*ret = j.last;
	return any;
}

static bool parse_name(const char *file, struct journal_name *ret)
{
	const char *dot = strrchr(file, '.');
	size_t len = dot ? (size_t)(dot - file) : 0;

	if (!len || len >= sizeof(ret->id))
		return false;
	for (int i = 0; i < 2; i++) {
		if (strcmp(dot + 1, sides[i]) != 0)
			continue;
		*ret = (struct journal_name){ .destination = i };
		memcpy(ret->id, file, len);
		return true;
	}
	return false;
}

struct err *journal_names(
	struct arena *a, const char *state_dir, struct journal_name **ret, size_t *n)
{
	int fd = -1;
	size_t cap = 0;
	DIR *d;

	*ret = NULL;
	*n = 0;
	TRY(open_dir(state_dir, &fd));
	d = fdopendir(fd);
	if (!d)
		abort();
	for (const struct dirent *de; (de = readdir(d));) {
		struct journal_name name;

		if (!parse_name(de->d_name, &name)) {
			remove_temp(dirfd(d), de->d_name);
			continue;
		}
		*ret = arena_grow(a, *ret, &cap, *n + 1, sizeof(**ret));
		(*ret)[(*n)++] = name;
	}
	closedir(d);
	return NULL;
}

/* ---- what lies beside it ---- */

#define ASIDE_MAX (64u << 20)

static const char *const asides[ASIDE_COUNT] = { "undo", "network" };

static char *aside_path(
	const char *state_dir, const char *id, bool destination, enum journal_aside what)
{
	char *path;

	if (asprintf(&path, "%s/journal/%s.%s.%s", state_dir, id, sides[destination],
		    asides[what]) < 0)
		abort();
	return path;
}

static char *aside_of(const struct journal *j, enum journal_aside what)
{
	char *path;

	if (asprintf(&path, "%s.%s", j->path, asides[what]) < 0)
		abort();
	return path;
}

struct err *journal_put_aside(
	const struct journal *j, enum journal_aside what, const uint8_t *list, size_t len)
{
	autofree char *path = aside_of(j, what), *temp = NULL;
	autoclose int fd = -1;
	struct err *e;

	if (asprintf(&temp, "%s" TEMP, path) < 0)
		abort();
	fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(errno, "create %s", temp);
	e = io_write_full(fd, list, len, temp);
	if (!e && rename(temp, path) < 0)
		e = err_errno(errno, "create %s", path);
	if (e)
		(void)unlink(temp);
	return e;
}

struct err *journal_get_aside(struct arena *a, const char *state_dir, const struct journal_name *of,
	enum journal_aside what, struct journal_list *ret)
{
	autofree char *path = aside_path(state_dir, of->id, of->destination, what);
	char *text;

	*ret = (struct journal_list){ NULL, 0 };
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return NULL;
	TRY(io_read_file(a, path, ASIDE_MAX, &text, &ret->len));
	ret->v = (const uint8_t *)text;
	return NULL;
}

bool journal_has_aside(const struct journal *j, enum journal_aside what)
{
	autofree char *path = aside_of(j, what);

	return access(path, F_OK) == 0;
}

void journal_drop_aside(
	const char *state_dir, const char *id, bool destination, enum journal_aside what)
{
	autofree char *path = aside_path(state_dir, id, destination, what);

	(void)unlink(path);
}

void journal_remove(struct journal *j)
{
	for (enum journal_aside what = 0; j->path && what < ASIDE_COUNT; what++) {
		autofree char *path = aside_of(j, what);

		(void)unlink(path);
	}
	if (j->path)
		(void)unlink(j->path);
	journal_close(j);
}

void journal_close(struct journal *j)
{
	fd_closep(&j->fd);
	free(j->path);
	j->path = NULL;
}
