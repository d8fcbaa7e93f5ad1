/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel says about a process, as lines that a move must not change: mappings, status,
 * limits, descriptors with their sockets' options, timers, and more. What may change is in one
 * table of fixpoint.c, each row with its reason.
 */
#pragma once

#include "base/text.h"

/* Adds the lines, without those about memory if its mappings change all the time (`restless`). The
 * process may run: a text that was taken twice and is the same was right. */
void fixpoint_look(pid_t pid, bool restless, struct text *t);
/* How many lines only one of the texts has; says some of them on stderr. Reorders both texts'
 * lines, so they can be compared once. */
size_t fixpoint_compare(char *before, char *after, bool say);
