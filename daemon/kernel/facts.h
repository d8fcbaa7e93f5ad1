/* SPDX-License-Identifier: Apache-2.0 */
/* What must match, or be large enough, on the other host: read from this one. */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "kernel/cpu.h"

struct facts {
	const char *kernel;  /* uname -r and -v */
	const char *machine; /* uname -m */
	const char *hostname;
	uint64_t state_components; /* XCR0 */
	uint32_t state_bytes;
	uint32_t cpu_words[CPU_WORDS_MAX];
	size_t n_cpu_words;
	const char *cpu_model;
	uint32_t rseq_bytes; /* 0 when the kernel does not say */
	uint64_t vdso_hash, vdso_bytes;
	uint64_t max_map_count, pid_max, nr_open;
	uint32_t overcommit;
	uint64_t mem_free_bytes; /* MemAvailable + SwapFree */
	int64_t realtime_ns, monotonic_ns, boottime_ns;
	const char *lsm;       /* active modules, "" when securityfs is not mounted */
	const char *lsm_label; /* our own, which a seedling inherits */
	uint32_t page_bytes, cpus;
};

/* Texts live in the arena. What this kernel does not show is 0 or "". */
void facts_read(struct arena *a, struct facts *ret);
/* The security label of a process (0: our own), without what is the same everywhere
 * ("unconfined"); "" when there is none. In the arena. */
const char *facts_lsm_label(struct arena *a, pid_t pid) must_check;
