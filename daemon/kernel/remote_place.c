// SPDX-License-Identifier: Apache-2.0
/*
 * Where batches lie in a target, in which we map nothing: the code behind the vdso, all else in the
 * dead low end of the main stack. Both are found through the process's auxiliary vector and stat,
 * and PROCMAP_QUERY (Linux 6.11), which asks for one mapping: reading all of maps takes 30 ms for
 * 60,000 mappings, while the target stands still. Before 6.11, or when the answer is not what it
 * should be, maps is read.
 */
#include "kernel/remote_priv.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/io.h"
#include "kernel/proc.h"
#include "kernel/trace.h"

/* Distance that must stay between the live part of a stack and our bytes: the red zone, and room
 * for a handler that runs on the frame if we die. */
#define STACK_GAP      8192
#define GUEST_CALLS_AT REMOTE_SCRATCH_BYTES
#define GUEST_FRAME_AT (GUEST_CALLS_AT + 64 * (REMOTE_CALLS_MAX + 1))
#define AUXV_BYTES     65536
/* Place for the agent, or for the code by which a thread of ours begins. */
#define CODE_MAX 96

/* linux/fs.h since 6.11 */
struct map_query {
	uint64_t size, flags, addr;
	uint64_t start, end, vma_flags, page_size, offset, inode;
	uint32_t dev_major, dev_minor, name_size, build_id_size;
	uint64_t name, build_id;
};
#define MAP_QUERY _IOWR('f', 17, struct map_query)

struct place {
	uint64_t start, end;
};

/* The mapping that holds addr, if it has this name. */
static bool query(int maps_fd, uint64_t addr, const char *want, struct place *ret)
{
	char name[64];
	struct map_query q = { .size = sizeof(q),
		.addr = addr,
		.name_size = sizeof(name),
		.name = (uint64_t)(uintptr_t)name };

	if (!addr || ioctl(maps_fd, MAP_QUERY, &q) < 0 || !q.name_size || strcmp(name, want) != 0)
		return false;
	*ret = (struct place){ q.start, q.end };
	return true;
}

static struct err *vdso_by_auxv(struct arena *a, pid_t pid, uint64_t *ret)
{
	char *text;
	size_t len;

	*ret = 0;
	TRY(io_read_file(a, arena_printf(a, "/proc/%d/auxv", (int)pid), AUXV_BYTES, &text, &len));
	for (size_t i = 0; i + 2 * sizeof(uint64_t) <= len; i += 2 * sizeof(uint64_t)) {
		uint64_t pair[2];

		memcpy(pair, text + i, sizeof(pair));
		if (pair[0] == AT_SYSINFO_EHDR)
			*ret = pair[1];
	}
	return NULL;
}

static bool place_named(const struct vma_list *l, const char *name, struct place *ret)
{
	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->v[i].path, name) == 0) {
			*ret = (struct place){ l->v[i].start, l->v[i].end };
			return true;
		}
	return false;
}

static struct err *find_places(struct task *t, struct place *vdso, struct place *stack)
{
	autoarena struct arena *a = arena_new();
	autoclose int fd = -1;
	struct proc_stat st;
	struct vma_list maps;
	uint64_t at;

	TRY(proc_stat(a, t->pid, 0, &st));
	TRY(vdso_by_auxv(a, t->pid, &at));
	TRY(io_open(arena_printf(a, "/proc/%d/maps", (int)t->pid), O_RDONLY, &fd));
	if (query(fd, at, "[vdso]", vdso) && query(fd, st.start_stack, "[stack]", stack))
		return NULL;
	TRY(proc_maps(a, t->pid, &maps));
	if (!place_named(&maps, "[vdso]", vdso))
		return err_new(ERR_UNSUPPORTED, "process %d has no vdso", (int)t->pid);
	if (!place_named(&maps, "[stack]", stack))
		return err_new(ERR_UNSUPPORTED, "process %d has no main stack", (int)t->pid);
	return NULL;
}

static bool all_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

