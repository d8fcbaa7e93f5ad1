// SPDX-License-Identifier: Apache-2.0
/*
 * The seedling's address space: the area with the agent, emptying the rest, moving the vdso.
 *
 * The area is made by single calls through the system call instruction of the vdso, which is also
 * what remains when it goes. Code and data are mapped apart: no page is writable and executable
 * (the code is written through /proc/PID/mem).
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "kernel/proc.h"
#include "kernel/seedling_priv.h"

/* Where areas and blocks may lie for a while; far from where programs, libraries and stacks are. */
#define PLACE_FIRST 0x100000000000ULL
#define PLACE_STEP  0x001000000000ULL
#define PLACES      64

/* The area. The agent's stack pointer is in its second page; it pushes nothing. */
#define AREA_FRAME   8192
#define AREA_CALLS   12288
#define AREA_SCRATCH 16384
#define AREA_PRIVATE (AREA_SCRATCH + REMOTE_SCRATCH_BYTES)
_Static_assert(AREA_PRIVATE + SEEDLING_PRIVATE_BYTES <= SEEDLING_AREA_BYTES, "area");

enum { VDSO, VVAR, VVAR_VCLOCK, BLOCKS };

static const char *const block_names[BLOCKS] = { "[vdso]", "[vvar]", "[vvar_vclock]" };

struct block {
	uint64_t start, len; /* len 0: there is none */
};

static bool overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a_len && b_len && a < b + b_len && b < a + a_len;
}

static bool overlaps_any(uint64_t at, uint64_t len, const struct block *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (overlap(at, len, b[i].start, b[i].len))
			return true;
	return false;
}

static void read_blocks(const struct vma_list *maps, struct block b[BLOCKS])
{
	memset(b, 0, BLOCKS * sizeof(b[0]));
	for (size_t i = 0; i < maps->n; i++)
		for (size_t k = 0; k < BLOCKS; k++)
			if (strcmp(maps->v[i].path, block_names[k]) == 0)
				b[k] = (struct block){ maps->v[i].start,
					maps->v[i].end - maps->v[i].start };
}

/* ---- area ---- */

static struct err *single(struct task *t, struct call c, const char *what, uint64_t want)
{
	TRY_IN(remote_single(t, task_leader(t), &c), "%s", what);
	if (c.ret < 0 && c.ret > -4096)
		return err_errno((int)-c.ret, "%s in the seedling", what);
	if ((uint64_t)c.ret != want)
		return err_new(
			ERR_BUG, "%s in the seedling: got %#llx", what, (unsigned long long)c.ret);
	return NULL;
}

static struct err *map(struct task *t, uint64_t at, uint64_t len, int prot, int how)
{
	return single(t,
		(struct call){ .nr = SYS_mmap,
			.args = { at, len, (uint64_t)prot,
				(uint64_t)(MAP_PRIVATE | MAP_ANONYMOUS | how), (uint64_t)-1, 0 } },
		"map the agent's area", at);
}

static struct err *map_area(struct task *t, uint64_t at, int how)
{
	struct remote *r = t->remote;
	size_t len;
	const void *code = arch_agent_code(&len);

	TRY(map(t, at, PAGE_BYTES, PROT_READ | PROT_EXEC, how));
	TRY(map(t, at + PAGE_BYTES, SEEDLING_AREA_BYTES - PAGE_BYTES, PROT_READ | PROT_WRITE, how));
	TRY(task_write(t, at, code, len));
	r->area = at;
	r->code = at;
	r->frame = at + AREA_FRAME;
	r->calls = at + AREA_CALLS;
	r->scratch = at + AREA_SCRATCH;
	r->private_at = at + AREA_PRIVATE;
	r->place = PLACE_AREA;
	return NULL;
}

static struct err *find_syscall(struct task *t, const struct block *vdso)
{
	uint8_t code[64 << 10];
	int64_t at;

