/* SPDX-License-Identifier: Apache-2.0 */
/* What the seedling's files share. */
#pragma once

#include "kernel/remote_priv.h"

/* Who has this pid: a LIMIT error. */
struct err *seedling_pid_taken(pid_t pid) must_check;
/* Finds the vdso's system call instruction and maps the first area. */
struct err *seedling_first_area(struct task *t) must_check;
