// SPDX-License-Identifier: Apache-2.0
/*
 * File identity: facts by statx(2) and statfs(2), contents by build id or digest.
 *
 * The device numbers of btrfs and overlayfs in statx(2) are not those in /proc/PID/maps, so both
 * sides always ask the file itself, through a descriptor.
 */
#include "kinds/identity.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/io.h"
#include "base/text.h"
#include "kinds/kind.h"

/* Not in Debian 12's linux/magic.h. */
#define MAGIC_CIFS  0xFF534D42
#define MAGIC_CEPH  0x00C36400
#define MAGIC_FUSE  0x65735546
#define MAGIC_OCFS2 0x7461636F
#define MAGIC_GFS2  0x01161970
#define MAGIC_LUSTR 0x0BD00BD0
#define MAGIC_GPFS  0x47504653
/* Nowhere in it. */
#define MAGIC_CONFIGFS   0x62656570
#define MAGIC_MQUEUE     0x19800202
#define MAGIC_RPC_PIPEFS 0x67596969
#define MAGIC_NFSD       0x6e667364

#define DELETED      " (deleted)"
#define BUILD_ID_MAX 64
#define PHDRS_MAX    128
#define NOTES_MAX    65536
#define DIGEST_BYTES 16
#define READ_BYTES   (256u << 10)

/* File systems that several machines can have mounted at once. */
static const uint32_t shareable[] = { NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, SMB2_SUPER_MAGIC,
	MAGIC_CIFS, MAGIC_CEPH, MAGIC_FUSE, V9FS_MAGIC, AFS_FS_MAGIC, CODA_SUPER_MAGIC, MAGIC_OCFS2,
	MAGIC_GFS2, MAGIC_LUSTR, MAGIC_GPFS };

bool identity_fs_shareable(uint64_t fs)
{
	for (size_t i = 0; i < ARRAY_LEN(shareable); i++)
		if (shareable[i] == (uint32_t)fs)
			return true;
	return false;
}

/* What the kernel makes up when it is read: there is no content to compare, and reading it can do
 * things. */
static const uint32_t generated[] = { PROC_SUPER_MAGIC, SYSFS_MAGIC, DEBUGFS_MAGIC, TRACEFS_MAGIC,
	SECURITYFS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, BPF_FS_MAGIC, PSTOREFS_MAGIC,
	EFIVARFS_MAGIC, SELINUX_MAGIC, SMACK_MAGIC, NSFS_MAGIC, BINFMTFS_MAGIC,
	RDTGROUP_SUPER_MAGIC, HUGETLBFS_MAGIC, USBDEVICE_SUPER_MAGIC, MAGIC_CONFIGFS, MAGIC_MQUEUE,
	MAGIC_RPC_PIPEFS, MAGIC_NFSD };

bool identity_fs_generated(uint64_t fs)
{
	for (size_t i = 0; i < ARRAY_LEN(generated); i++)
		if (generated[i] == (uint32_t)fs)
			return true;
	return false;
}

/* What is cheap to know. */
struct facts {
	struct statx st;
	uint64_t fs;
	char boot_id[40];
};

static int64_t stamp_ns(struct statx_timestamp t)
{
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int64_t btime_ns(const struct facts *f)
{
	return f->st.stx_mask & STATX_BTIME ? stamp_ns(f->st.stx_btime) : 0;
}

static struct err *facts_read(int fd, struct facts *ret)
{
	unsigned mask = STATX_BASIC_STATS | STATX_BTIME;
	struct statfs sfs;
	struct facts f = { 0 };
	autoclose int boot = -1;
	ssize_t n;

	if (statx(fd, "", AT_EMPTY_PATH, mask, &f.st) < 0)
		return err_errno(errno, "look at a file");
	if (fstatfs(fd, &sfs) < 0)
		return err_errno(errno, "look at a file's file system");
	f.fs = (uint64_t)sfs.f_type;
	TRY(io_open("/proc/sys/kernel/random/boot_id", O_RDONLY, &boot));
	n = read(boot, f.boot_id, sizeof(f.boot_id) - 1);
	if (n < 36)
		return err_new(ERR_KERNEL, "read /proc/sys/kernel/random/boot_id");
	f.boot_id[36] = '\0';
	*ret = f;
	return NULL;
}

/* A descriptor that can be read, of the same file. */
static struct err *reopen(int fd, int *ret)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return io_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, ret);
}

