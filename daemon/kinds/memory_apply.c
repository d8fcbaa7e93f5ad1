// SPDX-License-Identifier: Apache-2.0
/*
 * Destination: the plan carried out in the seedling by remote calls, up to CHUNK in one go.
 *
 * Files are opened here, handed over for the time of their mmap calls, and closed again. mmap gets
 * MAP_FIXED_NOREPLACE always: if something of the seedling's own lies there, that is our bug and
 * must show. MAP_STACK is never passed: since Linux 6.7 it means MADV_NOHUGEPAGE, which has its own
 * attribute.
 */
#include "kinds/memory_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/io.h"
#include "kernel/arch.h"
#include "kinds/identity.h"

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08 /* Linux 6.11 */
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA           0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

/* /dev/zero: the one device whose memory is plain memory. */
#define ZERO_MAJOR 1
#define ZERO_MINOR 5

#define FDS_MAX   64 /* files handed over at once */
#define NAMES_MAX (REMOTE_SCRATCH_BYTES / NAME_MAX_VMA)

/* What is opened for a region, once per chunk. */
struct key {
	const struct layout_file *file;
	uint64_t space;
	bool nowrite;
};

/* What is mapped from outside while one chunk runs. */
struct handed {
	struct key key[FDS_MAX];
	int fd[FDS_MAX];
	size_t n;
	int first; /* the seedling's number of fd[0] */
};

struct applier {
	struct rebuild *r;
	struct layout_state *s;
	struct call calls[CHUNK];
	const struct op *ops[CHUNK];
	size_t n;
	struct handed handed;
};

static struct err *at_region(struct err *e, const struct region *r)
{
	return err_in(e, "map %#" PRIx64 "-%#" PRIx64 "%s%s", r->start, r->end, r->file ? " " : "",
		r->file ? r->file->path : "");
}

/* ---- files ---- */

static struct err *check_file(struct rebuild *r, int fd, const struct layout_file *f)
{
	if (f->writable && !file_identity_same(fd, f->id))
		return err_hint(err_new(ERR_MISMATCH,
					"%s is mapped shared and writable, and not the same file "
					"there",
					f->path),
			"put it on a file system that both hosts share");
	TRY_IN(file_identity_check_known(r->cache, fd, f->id), "%s differs at the destination",
		f->path);
	return NULL;
}

/* Opens f and makes sure that it is the right one; the cache remembers. All that is to be known is
 * asked before it is opened: opening a device or a pipe can do things. */
static struct err *file_open(struct rebuild *r, const struct layout_file *f, int *ret)
{
	autoclose int path_fd = -1, fd = -1;
	char again[40];
	struct stat st;

	path_fd = open(f->path, O_PATH | O_CLOEXEC);
	if (path_fd < 0 && errno == ENOENT)
		return err_hint(
			err_new(ERR_MISMATCH, "%s does not exist at the destination", f->path),
			"install the same program there");
	if (path_fd < 0 || fstat(path_fd, &st) < 0)
		return err_errno(errno, "open %s at the destination", f->path);
	if ((st.st_mode & S_IFMT) != f->id->type ||
		(S_ISCHR(st.st_mode) && st.st_rdev != makedev(ZERO_MAJOR, ZERO_MINOR)))
		return err_new(
			ERR_MISMATCH, "%s is a file of another type at the destination", f->path);
	TRY(check_file(r, path_fd, f));
	snprintf(again, sizeof(again), "/proc/self/fd/%d", path_fd);
	fd = open(again, (f->writable ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return err_errno(errno, "open %s at the destination", f->path);
	*ret = take_fd(&fd);
	return NULL;
}

/* The descriptor of a segment is for its pages alone: it is attached by its id. */
static struct err *segment_need(struct rebuild *r, const struct region *g)
{
	int fd;

	return sysv_shm_need(r, g->space, g->space_path, g->space_bytes, &fd);
}

static struct err *space_open(struct rebuild *r, const struct region *g, int *ret)
{
	autoclose int made = -1;
	int fd = rebuild_space_get(r, g->space);
	char path[40];

	if (fd < 0) {
		TRY(shm_make(g->space_path, &made));
		fd = made;
		rebuild_space_put(r, g->space, take_fd(&made));
	}
	if (g->attrs & ATTR_NOWRITE) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		return io_open(path, O_RDONLY, ret);
	}
	*ret = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return *ret < 0 ? err_errno(errno, "copy a descriptor") : NULL;
}

/* ---- descriptors in the seedling ---- */

/* Mapped from a descriptor. */
static bool has_file(const struct region *g)
{
	return g->backing != BACKING_ANON && !region_sysv(g);
}

static struct key key_of(const struct region *g)
{
	return (struct key){ g->file, g->space, g->attrs & ATTR_NOWRITE };
}

/* Index of the region's file among those handed over, or FDS_MAX. */
static size_t handed_find(const struct handed *h, const struct region *g)
{
	const struct key want = key_of(g);

	for (size_t i = 0; i < h->n; i++)
		if (h->key[i].file == want.file && h->key[i].space == want.space &&
			h->key[i].nowrite == want.nowrite)
			return i;
	return FDS_MAX;
}

static struct err *hand_over(struct applier *ap)
{
	struct handed *h = &ap->handed;
	int numbers[FDS_MAX];
	bool cloexec[FDS_MAX];

