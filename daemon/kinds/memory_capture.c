// SPDX-License-Identifier: Apache-2.0
/*
 * The source's address space as a layout.
 *
 * The target may run meanwhile. A mapping that is in maps but has gone when we look at its file
 * makes us read maps again: leaving it out would make the destination drop pages that count as
 * sent.
 *
 * maps tells no flags (madvise, growsdown, mlock); smaps does, but walks all page tables. So
 * frozen, flags come from the layout before, piece by piece where the backing is the same; a
 * mapping that nobody has seen yet makes us read smaps even so when the process is small.
 */
#include "kinds/memory_priv.h"
#include "kinds/numa.h"
#include "kinds/unlinked.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kinds/identity.h"

#define TRIES        16
#define REFUSALS_MAX 32
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010 /* Linux 5.1 */
#endif

/* Reading smaps costs about 6 ms per GiB: below this it may be done frozen. */
#define SMAPS_RSS_MAX (256ULL << 20)

/* A larger file that is new to us in the frozen stretch is not read: only the same file will do. */
#define FROZEN_READ_MAX (16 << 20)

struct reader {
	struct capture *c;
	const struct layout *before;
	struct layout *l;
	bool with_flags, again;
	size_t cap_raw;
	size_t at; /* first region of `before` that may overlap what comes */
	uint32_t shm_major, shm_minor;
	uint32_t *hash; /* index into l->files + 1, by what maps says of a file */
	size_t hash_size;
	struct err *refused[REFUSALS_MAX];
	size_t n_refused, n_more;
};

/* ---- refusals: kept until the layout is complete, since a try may be repeated ---- */

static void refuse(struct reader *rd, const struct vma *v, struct err *e)
{
	e = err_in(e, "memory at %#" PRIx64 "-%#" PRIx64 "%s%s", v->start, v->end,
		*v->path ? " " : "", v->path);
	if (rd->n_refused < REFUSALS_MAX) {
		rd->refused[rd->n_refused++] = e;
		return;
	}
	err_free(e);
	rd->n_more++;
}

static void refusals_drop(struct reader *rd)
{
	for (size_t i = 0; i < rd->n_refused; i++)
		err_free(rd->refused[i]);
	rd->n_refused = rd->n_more = 0;
}

static void refusals_say(struct reader *rd)
{
	for (size_t i = 0; i < rd->n_refused; i++)
		capture_refuse(rd->c, rd->refused[i]);
	if (rd->n_more)
		capture_refuse(rd->c,
			err_new(ERR_UNSUPPORTED, "%zu more mappings of this sort", rd->n_more));
	rd->n_refused = rd->n_more = 0;
}

/* ---- files ---- */

static size_t hash_of(const struct vma *v, bool writable)
{
	uint64_t h = v->inode * 0x9E3779B97F4A7C15ULL;

	h ^= ((uint64_t)v->dev_major << 32 | v->dev_minor) * 0xC2B2AE3D27D4EB4FULL;
	return (size_t)(h >> 17) + writable;
}

static bool file_is(const struct layout_file *f, const struct vma *v, bool writable)
{
	return f->inode == v->inode && f->dev_major == v->dev_major &&
	       f->dev_minor == v->dev_minor && f->writable == writable && !strcmp(f->path, v->path);
}

static struct layout_file *file_find(const struct reader *rd, const struct vma *v, bool writable)
{
	for (size_t i = hash_of(v, writable);; i++) {
		uint32_t index = rd->hash[i & (rd->hash_size - 1)];

		if (!index)
			return NULL;
		if (file_is(rd->l->files[index - 1], v, writable))
			return rd->l->files[index - 1];
	}
}

static void file_add(struct reader *rd, struct layout_file *f)
{
	const struct vma key = {
		.inode = f->inode, .dev_major = f->dev_major, .dev_minor = f->dev_minor
	};
	struct layout *l = rd->l;
	size_t i = hash_of(&key, f->writable);

	l->files = arena_grow(rd->c->arena, l->files, &l->cap_files, l->n_files + 1,
		sizeof(struct layout_file *));
	f->number = (uint32_t)l->n_files;
	l->files[l->n_files++] = f;
	while (rd->hash[i & (rd->hash_size - 1)])
		i++;
	rd->hash[i & (rd->hash_size - 1)] = (uint32_t)l->n_files;
}

static void map_files_path(const struct reader *rd, const struct vma *v, char path[96])
{
	snprintf(path, 96, "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, rd->c->task->pid, v->start,
		v->end);
}