static struct err *save(struct task *t, uint64_t at, size_t n, struct saved_bytes *s)
{
	s->bytes = xrealloc_array(s->bytes, n, 1);
	s->at = at;
	s->n = 0;
	TRY(task_read(t, at, s->bytes, n));
	s->n = n;
	return NULL;
}

static struct err *restore(struct task *t, struct saved_bytes *s)
{
	size_t n = s->n;

	s->n = 0;
	return n ? task_write(t, s->at, s->bytes, n) : NULL;
}

/* Only code that a daemon left there when it died. */
static bool left_behind(const struct saved_bytes *s)
{
	const void *(*const codes[])(size_t *) = { arch_agent_code, arch_launch_code };

	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		size_t len;
		const void *code = codes[i](&len);

		if (memcmp(s->bytes, code, len) == 0 && all_zero(s->bytes + len, s->n - len))
			return true;
	}
	return false;
}

struct err *remote_write_code(struct task *t, const void *(*which)(size_t *))
{
	uint8_t bytes[CODE_MAX] = { 0 };
	size_t len;
	const void *code = which(&len);

	if (len > sizeof(bytes))
		return err_new(ERR_BUG, "code of %zu bytes", len);
	memcpy(bytes, code, len);
	return task_write(t, t->remote->code, bytes, sizeof(bytes));
}

/* The end of the vdso's last page is padding: an ELF image does not end on a page's end. */
static uint64_t code_end(const struct place *vdso)
{
	return vdso->end - LEAVE_BYTES;
}

static uint64_t code_start(const struct place *vdso)
{
	return (code_end(vdso) - CODE_MAX) & ~15ULL;
}

/* Before anything else: such a thread's stack pointer is ours, not its own, and the main stack must
 * not grow for that. */
static struct err *check_calls(const struct task *t, const struct place *vdso)
{
	const uint64_t end = code_end(vdso), at = code_start(vdso);

	for (size_t i = 0; i < t->n_threads; i++) {
		uint64_t pc = arch_pc(&t->threads[i]->state);

		if (pc >= at && pc < end)
			return err_new(ERR_UNSUPPORTED,
				"thread %d is still in a system call of "
				"a daemon that has died",
				(int)t->threads[i]->tid);
	}
	return NULL;
}

static struct err *place_code(struct task *t, const struct place *vdso)
{
	struct remote *r = t->remote;
	const uint64_t end = code_end(vdso), at = code_start(vdso);

	TRY(save(t, at, end - at, &r->saved_code));
	if (left_behind(&r->saved_code))
		memset(r->saved_code.bytes, 0, r->saved_code.n);
	else if (!all_zero(r->saved_code.bytes, r->saved_code.n)) {
		r->saved_code.n = 0;
		return err_new(ERR_UNSUPPORTED, "the vdso of process %d has no room behind it",
			(int)t->pid);
	}
	r->code = at;
	r->leave_at = end;
	return remote_write_code(t, arch_agent_code);
}

/* Makes the main stack reach down to here, as a write of the process's own would. It stays so. */
static struct err *extend_stack(struct task *t, struct place *stack, uint64_t start)
{
	const uint8_t nothing = 0;
	autoerr struct err *e = start < stack->start ? task_write(t, start, &nothing, 1)
						     : err_new(ERR_LIMIT, "no address below");

	if (e)
		return err_hint(err_new(ERR_UNSUPPORTED,
					"the main stack of process %d is in use "
					"down to its lowest page, and cannot grow",
					(int)t->pid),
			"try again later");
	stack->start = start;
	return NULL;
}

/* The low end of the main stack is below everything that lives on it. Where that reaches down to
 * the lowest page, the stack grows. When the main thread runs on another stack just now, how deep
 * this one is in use is unknown: then only bytes that were never written will do. */
static struct err *place_data(struct task *t, struct place *stack)
{
	struct remote *r = t->remote;
	size_t len = GUEST_FRAME_AT + ARCH_FRAME_MAX - ARCH_XSTATE_MAX +
		     task_leader(t)->state.xstate_len;
	uint64_t low = stack->end, sp;

