// SPDX-License-Identifier: Apache-2.0
#include "kernel/filters.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>

_Static_assert(sizeof(struct sock_filter) == SECCOMP_INSN_BYTES, "struct sock_filter");

static struct err *read_one(
	struct arena *a, pid_t tid, uint64_t index, long insns, struct seccomp_filter *f)
{
	struct {
		uint64_t index, flags;
	} about = { .index = index };
	uint8_t *code = arena_array(a, (size_t)insns, SECCOMP_INSN_BYTES);

	if (ptrace(PTRACE_SECCOMP_GET_FILTER, tid, index, code) != insns)
		return err_new(ERR_KERNEL, "seccomp filter %llu of thread %d has changed",
			(unsigned long long)index, (int)tid);
	if (ptrace(PTRACE_SECCOMP_GET_METADATA, tid, sizeof(about), &about) < 0)
		return err_errno(errno, "read about a seccomp filter of thread %d", (int)tid);
	*f = (struct seccomp_filter){ .code = code,
		.insns = (size_t)insns,
		.log = about.flags & SECCOMP_FILTER_FLAG_LOG };
	return NULL;
}

/* How long it is; 0: there is none of this number. */
static struct err *length(pid_t tid, size_t index, long *insns)
{
	*insns = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, index, NULL);
	if (*insns >= 0)
		return NULL;
	*insns = 0;
	/* EINVAL: not in filter mode. EIO: a kernel that knows no such request. EACCES: we may not,
	 * whether there are any or not. */
	if (errno == ENOENT || errno == EINVAL || errno == EIO || errno == EACCES)
		return NULL;
	return err_errno(errno, "read the seccomp filters of thread %d", (int)tid);
}

struct err *seccomp_read(struct arena *a, pid_t tid, struct seccomp_filters *ret)
{
	struct seccomp_filter *v = NULL;
	size_t n = 0, room = 0;
	long insns;

	for (;;) {
		TRY(length(tid, n, &insns));
		if (!insns)
			break;
		v = arena_grow(a, v, &room, n + 1, sizeof(*v));
		TRY(read_one(a, tid, n, insns, &v[n]));
		n++;
	}
	*ret = (struct seccomp_filters){ v, n };
	return NULL;
}

struct err *seccomp_suspend(pid_t tid, long options)
{
	options |= PTRACE_O_SUSPEND_SECCOMP;
	if (ptrace(PTRACE_SETOPTIONS, tid, NULL, (void *)options) < 0)
		return err_errno(errno, "suspend the seccomp filters of thread %d", (int)tid);
	return NULL;
}

/* ---- what a filter says ---- */

/* The machine of seccomp(2): classic BPF with its own loads. The kernel has checked the code when
 * it was installed: jumps lead forward, and within it. We look at every step all the same. */
struct machine {
	uint32_t a, x, mem[BPF_MEMWORDS];
	const struct seccomp_data *data;
};

/* Who divides by zero has ended with 0 before: see verdict. Shifts are by the lower five bits. */
static uint32_t alu(uint16_t op, uint32_t a, uint32_t b)
{
	switch (op) {
	case BPF_ADD:
		return a + b;
	case BPF_SUB:
		return a - b;
	case BPF_MUL:
		return a * b;
	case BPF_DIV:
		return a / b;
	case BPF_OR:
		return a | b;
	case BPF_AND:
		return a & b;
	case BPF_XOR:
		return a ^ b;
	case BPF_LSH:
		return a << (b & 31);
	case BPF_RSH:
		return a >> (b & 31);
	default:
		return -a; /* BPF_NEG */
	}
}

static bool jumps(uint16_t op, uint32_t a, uint32_t b)
{
	switch (op) {
	case BPF_JEQ:
		return a == b;
	case BPF_JGT:
		return a > b;
	case BPF_JGE:
		return a >= b;
	default:
		return a & b; /* BPF_JSET */
	}
}

static uint32_t loaded(const struct machine *m, const struct sock_filter *i)
{
	uint32_t word = 0;

	switch (BPF_MODE(i->code)) {
	case BPF_ABS:
		if (i->k <= sizeof(*m->data) - sizeof(word))
			memcpy(&word, (const char *)m->data + i->k, sizeof(word));
		return word;
	case BPF_LEN:
		return sizeof(*m->data);
	case BPF_MEM:
		return m->mem[i->k % BPF_MEMWORDS];
	default:
		return i->k; /* BPF_IMM */
	}
}

