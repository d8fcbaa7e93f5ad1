/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's side of the journal. */
#pragma once

#include "ipc.pb-c.h"
#include "roles/journal.h"

struct remembered {
	const char *id, *comm;
	pid_t pid;
};
/* The first record: what is known of the migration, on the disk when this returns. */
struct err *remember_begin(const Migrate__Work *k, const struct remembered *what,
	enum engine_mark mark, struct journal *ret) must_check;
/* Another worker's whole life: sets right what a dead one has left (Work.undo). Its exit status
 * is all that it says. */
int remember_undo(const Migrate__Work *k);
/* Likewise (Work.sweep): removes what nobody knows of any more. */
int remember_sweep(const Migrate__Work *k);
