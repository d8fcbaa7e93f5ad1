// SPDX-License-Identifier: Apache-2.0
/*
 * x86_64: registers by PTRACE_GETREGSET, the rt_sigreturn frame, the agent.
 *
 * What a thread was doing shows in orig_rax (the system call, -1 for none) and rax. A call that was
 * interrupted by our stop ends with one of the kernel's internal codes, and the kernel acts on it
 * when the thread goes on, by the registers that it finds then. So setting the saved registers is
 * all that a restart needs, on another host too; only -516 (restart block) depends on memory of the
 * kernel's own thread.
 *
 * Some calls end with a plain EINTR although no handler ran (signal(7): epoll_wait, semop, ...).
 * For them -514 is put in place of it: the kernel makes the call again unless a handler runs.
 */
#include "kernel/arch.h"

#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <linux/audit.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "kernel/trace.h"

#define USER_CS          0x33 /* 64-bit code; 0x23 is 32-bit */
#define SYSCALL_BYTES    2    /* 0f 05 */
#define XSAVE_SW_AT      464  /* bytes the processor leaves to software */
#define XSAVE_HEADER_AT  512  /* first word: the components that are not in their initial state */
#define XSAVE_MIN        576
#define XSAVE_DYNAMIC    (1ULL << 18) /* components on request: AMX tile data */
#define FP_XSTATE_MAGIC1 0x46505853U
#define FP_XSTATE_MAGIC2 0x46505845U
#define UC_FLAGS         7   /* xstate, ss is valid, strict ss */
#define NO_ALTSTACK      0x7 /* invalid ss_flags: see arch_sigreturn_frame */
#define FP_ALIGN         64
#define FRAME_REGS_BYTES 1024 /* the fixed part of a frame, rounded up to FP_ALIGN */

/* include/linux/errno.h: never seen by user space, but by ptrace. */
enum { ERESTARTSYS_ = 512, ERESTARTNOINTR_ = 513, ERESTARTNOHAND_ = 514, ERESTART_BLOCK_ = 516 };

/* rbx: the next struct call, r12: how many are left; a system call keeps both. */
__asm__(".pushsection .rodata\n"
	".globl agent_x86_64, agent_x86_64_after, agent_x86_64_end\n"
	".hidden agent_x86_64, agent_x86_64_after, agent_x86_64_end\n"
	"agent_x86_64:\n"
	"1:	mov (%rbx), %rax\n"
	"	mov 8(%rbx), %rdi\n"
	"	mov 16(%rbx), %rsi\n"
	"	mov 24(%rbx), %rdx\n"
	"	mov 32(%rbx), %r10\n"
	"	mov 40(%rbx), %r8\n"
	"	mov 48(%rbx), %r9\n"
	"	syscall\n"
	"agent_x86_64_after:\n"
	"	mov %rax, 56(%rbx)\n"
	"	add $64, %rbx\n"
	"	dec %r12\n"
	"	jnz 1b\n"
	"	mov $15, %eax\n" /* rt_sigreturn */
	"	syscall\n"
	"	ud2\n"
	"agent_x86_64_end:\n"
	".popsection\n");
extern const uint8_t agent_x86_64[], agent_x86_64_after[], agent_x86_64_end[];
_Static_assert(sizeof(struct call) == 64, "the agent walks struct call");

/* The kernel's struct rt_sigframe without the floating point state; names as in sigcontext(7). */
struct sigcontext_64 {
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, flags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
};
struct rt_frame {
	uint64_t return_address;
	uint64_t uc_flags, uc_link;
	uint64_t altstack_sp;
	uint32_t altstack_flags, pad;
	uint64_t altstack_size;
	struct sigcontext_64 context;
	uint64_t sigmask;
	siginfo_t info;
};
_Static_assert(sizeof(struct rt_frame) <= FRAME_REGS_BYTES, "frame");

struct xsave_software {
	uint32_t magic1, extended_size;
	uint64_t features;
	uint32_t size, pad[7];
};

static struct user_regs_struct *regs(struct arch_state *s)
{
	return (struct user_regs_struct *)(void *)s->regs;
}

static const struct user_regs_struct *const_regs(const struct arch_state *s)
{
	return (const struct user_regs_struct *)(const void *)s->regs;
}

struct err *arch_get_regs(pid_t tid, struct arch_state *s)
{
	struct iovec io = { s->regs, sizeof(s->regs) };

	if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &io) < 0)
		return err_errno(errno, "read registers of thread %d", (int)tid);
	s->regs_len = io.iov_len;
	return NULL;
}