	if (!vdso->len || vdso->len > sizeof(code))
		return err_new(
			ERR_UNSUPPORTED, "a vdso of %llu bytes", (unsigned long long)vdso->len);
	TRY(task_read(t, vdso->start, code, vdso->len));
	at = arch_find_syscall(code, vdso->len);
	if (at < 0)
		return err_new(ERR_UNSUPPORTED, "no system call instruction in the vdso");
	t->remote->syscall_pc = vdso->start + (uint64_t)at;
	return NULL;
}

struct err *seedling_first_area(struct task *t)
{
	autoarena struct arena *a = arena_new();
	struct block now[BLOCKS];
	struct vma_list maps;

	TRY(proc_maps(a, t->pid, &maps));
	read_blocks(&maps, now);
	TRY(find_syscall(t, &now[VDSO]));
	t->remote->signals[0] = SIGURG;
	t->remote->signals[1] = SIGWINCH;
	return map_area(t, PLACE_FIRST, MAP_FIXED_NOREPLACE);
}

struct err *seedling_move_area(struct task *t, uint64_t at)
{
	autoarena struct arena *a = arena_new();
	struct block now[BLOCKS + 1];
	struct vma_list maps;
	uint64_t old = t->remote->area;

	if (t->remote->place != PLACE_AREA)
		return err_new(ERR_BUG, "the seedling has no area to move");
	if (at == old)
		return NULL;
	TRY(proc_maps(a, t->pid, &maps));
	read_blocks(&maps, now);
	now[BLOCKS] = (struct block){ old, SEEDLING_AREA_BYTES };
	if (overlaps_any(at, SEEDLING_AREA_BYTES, now, BLOCKS + 1))
		return err_new(ERR_LIMIT, "%#llx is not free for the agent's area",
			(unsigned long long)at);
	TRY(map_area(t, at, MAP_FIXED_NOREPLACE));
	return single(t, (struct call){ .nr = SYS_munmap, .args = { old, SEEDLING_AREA_BYTES } },
		"unmap the agent's old area", 0);
}

/* ---- clearing ---- */

/* A place for `len` bytes that touches none of these. */
static struct err *free_place(uint64_t len, const struct block *b, size_t n, uint64_t *ret)
{
	for (uint64_t i = 0; i < PLACES; i++) {
		uint64_t at = PLACE_FIRST + i * PLACE_STEP;

		if (!overlaps_any(at, len, b, n)) {
			*ret = at;
			return NULL;
		}
	}
	return err_new(ERR_BUG, "no place for %llu bytes", (unsigned long long)len);
}

/* Unmaps everything but these, which do not overlap. */
static struct err *unmap_but(struct task *t, const struct block *keep, size_t n)
{
	uint64_t at = 0;
	struct call c = { .nr = SYS_munmap };

	while (at < arch_user_end()) {
		struct block next = { arch_user_end(), 0 };

		for (size_t i = 0; i < n; i++)
			if (keep[i].len && keep[i].start >= at && keep[i].start < next.start)
				next = keep[i];
		c.args[0] = at;
		c.args[1] = next.start - at;
		if (c.args[1]) {
			TRY(remote_run(t, task_leader(t), &c, 1));
			if (c.ret < 0)
				return err_errno((int)-c.ret, "empty the seedling");
		}
		at = next.start + next.len;
		if (!next.len)
			break;
	}
	return NULL;
}

static struct err *move_blocks(
	struct task *t, struct block now[BLOCKS], const struct block to[BLOCKS])
{
	struct remote *r = t->remote;

	for (size_t i = 0; i < BLOCKS; i++) {
		struct call c = { .nr = SYS_mremap,
			.args = { now[i].start, now[i].len, now[i].len,
				MREMAP_MAYMOVE | MREMAP_FIXED, to[i].start } };

		if (!now[i].len || now[i].start == to[i].start)
			continue;
		TRY(remote_run(t, task_leader(t), &c, 1));
		if (c.ret < 0 && c.ret > -4096)
			return err_errno((int)-c.ret, "move %s", block_names[i]);
		if (i == VDSO)
			r->syscall_pc += to[i].start - now[i].start;
		now[i].start = to[i].start;
	}
	return NULL;
}