	if (!h->n)
		return NULL;
	TRY(free_numbers(ap->r->task, h->n, &h->first));
	for (size_t i = 0; i < h->n; i++) {
		numbers[i] = h->first + (int)i;
		cloexec[i] = true;
	}
	return seedling_install(ap->r->task, h->fd, numbers, cloexec, h->n);
}

static struct err *take_back(struct applier *ap)
{
	struct handed *h = &ap->handed;
	size_t n = h->n;

	for (size_t i = 0; i < n; i++)
		fd_closep(&h->fd[i]);
	h->n = 0;
	if (!n)
		return NULL;
	return REMOTE(ap->r->task, task_leader(ap->r->task), NULL, "close what was mapped",
		SYS_close_range, (uint64_t)h->first, (uint64_t)h->first + n - 1, 0);
}

/* ---- one operation as a call ---- */

static uint64_t map_flags(const struct region *g)
{
	uint64_t flags = MAP_FIXED_NOREPLACE;

	if (g->attrs & ATTR_DROPPABLE)
		flags |= MAP_DROPPABLE;
	else if (g->attrs & ATTR_SYNC)
		flags |= MAP_SHARED_VALIDATE | MAP_SYNC;
	else
		flags |= g->shared ? MAP_SHARED : MAP_PRIVATE;
	if (g->backing == BACKING_ANON)
		flags |= MAP_ANONYMOUS;
	if (g->attrs & ATTR_GROWSDOWN)
		flags |= MAP_GROWSDOWN;
	if (g->attrs & ATTR_NORESERVE)
		flags |= MAP_NORESERVE;
	return flags;
}

static uint64_t segment_end(const struct region *g)
{
	return PAGE_UP(g->space_bytes);
}

static struct call call_attach(const struct region *g, uint64_t at)
{
	return (struct call){ .nr = SYS_shmat,
		.args = { g->space & ~VMA_SYSV, at, g->attrs & ATTR_NOWRITE ? SHM_RDONLY : 0 } };
}

static struct call call_map(struct applier *ap, const struct op *op)
{
	const struct region *g = &op->r;
	struct call c = { .nr = SYS_mmap,
		.args = { g->start, g->end - g->start, g->prot, map_flags(g), (uint64_t)-1, 0 } };

	if (region_sysv(g))
		return call_attach(g, g->start);
	if (g->backing != BACKING_ANON) {
		c.args[4] = handed_find(&ap->handed, g); /* completed when numbers are known */
		c.args[5] = g->offset;
	}
	return c;
}

static struct call call_of(struct applier *ap, const struct op *op)
{
	uint64_t start = op->r.start, len = op->r.end - op->r.start;
	const char *name = op->r.name;

