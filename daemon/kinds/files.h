/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target's descriptors, grouped by open file description. Two descriptors belong together when
 * kcmp(KCMP_FILE) says so; only descriptors that agree in what cannot change while they are open
 * (link, inode, access mode, eventfd number) are compared, in kcmp's order, so that 5,000
 * descriptors stay cheap.
 */
#pragma once

#include "kinds/kind.h"

/* Works on a running target too: a descriptor that vanishes meanwhile is left out (gone), one that
 * changes meanwhile is as it was at one of the two looks. */
struct err *file_table_read(struct arena *a, struct task *t, struct file_table *ret) must_check;

/* ---- for tests: the pure half of the above ---- */

/* One descriptor as it was seen. */
struct file_look {
	int number;
	const char *link, *fdinfo;
	struct stat st;
	uint64_t flags; /* with O_CLOEXEC */
	uint64_t pos;
};
/* Orders two descriptors by identity: 0 the same description, else -1 or 1, consistently. */
struct file_order {
	int (*fn)(void *arg, int fd_a, int fd_b);
	void *arg;
};
void file_table_group(struct arena *a, const struct file_look *looks, size_t n,
	const struct file_order *order, struct file_table *ret);
/* flags and pos of an fdinfo text. */
struct err *file_look_parse(struct file_look *l) must_check;