	for (size_t i = 0; i < t->n_threads; i++) {
		sp = arch_sp(&t->threads[i]->state);
		if (sp >= stack->start && sp < low)
			low = sp;
	}
	if (low < stack->start + len + STACK_GAP)
		TRY(extend_stack(t, stack, PAGE_DOWN(low - len - STACK_GAP)));
	TRY(save(t, stack->start, len, &r->saved_data));
	sp = arch_sp(&task_leader(t)->state);
	if ((sp < stack->start || sp >= stack->end) && !all_zero(r->saved_data.bytes, len)) {
		r->saved_data.n = 0;
		return err_hint(err_new(ERR_UNSUPPORTED,
					"the main thread of process %d runs on "
					"another stack and may use all of its own",
					(int)t->pid),
			"try again later");
	}
	r->scratch = stack->start;
	r->calls = stack->start + GUEST_CALLS_AT;
	r->frame = stack->start + GUEST_FRAME_AT;
	return NULL;
}

/* What the leader's status says against remote calls; and the signals that may end a batch. */
static struct err *look_at_status(struct task *t)
{
	struct remote *r = t->remote;
	autoarena struct arena *a = arena_new();
	const struct seccomp_filters *filters;
	struct proc_status status;

	TRY(proc_status(a, t->pid, 0, &status));
	if (status.ns_depth > 1)
		return err_new(ERR_UNSUPPORTED, "process %d lives in a pid namespace of its own",
			(int)t->pid);
	if (status.seccomp == SECCOMP_MODE_STRICT)
		return err_new(ERR_UNSUPPORTED, "process %d is in the strict mode of seccomp",
			(int)t->pid);
	TRY(remote_filters(task_leader(t), &filters));
	if (status.seccomp && !filters->n)
		return err_new(ERR_UNSUPPORTED,
			"the kernel does not tell the seccomp filters of process %d", (int)t->pid);
	TRY(remote_judge_usual(task_leader(t)));
	/* not caught: then ignored, also if we die just before it is dropped */
	r->signals[0] =
		status.sig_caught & MASK_BIT(SIGURG) && !(status.sig_caught & MASK_BIT(SIGWINCH))
			? SIGWINCH
			: SIGURG;
	r->signals[1] = r->signals[0] == SIGURG ? SIGWINCH : SIGURG;
	return NULL;
}

struct err *remote_place(struct task *t)
{
	struct remote *r = t->remote;
	struct place vdso, stack;

	TRY(look_at_status(t));
	TRY(find_places(t, &vdso, &stack));
	TRY(check_calls(t, &vdso));
	TRY(place_data(t, &stack));
	TRY(place_code(t, &vdso));
	r->frame_tid = 0;
	r->place = PLACE_GUEST;
	return NULL;
}

/* The thread whose context is in the frame no longer needs it. */
struct err *remote_clear_frame(struct task *t)
{
	struct thread *th = task_thread(t, t->remote->frame_tid);

	if (th)
		TRY(task_untouch(th));
	t->remote->frame_tid = 0;
	return NULL;
}

static struct err *put_all_back(struct task *t)
{
	struct remote *r = t->remote;

	TRY(remote_clear_frame(t));
	r->place = PLACE_NONE;
	TRY(restore(t, &r->saved_data));
	TRY(restore(t, &r->saved_code));
	if (r->stop_seen && pidfd_send_signal(t->pidfd, SIGSTOP, NULL, 0) < 0)
		return err_errno(errno, "stop process %d again", (int)t->pid);
	r->stop_seen = false;
	return NULL;
}

struct err *remote_put_back(struct task *t)
{
	struct err *e = NULL;

	if (t->remote->place == PLACE_GUEST)
		e = put_all_back(t);
	if (e && err_code(e) != ERR_GONE) {
		struct err *gone = task_check_alive(t);

		if (gone) { /* its memory went first */
			err_free(e);
			return gone;
		}
	}
	return e;
}