	switch (op->kind) {
	case OP_UNMAP:
		return (struct call){ .nr = SYS_munmap, .args = { start, len } };
	case OP_MAP:
		return call_map(ap, op);
	case OP_PROTECT:
		return (struct call){ .nr = SYS_mprotect, .args = { start, len, op->r.prot } };
	case OP_ADVISE:
		return (struct call){ .nr = SYS_madvise,
			.args = { start, len, (uint64_t)op->advice } };
	case OP_NAME:
		return (struct call){ .nr = SYS_prctl,
			.args = { PR_SET_VMA, PR_SET_VMA_ANON_NAME, start, len,
				*name ? remote_scratch(ap->r->task).v + ap->n * NAME_MAX_VMA
				      : 0 } };
	case OP_KINDS:
		break;
	}
	return (struct call){ 0 };
}

static const char *const op_names[OP_KINDS] = { "munmap", "mmap", "mprotect", "madvise",
	"name by prctl" };

static struct err *check_result(struct applier *ap, const struct op *op, int64_t ret)
{
	const struct region *g = &op->r;

	if (op->kind == OP_MAP && ret >= 0 && (uint64_t)ret != g->start)
		return at_region(err_new(ERR_BUG, "mmap put it at %#" PRIx64, (uint64_t)ret), g);
	if (op->kind == OP_MAP ? ret >= 0 : !ret)
		return NULL;
	if (op->kind == OP_ADVISE && op->hint && ret == -EINVAL) {
		if (!(ap->s->hints_missing & 1u << (op->advice & 31)))
			rebuild_warn(ap->r, "this kernel does not know madvise %d", op->advice);
		ap->s->hints_missing |= 1u << (op->advice & 31);
		return NULL;
	}
	return at_region(err_errno((int)-ret, "%s", op_names[op->kind]), g);
}

/* ---- chunks ---- */

static struct err *put_names(struct applier *ap)
{
	char names[NAMES_MAX * NAME_MAX_VMA] = { 0 };

	if (ap->ops[0]->kind != OP_NAME)
		return NULL;
	for (size_t i = 0; i < ap->n; i++)
		snprintf(names + i * NAME_MAX_VMA, NAME_MAX_VMA, "%s", ap->ops[i]->r.name);
	return remote_put(ap->r->task, 0, names, sizeof(names));
}

static struct err *run_chunk(struct applier *ap)
{
	TRY(put_names(ap));
	for (size_t i = 0; i < ap->n; i++)
		if (ap->ops[i]->kind == OP_MAP && has_file(&ap->ops[i]->r))
			ap->calls[i].args[4] += (uint64_t)ap->handed.first;
	TRY(remote_run(ap->r->task, task_leader(ap->r->task), ap->calls, ap->n));
	for (size_t i = 0; i < ap->n; i++)
		TRY(check_result(ap, ap->ops[i], ap->calls[i].ret));
	return NULL;
}

static struct err *flush(struct applier *ap)
{
	struct err *e;

	if (!ap->n)
		return NULL;
	e = hand_over(ap);
	if (!e)
		e = run_chunk(ap);
	ap->n = 0;
	if (e)
		return e;
	return take_back(ap);
}

/* Makes sure that the region's file is among those handed over with this chunk. */
static struct err *need_file(struct applier *ap, const struct region *g)
{
	struct handed *h = &ap->handed;
	int fd = -1;

	if (region_sysv(g))
		return segment_need(ap->r, g);
	if (!has_file(g) || handed_find(h, g) < FDS_MAX)
		return NULL;
	if (h->n == FDS_MAX)
		TRY(flush(ap));
	if (g->backing == BACKING_FILE)
		TRY_IN(file_open(ap->r, g->file, &fd), "map %#" PRIx64 "-%#" PRIx64, g->start,
			g->end);
	else
		TRY(space_open(ap->r, g, &fd));
	h->key[h->n] = key_of(g);
	h->fd[h->n++] = fd;
	return NULL;
}

/* ---- parts of attachments ---- */

static void add_regions(struct ranges *used, const struct region_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		ranges_add(used, l->v[i].start, l->v[i].end);
}

static void add_specials(struct ranges *used, const struct special *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		ranges_add(used, v[i].start, v[i].end);
}

static bool is_part(const struct region *g)
{
	return region_sysv(g) && (g->offset || g->end - g->start != segment_end(g));
}

/* Of one shmat: shmdt(2) takes them all. */
static bool same_attachment(const struct op *a, const struct op *b)
{
	return a->kind == b->kind && is_part(&b->r) && region_same_backing(&a->r, &b->r);
}

static bool is_attached(const struct plan *p, size_t op)
{
	for (size_t i = 0; i < op; i++)
		if (same_attachment(&p->v[op], &p->v[i]))
			return true;
	return false;
}

static struct err *elsewhere(
	const struct applier *ap, const struct plan *p, uint64_t bytes, uint64_t *at)
{
	struct ranges used AUTO(ranges_fini) = { 0 };

	add_regions(&used, &ap->s->now);
	add_regions(&used, &p->after);
	add_specials(&used, ap->s->special, ap->s->n_special);
	ranges_add(&used, ap->s->area, ap->s->area + SEEDLING_AREA_BYTES);
	return hole_find(&used, arch_user_end(), bytes, at);
}

/* shmat attaches all of it, so elsewhere first; then each part is moved to its place, which is in a
 * mapping that has grown larger than the segment, too. */
static struct err *attach_parts(struct applier *ap, const struct plan *p, size_t op)
{
	struct thread *th = task_leader(ap->r->task);
	const struct region *g = &p->v[op].r;
	uint64_t bytes = segment_end(g), at;
	struct call attach;

