/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All that depends on the processor: registers, the signal frame, the agent's machine code.
 * One implementation per architecture (arch/x86_64.c); nobody else names a register.
 */
#pragma once

#include "base/err.h"

/* One system call as the agent reads it; the layout is the agent's ABI on every architecture. */
struct call {
	uint64_t nr;
	uint64_t args[6];
	int64_t ret;
};

/* Upper bound of the extended state we can carry (AMX needs about 11 KiB). */
#define ARCH_XSTATE_MAX 16384
#define ARCH_REGS_MAX   512

/* The registers of a stopped thread, opaque to everybody else and in wire order. */
struct arch_state {
	size_t regs_len, xstate_len;
	uint8_t regs[ARCH_REGS_MAX] __attribute__((aligned(8)));
	uint8_t xstate[ARCH_XSTATE_MAX] __attribute__((aligned(16))); /* as calloc aligns */
	uint64_t sigmask; /* the mask that holds outside of sigsuspend and friends */
};

/* Fills, or sets, all registers and the mask of a ptrace-stopped thread. */
struct err *arch_get_state(pid_t tid, struct arch_state *s) must_check;
struct err *arch_set_state(pid_t tid, const struct arch_state *s) must_check;
/* The same without the extended state, which a batch of system calls does not touch. */
struct err *arch_set_regs(pid_t tid, const struct arch_state *s) must_check;

/* The registers alone: no mask, no extended state. */
struct err *arch_get_regs(pid_t tid, struct arch_state *s) must_check;
struct err *arch_put_regs(pid_t tid, const struct arch_state *s) must_check;

/* Where the agent, when it lies at `code`, makes its calls (behind the instruction). */
uint64_t arch_agent_pc(uint64_t code);
/* AUDIT_ARCH_*, by which seccomp filters tell the ABI of a call. */
uint32_t arch_audit(void);
uint64_t arch_pc(const struct arch_state *s);
uint64_t arch_sp(const struct arch_state *s);
void arch_set_pc(struct arch_state *s, uint64_t pc);
/* The system call in which the thread was stopped, -1 for none, and what it returned so far. */
int64_t arch_syscall_nr(const struct arch_state *s);
int64_t arch_syscall_ret(const struct arch_state *s);
uint64_t arch_syscall_arg(const struct arch_state *s, unsigned i);
/* Makes the thread see `ret` as the result, without a restart. */
void arch_syscall_finish(struct arch_state *s, int64_t ret);
/* Makes the thread make its interrupted system call again, with the same arguments; if a handler
 * runs before, it sees EINTR instead. */
void arch_syscall_again(struct arch_state *s);
/* The address of the instruction by which it was made. */
uint64_t arch_syscall_pc(const struct arch_state *s);
/* Puts the call's own number in the place of restart_syscall. */
void arch_syscall_renumber(struct arch_state *s, int64_t nr);
/* Which of these numbers the code in front of a system call instruction loads (`code` ends behind
 * that instruction), -1 if none: for restart_syscall, which hides the call's own number. */
int64_t arch_syscall_number_before(
	const uint8_t *code, size_t n, const int64_t *numbers, size_t n_numbers);
/* Some calls end with EINTR because of a mere ptrace stop (epoll_wait, semop, ...). If this is one
 * it will be made again, unless a handler runs: returns true, and the state must be set. */
bool arch_syscall_hide_stop(struct arch_state *s);
/* False for a thread that we cannot carry (32-bit code); says why. */
struct err *arch_check_state(const struct arch_state *s) must_check;
/* What else the stopped thread has that we cannot carry, as a sentence's end; NULL: nothing. */
const char *arch_extra(pid_t tid);
/* An error unless this processor can load a state saved with these sizes and features. */
struct err *arch_check_xstate(const uint8_t *xstate, size_t len) must_check;

/* The agent's code: position independent, walks `struct call`s, then returns by rt_sigreturn. */
const void *arch_agent_code(size_t *len);
/* Offset of a system call instruction in `code` (a vdso, the agent); -1 if there is none. */
int64_t arch_find_syscall(const void *code, size_t len);
/* Registers that run the agent at `code` over n calls at `calls`, with the frame at `frame`. */
void arch_agent_regs(struct arch_state *s, uint64_t code, uint64_t calls, size_t n, uint64_t frame);
/* The agent has made the last call of its list, and nothing after it. */
bool arch_agent_done(const struct arch_state *s, uint64_t code);
/* Registers that make one call with the system call instruction at pc (the tracer steps over). */
void arch_call_regs(struct arch_state *s, uint64_t pc, const struct call *c);
int64_t arch_call_result(const struct arch_state *s);
/* Lays out an rt_sigreturn frame for the address `at` (64-byte aligned) that continues `s` as a
 * signal delivery would have (restarts included). Its size is at most ARCH_FRAME_MAX; the alternate
 * signal stack stays as it is. */
#define ARCH_FRAME_MAX (ARCH_XSTATE_MAX + 2048)
size_t arch_sigreturn_frame(const struct arch_state *s, uint64_t at, void *buf);

/* ---- the pump (kernel/pump.h) ---- */

/* How a thread of the task's own is made the pump's parent. The thread's registers are then those
 * of a clone(2) by which a thread begins that maps an area (area_bytes), copies its code there from
 * `image` and goes on there. It writes to `tell`: the area's address when it needs no memory but
 * that one any more, or a negative errno before it ends. */
struct arch_launch {
	uint64_t code;  /* where arch_launch_code was put */
	uint64_t frame; /* rt_sigreturn frame of the thread that clones */
	uint64_t stack; /* any address but 0: nothing is written there */
	uint64_t image, image_len, area_bytes, tell;
};
const void *arch_launch_code(size_t *len);
void arch_launch_regs(struct arch_state *s, const struct arch_launch *l);
/* The pump's code: its first page is code, all behind it is data. It makes four pipes, waits for
 * one byte in the first as long as there is a process `owner` (and not for ever), and then obeys
 * orders (pump.c). At the end of orders it unmaps its area by the instruction at `leave`. 0 if it
 * does not fit. */
#define ARCH_PUMP_NAP_MS 20
#define ARCH_PUMP_NAPS   500
size_t arch_pump_image(uint64_t leave, pid_t owner, void *buf, size_t room);
/* Offset of a system call instruction behind which a thread ends that comes with the registers of
 * the pump's last call; it needs no memory of its own any more. -1: none. */
int64_t arch_find_leave(const void *text, size_t len);
/* Where there is none: the shortest that does it. */
const void *arch_leave_code(size_t *len);

/* Highest address of user space + 1. */
uint64_t arch_user_end(void);
/* A minimal static ELF image that does nothing but wait: the seedling. 0 if it does not fit. */
size_t arch_seedling_image(void *buf, size_t room);
