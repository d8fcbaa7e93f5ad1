/* SPDX-License-Identifier: Apache-2.0 */
/* What the seedling's files share. */
#pragma once

#include "kernel/remote_priv.h"

/* Who has this pid: a LIMIT error. */
struct err *seedling_pid_taken(pid_t pid) must_check;
/* Attributes of what runs no more: traced by us, and of the first of its threads. */
#define SEEDLING_OPTIONS (PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACESYSGOOD)
#define SEEDLING_MAKE_US 5000000 /* until the image runs */
/* The image, executable, from a descriptor. */
struct err *seedling_image(int *fd) must_check;
/* A task for this pid that is none yet. */
struct task *seedling_task(pid_t pid, int sock, int sock_number);
/* It runs the image's first instruction, or is about to, and is traced: from here on it is held. */
struct err *seedling_hatched(struct task *t) must_check;
/* What the end or the stop of a child has sent to it is taken away again. */
struct err *seedling_forget_child(struct task *parent) must_check;
/* As seedling_lend, for all of them. */
struct err *seedling_lend_any(struct task *t, unsigned which, int fd) must_check;
/* Finds the vdso's system call instruction and maps the first area. */
struct err *seedling_first_area(struct task *t) must_check;
