// SPDX-License-Identifier: Apache-2.0
/*
 * The address space's own fields: where code, data, heap, stack, arguments and environment are, the
 * auxiliary vector, the executable behind /proc/PID/exe.
 *
 * PR_SET_MM_MAP sets them all at once. It needs neither the mappings that they point to nor
 * CAP_SYS_RESOURCE; it refuses to change the executable while the old one is mapped (EBUSY), so it
 * comes after the seedling has been emptied. The end of the heap (brk) can only be asked by brk(2).
 *
 * mlockall(MCL_FUTURE) shows nowhere, and memory that it locks may be still to come. So a page is
 * mapped for a moment: msync(MS_INVALIDATE) says EBUSY when it was born locked.
 *
 * Registrations for membarrier(2) belong to the address space too; who has lost its own gets EPERM
 * for every fence. They can be asked since Linux 6.3. Before, a private one shows by making the
 * fence, and the global one not at all: then it is made anyway, which costs the process nothing but
 * an interrupt when somebody fences the whole host.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/prctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "kinds/identity.h"
#include "kinds/memory_priv.h"
#include "mm.pb-c.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65 /* Linux 6.3 */
#define PR_GET_MDWE 66
#endif
#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67 /* Linux 6.4 */
#define PR_GET_MEMORY_MERGE 68
#endif

/* linux/membarrier.h; its last member is Linux 6.3. A registration is the bit after its command. */
enum {
	BARRIER_REGISTER_GLOBAL = 1 << 2,
	BARRIER_PRIVATE = 1 << 3,
	BARRIER_SYNC_CORE = 1 << 5,
	BARRIER_RSEQ = 1 << 7,
	BARRIER_GET_REGISTRATIONS = 1 << 9,
};
#define BARRIER_REGISTRATIONS \
	(BARRIER_REGISTER_GLOBAL | BARRIER_PRIVATE << 1 | BARRIER_SYNC_CORE << 1 | \
		BARRIER_RSEQ << 1)

/* No address that mmap may refuse. */
#define PROBE_LOWEST 0x10000
#define AUXV_MAX     1024 /* the kernel has room for some 50 words */

/* ---- source ---- */

static struct err *capture_exe(struct capture *c, Migrate__Kind__AddressSpace *m)
{
	const char *name = arena_printf(c->arena, "/proc/%d/exe", c->task->pid);
	autoclose int fd = open(name, O_PATH | O_CLOEXEC);

	if (fd < 0)
		return err_errno(errno, "open %s", name);
	TRY(proc_link(c->arena, c->task->pid, "exe", &m->exe));
	TRY_IN(file_path_check(fd, m->exe), "the executable");
	return file_identity_known(c->arena, c->cache, fd, &m->identity);
}

static struct err *capture_auxv(struct capture *c, Migrate__Kind__AddressSpace *m)
{
	const char *name = arena_printf(c->arena, "/proc/%d/auxv", c->task->pid);
	char *text;
	size_t len;

	TRY(io_read_file(c->arena, name, AUXV_MAX, &text, &len));
	m->auxv = (ProtobufCBinaryData){ .len = len, .data = (uint8_t *)text };
	return NULL;
}

static struct err *any_hole(struct capture *c, uint64_t *at)
{
	struct ranges used AUTO(ranges_fini) = { 0 };
	struct vma_list maps;

	TRY(proc_maps(c->arena, c->task->pid, &maps));
	for (size_t i = 0; i < maps.n; i++)
		ranges_add(&used, maps.v[i].start, maps.v[i].end);
	return hole_find(&used, arch_user_end(), PAGE_BYTES, at);
}

/* Below the lowest mapping, as a rule: reading them all takes long when there are many. */
static struct err *hole_for_probe(struct capture *c, uint64_t *at)
{
	autoclose int fd = -1;
	char line[32] = "";
	uint64_t lowest;

	TRY(io_open(arena_printf(c->arena, "/proc/%d/maps", c->task->pid), O_RDONLY, &fd));
	if (read(fd, line, sizeof(line) - 1) < 0)
		return err_errno(errno, "read maps of process %d", c->task->pid);
	lowest = strtoull(line, NULL, 16);
	*at = lowest - 2 * PAGE_BYTES;
	return lowest < PROBE_LOWEST + 2 * PAGE_BYTES ? any_hole(c, at) : NULL;
}

/* Only a new mapping tells. In one batch: should we die, the thread makes all of it, and nothing
 * stays there. */
static struct err *capture_lock_future(struct capture *c, Migrate__Kind__AddressSpace *m)
{
	uint64_t at, scratch = remote_scratch(c->task).v;
	uint8_t resident;

	TRY(hole_for_probe(c, &at));
	struct call calls[] = {
		{ .nr = SYS_mmap,
			.args = { at, PAGE_BYTES, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, (uint64_t)-1,
				0 } },
		{ .nr = SYS_msync, .args = { at, PAGE_BYTES, MS_INVALIDATE } },
		{ .nr = SYS_mincore, .args = { at, PAGE_BYTES, scratch } },
		{ .nr = SYS_munmap, .args = { at, PAGE_BYTES } },
	};

