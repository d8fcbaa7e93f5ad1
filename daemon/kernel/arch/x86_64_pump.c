// SPDX-License-Identifier: Apache-2.0
/*
 * x86_64: the code of the pump (kernel/pump.h), and how a thread leaves without a trace.
 *
 * The last thing that the pump's code does is to unmap itself. So the system call instruction for
 * that must lie elsewhere, and what follows it there must end the thread with nothing but
 * registers. C libraries have such a place: a thread's end is a loop around exit(2), which has no
 * stack to rely on either,
 *
 *	1:	xor %edi, %edi
 *		mov %edx, %eax		or  mov $60, %eax
 *		syscall			<- entered here, with munmap's registers and 60 in edx
 *		jmp 1b
 *
 * (glibc: __libc_start_call_main and start_thread, static ones too; musl: pthread_exit,
 * __unmapself).
 * arch_find_leave looks for one. Where there is none (Go), six bytes do it that somebody must put
 * somewhere: arch_leave_code.
 */
#include "kernel/arch.h"

#include <errno.h>
#include <linux/sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/user.h>

#define TEXT_OF(x)  TEXT_OF_(x)
#define TEXT_OF_(x) #x

/* What the two pieces of code agree on: rbp the area, r13 its size, rbx where to tell; r14 and r12
 * the code to copy and its size. */