static struct err *map_files_error(struct reader *rd, const struct vma *v)
{
	int no = errno;

	if (no == ENOENT) {
		rd->again = true;
		return NULL;
	}
	return err_errno(no, "look at what is mapped at %#" PRIx64, v->start);
}

/* How the mapping's file was opened shows in the mode of its link. */
static struct err *file_writable(struct reader *rd, const struct vma *v, bool *ret)
{
	char path[96];
	struct stat st;

	*ret = false;
	if (!v->shared)
		return NULL;
	map_files_path(rd, v, path);
	if (lstat(path, &st) < 0)
		return map_files_error(rd, v);
	*ret = st.st_mode & S_IWUSR;
	return NULL;
}

/* /dev/zero is the one device whose memory is plain memory. */
static struct err *file_type_check(const struct vma *v, const struct stat *st)
{
	if (S_ISREG(st->st_mode))
		return NULL;
	if (S_ISCHR(st->st_mode) && !v->shared && st->st_rdev == makedev(1, 5))
		return NULL;
	return err_new(ERR_UNSUPPORTED, "memory of a device cannot be moved");
}

static struct err *file_new(
	struct reader *rd, const struct vma *v, bool writable, struct layout_file **ret)
{
	struct arena *a = rd->c->arena;
	struct layout_file *f = arena_alloc(a, sizeof(*f));
	autoclose int fd = -1;
	struct err *e;
	struct stat st;
	char path[96];

	*ret = NULL;
	map_files_path(rd, v, path);
	fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return map_files_error(rd, v);
	if (fstat(fd, &st) < 0)
		return err_errno(errno, "look at %s", v->path);
	*f = (struct layout_file){ .path = arena_strdup(a, v->path),
		.writable = writable,
		.dev_major = v->dev_major,
		.dev_minor = v->dev_minor,
		.inode = v->inode };
	e = file_type_check(v, &st);
	if (!e)
		e = file_path_check(fd, v->path);
	if (!e)
		e = writable || (rd->c->stopped && st.st_size > FROZEN_READ_MAX)
			    ? file_identity(a, fd, false, &f->id)
			    : file_identity_known(a, rd->c->cache, fd, &f->id);
	if (e) {
		refuse(rd, v, e);
		return NULL;
	}
	file_add(rd, f);
	*ret = f;
	return NULL;
}

static struct err *file_of(struct reader *rd, const struct vma *v, struct layout_file **ret)
{
	bool writable;

	*ret = NULL;
	TRY(file_writable(rd, v, &writable));
	if (rd->again)
		return NULL;
	*ret = file_find(rd, v, writable);
	return *ret ? NULL : file_new(rd, v, writable, ret);
}

/* ---- what cannot be moved ---- */

static const struct {
	uint64_t vmf;
	const char *what;
} bad_flags[] = {
	{ VMF_HUGETLB, "huge pages of hugetlbfs" },
	{ VMF_SHADOW_STACK, "a shadow stack" },
	{ VMF_UFFD_MISSING | VMF_UFFD_MINOR, "memory with a userfaultfd of the process's own" },
	{ VMF_PFNMAP | VMF_IO | VMF_MIXEDMAP, "memory of a device" },
	{ VMF_DONTEXPAND, "memory that the kernel or a driver set up" },
};

static const struct {
	const char *prefix, *what;
} bad_paths[] = {
	{ "/[aio]", "asynchronous I/O (io_setup)" },
	{ "/SYSV", "System V shared memory of huge pages" },
	{ "/secretmem", "secret memory (memfd_secret)" },
	{ "/anon_hugepage", "huge pages of hugetlbfs" },
	{ "/memfd:", "a memfd of huge pages" },
	{ "anon_inode:[io_uring]", "io_uring" },
	{ "anon_inode:[perf_event]", "a performance counter" },
	{ "anon_inode:", "memory of a kernel object" },
	{ "socket:", "a socket's ring buffer" },
	{ "(unreachable)", "a file outside of our file tree" },
};

static struct err *check_flags(const struct vma *v)
{
	for (size_t i = 0; i < ARRAY_LEN(bad_flags); i++)
		if (v->flags & bad_flags[i].vmf)
			return err_new(ERR_UNSUPPORTED, "%s cannot be moved", bad_flags[i].what);
	if (*v->unknown_flags)
		return err_new(ERR_UNSUPPORTED, "mapping with unknown flags (%s) cannot be moved",
			v->unknown_flags);
	if (v->pkey)
		return err_new(
			ERR_UNSUPPORTED, "memory with protection key %d cannot be moved", v->pkey);
	return NULL;
}

