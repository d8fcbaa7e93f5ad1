/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking rights away from ourselves, for good: system calls, capabilities, the file system.
 *
 * Which calls a list allows is written beside the code that makes them, in comments that begin with
 * @calls; calls.py collects them at build time into calls.inc:
 *
 *     @calls NAME...: CALL... +NAME...
 *
 * CALL is a system call, with conditions on its arguments in brackets: ioctl[1=FIONREAD] for a
 * value, mmap[2&PROT_EXEC=0] for bits, several with commas, all of which must hold. A call that is
 * named more than once is allowed if any of them fits. +NAME takes in another list.
 *
 * None of this may ever happen to the thread that traces, nor to an ancestor of a process that is
 * rebuilt: all of it is inherited for ever (SECURITY.md).
 */
#pragma once

#include "base/err.h"

enum confine_list {
	CONFINE_CONTROL,
	CONFINE_NET,
	CONFINE_NAMES,
	CONFINE_PAGES,
	CONFINE_LISTS,
};

/* Only the calls of the list from here on, in this thread and what it starts. Any other kills the
 * process by SIGSYS; in CONFINE_NAMES, where libraries that are not ours run (name service), it
 * fails with EACCES. Sets no_new_privs. */
struct err *confine_calls(enum confine_list list) must_check;
/* The capabilities of this thread become `keep` (bits), permitted and effective; all others leave
 * the bounding set, too; nothing is inheritable or ambient. */
struct err *confine_capabilities(uint64_t keep) must_check;
/* A mount namespace of its own that holds one empty directory, which cannot be written to; and
 * `flags`, other namespaces (CLONE_NEWNET) that are empty, too. For a process of one thread. */
struct err *confine_root(int flags) must_check;
/* No core dump, no tracer but root, /proc/self is root's: not inherited by a program that is
 * executed. */
struct err *confine_memory(void) must_check;

/* For a thread that carries pages (engine_io.page_thread): it keeps what it takes to read and write
 * the memory of another user's process, and the calls of CONFINE_PAGES. */
struct err *confine_page_thread(void) must_check;