__asm__(".pushsection .rodata\n"
	".globl launch_x86_64, launch_x86_64_end, pump_x86_64, pump_x86_64_leave, "
	"pump_x86_64_owner, pump_x86_64_end\n"
	".hidden launch_x86_64, launch_x86_64_end, pump_x86_64, pump_x86_64_leave, "
	"pump_x86_64_owner, pump_x86_64_end\n"
	"launch_x86_64:\n"
	"	syscall\n" /* clone */
	"	test %eax, %eax\n"
	"	jz 1f\n"
	"	mov $15, %eax\n" /* the thread itself: rt_sigreturn, should its tracer have died */
	"	syscall\n"
	"	ud2\n"
	"1:	mov $9, %eax\n" /* mmap(NULL, r13, ...): the rest was set before the clone */
	"	xor %edi, %edi\n"
	"	mov %r13, %rsi\n"
	"	syscall\n"
	"	test %rax, %rax\n"
	"	js 2f\n"
	"	mov %rax, %rbp\n"
	"	mov %rax, %rdi\n"
	"	mov %r14, %rsi\n"
	"	mov %r12, %rcx\n"
	"	rep movsb\n"
	"	jmp *%rbp\n"
	"2:	mov %rax, (%rbx)\n"
	"	mov $60, %eax\n" /* exit */
	"	syscall\n"
	"launch_x86_64_end:\n"

	"pump_x86_64:\n"
	"	mov $28, %eax\n" /* madvise: children do not inherit it */
	"	mov %rbp, %rdi\n"
	"	mov %r13, %rsi\n"
	"	mov $10, %edx\n" /* MADV_DONTFORK */
	"	syscall\n"
	"	test %rax, %rax\n"
	"	js 1f\n"
	"	mov $10, %eax\n" /* mprotect: the code is not writable */
	"	mov $4096, %esi\n"
	"	mov $5, %edx\n" /* PROT_READ | PROT_EXEC */
	"	syscall\n"
	"	test %rax, %rax\n"
	"	js 1f\n"
	"	mov $10, %eax\n" /* and the data no code */
	"	lea 4096(%rbp), %rdi\n"
	"	lea -4096(%r13), %rsi\n"
	"	mov $3, %edx\n" /* PROT_READ | PROT_WRITE */
	"	syscall\n"
	"	test %rax, %rax\n"
	"	js 1f\n"
	"	lea (%rbp,%r13), %rsp\n" /* not used */
	"	mov $436, %eax\n"        /* close_range: a table of its own, empty */
	"	xor %edi, %edi\n"
	"	mov $-1, %esi\n"
	"	mov $2, %edx\n" /* CLOSE_RANGE_UNSHARE */
	"	syscall\n"
	"	test %rax, %rax\n"
	"	cmovz %rbp, %rax\n"
	"1:	mov %rax, (%rbx)\n" /* told: from here on nothing is needed but the area */
	"	cmp %rax, %rbp\n"
	"	jne 9f\n"

	"	add $4096, %rbp\n" /* from here on: the data */
	"	mov $4, %r12d\n"   /* 0 1 orders, 2 3 results, 4 5 and 6 7 pages */
	"2:	mov $293, %eax\n"  /* pipe2 */
	"	mov %rbp, %rdi\n"
	"	mov $0x80000, %esi\n" /* O_CLOEXEC */
	"	syscall\n"
	"	test %rax, %rax\n"
	"	js 8f\n"
	"	dec %r12d\n"
	"	jnz 2b\n"
	"	mov pump_x86_64_patience(%rip), %r12d\n"
	"3:	mov $1, %eax\n" /* poll until the other ends are taken, or nobody comes */
	"	shl $32, %rax\n"
	"	mov %rax, (%rbp)\n" /* fd 0, POLLIN */
	"	mov $7, %eax\n"
	"	mov %rbp, %rdi\n"
	"	mov $1, %esi\n"
	"	mov pump_x86_64_nap(%rip), %edx\n"
	"	syscall\n"
	"	cmp $1, %eax\n"
	"	je 4f\n"
	"	mov $62, %eax\n" /* kill, no signal: is there anybody to come? */
	"	mov pump_x86_64_owner(%rip), %edi\n"
	"	xor %esi, %esi\n"
	"	syscall\n"
	"	cmp $-3, %eax\n" /* ESRCH */
	"	je 8f\n"
	"	dec %r12d\n"
	"	jnz 3b\n"
	"	jmp 8f\n"
	"4:	xor %eax, %eax\n" /* read the first order: it says only that they are */
	"	xor %edi, %edi\n"
	"	mov %rbp, %rsi\n"
	"	mov $1, %edx\n"
	"	syscall\n"
	"	cmp $1, %eax\n"
	"	jne 8f\n"
	"	mov $3, %eax\n" /* close: now their death is our end of file */
	"	mov $1, %edi\n"
	"	syscall\n"
	"	mov $2, %edi\n"
	"5:	mov $3, %eax\n"
	"	syscall\n"
	"	add $2, %edi\n"
	"	cmp $6, %edi\n"
	"	jbe 5b\n"

	"6:	xor %eax, %eax\n" /* read an order: pipe, count, vector */
	"	xor %edi, %edi\n"
	"	mov %rbp, %rsi\n"
	"	mov $4096, %edx\n"
	"	syscall\n"
	"	cmp $16, %rax\n"
	"	jle 8f\n"
	"	mov $278, %eax\n" /* vmsplice */
	"	mov (%rbp), %rdi\n"
	"	lea 16(%rbp), %rsi\n"
	"	mov 8(%rbp), %rdx\n"
	"	mov $10, %r10d\n" /* SPLICE_F_GIFT | SPLICE_F_NONBLOCK */
	"	syscall\n"
	"	mov %rax, (%rbp)\n"
	"	mov $1, %eax\n" /* write the result */
	"	mov $3, %edi\n"
	"	mov %rbp, %rsi\n"
	"	mov $8, %edx\n"
	"	syscall\n"
	"	cmp $8, %rax\n"
	"	je 6b\n"

	"8:	sub $4096, %rbp\n"
	"9:	mov %rbp, %rdi\n"
	"	mov %r13, %rsi\n"
	"	mov $60, %edx\n"
	"	mov %edx, %ebx\n"
	"	mov %edx, %ebp\n"
	"	mov %edx, %r8d\n"
	"	mov %edx, %r9d\n"
	"	mov %edx, %r10d\n"
	"	mov %edx, %r12d\n"
	"	mov %edx, %r13d\n"
	"	mov %edx, %r14d\n"
	"	mov %edx, %r15d\n"
	"	mov $11, %eax\n" /* munmap */
	"	jmp *pump_x86_64_leave(%rip)\n"
	"	.balign 8\n"
	"pump_x86_64_leave:\n"
	"	.quad 0\n"
	"pump_x86_64_owner:\n"
	"	.long 0\n"
	"pump_x86_64_patience:\n"
	"	.long " TEXT_OF(ARCH_PUMP_NAPS) "\n"
						"pump_x86_64_nap:\n"
						"	.long " TEXT_OF(
							ARCH_PUMP_NAP_MS) "\n"
									  "pump_x86_64_end:\n"
									  ".popsection\n");
extern const uint8_t launch_x86_64[], launch_x86_64_end[];
extern const uint8_t pump_x86_64[], pump_x86_64_leave[], pump_x86_64_owner[], pump_x86_64_end[];

static struct user_regs_struct *regs(struct arch_state *s)
{
	return (struct user_regs_struct *)(void *)s->regs;
}

const void *arch_launch_code(size_t *len)
{
	*len = (size_t)(launch_x86_64_end - launch_x86_64);
	return launch_x86_64;
}

