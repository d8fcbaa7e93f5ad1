/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target's descriptors, grouped by open file description. Two descriptors belong together when
 * kcmp(KCMP_FILE) says so; only descriptors whose link and fdinfo text (but for O_CLOEXEC) are
 * equal are compared, in kcmp's order, so that 5,000 descriptors stay cheap.
 */
#pragma once

#include "kinds/kind.h"

/* Works on a running target too: a descriptor that vanishes meanwhile is left out (gone), one that
 * changes meanwhile is as it was at one of the two looks. */
struct err *file_table_read(struct arena *a, struct task *t, struct file_table *ret) must_check;
