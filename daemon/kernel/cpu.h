/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program may have found out about the processor and now relies on. Feature words in a fixed
 * order per architecture, the order of the wire; one implementation per architecture (arch/).
 */
#pragma once

#include "base/arena.h"

/* All words of this architecture, features first, then the layout of the extended state. */
#define CPU_WORDS_MAX 64
size_t cpu_words(uint32_t words[CPU_WORDS_MAX]);
/* Enabled components of the extended state, 0 where there is no such thing. */
uint64_t cpu_state_components(void);
/* Size of the extended state with those components, uncompacted. */
uint32_t cpu_state_bytes(void);
/* As the processor calls itself; "" when it does not. */
void cpu_model(char *buf, size_t room);

/* Calls `missing` with the name of every feature that programs use and `there` lacks. Words behind
 * the shorter list count as 0. */
struct cpu_list {
	const uint32_t *v;
	size_t n;
};
void cpu_compare(struct cpu_list here, struct cpu_list there,
	void (*missing)(void *arg, const char *feature), void *arg);
/* Do the components that `here` has enabled lie at the same places there? Component number of the
 * first that does not, -1 if all do. */
int cpu_state_moved(uint64_t components, const uint32_t *here, size_t n_here, const uint32_t *there,
	size_t n_there);