static struct err *check_path(const struct vma *v)
{
	for (size_t i = 0; i < ARRAY_LEN(bad_paths); i++)
		if (!strncmp(v->path, bad_paths[i].prefix, strlen(bad_paths[i].prefix)))
			return err_new(ERR_UNSUPPORTED, "%s cannot be moved", bad_paths[i].what);
	return NULL;
}

/* ---- one mapping ---- */

static struct err *add_special(struct reader *rd, const struct vma *v)
{
	struct layout *l = rd->l;

	if (!strcmp(v->path, "[vsyscall]"))
		return NULL;
	if (l->n_special == SPECIALS_MAX)
		return err_new(
			ERR_UNSUPPORTED, "more than %d mappings of the kernel", SPECIALS_MAX);
	l->special[l->n_special++] =
		(struct special){ arena_strdup(rd->c->arena, v->path), v->start, v->end };
	return NULL;
}

/* "[anon:x]" or "[anon_shmem:x]": x, else "". */
static const char *vma_name(struct arena *a, const char *path)
{
	static const char *const prefix[] = { "[anon:", "[anon_shmem:" };

	for (size_t i = 0; i < ARRAY_LEN(prefix); i++) {
		size_t n = strlen(prefix[i]), len = strlen(path);

		if (len > n && !strncmp(path, prefix[i], n) && path[len - 1] == ']')
			return arena_printf(a, "%.*s", (int)(len - n - 1), path + n);
	}
	return "";
}

static bool anon_path(const char *path)
{
	return !*path || !strcmp(path, "[heap]") || !strcmp(path, "[stack]") ||
	       !strncmp(path, "[anon:", 6);
}

/* An attribute that follows from the rest is left out, so that neighbours join. */
static uint32_t attrs_plain(uint32_t attrs, const struct vma *v)
{
	if (v->shared || (v->prot & PROT_WRITE))
		attrs &= ~(uint32_t)ATTR_ACCOUNT;
	return attrs;
}

/* Sealed against writing, or mapped through a descriptor for reading: only smaps tells for certain.
 */
static struct err *shm_nowrite(struct reader *rd, const struct vma *v, uint32_t *attrs)
{
	autoclose int fd = -1;
	char path[96];
	struct stat st;
	int seals;

	if (!v->shared || (v->prot & PROT_WRITE))
		return NULL;
	if (rd->with_flags) {
		*attrs |= v->flags & VMF_MAYWRITE ? 0 : ATTR_NOWRITE;
		return NULL;
	}
	map_files_path(rd, v, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || lstat(path, &st) < 0)
		return map_files_error(rd, v);
	seals = fcntl(fd, F_GET_SEALS);
	if (!(st.st_mode & S_IWUSR) ||
		(seals > 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))))
		*attrs |= ATTR_NOWRITE;
	return NULL;
}

static struct err *segment_bytes(struct reader *rd, const struct vma *v, uint64_t *ret)
{
	char path[96];
	struct stat st;

	map_files_path(rd, v, path);
	if (stat(path, &st) < 0)
		return map_files_error(rd, v);
	*ret = (uint64_t)st.st_size;
	return NULL;
}

static struct err *region_shm(struct reader *rd, const struct vma *v, struct region *r)
{
	struct err *e = shm_true_path(rd->c->arena, rd->c->task->pid, v, &r->space_path);

	if (e && rd->c->stopped)
		return e;
	if (e) {
		err_free(e);
		rd->again = true; /* unmapped meanwhile */
		return NULL;
	}
	if (v->inode & VMA_SYSV)
		TRY(segment_bytes(rd, v, &r->space_bytes));
	r->backing = BACKING_SHM;
	r->space = v->inode;
	r->space_path = arena_strdup(rd->c->arena, r->space_path);
	r->offset = v->offset;
	return shm_nowrite(rd, v, &r->attrs);
}

/* It is found by what maps and stat(2) say of it, which must be the same: on overlayfs it need not
 * be. */
static struct err *check_unlinked(struct reader *rd, const struct vma *v)
{
	autoclose int fd = -1;
	char path[96];
	struct stat st;
	uint64_t id;