struct err *arch_put_regs(pid_t tid, const struct arch_state *s)
{
	struct iovec io = { (void *)(uintptr_t)s->regs, s->regs_len };

	if (ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &io) < 0)
		return err_errno(errno, "set registers of thread %d", (int)tid);
	return NULL;
}

struct err *arch_get_state(pid_t tid, struct arch_state *s)
{
	struct iovec io = { s->xstate, sizeof(s->xstate) };

	TRY(arch_get_regs(tid, s));
	if (ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &io) < 0)
		return err_errno(errno, "read extended state of thread %d", (int)tid);
	s->xstate_len = io.iov_len;
	return trace_get_mask(tid, &s->sigmask);
}

struct err *arch_set_regs(pid_t tid, const struct arch_state *s)
{
	/* in this order: see remote.c on our death at any moment */
	TRY(trace_set_mask(tid, s->sigmask));
	return arch_put_regs(tid, s);
}

/* The kernel takes exactly its own size; a longer area of another host (more components enabled
 * there) is cut, a shorter one padded: arch_check_xstate has made sure that nothing is lost. */
struct err *arch_set_state(pid_t tid, const struct arch_state *s)
{
	uint8_t area[ARCH_XSTATE_MAX] __attribute__((aligned(64)));
	struct iovec io = { area, sizeof(area) };
	uint64_t local_features;

	if (ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &io) < 0)
		return err_errno(errno, "read extended state of thread %d", (int)tid);
	memcpy(&local_features, area + XSAVE_SW_AT, sizeof(local_features));
	memset(area, 0, io.iov_len);
	memcpy(area, s->xstate, MIN(io.iov_len, s->xstate_len));
	memcpy(area + XSAVE_SW_AT, &local_features, sizeof(local_features));
	if (ptrace(PTRACE_SETREGSET, tid, NT_X86_XSTATE, &io) < 0)
		return err_errno(errno, "set extended state of thread %d", (int)tid);
	return arch_set_regs(tid, s);
}

uint32_t arch_audit(void)
{
	return AUDIT_ARCH_X86_64;
}

uint64_t arch_pc(const struct arch_state *s)
{
	return const_regs(s)->rip;
}

uint64_t arch_sp(const struct arch_state *s)
{
	return const_regs(s)->rsp;
}

void arch_set_pc(struct arch_state *s, uint64_t pc)
{
	regs(s)->rip = pc;
}

int64_t arch_syscall_nr(const struct arch_state *s)
{
	int64_t nr = (int64_t)const_regs(s)->orig_rax;

	return nr >= 0 ? nr : -1;
}

int64_t arch_syscall_ret(const struct arch_state *s)
{
	return (int64_t)const_regs(s)->rax;
}

uint64_t arch_syscall_arg(const struct arch_state *s, unsigned i)
{
	const struct user_regs_struct *r = const_regs(s);
	const uint64_t args[6] = { r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9 };

	return i < ARRAY_LEN(args) ? args[i] : 0;
}

void arch_syscall_finish(struct arch_state *s, int64_t ret)
{
	regs(s)->rax = (uint64_t)ret;
	regs(s)->orig_rax = (uint64_t)-1;
}

void arch_syscall_again(struct arch_state *s)
{
	regs(s)->rax = (uint64_t)-ERESTARTNOHAND_;
}

bool arch_syscall_hide_stop(struct arch_state *s)
{
	static const int ends_with_eintr[] = { SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_pwait2,
		SYS_semop, SYS_semtimedop, SYS_rt_sigtimedwait, SYS_io_getevents, SYS_io_pgetevents,
		SYS_read, SYS_readv, SYS_recvfrom, SYS_recvmsg, SYS_recvmmsg, SYS_accept,
		SYS_accept4, SYS_write, SYS_writev, SYS_sendto, SYS_sendmsg, SYS_sendmmsg };
	int64_t nr = arch_syscall_nr(s);

	if (arch_syscall_ret(s) != -EINTR)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(ends_with_eintr); i++)
		if (nr == ends_with_eintr[i]) {
			arch_syscall_again(s);
			return true;
		}
	return false;
}

struct err *arch_check_state(const struct arch_state *s)
{
	if (s->regs_len != sizeof(struct user_regs_struct) || const_regs(s)->cs != USER_CS)
		return err_new(ERR_UNSUPPORTED, "the thread runs 32-bit code");
	if (s->xstate_len < XSAVE_MIN || s->xstate_len > ARCH_XSTATE_MAX)
		return err_new(ERR_UNSUPPORTED, "extended state of %zu bytes", s->xstate_len);
	return NULL;
}

