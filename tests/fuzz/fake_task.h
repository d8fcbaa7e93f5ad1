/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process under construction that is none: the kernel's half of a rebuild (seedling, remote
 * calls, memory from outside) is replaced at link time (-Wl,--wrap, see meson.build), so that the
 * engine and the kinds go on with whatever a peer has sent, as fast as a fuzzer wants it and
 * without acting on anything. Every call "works"; sockets that a process would make are made, in
 * the jail.
 */
#pragma once

#include "kernel/remote.h"

/* No process has it: pid_max is at most 4,194,304. */
#define FAKE_PID 0x7ffffff0

/* A task with FAKE_PID, as seedling_make gives it; ended by task_free. Its first thread has the
 * number that the peer wants. */
struct task *fake_task(pid_t leader);
