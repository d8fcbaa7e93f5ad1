// SPDX-License-Identifier: Apache-2.0
/*
 * What is left of a system call's number when the kernel has replaced it by that of
 * restart_syscall: the code that loaded it. C libraries and Go expand a call to `mov $number,%eax`,
 * at most a few other moves, and `syscall`; a number that came through another register is not
 * found.
 */
#include <string.h>
#include <sys/user.h>

#include "kernel/arch.h"

#define MOV_EAX_IMM32 0xb8
#define MOV_BYTES     5
#define SYSCALL_BYTES 2

static bool listed(int64_t nr, const int64_t *numbers, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (numbers[i] == nr)
			return true;
	return false;
}

int64_t arch_syscall_number_before(
	const uint8_t *code, size_t n, const int64_t *numbers, size_t n_numbers)
{
	if (n < MOV_BYTES + SYSCALL_BYTES || code[n - 2] != 0x0f || code[n - 1] != 0x05)
		return -1;
	for (size_t at = n - SYSCALL_BYTES - MOV_BYTES;; at--) {
		uint32_t nr;

		memcpy(&nr, code + at + 1, sizeof(nr));
		if (code[at] == MOV_EAX_IMM32 && listed(nr, numbers, n_numbers))
			return nr;
		if (at == 0)
			return -1;
	}
}

static struct user_regs_struct *regs(struct arch_state *s)
{
	return (struct user_regs_struct *)(void *)s->regs;
}

uint64_t arch_syscall_pc(const struct arch_state *s)
{
	return arch_pc(s) - SYSCALL_BYTES;
}

void arch_syscall_renumber(struct arch_state *s, int64_t nr)
{
	regs(s)->orig_rax = (uint64_t)nr;
}