	TRY(elsewhere(ap, p, bytes, &at));
	attach = call_attach(g, at);
	TRY(remote_call(ap->r->task, th, &attach, "attach a segment", NULL));
	for (size_t i = op; i < p->n; i++) {
		g = &p->v[i].r;
		if (same_attachment(&p->v[op], &p->v[i]))
			TRY_IN(REMOTE(ap->r->task, th, NULL, "move an attachment", SYS_mremap,
				       at + g->offset, MIN(g->end - g->start, bytes - g->offset),
				       g->end - g->start, MREMAP_MAYMOVE | MREMAP_FIXED, g->start),
				"map %#" PRIx64 "-%#" PRIx64, g->start, g->end);
	}
	return REMOTE(ap->r->task, th, NULL, "detach the rest", SYS_munmap, at, bytes);
}

static struct err *run_kind(struct applier *ap, const struct plan *p, enum op_kind kind)
{
	size_t most = kind == OP_NAME ? NAMES_MAX : CHUNK;

	for (size_t i = 0; i < p->n; i++) {
		const struct op *op = &p->v[i];

		if (op->kind != kind)
			continue;
		if (ap->n == most)
			TRY(flush(ap));
		if (kind == OP_MAP)
			TRY(need_file(ap, &op->r));
		if (kind == OP_MAP && is_part(&op->r)) {
			if (!is_attached(p, i))
				TRY(attach_parts(ap, p, i));
			continue;
		}
		ap->calls[ap->n] = call_of(ap, op);
		ap->ops[ap->n++] = op;
	}
	return flush(ap);
}

static struct err *run_plan(struct rebuild *r, struct layout_state *s, const struct plan *p)
{
	struct applier *ap = xcalloc(1, sizeof(*ap));
	struct err *e = NULL;

	ap->r = r;
	ap->s = s;
	for (enum op_kind k = 0; k < OP_KINDS && !e; k++)
		e = run_kind(ap, p, k);
	for (size_t i = 0; i < ap->handed.n; i++)
		fd_closep(&ap->handed.fd[i]);
	mem_freep(&ap);
	return e;
}

/* ---- the seedling's own area ---- */

static struct err *area_of(const struct delta *d, uint64_t bytes, uint64_t *at)
{
	struct ranges used AUTO(ranges_fini) = { 0 };

	add_regions(&used, &d->map);
	add_specials(&used, d->special, d->n_special);
	return hole_find(&used, arch_user_end(), bytes, at);
}

struct err *layout_area(const uint8_t *bytes, size_t len, uint64_t area_bytes, uint64_t *at)
{
	autoarena struct arena *a = arena_new();
	struct delta d;

	TRY(delta_unpack(a, bytes, len, &d));
	return area_of(&d, area_bytes, at);
}

/* Out of the way of what comes, and not onto what is there. */
static struct err *area_move(struct rebuild *r, struct layout_state *s, const struct delta *d)
{
	struct ranges used AUTO(ranges_fini) = { 0 };
	uint64_t end = s->area + SEEDLING_AREA_BYTES, at;
	bool hit = false;