	map_files_path(rd, v, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT && !rd->c->stopped)
		return NULL; /* unmapped meanwhile: region_shm finds that out */
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(errno, "open the file that is mapped at %#" PRIx64, v->start);
	TRY(unlinked_check(v->path, fd));
	if (!unlinked_of(v->path, &st, &id) || id != v->inode)
		return err_new(ERR_UNSUPPORTED,
			"%s: its file system tells another inode number of a mapping", v->path);
	return NULL;
}

/* r->file stays NULL when the mapping is refused or must be read again. */
static struct err *region_file(struct reader *rd, const struct vma *v, struct region *r)
{
	struct err *bad = check_path(v);

	if (!bad && !v->inode)
		bad = err_new(ERR_UNSUPPORTED, "memory of an unknown sort cannot be moved");
	if (bad) {
		refuse(rd, v, bad);
		return NULL;
	}
	r->backing = BACKING_FILE;
	r->offset = v->offset;
	return file_of(rd, v, &r->file);
}

/* Fills r; *take false when the mapping is refused (said) or must be read again. */
static struct err *region_of(struct reader *rd, const struct vma *v, struct region *r, bool *take)
{
	struct err *bad = check_flags(v);

	*take = !bad;
	if (bad) {
		refuse(rd, v, bad);
		return NULL;
	}
	*r = (struct region){ .start = v->start,
		.end = v->end,
		.shared = v->shared,
		.prot = (uint8_t)v->prot,
		.name = vma_name(rd->c->arena, v->path) };
	r->attrs = attrs_plain(attrs_of_flags(v->flags), v);
	if (!v->inode && anon_path(v->path)) {
		r->backing = BACKING_ANON;
		r->attrs |= strcmp(v->path, "[stack]") ? 0 : ATTR_GROWSDOWN;
		return NULL;
	}
	if (v->inode & VMA_UNLINKED) {
		bad = check_unlinked(rd, v);
		*take = !bad;
		if (bad) {
			refuse(rd, v, bad);
			return NULL;
		}
	}
	if (v->inode && shm_path(v->path) &&
		((v->inode & VMA_UNLINKED) ||
			(v->dev_major == rd->shm_major && v->dev_minor == rd->shm_minor))) {
		TRY(region_shm(rd, v, r));
		*take = !rd->again;
		return NULL;
	}
	TRY(region_file(rd, v, r));
	*take = r->file;
	return NULL;
}

/* The same but for attributes, which r does not have yet. */
static bool carries(const struct region *old, const struct region *r)
{
	struct region with = *r;

	with.attrs = old->attrs;
	return region_same_backing(old, &with);
}

static const char *same_string(struct arena *a, const char *known, const char *s)
{
	if (!*s)
		return "";
	return known && !strcmp(known, s) ? known : arena_strdup(a, s);
}

/* [start, end) of v, for the tracker. */
static void push_raw(struct reader *rd, const struct vma *v, const struct region *piece)
{
	struct arena *a = rd->c->arena;
	struct vma_list *raw = &rd->l->raw;
	const struct vma *last = raw->n ? &raw->v[raw->n - 1] : NULL;
	struct vma to = *v;

	to.path = same_string(a, last ? last->path : NULL, v->path);
	to.unknown_flags = same_string(a, last ? last->unknown_flags : NULL, v->unknown_flags);
	if (piece) {
		to.start = piece->start;
		to.end = piece->end;
		to.offset = v->inode ? piece->offset : v->offset;
		to.flags |= flags_of_attrs(piece->attrs);
	}
	raw->v = arena_grow(a, raw->v, &rd->cap_raw, raw->n + 1, sizeof(*raw->v));
	raw->v[raw->n++] = to;
}

static void push_piece(struct reader *rd, const struct vma *v, const struct region *r,
	uint64_t start, uint64_t end)
{
	struct region piece = region_clip(r, start, end);

	push_raw(rd, v, &piece);
	region_push(rd->c->arena, &rd->l->regions, &piece);
}

/* Pushes r in pieces, with the attributes that its addresses had before. A piece that was not there
 * belongs to a mapping that has grown: it has the attributes of its neighbour. Where they differ
 * within one mapping of the kernel, some have changed meanwhile: a guess. */
