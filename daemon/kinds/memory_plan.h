/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's half of the memory layout: a LAYOUT frame's contents, and what must be done to
 * get there. Nobody but kinds/memory*.c includes this.
 */
#pragma once

#include "kinds/memory_priv.h"

/* ---- memory_wire.c ---- */
/* Unpacks and checks all that a peer could get wrong: order, alignment, bounds, indexes. */
struct delta {
	bool first, guards_changed;
	struct range *unmap, *guards;
	size_t n_unmap, n_guards;
	struct region_list map;
	struct layout_file *files;
	size_t n_files;
	struct special special[SPECIALS_MAX];
	size_t n_special;
};
struct err *delta_unpack(
	struct arena *a, const uint8_t *bytes, size_t len, struct delta *ret) must_check;

/* ---- memory_plan.c ---- */
enum op_kind { OP_UNMAP, OP_MAP, OP_PROTECT, OP_ADVISE, OP_NAME, OP_KINDS };
struct op {
	enum op_kind kind;
	int advice; /* OP_ADVISE */
	bool hint;
	struct region r;
};
struct plan {
	struct op *v;
	size_t n, cap;
	struct region_list after;
};
/* What must be done to `have` so that it becomes what the delta says. The kinds of operations are
 * carried out one kind after the other, in the order of enum op_kind. */
void plan_make(
	struct arena *a, const struct region_list *have, const struct delta *d, struct plan *ret);

/* What shmat(2) gives: anything else is a later change. */
int attach_prot(const struct region *r);

/* ---- memory_apply.c, memory_finish.c ---- */
/* Remote calls that are prepared at a time. */
#define CHUNK     512
#define SYS_MSEAL 462 /* Linux 6.10, the same on all architectures */

struct layout_state {
	struct arena *keep;    /* names of special mappings */
	struct arena *present; /* all that follows: a new one with every delta */
	struct region_list now;
	struct vma_list vmas;
	struct special special[SPECIALS_MAX];
	size_t n_special;
	struct range *guards;
	size_t n_guards;
	uint64_t area;
	uint32_t hints_missing; /* advice that this kernel does not have; warned once */
};