static uint32_t operand(const struct machine *m, const struct sock_filter *i)
{
	return BPF_SRC(i->code) == BPF_X ? m->x : i->k;
}

/* One instruction that is neither jump nor end. */
static void compute(struct machine *m, const struct sock_filter *i)
{
	switch (BPF_CLASS(i->code)) {
	case BPF_LD:
		m->a = loaded(m, i);
		break;
	case BPF_LDX:
		m->x = loaded(m, i);
		break;
	case BPF_ST:
		m->mem[i->k % BPF_MEMWORDS] = m->a;
		break;
	case BPF_STX:
		m->mem[i->k % BPF_MEMWORDS] = m->x;
		break;
	case BPF_ALU:
		m->a = alu(BPF_OP(i->code), m->a, operand(m, i));
		break;
	default: /* BPF_MISC */
		if (BPF_MISCOP(i->code) == BPF_TAX)
			m->x = m->a;
		else
			m->a = m->x;
	}
}

static struct sock_filter insn(const struct seccomp_filter *f, size_t pc)
{
	struct sock_filter i;

	memcpy(&i, f->code + pc * SECCOMP_INSN_BYTES, sizeof(i));
	return i;
}

static size_t next(const struct machine *m, const struct sock_filter *i, size_t pc)
{
	if (BPF_CLASS(i->code) != BPF_JMP)
		return pc + 1;
	if (BPF_OP(i->code) == BPF_JA)
		return pc + 1 + i->k;
	return pc + 1 + (jumps(BPF_OP(i->code), m->a, operand(m, i)) ? i->jt : i->jf);
}

static bool divides_by_zero(const struct machine *m, const struct sock_filter *i)
{
	return BPF_CLASS(i->code) == BPF_ALU && BPF_OP(i->code) == BPF_DIV && !operand(m, i);
}

static uint32_t verdict(const struct seccomp_filter *f, const struct seccomp_data *data)
{
	struct machine m = { .data = data };

	for (size_t pc = 0; pc < f->insns;) {
		struct sock_filter i = insn(f, pc);

		if (BPF_CLASS(i.code) == BPF_RET)
			return BPF_RVAL(i.code) == BPF_A ? m.a : i.k;
		if (divides_by_zero(&m, &i))
			return 0;
		if (BPF_CLASS(i.code) != BPF_JMP)
			compute(&m, &i);
		pc = next(&m, &i, pc);
	}
	return SECCOMP_RET_KILL_PROCESS; /* it has no end: the kernel would not have taken it */
}

static bool is_harmless(uint32_t verdict)
{
	static const uint32_t harmless[] = { SECCOMP_RET_ALLOW, SECCOMP_RET_LOG, SECCOMP_RET_ERRNO,
		SECCOMP_RET_TRACE };

	for (size_t i = 0; i < ARRAY_LEN(harmless); i++)
		if ((verdict & SECCOMP_RET_ACTION_FULL) == harmless[i])
			return true;
	return false;
}

bool seccomp_harms(const struct seccomp_filters *f, const struct call *c, uint64_t pc)
{
	struct seccomp_data data = { .nr = (int)c->nr,
		.arch = arch_audit(),
		.instruction_pointer = pc };

	for (size_t i = 0; i < ARRAY_LEN(data.args); i++)
		data.args[i] = c->args[i];
	for (size_t i = 0; i < f->n; i++)
		if (!is_harmless(verdict(&f->v[i], &data)))
			return true;
	return false;
}

static bool asks(const struct seccomp_filter *f)
{
	for (size_t pc = 0; pc < f->insns; pc++) {
		struct sock_filter i = insn(f, pc);

		if (BPF_CLASS(i.code) == BPF_RET && BPF_RVAL(i.code) != BPF_A &&
			(i.k & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_USER_NOTIF)
			return true;
	}
	return false;
}

bool seccomp_asks(const struct seccomp_filters *f)
{
	for (size_t i = 0; i < f->n; i++)
		if (asks(&f->v[i]))
			return true;
	return false;
}

const char *seccomp_call_name(struct arena *a, uint64_t nr)
{
	char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, (int)nr);
	const char *ret = name ? arena_strdup(a, name)
			       : arena_printf(a, "a call of number %llu", (unsigned long long)nr);

	free(name);
	return ret;
}
