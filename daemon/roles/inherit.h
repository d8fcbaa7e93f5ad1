/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What passes from a process to its children for ever, and so from whoever started the daemon to
 * the processes that it rebuilds. SECURITY.md has the list; tests/e2e/test_inheritance starts the
 * daemon with an odd value of each.
 */
#pragma once

/* In a worker, before anything else: everything that can be given up becomes what the kernel gives
 * to its first process. The rest the kinds set (limits, scheduling, credentials), or refuse. */
void inherit_nothing(void);
/* In the monitor, at the daemon's start: it is nobody's parent by inheritance, and warns of what
 * cannot be given up and would hinder moves to this host. */
void inherit_begin(void);