/* The name and the descriptor of a note are padded to 4 bytes each. */
static size_t note_find(const uint8_t *p, size_t len, uint8_t id[BUILD_ID_MAX])
{
	while (len >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr h;
		uint64_t name, desc;

		memcpy(&h, p, sizeof(h));
		p += sizeof(h);
		len -= sizeof(h);
		name = ((uint64_t)h.n_namesz + 3) & ~3ULL;
		desc = ((uint64_t)h.n_descsz + 3) & ~3ULL;
		if (name > len || desc > len - name)
			return 0;
		if (h.n_type == NT_GNU_BUILD_ID && h.n_namesz == 4 && !memcmp(p, "GNU", 4) &&
			h.n_descsz > 0 && h.n_descsz <= BUILD_ID_MAX) {
			memcpy(id, p + name, h.n_descsz);
			return h.n_descsz;
		}
		p += name + desc;
		len -= name + desc;
	}
	return 0;
}

static size_t build_id_in_segment(int fd, const Elf64_Phdr *ph, uint8_t id[BUILD_ID_MAX])
{
	autofree uint8_t *notes = NULL;

	if (ph->p_type != PT_NOTE || ph->p_filesz > NOTES_MAX || ph->p_offset > INT64_MAX)
		return 0;
	notes = xcalloc(1, ph->p_filesz + 1);
	if (pread(fd, notes, ph->p_filesz, (off_t)ph->p_offset) != (ssize_t)ph->p_filesz)
		return 0;
	return note_find(notes, ph->p_filesz, id);
}

/* Length of the build id, 0 if the file has none or is no 64-bit ELF file. */
static size_t build_id(int fd, uint8_t id[BUILD_ID_MAX])
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph[PHDRS_MAX];
	size_t len = 0, bytes;

	if (pread(fd, &eh, sizeof(eh), 0) != (ssize_t)sizeof(eh) ||
		memcmp(eh.e_ident, ELFMAG, SELFMAG) || eh.e_ident[EI_CLASS] != ELFCLASS64 ||
		eh.e_phentsize != sizeof(*ph) || eh.e_phnum > PHDRS_MAX || eh.e_phoff > INT64_MAX)
		return 0;
	bytes = eh.e_phnum * sizeof(*ph);
	if (pread(fd, ph, bytes, (off_t)eh.e_phoff) != (ssize_t)bytes)
		return 0;
	for (size_t i = 0; i < eh.e_phnum && !len; i++)
		len = build_id_in_segment(fd, &ph[i], id);
	return len;
}

/* Of `size` bytes, or what there is of them: it may be changed meanwhile. */
static struct err *digest(int fd, uint64_t size, uint8_t ret[DIGEST_BYTES])
{
	autofree uint8_t *buf = xcalloc(1, READ_BYTES);
	XXH3_state_t *state = XXH3_createState();
	XXH128_canonical_t canonical;
	uint64_t at = 0;
	ssize_t n = 0;

	XXH3_128bits_reset(state);
	while (at < size &&
		(n = pread(fd, buf, MIN(size - at, (uint64_t)READ_BYTES), (off_t)at)) > 0) {
		XXH3_128bits_update(state, buf, (size_t)n);
		at += (uint64_t)n;
	}
	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
	XXH3_freeState(state);
	if (n < 0)
		return err_errno(errno, "read a file");
	memcpy(ret, canonical.digest, DIGEST_BYTES);
	return NULL;
}

static ProtobufCBinaryData bytes_dup(struct arena *a, const void *data, size_t len)
{
	return (ProtobufCBinaryData){ .len = len, .data = arena_dup(a, data, len) };
}

static struct err *content_read(
	struct arena *a, int fd, const struct facts *f, Migrate__Kind__FileIdentity *m)
{
	autoclose int in = -1;
	uint8_t id[BUILD_ID_MAX], sum[DIGEST_BYTES];
	size_t len;

	TRY(reopen(fd, &in));
	m->content = true;
	m->size = f->st.stx_size;
	m->mtime_ns = stamp_ns(f->st.stx_mtime);
	len = build_id(in, id);
	if (len) {
		m->build_id = bytes_dup(a, id, len);
		return NULL;
	}
	if (f->st.stx_size > IDENTITY_DIGEST_MAX || identity_fs_shareable(f->fs))
		return NULL;
	TRY(digest(in, f->st.stx_size, sum));
	m->digest = bytes_dup(a, sum, sizeof(sum));
	return NULL;
}

