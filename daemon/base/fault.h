/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault points: named places at which a test has a process of ours wait, or end, or find that a
 * system call fails. They exist in builds with -Dfaults=true alone; in any other nothing is left of
 * them. tests/chaos says what it does with them.
 *
 * The environment variable MIGRATED_FAULTS names a file, made by the test, that every role of a
 * daemon maps before it begins (later it may have no right to): see fault_map.h. What is in that
 * file is read at each point, so the test may change it at any time.
 *
 * System calls need no points: in such a build the linker leads those of fault_calls.c through
 * it, and the test names a call and a part of the path of its descriptor.
 */
#pragma once

#include "base/base.h"

#ifdef FAULTS

/* A part of the name, which is joined to `scope` by a dot. Keeps errno. */
void fault_point(const char *scope, const char *name);

#define FAULT(name)              fault_point(NULL, name)
#define FAULT_STATE(scope, name) fault_point(scope, name)
/* Limits of time that a test waits out. */
#define FAULT_LIMIT_US(us) ((us) / 5)

#else

#define FAULT(name)              ((void)0)
#define FAULT_STATE(scope, name) ((void)0)
#define FAULT_LIMIT_US(us)       (us)

#endif