	for (size_t i = 0; i < d->map.n && !hit; i++)
		hit = d->map.v[i].start < end && d->map.v[i].end > s->area;
	if (!hit)
		return NULL;
	add_regions(&used, &d->map);
	for (size_t i = 0; i < s->now.n; i++)
		ranges_add(&used, s->now.v[i].start, s->now.v[i].end);
	add_specials(&used, s->special, s->n_special);
	ranges_add(&used, s->area, end);
	TRY(hole_find(&used, arch_user_end(), SEEDLING_AREA_BYTES, &at));
	TRY_IN(seedling_move_area(r->task, at), "make room for new mappings");
	s->area = at;
	return NULL;
}

/* ---- check ---- */

static struct err *can_advise(int advice)
{
	void *page = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int no;

	if (page == MAP_FAILED)
		return err_errno(errno, "map a page");
	no = madvise(page, PAGE_BYTES, advice) < 0 ? errno : 0;
	munmap(page, PAGE_BYTES);
	return no ? err_errno(no, "madvise %d", advice) : NULL;
}

static struct err *can_name(void)
{
	void *page = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int no;

	if (page == MAP_FAILED)
		return err_errno(errno, "map a page");
	no = prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, page, PAGE_BYTES, "x") < 0 ? errno : 0;
	munmap(page, PAGE_BYTES);
	return no ? err_errno(no, "prctl PR_SET_VMA_ANON_NAME") : NULL;
}

/* What the kernel here must be able to do for these attributes. */
static void check_features(struct rebuild *r, const struct delta *d)
{
	uint32_t attrs = 0;
	bool names = false;
	struct err *e;

	for (size_t i = 0; i < d->map.n; i++) {
		attrs |= d->map.v[i].attrs;
		names |= *d->map.v[i].name != '\0';
	}
	for (size_t i = 0; i < attr_table_n; i++) {
		const struct attr_info *t = &attr_table[i];

		if (!(attrs & t->attr) || t->advise_set == NO_ADVICE)
			continue;
		e = can_advise(t->advise_set);
		if (e && t->hint)
			rebuild_warn(r, "the kernel there does not know the advice %s", t->name);
		if (e && !t->hint)
			rebuild_refuse(r, err_in(e, "memory advice %s", t->name));
		else
			err_free(e);
	}
	e = names ? can_name() : NULL;
	if (e)
		rebuild_refuse(r, err_in(e, "names of anonymous memory"));
	if (d->n_guards && !guards_supported())
		rebuild_refuse(r,
			err_new(ERR_MISMATCH, "the kernel there has no guard pages (Linux 6.13)"));
	/* Asked with flags that no kernel takes: EINVAL if it exists. */
	if ((attrs & ATTR_SEALED) && syscall(SYS_MSEAL, 0, 0, ~0UL) < 0 && errno == ENOSYS)
		rebuild_refuse(
			r, err_new(ERR_MISMATCH, "the kernel there has no mseal (Linux 6.10)"));
}

struct err *layout_check(struct rebuild *r, const uint8_t *bytes, size_t len)
{
	autoarena struct arena *a = arena_new();
	struct delta d;

	TRY(delta_unpack(a, bytes, len, &d));
	for (size_t i = 0; i < d.n_files; i++) {
		autoclose int fd = -1;
		struct err *e = file_open(r, &d.files[i], &fd);

		if (e)
			rebuild_refuse(r, err_in(e, "mapped file"));
	}
	check_features(r, &d);
	return NULL;
}

/* ---- state ---- */

/* As maps would list it; shared memory with the source's inode numbers, which are its ids. */
static void list_vmas(struct layout_state *s)
{
	struct vma *v = arena_array(s->present, s->now.n, sizeof(*v));

	for (size_t i = 0; i < s->now.n; i++) {
		const struct region *g = &s->now.v[i];

		v[i] = (struct vma){ .start = g->start,
			.end = g->end,
			.offset = g->offset,
			.prot = g->prot,
			.shared = g->shared,
			.path = "",
			.unknown_flags = "",
			.flags = flags_of_attrs(g->attrs) };
		if (g->backing == BACKING_FILE) {
			v[i].inode = g->file->id->inode;
			v[i].path = g->file->path;
		} else if (g->backing == BACKING_SHM) {
			v[i].inode = g->space;
			v[i].path = g->space_path;
		}
	}
	s->vmas = (struct vma_list){ v, s->now.n };
}

const struct vma_list *layout_state_vmas(const struct layout_state *s)
{
	return &s->vmas;
}