void arch_launch_regs(struct arch_state *s, const struct arch_launch *l)
{
	struct user_regs_struct *r = regs(s);

	r->rip = l->code;
	r->rsp = l->frame + sizeof(uint64_t);
	r->rax = SYS_clone;
	r->rdi = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
	r->rsi = l->stack;
	/* clone does not look at these: they are for the new thread's mmap */
	r->rdx = PROT_READ | PROT_WRITE | PROT_EXEC;
	r->r10 = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
	r->r8 = (uint64_t)-1;
	r->r9 = 0;
	r->r13 = l->area_bytes;
	r->r14 = l->image;
	r->r12 = l->image_len;
	r->rbx = l->tell;
	r->orig_rax = (uint64_t)-1;
	r->eflags &= ~0x500ULL;
}

size_t arch_pump_image(uint64_t leave, pid_t owner, void *buf, size_t room)
{
	size_t len = (size_t)(pump_x86_64_end - pump_x86_64);

	if (len > room)
		return 0;
	memcpy(buf, pump_x86_64, len);
	memcpy((uint8_t *)buf + (pump_x86_64_leave - pump_x86_64), &leave, sizeof(leave));
	memcpy((uint8_t *)buf + (pump_x86_64_owner - pump_x86_64), &owner, sizeof(owner));
	return len;
}

/* ---- leaving ---- */

/* munmap leaves 0 in eax. */
static const uint8_t leave_code[] = { 0x0f, 0x05, 0xb0, SYS_exit, 0x0f, 0x05 };

const void *arch_leave_code(size_t *len)
{
	*len = sizeof(leave_code);
	return leave_code;
}

/* Instructions that may stand between the two calls; each begins with these bytes. `sets`: eax is
 * the number of exit then. */
static const struct {
	uint8_t n, skip;
	bool sets;
	uint8_t bytes[5];
} between[] = {
	{ 2, 2, false, { 0x31, 0xff } },             /* xor %edi, %edi */
	{ 3, 3, false, { 0x48, 0x31, 0xff } },       /* xor %rdi, %rdi */
	{ 1, 5, false, { 0xbf } },                   /* mov $..., %edi */
	{ 5, 5, true, { 0xb8, SYS_exit, 0, 0, 0 } }, /* mov $60, %eax */
	{ 2, 2, true, { 0x89, 0xd0 } },              /* mov %edx, %eax */
	{ 2, 2, true, { 0x89, 0xd8 } },              /* ebx */
	{ 2, 2, true, { 0x89, 0xe8 } },              /* ebp */
	{ 3, 3, true, { 0x44, 0x89, 0xc0 } },        /* r8d */
	{ 3, 3, true, { 0x44, 0x89, 0xc8 } },        /* r9d */
	{ 3, 3, true, { 0x44, 0x89, 0xd0 } },        /* r10d */
	{ 3, 3, true, { 0x44, 0x89, 0xe0 } },        /* r12d */
	{ 3, 3, true, { 0x44, 0x89, 0xe8 } },        /* r13d */
	{ 3, 3, true, { 0x44, 0x89, 0xf0 } },        /* r14d */
	{ 3, 3, true, { 0x44, 0x89, 0xf8 } },        /* r15d */
	{ 3, 3, true, { 0x48, 0x89, 0xd0 } },        /* rdx */
	{ 1, 1, false, { 0x90 } },                   /* nop */
	{ 2, 2, false, { 0x66, 0x90 } },
};

/* Follows the code behind a system call. */
static bool ends_thread(const uint8_t *p, size_t len, size_t at)
{
	bool set = false;

	for (int steps = 0; steps < 8 && at < len && len - at >= 8; steps++) {
		size_t i = 0;

		if (p[at] == 0x0f && p[at + 1] == 0x05)
			return set;
		if (p[at] == 0xeb) { /* jmp */
			at += 2 + (size_t)(int64_t)(int8_t)p[at + 1];
			continue;
		}
		while (i < ARRAY_LEN(between) &&
			memcmp(p + at, between[i].bytes, between[i].n) != 0)
			i++;
		if (i == ARRAY_LEN(between))
			return false;
		set |= between[i].sets;
		at += between[i].skip;
	}
	return false;
}

int64_t arch_find_leave(const void *text, size_t len)
{
	const uint8_t *p = text;

	for (size_t at = 0; at + 2 <= len; at++) {
		const uint8_t *next = memchr(p + at, 0x0f, len - at - 1);

		if (!next)
			return -1;
		at = (size_t)(next - p);
		if (p[at + 1] == 0x05 && ends_thread(p, len, at + 2))
			return (int64_t)at;
	}
	return -1;
}