static void push_carried(struct reader *rd, const struct vma *v, struct region r)
{
	const struct region_list *old = rd->before ? &rd->before->regions : NULL;
	bool known = false;
	uint64_t from = r.start;

	while (old && rd->at < old->n && old->v[rd->at].end <= r.start)
		rd->at++;
	for (size_t i = rd->at; old && i < old->n && old->v[i].start < r.end; i++) {
		uint32_t attrs = attrs_plain(old->v[i].attrs, v);

		if (!carries(&old->v[i], &r))
			continue;
		if (known && attrs != r.attrs) {
			r.loose = true;
			push_piece(rd, v, &r, from, old->v[i].start);
			from = old->v[i].start;
		} else {
			r.loose |= old->v[i].loose;
		}
		r.attrs = attrs;
		known = true;
	}
	r.loose |= !known;
	push_piece(rd, v, &r, from, r.end);
}

static struct err *take_vma(struct reader *rd, const struct vma *v)
{
	struct region r;
	bool take;

	if (!v->inode && path_special(v->path)) {
		push_raw(rd, v, NULL);
		return add_special(rd, v);
	}
	TRY(region_of(rd, v, &r, &take));
	if (!take)
		push_raw(rd, v, NULL);
	else if (rd->with_flags)
		push_piece(rd, v, &r, r.start, r.end);
	else
		push_carried(rd, v, r);
	return NULL;
}

/* ---- the whole ---- */

static void hash_init(struct reader *rd, size_t n_maps, struct layout_file **files, size_t n_files)
{
	size_t want = 2 * (n_maps + n_files) + 16;

	rd->hash_size = 1;
	while (rd->hash_size < want)
		rd->hash_size *= 2;
	rd->hash = arena_array(rd->c->arena, rd->hash_size, sizeof(*rd->hash));
	for (size_t i = 0; i < n_files; i++)
		file_add(rd, layout_file_dup(rd->c->arena, files[i]));
}

/* The text of maps and smaps is large: it does not stay. */
static struct err *read_once(struct reader *rd, const struct layout *files_of)
{
	autoarena struct arena *tmp = arena_new();
	struct vma_list maps;

	refusals_drop(rd);
	rd->l = arena_alloc(rd->c->arena, sizeof(*rd->l));
	rd->at = rd->cap_raw = 0;
	rd->again = false;
	TRY(rd->with_flags ? proc_smaps(tmp, rd->c->task->pid, &maps)
			   : proc_maps(tmp, rd->c->task->pid, &maps));
	hash_init(rd, maps.n, files_of ? files_of->files : NULL, files_of ? files_of->n_files : 0);
	for (size_t i = 0; i < maps.n && !rd->again; i++)
		if (!task_pump_has(rd->c->task, maps.v[i].start))
			TRY(take_vma(rd, &maps.v[i]));
	return NULL;
}

static struct err *read_layout(struct reader *rd)
{
	const struct layout *files_of = rd->before;

	for (unsigned i = 0; i < TRIES; i++) {
		TRY(read_once(rd, files_of));
		if (!rd->again)
			return guards_read(rd->c, rd->with_flags, rd->before, rd->l);
		files_of = rd->l; /* what is known already is not asked again */
	}
	return err_new(ERR_KERNEL, "the process changes its mappings faster than we can read them");
}

static bool any_loose(const struct layout *l)
{
	for (size_t i = 0; i < l->regions.n; i++)
		if (l->regions.v[i].loose)
			return true;
	return false;
}

static bool is_small(struct capture *c, uint64_t rss_max)
{
	autoerr struct err *e = NULL;
	struct proc_status st;

	e = proc_status(c->arena, c->task->pid, 0, &st);
	return !e && st.vm_rss_bytes < rss_max;
}

struct err *layout_capture_within(struct capture *c, bool with_flags, const struct layout *before,
	uint64_t smaps_rss_max, struct layout **ret)
{
	struct reader rd = { .c = c, .before = before, .with_flags = with_flags };
	struct err *e = shm_device(&rd.shm_major, &rd.shm_minor);

	if (!e)
		e = read_layout(&rd);
	if (!e && !with_flags && any_loose(rd.l) && is_small(c, smaps_rss_max)) {
		rd.with_flags = true;
		rd.before = rd.l;
		e = read_layout(&rd);
	}
	if (e) {
		refusals_drop(&rd);
		return e;
	}
	refusals_say(&rd);
	if (!before && !c->stopped) {
		TRY(shm_check_outside(c));
		TRY(numa_check(c));
	}
	*ret = rd.l;
	return NULL;
}

struct err *layout_capture(
	struct capture *c, bool with_flags, const struct layout *before, struct layout **ret)
{
	return layout_capture_within(c, with_flags, before, SMAPS_RSS_MAX, ret);
}