	TRY(remote_run(c->task, c->thread, calls, ARRAY_LEN(calls)));
	if (calls[0].ret == -EAGAIN) /* would be locked, but the limit is reached */
		m->lock_future = MCL_FUTURE;
	if (calls[0].ret < 0)
		return NULL;
	TRY(remote_get(c->task, 0, &resident, 1));
	if (calls[1].ret == -EBUSY)
		m->lock_future = MCL_FUTURE | (resident & 1 ? 0 : MCL_ONFAULT);
	return NULL;
}

static struct err *capture_asked(struct capture *c, Migrate__Kind__AddressSpace *m)
{
	struct call calls[] = {
		{ .nr = SYS_brk },
		{ .nr = SYS_prctl, .args = { PR_GET_MDWE } },
		{ .nr = SYS_prctl, .args = { PR_GET_MEMORY_MERGE } },
	};

	TRY(remote_run(c->task, c->thread, calls, ARRAY_LEN(calls)));
	if (calls[0].ret <= 0)
		return err_errno((int)-calls[0].ret, "ask for the end of the heap (brk)");
	m->brk = (uint64_t)calls[0].ret;
	/* Errors: a kernel without it. */
	m->mdwe = calls[1].ret > 0 ? (uint32_t)calls[1].ret : 0;
	m->merge = calls[2].ret > 0;
	return NULL;
}

static struct err *capture_barriers(struct capture *c, Migrate__Kind__AddressSpace *m)
{
	struct call asked = { .nr = SYS_membarrier, .args = { BARRIER_GET_REGISTRATIONS } };
	struct call fences[] = {
		{ .nr = SYS_membarrier, .args = { BARRIER_PRIVATE } },
		{ .nr = SYS_membarrier, .args = { BARRIER_SYNC_CORE } },
		{ .nr = SYS_membarrier, .args = { BARRIER_RSEQ } },
	};

	TRY(remote_run(c->task, c->thread, &asked, 1));
	if (asked.ret >= 0) {
		m->barriers = (uint32_t)asked.ret;
		return NULL;
	}
	if (asked.ret == -ENOSYS)
		return NULL;
	TRY(remote_run(c->task, c->thread, fences, ARRAY_LEN(fences)));
	m->barriers = BARRIER_REGISTER_GLOBAL;
	for (size_t i = 0; i < ARRAY_LEN(fences); i++)
		if (fences[i].ret == 0)
			m->barriers |= (uint32_t)fences[i].args[0] << 1;
	return NULL;
}

static struct err *mm_capture(struct capture *c)
{
	Migrate__Kind__AddressSpace m = MIGRATE__KIND__ADDRESS_SPACE__INIT;
	const struct proc_stat *st = c->stat;

	m.start_code = st->start_code;
	m.end_code = st->end_code;
	m.start_data = st->start_data;
	m.end_data = st->end_data;
	m.start_brk = st->start_brk;
	m.start_stack = st->start_stack;
	m.arg_start = st->arg_start;
	m.arg_end = st->arg_end;
	m.env_start = st->env_start;
	m.env_end = st->env_end;
	TRY(capture_exe(c, &m));
	TRY(capture_auxv(c, &m));
	TRY(capture_asked(c, &m));
	TRY(capture_lock_future(c, &m));
	TRY(capture_barriers(c, &m));
	capture_emit(c, 0, &m.base);
	return NULL;
}

/* ---- destination ---- */

static struct err *check_message(const Migrate__Kind__AddressSpace *m)
{
	if (m->exe[0] != '/' || !m->identity || m->auxv.len > AUXV_MAX ||
		m->auxv.len % sizeof(Elf64_auxv_t) ||
		(m->lock_future & ~(uint32_t)(MCL_FUTURE | MCL_ONFAULT)) ||
		(m->barriers & ~(uint32_t)BARRIER_REGISTRATIONS))
		return err_new(ERR_PEER, "impossible address space");
	return NULL;
}

static struct err *open_exe(struct rebuild *r, const Migrate__Kind__AddressSpace *m, int *ret)
{
	autoclose int path_fd = open(m->exe, O_PATH | O_CLOEXEC), fd = -1;
	char again[40];
	struct stat st;