struct err *file_identity(struct arena *a, int fd, bool content, Migrate__Kind__FileIdentity **ret)
{
	Migrate__Kind__FileIdentity *m = arena_alloc(a, sizeof(*m));
	struct facts f;

	TRY(facts_read(fd, &f));
	migrate__kind__file_identity__init(m);
	m->type = f.st.stx_mode & S_IFMT;
	m->rdev_major = f.st.stx_rdev_major;
	m->rdev_minor = f.st.stx_rdev_minor;
	m->inode = f.st.stx_ino;
	m->btime_ns = btime_ns(&f);
	m->fs = f.fs;
	m->dev_major = f.st.stx_dev_major;
	m->dev_minor = f.st.stx_dev_minor;
	m->boot_id = bytes_dup(a, f.boot_id, strlen(f.boot_id));
	if (content && S_ISREG(f.st.stx_mode))
		TRY(content_read(a, fd, &f, m));
	*ret = m;
	return NULL;
}

static bool same_file(const struct facts *f, const Migrate__Kind__FileIdentity *want)
{
	bool machine = want->boot_id.len == strlen(f->boot_id) &&
		       !memcmp(want->boot_id.data, f->boot_id, want->boot_id.len);

	if (S_ISREG(f->st.stx_mode) && identity_fs_generated(f->fs))
		return false;
	if (want->inode != f->st.stx_ino || want->btime_ns != btime_ns(f) || want->fs != f->fs)
		return false;
	if (machine)
		return want->dev_major == f->st.stx_dev_major &&
		       want->dev_minor == f->st.stx_dev_minor;
	if (!identity_fs_shareable(f->fs))
		return false;
	/* Without birth times an inode number may have been used again. */
	return want->btime_ns || !want->content ||
	       (want->size == f->st.stx_size && want->mtime_ns == stamp_ns(f->st.stx_mtime));
}

static struct err *type_check(const struct facts *f, const Migrate__Kind__FileIdentity *want)
{
	if (want->type != (f->st.stx_mode & S_IFMT))
		return err_new(ERR_MISMATCH, "it is a file of another type there");
	if ((want->type == S_IFCHR || want->type == S_IFBLK) &&
		(want->rdev_major != f->st.stx_rdev_major ||
			want->rdev_minor != f->st.stx_rdev_minor))
		return err_new(ERR_MISMATCH, "it is device %u:%u there, not %u:%u",
			f->st.stx_rdev_major, f->st.stx_rdev_minor, want->rdev_major,
			want->rdev_minor);
	return NULL;
}

static struct err *content_check(
	int fd, const struct facts *f, const Migrate__Kind__FileIdentity *want)
{
	autoclose int in = -1;
	uint8_t id[BUILD_ID_MAX], sum[DIGEST_BYTES];
	size_t len;

	if (identity_fs_generated(f->fs))
		return err_new(ERR_MISMATCH, "it belongs to the kernel there");
	if (!want->content)
		return err_new(
			ERR_MISMATCH, "it is not the same file there (no shared file system)");
	if (want->size != f->st.stx_size)
		return err_new(ERR_MISMATCH, "it has %llu bytes there, not %llu",
			(unsigned long long)f->st.stx_size, (unsigned long long)want->size);
	TRY(reopen(fd, &in));
	if (want->build_id.len) {
		len = build_id(in, id);
		if (len == want->build_id.len && !memcmp(id, want->build_id.data, len))
			return NULL;
		return err_new(ERR_MISMATCH, "it has another build id there");
	}
	if (identity_fs_shareable(want->fs))
		return err_new(ERR_MISMATCH,
			"it is on a network file system here, and not that file there");
	if (want->digest.len != DIGEST_BYTES || f->st.stx_size > IDENTITY_DIGEST_MAX)
		return err_new(ERR_MISMATCH, "it is too large to compare contents (%llu bytes)",
			(unsigned long long)want->size);
	TRY(digest(in, f->st.stx_size, sum));
	if (memcmp(sum, want->digest.data, DIGEST_BYTES))
		return err_new(ERR_MISMATCH, "its contents differ there");
	return NULL;
}

