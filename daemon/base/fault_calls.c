// SPDX-License-Identifier: Apache-2.0
/*
 * System calls that a test has fail (fault.h): the linker makes every call of ours to NAME one to
 * __wrap_NAME (whose symbols end in 64 where off_t does). And what is synced below a directory
 * "journal" is kept, for a power cut.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/base.h"
#include "base/fault_map.h"

#define JOURNAL "/journal"
#define TEMP    ".new" /* what is made is renamed from this */

#define WRAP(type, name, ...) \
	type __real_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__)

/* "" if it has none. */
static const char *path_of(int fd, char buf[PATH_MAX])
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = fault_map() ? readlink(link, buf, PATH_MAX - 1) : 0;
	buf[MAX(n, (ssize_t)0)] = '\0';
	return buf;
}

static bool fails(const char *name, const char *path)
{
	int error = fault_map() ? fault_consult(name, path) : 0;

	if (error)
		errno = error;
	return error;
}

/* Not every role and thread may ask what a descriptor is: only where somebody wants to know. */
static bool fails_fd(const char *name, int fd)
{
	char buf[PATH_MAX];

	return fault_armed(name) && fails(name, path_of(fd, buf));
}

/* ---- what is durable ---- */

static struct fault_file *new_file(struct fault_map *m, uint64_t inode, const char *name)
{
	for (size_t i = 0; i < FAULT_FILES; i++) {
		struct fault_file *f = &m->files[i];

		if (f->used)
			continue;
		memset(f, 0, offsetof(struct fault_file, bytes));
		snprintf(f->name, sizeof(f->name), "%.127s", name);
		f->inode = inode;
		f->used = 1;
		return f;
	}
	return NULL;
}

/* By its present name, or by the one that it has been renamed from; an inode number alone may be
 * that of a file that was removed, which comes back if the power goes before that is on the disk.
 */
static struct fault_file *find_file(struct fault_map *m, uint64_t inode, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < FAULT_FILES; i++) {
		struct fault_file *f = &m->files[i];

		if (f->used && f->inode == inode && strncmp(f->name, name, len) == 0 &&
			(!f->name[len] || strcmp(f->name + len, TEMP) == 0))
			return f;
	}
	return NULL;
}

static void keep_contents(struct fault_map *m, int fd, const char *path, uint64_t inode)
{
	const char *name = strrchr(path, '/') + 1;
	char again[64];
	struct fault_file *f;
	ssize_t n = -1;
	int in;

	snprintf(again, sizeof(again), "/proc/self/fd/%d", fd);
	in = open(again, O_RDONLY | O_CLOEXEC);
	fault_lock(m);
	f = find_file(m, inode, name);
	if (!f)
		f = new_file(m, inode, name);
	if (f && in >= 0)
		n = pread(in, f->bytes, sizeof(f->bytes), 0);
	if (n < 0 || n == (ssize_t)sizeof(f->bytes)) {
		m->broken = 2;
	} else {
		f->size = (uint32_t)n;
		f->synced = 1;
	}
	fault_unlock(m);
	if (in >= 0)
		close(in);
}

/* Names without contents are those of files that were never synced. */
static void keep_name(struct fault_map *m, const struct dirent *de)
{
	struct fault_file *f = find_file(m, de->d_ino, de->d_name);

	if (!f)
		f = new_file(m, de->d_ino, de->d_name);
	if (!f) {
		m->broken = 3;
		return;
	}
	snprintf(f->name, sizeof(f->name), "%.127s", de->d_name);
	f->named = 1;
}

static void keep_names(struct fault_map *m, const char *path)
{
	DIR *d = opendir(path);

	fault_lock(m);
	m->directory_synced++;
	for (size_t i = 0; i < FAULT_FILES; i++)
		m->files[i].named = 0;
	for (const struct dirent *de; d && (de = readdir(d));)
		if (de->d_name[0] != '.')
			keep_name(m, de);
	for (size_t i = 0; i < FAULT_FILES; i++)
		m->files[i].used &= m->files[i].named;
	if (!d)
		m->broken = 4;
	fault_unlock(m);
	if (d)
		closedir(d);
}