	if (path_fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return err_hint(
			err_new(ERR_MISMATCH, "the executable %s does not exist at the destination",
				m->exe),
			"install the same program there");
	if (path_fd < 0 || fstat(path_fd, &st) < 0)
		return err_errno(errno, "open the executable %s at the destination", m->exe);
	if (!S_ISREG(st.st_mode) || !(st.st_mode & 0111))
		return err_new(ERR_MISMATCH, "%s is no executable file at the destination", m->exe);
	/* It is right only with the file that has the same contents: code goes on in the middle. */
	TRY_IN(file_identity_check_known(r->cache, path_fd, m->identity),
		"the executable %s is another one at the destination", m->exe);
	snprintf(again, sizeof(again), "/proc/self/fd/%d", path_fd);
	TRY_IN(io_open(again, O_RDONLY | O_NONBLOCK, &fd),
		"open the executable %s at the destination", m->exe);
	*ret = take_fd(&fd);
	return NULL;
}

static struct err *mm_check(struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__AddressSpace *m = msg;
	autoclose int fd = -1;

	TRY(check_message(m));
	return err_hint(open_exe(r, m, &fd), "install the same version of the program there");
}

/* An executable that is mapped cannot be set again (EBUSY). */
static bool exe_is_set(const struct rebuild *r, int fd)
{
	struct stat want, have;
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/exe", r->task->pid);
	return fstat(fd, &want) == 0 && stat(path, &have) == 0 && want.st_dev == have.st_dev &&
	       want.st_ino == have.st_ino;
}

/* The executable as a descriptor of the seedling, at a number that is free; -1 when it is set. */
static struct err *hand_over(struct rebuild *r, int fd, int *number)
{
	bool cloexec = true;

	*number = -1;
	if (exe_is_set(r, fd))
		return NULL;
	TRY(free_numbers(r->task, 1, number));
	return seedling_install(r->task, &fd, number, &cloexec, 1);
}

static struct err *set_fields(struct rebuild *r, const Migrate__Kind__AddressSpace *m, int exe)
{
	raddr scratch = remote_scratch(r->task);
	const struct prctl_mm_map map = {
		.start_code = m->start_code,
		.end_code = m->end_code,
		.start_data = m->start_data,
		.end_data = m->end_data,
		.start_brk = m->start_brk,
		.brk = m->brk,
		.start_stack = m->start_stack,
		.arg_start = m->arg_start,
		.arg_end = m->arg_end,
		.env_start = m->env_start,
		.env_end = m->env_end,
		.auxv = (__u64 *)(uintptr_t)(m->auxv.len ? scratch.v + sizeof(map) : 0),
		.auxv_size = (__u32)m->auxv.len,
		.exe_fd = (__u32)exe,
	};

	TRY(remote_put(r->task, 0, &map, sizeof(map)));
	TRY(remote_put(r->task, sizeof(map), m->auxv.data, m->auxv.len));
	return REMOTE(r->task, r->thread, NULL,
		"set the fields of the address space (PR_SET_MM_MAP)", SYS_prctl, PR_SET_MM,
		PR_SET_MM_MAP, scratch.v, sizeof(map), 0);
}

/* Early: with threads, the kernel waits for all processors. */
static struct err *register_barriers(struct rebuild *r, const Migrate__Kind__AddressSpace *m)
{
	for (uint32_t bit = 1; bit && bit <= m->barriers; bit <<= 1)
		if (m->barriers & bit)
			TRY(REMOTE(r->task, r->thread, NULL, "register it for membarrier(2)",
				SYS_membarrier, bit));
	return NULL;
}

/* The kernel lets nobody change the executable while it is mapped: it is set once, when the fields
 * are set for the first time, before anything is mapped. */
static bool has_exe(const struct task *t, int fd)
{
	struct stat now, want;
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/exe", t->pid);
	return stat(path, &now) == 0 && fstat(fd, &want) == 0 && now.st_dev == want.st_dev &&
	       now.st_ino == want.st_ino;
}

static struct err *mm_rebuild(
	struct rebuild *r, const struct object *o unused_arg, const void *msg, int *none unused_arg)
{
	const Migrate__Kind__AddressSpace *m = msg;
	autoclose int fd = -1;
	int number;

	TRY(check_message(m));
	TRY(open_exe(r, m, &fd));
	TRY(register_barriers(r, m));
	if (has_exe(r->task, fd))
		return set_fields(r, m, -1);
	TRY(hand_over(r, fd, &number));
	TRY(set_fields(r, m, number));
	if (number < 0)
		return NULL;
	return REMOTE(
		r->task, r->thread, NULL, "close the executable", SYS_close, (uint64_t)number);
}

/* What would hinder the building of mappings comes when they are all there. */
static struct err *mm_finish(struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__AddressSpace *m = msg;

	if (m->merge)
		TRY(REMOTE(r->task, r->thread, NULL, "let all memory be merged (KSM)", SYS_prctl,
			PR_SET_MEMORY_MERGE, 1));
	if (m->lock_future)
		TRY(REMOTE(r->task, r->thread, NULL, "lock future memory (mlockall)", SYS_mlockall,
			m->lock_future));
	if (m->mdwe)
		TRY(REMOTE(r->task, r->thread, NULL, "deny memory that is written and executed",
			SYS_prctl, PR_SET_MDWE, m->mdwe));
	return NULL;
}

const struct kind kind_mm = {
	.id = 12,
	.name = "address space",
	.scope = KIND_PROCESS,
	.stage = STAGE_MEMORY,
	.msg = &migrate__kind__address_space__descriptor,
	.capture = mm_capture,
	.check = mm_check,
	.rebuild = mm_rebuild,
	.finish = mm_finish,
};
