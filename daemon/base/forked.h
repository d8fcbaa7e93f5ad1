/* SPDX-License-Identifier: Apache-2.0 */
/* How a process ends that was forked and executes nothing. */
#pragma once

/* In a sanitized build the process ends here if it has leaked; else nothing happens. */
void fork_leaks(void);
/* As _exit: what its parent has to write or to undo at its own end is not this one's. */
void fork_exit(int status) __attribute__((noreturn));
