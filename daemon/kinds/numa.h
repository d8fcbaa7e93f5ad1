/* SPDX-License-Identifier: Apache-2.0 */
/* NUMA memory policies of mappings (mbind): refused by name. */
#pragma once

#include "kinds/kind.h"

/* Refuses mappings whose policy differs from that of their process. Reads numa_maps, which walks
 * all page tables: for a running target only. A kernel without NUMA has nothing to refuse. */
struct err *numa_check(struct capture *c) must_check;
/* Pure: the first mapping in that text with a policy of its own; false if there is none. Strings of
 * the arena. */
bool numa_own_policy(struct arena *a, const char *text, const char **address, const char **policy);
