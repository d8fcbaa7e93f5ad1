/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The targets' descriptors, grouped by open file description. Two descriptors belong together when
 * kcmp(KCMP_FILE) says so; only descriptors that agree in what cannot change while they are open
 * (link, inode, access mode, eventfd number) are compared, in kcmp's order, so that 5,000
 * descriptors stay cheap.
 */
#pragma once

#include "kinds/kind.h"

/* The descriptors of each of the processes, and of all of them. Works while they run, too: a
 * descriptor that vanishes meanwhile is left out, one that changes meanwhile is as it was at one of
 * the two looks. */
struct err *file_tables_read(struct arena *a, const struct pids *pids, struct file_table *own,
	struct file_table *all) must_check;

/* ---- for tests: the pure half of the above ---- */

/* One descriptor as it was seen. */
struct file_look {
	pid_t pid;
	int number;
	const char *link, *fdinfo;
	struct stat st;
	uint64_t flags; /* with O_CLOEXEC */
	uint64_t pos;
};
/* Orders two descriptors by identity: 0 the same description, else -1 or 1, consistently. */
struct file_order {
	int (*fn)(void *arg, const struct file_look *a, const struct file_look *b);
	void *arg;
};
void file_table_group(struct arena *a, const struct file_look *looks, size_t n,
	const struct file_order *order, struct file_table *ret);
/* flags and pos of an fdinfo text. */
struct err *file_look_parse(struct file_look *l) must_check;