static uint64_t local_xcr0(void)
{
	uint32_t a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return 0;
	__asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	return (uint64_t)d << 32 | a;
}

/* Where the components of `features` end in the standard format; places are the processor's
 * (AMD and Intel differ in where the protection keys lie). */
static size_t layout_end(uint64_t features)
{
	size_t end = XSAVE_MIN;

	for (uint32_t i = 2; i < 63; i++) {
		uint32_t size, offset, c, d;

		if (!(features >> i & 1))
			continue;
		__cpuid_count(0xd, i, size, offset, c, d);
		end = MAX(end, (size_t)size + offset);
	}
	return end;
}

struct err *arch_check_xstate(const uint8_t *xstate, size_t len)
{
	uint64_t enabled, in_use, local = local_xcr0();

	if (len < XSAVE_MIN || len > ARCH_XSTATE_MAX)
		return err_new(ERR_INVALID, "extended state of %zu bytes", len);
	memcpy(&enabled, xstate + XSAVE_SW_AT, sizeof(enabled));
	memcpy(&in_use, xstate + XSAVE_HEADER_AT, sizeof(in_use));
	if (in_use & ~local)
		return err_new(ERR_MISMATCH,
			"a thread uses processor state %#llx that is not enabled here (%#llx)",
			(unsigned long long)in_use, (unsigned long long)local);
	if (layout_end(enabled & local) > len ||
		((enabled & ~local) == 0 && layout_end(enabled) != len))
		return err_new(ERR_MISMATCH,
			"this processor lays extended state out differently "
			"(%zu bytes, here %zu for the same features)",
			len, layout_end(enabled & local));
	return NULL;
}

const void *arch_agent_code(size_t *len)
{
	*len = (size_t)(agent_x86_64_end - agent_x86_64);
	return agent_x86_64;
}

uint64_t arch_agent_pc(uint64_t code)
{
	return code + (uint64_t)(agent_x86_64_after - agent_x86_64);
}

bool arch_agent_done(const struct arch_state *s, uint64_t code)
{
	return const_regs(s)->rip == arch_agent_pc(code) && const_regs(s)->r12 == 1;
}

int64_t arch_find_syscall(const void *code, size_t len)
{
	const uint8_t *p = code;

	for (size_t i = 0; i + SYSCALL_BYTES <= len; i++)
		if (p[i] == 0x0f && p[i + 1] == 0x05)
			return (int64_t)i;
	return -1;
}

void arch_agent_regs(struct arch_state *s, uint64_t code, uint64_t calls, size_t n, uint64_t frame)
{
	struct user_regs_struct *r = regs(s);

	r->rip = code;
	r->rbx = calls;
	r->r12 = n;
	r->rsp = frame + sizeof(uint64_t); /* the return address counts as popped */
	r->orig_rax = (uint64_t)-1;        /* else the kernel's restart would move rip */
	r->eflags &= ~0x500ULL;            /* no single step, forward */
}

void arch_call_regs(struct arch_state *s, uint64_t pc, const struct call *c)
{
	struct user_regs_struct *r = regs(s);

	r->rip = pc;
	r->rax = c->nr;
	r->rdi = c->args[0];
	r->rsi = c->args[1];
	r->rdx = c->args[2];
	r->r10 = c->args[3];
	r->r8 = c->args[4];
	r->r9 = c->args[5];
	r->orig_rax = (uint64_t)-1;
	r->eflags &= ~0x500ULL;
}

int64_t arch_call_result(const struct arch_state *s)
{
	return (int64_t)const_regs(s)->rax;
}

/* Where these components end in an XSAVE area. */
static size_t xstate_end(uint64_t components)
{
	const int last = 63 - __builtin_clzll(components | 1);
	uint32_t size, offset, c, d;

	if (last < 2 || !__get_cpuid_count(0xd, (unsigned)last, &size, &offset, &c, &d))
		return XSAVE_MIN;
	return offset + size;
}

/* The extended state as the kernel writes it for a handler. ptrace shows room for all components
 * of the processor; a thread has none for those that are given on request (AMX tile data) before it
 * uses them. Of a frame that is larger than what the thread has, rt_sigreturn takes x87 and SSE
 * alone and the rest is lost (check_xstate_in_sigframe; seen on 6.18). */