static void keep(int fd)
{
	struct fault_map *m = fault_map();
	char path[PATH_MAX], *last;
	int saved = errno;
	struct stat st;

	if (!m || !path_of(fd, path)[0] || fstat(fd, &st) < 0)
		return;
	last = strrchr(path, '/');
	if (S_ISDIR(st.st_mode) && last && strcmp(last, JOURNAL) == 0)
		keep_names(m, path);
	else if (S_ISREG(st.st_mode) && strstr(path, JOURNAL "/"))
		keep_contents(m, fd, path, st.st_ino);
	errno = saved;
}

/* ---- the calls ---- */

/* A place to stop at behind a call. */
static void done(const char *name, int fd)
{
	int saved = errno;

	(void)fails_fd(name, fd);
	errno = saved;
}

WRAP(int, fsync, int fd)
{
	int rc = fails_fd("fsync", fd) ? -1 : __real_fsync(fd);

	if (rc == 0)
		keep(fd);
	done("fsync-done", fd);
	return rc;
}

WRAP(int, fdatasync, int fd)
{
	int rc = fails_fd("fsync", fd) ? -1 : __real_fdatasync(fd);

	if (rc == 0)
		keep(fd);
	done("fsync-done", fd);
	return rc;
}

WRAP(ssize_t, write, int fd, const void *buf, size_t n)
{
	ssize_t rc = fails_fd("write", fd) ? -1 : __real_write(fd, buf, n);

	done("write-done", fd);
	return rc;
}

WRAP(ssize_t, pwrite64, int fd, const void *buf, size_t n, off_t at)
{
	ssize_t rc = fails_fd("pwrite", fd) ? -1 : __real_pwrite64(fd, buf, n, at);

	done("pwrite-done", fd);
	return rc;
}

static mode_t mode_of(int flags, va_list ap)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = mode_of(flags, ap);
	va_end(ap);
	return fails("open", path) ? -1 : __real_open64(path, flags, mode);
}

int __real_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...)
{
	char whole[2 * PATH_MAX], buf[PATH_MAX];
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = mode_of(flags, ap);
	va_end(ap);
	if (fault_armed("open"))
		snprintf(whole, sizeof(whole), "%s/%s", dir < 0 ? "" : path_of(dir, buf), path);
	return fault_armed("open") && fails("open", whole)
		       ? -1
		       : __real_openat64(dir, path, flags, mode);
}

WRAP(int, posix_fallocate64, int fd, off_t at, off_t n)
{
	return fails_fd("fallocate", fd) ? errno : __real_posix_fallocate64(fd, at, n);
}

WRAP(int, renameat2, int from, const char *old, int to, const char *new, unsigned flags)
{
	return fails("rename", old) ? -1 : __real_renameat2(from, old, to, new, flags);
}

WRAP(int, mkdir, const char *path, mode_t mode)
{
	return fails("mkdir", path) ? -1 : __real_mkdir(path, mode);
}

WRAP(void *, mmap64, void *addr, size_t n, int prot, int flags, int fd, off_t at)
{
	return fails("mmap", NULL) ? MAP_FAILED : __real_mmap64(addr, n, prot, flags, fd, at);
}

WRAP(pid_t, fork, void)
{
	return fails("fork", NULL) ? -1 : __real_fork();
}

WRAP(ssize_t, process_vm_readv, pid_t pid, const struct iovec *to, unsigned long n_to,
	const struct iovec *from, unsigned long n_from, unsigned long flags)
{
	return fails("process_vm_readv", NULL)
		       ? -1
		       : __real_process_vm_readv(pid, to, n_to, from, n_from, flags);
}

WRAP(ssize_t, sendmsg, int fd, const struct msghdr *m, int flags)
{
	return fails("send", NULL) ? -1 : __real_sendmsg(fd, m, flags);
}

WRAP(ssize_t, send, int fd, const void *buf, size_t n, int flags)
{
	return fails("send", NULL) ? -1 : __real_send(fd, buf, n, flags);
}

long __real_syscall(long nr, ...);
long __wrap_syscall(long nr, ...);
long __wrap_syscall(long nr, ...)
{
	long a[6];
	va_list ap;

	va_start(ap, nr);
	for (size_t i = 0; i < ARRAY_LEN(a); i++)
		a[i] = va_arg(ap, long); /* what was not given is not looked at */
	va_end(ap);
	if (nr == SYS_clone3 && fails("clone", NULL))
		return -1;
	return __real_syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}
