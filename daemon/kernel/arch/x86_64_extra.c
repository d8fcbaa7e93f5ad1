// SPDX-License-Identifier: Apache-2.0
/*
 * Rights and descriptors of a thread that hardly any program has, as ptrace shows them: I/O ports
 * (ioperm, iopl) and the three segments of set_thread_area(2), which 32-bit code in a 64-bit
 * process may use. A kernel without one of them says so, and then nobody can have it.
 */
#include "kernel/arch.h"

#include <asm/ldt.h>
#include <elf.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#ifndef NT_386_IOPERM
#define NT_386_IOPERM 0x201
#endif
#define PORTS_BYTES     8192
#define GET_THREAD_AREA 25 /* PTRACE_GET_THREAD_AREA of asm/ptrace-abi.h */
#define TLS_FIRST       12 /* GDT_ENTRY_TLS_MIN */
#define TLS_SEGMENTS    3

static bool may_use_ports(pid_t tid)
{
	uint8_t ports[PORTS_BYTES];
	struct iovec io = { ports, sizeof(ports) };

	return ptrace(PTRACE_GETREGSET, tid, (void *)NT_386_IOPERM, &io) == 0 && io.iov_len;
}

static bool has_segments(pid_t tid)
{
	for (uintptr_t i = TLS_FIRST; i < TLS_FIRST + TLS_SEGMENTS; i++) {
		struct user_desc d = { 0 };

		if (ptrace((enum __ptrace_request)GET_THREAD_AREA, tid, (void *)i, &d) == 0 &&
			!d.seg_not_present)
			return true;
	}
	return false;
}

const char *arch_extra(pid_t tid)
{
	if (may_use_ports(tid))
		return "may use I/O ports";
	return has_segments(tid) ? "has segments of its own (set_thread_area)" : NULL;
}