static struct layout_state *state_new(void)
{
	struct layout_state *s = xcalloc(1, sizeof(*s));

	s->keep = arena_new();
	s->present = arena_new();
	return s;
}

void layout_state_free(struct layout_state *s)
{
	if (!s)
		return;
	arena_free(s->keep);
	arena_free(s->present);
	free(s);
}

static struct err *check_overlap(const struct layout_state *s, const struct delta *d)
{
	for (size_t i = 0; i < d->map.n; i++)
		for (size_t j = 0; j < s->n_special; j++)
			if (d->map.v[i].start < s->special[j].end &&
				d->map.v[i].end > s->special[j].start)
				return err_new(
					ERR_PEER, "layout: a mapping over %s", s->special[j].name);
	return NULL;
}

/* Guards are put up in the process's memory, not in the kernel's blocks or ours. */
static struct err *check_guards(const struct region_list *l, const struct delta *d)
{
	size_t i = 0;

	for (size_t g = 0; g < d->n_guards; g++) {
		uint64_t at = d->guards[g].start;

		for (; at < d->guards[g].end && i < l->n && l->v[i].start <= at; i++)
			at = MAX(at, MIN(l->v[i].end, d->guards[g].end));
		if (at < d->guards[g].end)
			return err_new(
				ERR_PEER, "layout: guards at %#" PRIx64 " in no mapping", at);
		i -= i > 0; /* the next ones may be in the same */
	}
	return NULL;
}

static struct err *begin(struct layout_state *s, const struct delta *d)
{
	for (size_t i = 0; i < d->n_special; i++) {
		s->special[i] = d->special[i];
		s->special[i].name = arena_strdup(s->keep, d->special[i].name);
	}
	s->n_special = d->n_special;
	return area_of(d, SEEDLING_AREA_BYTES, &s->area);
}

static struct layout_file *file_copy(struct arena *a, struct layout_file *f)
{
	if (!f->copy) {
		f->copy = layout_file_dup(a, f);
		f->copy->copy = NULL;
	}
	return f->copy;
}

/* The new layout with all that it refers to, so that the one before can go. */
static void state_replace(struct layout_state *s, const struct region_list *after,
	const struct range *guards, size_t n_guards)
{
	struct arena *a = arena_new();
	struct region *v = arena_array(a, after->n, sizeof(*v));

	for (size_t i = 0; i < after->n; i++) {
		v[i] = after->v[i];
		v[i].name = *v[i].name ? arena_strdup(a, v[i].name) : "";
		if (v[i].file)
			v[i].file = file_copy(a, v[i].file);
		if (v[i].space_path)
			v[i].space_path = arena_strdup(a, v[i].space_path);
	}
	s->guards = n_guards ? arena_dup(a, guards, n_guards * sizeof(*guards)) : NULL;
	s->n_guards = n_guards;
	s->now = (struct region_list){ v, after->n, after->n };
	arena_free(s->present);
	s->present = a;
	list_vmas(s);
}

static struct err *apply(
	struct rebuild *r, struct arena *tmp, struct layout_state *s, const struct delta *d)
{
	struct plan p;

	if (d->first)
		TRY(begin(s, d));
	TRY(check_overlap(s, d));
	TRY(area_move(r, s, d));
	plan_make(tmp, &s->now, d, &p);
	if (p.after.n > PROC_VMAS_MAX)
		return err_new(ERR_LIMIT, "layout of more than %d mappings", PROC_VMAS_MAX);
	TRY(check_guards(&p.after, d));
	TRY(run_plan(r, s, &p));
	if (d->guards_changed)
		state_replace(s, &p.after, d->guards, d->n_guards);
	else
		state_replace(s, &p.after, s->guards, s->n_guards);
	return NULL;
}

struct err *layout_apply(
	struct rebuild *r, const uint8_t *bytes, size_t len, struct layout_state **state)
{
	autoarena struct arena *tmp = arena_new();
	bool first = !*state;
	struct delta d;

	TRY(delta_unpack(tmp, bytes, len, &d));
	if (d.first != first)
		return err_new(ERR_PEER, "layout: a difference without its beginning");
	if (first)
		*state = state_new();
	return apply(r, tmp, *state, &d);
}