static size_t frame_xstate(const struct arch_state *s, uint8_t *at)
{
	const uint32_t magic2 = FP_XSTATE_MAGIC2;
	struct xsave_software sw = { .magic1 = FP_XSTATE_MAGIC1 };
	uint64_t used;
	size_t n;

	/* ptrace puts XCR0 where the frame has the same number in its own place */
	memcpy(&sw.features, s->xstate + XSAVE_SW_AT, sizeof(sw.features));
	memcpy(&used, s->xstate + XSAVE_HEADER_AT, sizeof(used));
	sw.features &= ~XSAVE_DYNAMIC | used;
	n = MIN(xstate_end(sw.features), s->xstate_len);
	sw.size = (uint32_t)n;
	sw.extended_size = (uint32_t)(n + sizeof(magic2));
	memcpy(at, s->xstate, n);
	memcpy(at + XSAVE_SW_AT, &sw, sizeof(sw));
	memcpy(at + n, &magic2, sizeof(magic2));
	return n + sizeof(magic2);
}

/* What signal delivery does to an interrupted call before it saves the registers. */
static void frame_restart(const struct user_regs_struct *r, struct sigcontext_64 *c)
{
	bool again;

	if ((int64_t)r->orig_rax < 0)
		return;
	switch (-(int64_t)r->rax) {
	case ERESTARTSYS_:
	case ERESTARTNOINTR_:
	case ERESTARTNOHAND_:
		c->ip -= SYSCALL_BYTES;
		c->ax = r->orig_rax;
		break;
	case ERESTART_BLOCK_:
		/* rt_sigreturn forgets the restart block. A wait that is made again lasts longer
		 * than it was asked for; one that ended early (EINTR) nobody would expect. */
		again = r->orig_rax != SYS_restart_syscall;
		c->ip -= again ? SYSCALL_BYTES : 0;
		c->ax = again ? r->orig_rax : (uint64_t)-EINTR;
		break;
	default:
		break;
	}
}

/* The alternate signal stack stays as it is without our knowing it: rt_sigreturn applies uc_stack
 * as sigaltstack() would, but ignores its errors, and these flags are one. */
size_t arch_sigreturn_frame(const struct arch_state *s, uint64_t at, void *buf)
{
	const struct user_regs_struct *r = const_regs(s);
	struct rt_frame f = {
		.uc_flags = UC_FLAGS, .altstack_flags = NO_ALTSTACK, .sigmask = s->sigmask
	};

	f.context = (struct sigcontext_64){ .r8 = r->r8,
		.r9 = r->r9,
		.r10 = r->r10,
		.r11 = r->r11,
		.r12 = r->r12,
		.r13 = r->r13,
		.r14 = r->r14,
		.r15 = r->r15,
		.di = r->rdi,
		.si = r->rsi,
		.bp = r->rbp,
		.bx = r->rbx,
		.dx = r->rdx,
		.ax = r->rax,
		.cx = r->rcx,
		.sp = r->rsp,
		.ip = r->rip,
		.flags = r->eflags,
		.cs = (uint16_t)r->cs,
		.ss = (uint16_t)r->ss,
		.fpstate = at + FRAME_REGS_BYTES };
	frame_restart(r, &f.context);
	memset(buf, 0, FRAME_REGS_BYTES);
	memcpy(buf, &f, sizeof(f));
	return FRAME_REGS_BYTES + frame_xstate(s, (uint8_t *)buf + FRAME_REGS_BYTES);
}

uint64_t arch_user_end(void)
{
	return 0x7ffffffff000ULL;
}

/* Entry: pause() for ever. */
static const uint8_t seedling_code[] = { 0xb8, SYS_pause, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7 };

size_t arch_seedling_image(void *buf, size_t room)
{
	const uint64_t base = 0x10000000;
	const size_t code_at = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr);
	const size_t len = code_at + sizeof(seedling_code);
	Elf64_Ehdr eh = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
				  EV_CURRENT },
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = base + code_at,
		.e_phoff = sizeof(eh),
		.e_ehsize = sizeof(eh),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 2 };
	Elf64_Phdr ph[2] = { { .p_type = PT_LOAD,
				     .p_flags = PF_R | PF_X,
				     .p_vaddr = base,
				     .p_filesz = len,
				     .p_memsz = len,
				     .p_align = PAGE_BYTES },
		{ .p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W, .p_align = 16 } };

	if (room < len)
		return 0;
	memcpy(buf, &eh, sizeof(eh));
	memcpy((uint8_t *)buf + sizeof(eh), ph, sizeof(ph));
	memcpy((uint8_t *)buf + code_at, seedling_code, sizeof(seedling_code));
	return len;
}