static struct err *compare(const struct block now[BLOCKS], const struct block to[BLOCKS])
{
	if (!to[VDSO].len)
		return err_new(ERR_UNSUPPORTED, "the process has no vdso");
	for (size_t i = 0; i < BLOCKS; i++)
		if (now[i].len != to[i].len)
			return err_hint(
				err_new(ERR_MISMATCH, "%s has %llu bytes there and %llu here",
					block_names[i], (unsigned long long)to[i].len,
					(unsigned long long)now[i].len),
				"both hosts must run the same kernel");
	return NULL;
}

/* Do any two of them get into each other's way when moved one by one? */
static bool must_hop(const struct block now[BLOCKS], const struct block to[BLOCKS])
{
	for (size_t i = 0; i < BLOCKS; i++)
		if (now[i].start != to[i].start &&
			overlaps_any(to[i].start, to[i].len, now, BLOCKS))
			return true;
	return false;
}

struct err *seedling_clear(struct task *t, const struct seedling_vdso *want)
{
	const struct block to[BLOCKS] = { [VDSO] = { want->vdso, want->vdso_len },
		[VVAR] = { want->vvar, want->vvar_len },
		[VVAR_VCLOCK] = { want->vvar_vclock, want->vvar_vclock_len } };
	struct block all[2 * BLOCKS + 1], keep[BLOCKS + 1], hop[BLOCKS] = { 0 };
	autoarena struct arena *a = arena_new();
	struct vma_list maps;
	uint64_t at = 0;

	if (t->remote->place != PLACE_AREA)
		return err_new(ERR_BUG, "the seedling cannot be emptied any more");
	TRY(proc_maps(a, t->pid, &maps));
	read_blocks(&maps, keep);
	TRY(compare(keep, to));
	memcpy(all, keep, BLOCKS * sizeof(all[0]));
	memcpy(all + BLOCKS, to, sizeof(to));
	if (overlaps_any(t->remote->area, SEEDLING_AREA_BYTES, to, BLOCKS)) {
		all[2 * BLOCKS] = (struct block){ t->remote->area, SEEDLING_AREA_BYTES };
		TRY(free_place(SEEDLING_AREA_BYTES, all, ARRAY_LEN(all), &at));
		TRY(seedling_move_area(t, at));
	}
	all[2 * BLOCKS] = keep[BLOCKS] = (struct block){ t->remote->area, SEEDLING_AREA_BYTES };
	TRY(unmap_but(t, keep, ARRAY_LEN(keep)));
	if (must_hop(keep, to)) {
		TRY(free_place(PLACE_STEP / 2, all, ARRAY_LEN(all), &at));
		for (size_t i = 0; i < BLOCKS; i++) {
			hop[i] = (struct block){ at, keep[i].len };
			at += keep[i].len;
		}
		TRY(move_blocks(t, keep, hop));
	}
	return move_blocks(t, keep, to);
}

struct err *seedling_seal(struct task *t)
{
	struct remote *r = t->remote;
	struct call c = { .nr = SYS_close, .args = { (uint64_t)r->sock_number } };

	if (r->place != PLACE_AREA)
		return err_new(ERR_BUG, "the seedling has been sealed before");
	TRY(seedling_take_back(t));
	if (r->sock_number >= 0)
		TRY(remote_run(t, task_leader(t), &c, 1));
	r->sock_number = -1;
	fd_closep(&r->sock);
	TRY(single(t, (struct call){ .nr = SYS_munmap, .args = { r->area, SEEDLING_AREA_BYTES } },
		"unmap the agent's area", 0));
	r->place = PLACE_SEALED;
	return NULL;
}