struct err *file_identity_check(int fd, const Migrate__Kind__FileIdentity *want)
{
	struct facts f;

	TRY(facts_read(fd, &f));
	TRY(type_check(&f, want));
	if (same_file(&f, want) || !S_ISREG(want->type))
		return NULL;
	return content_check(fd, &f, want);
}

struct err *file_identity_known(
	struct arena *a, struct kind_cache *cache, int fd, Migrate__Kind__FileIdentity **ret)
{
	ProtobufCAllocator alloc = arena_allocator(a);
	const uint8_t *known;
	struct stat st;
	size_t len;

	if (fstat(fd, &st) < 0)
		return err_errno(errno, "look at a file");
	known = kind_cache_get(cache, &st, &len);
	if (known) {
		*ret = migrate__kind__file_identity__unpack(&alloc, len, known);
		return *ret ? NULL : err_new(ERR_BUG, "cached identity does not parse");
	}
	TRY(file_identity(a, fd, true, ret));
	kind_pack(a, &(*ret)->base, &known, &len);
	kind_cache_put(cache, &st, known, len);
	return NULL;
}

struct err *file_identity_check_known(
	struct kind_cache *cache, int fd, const Migrate__Kind__FileIdentity *want)
{
	size_t len, want_len = migrate__kind__file_identity__get_packed_size(want);
	autofree uint8_t *bytes = xcalloc(1, want_len + 1);
	const uint8_t *known;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(errno, "look at a file");
	migrate__kind__file_identity__pack(want, bytes);
	known = kind_cache_get(cache, &st, &len);
	if (known && len == want_len && !memcmp(known, bytes, len))
		return NULL;
	TRY(file_identity_check(fd, want));
	kind_cache_put(cache, &st, bytes, want_len);
	return NULL;
}

bool file_identity_same(int fd, const Migrate__Kind__FileIdentity *want)
{
	autoerr struct err *e = NULL;
	struct facts f;

	e = facts_read(fd, &f);
	return !e && same_file(&f, want);
}

struct err *file_path_check(int fd, const char *path)
{
	autoarena struct arena *a = arena_new();
	Migrate__Kind__FileIdentity *id;
	autoclose int named = -1;
	struct stat st, st_named;

	named = open(path, O_PATH | O_CLOEXEC | O_NOFOLLOW);
	if (named < 0) {
		size_t n = strlen(path), tail = strlen(DELETED);

		/* The kernel says so, too, behind the name. */
		if (n > tail && !strcmp(path + n - tail, DELETED))
			n -= tail;
		return err_hint(err_new(ERR_UNSUPPORTED, "%.*s is deleted", (int)n, path),
			"restart the program if its files were upgraded");
	}
	if (fstat(fd, &st) < 0 || fstat(named, &st_named) < 0)
		return err_errno(errno, "look at %s", path);
	if (st.st_ino == st_named.st_ino && st.st_dev == st_named.st_dev)
		return NULL;
	/* An overlay file shows its own numbers and those of the layer below, whoever asks. */
	if (S_ISREG(st.st_mode) && S_ISREG(st_named.st_mode) && st.st_size == st_named.st_size) {
		autoerr struct err *e = NULL;

		TRY(file_identity(a, fd, true, &id));
		e = file_identity_check(named, id);
		if (!e)
			return NULL;
	}
	return err_hint(err_new(ERR_UNSUPPORTED, "%s was replaced by another file", path),
		"restart the program if its files were upgraded");
}

struct err *file_process_check(pid_t pid, const char *path)
{
	const char *p = path;
	uint64_t about;

	if (!text_scan_lit(&p, "/proc/") || !text_scan_u64(&p, 10, &about) ||
		(*p != '/' && *p != '\0') || about == (uint64_t)pid)
		return NULL;
	return err_hint(err_new(ERR_UNSUPPORTED, "%s is about process %ju, which stays here", path,
				(uintmax_t)about),
		"let the program close it");
}

struct err *file_mount_check(int fd, const char *path)
{
	struct statfs is, would_be;

	if (fstatfs(fd, &is) < 0 || statfs(path, &would_be) < 0)
		return err_errno(errno, "look at the mount of %s", path);
	if (is.f_flags == would_be.f_flags)
		return NULL;
	return err_hint(err_new(ERR_UNSUPPORTED,
				"%s is open in another mount than the one that is there", path),
		"let the program open it again by that path");
}
