/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes true what a journal says, after whoever wrote it is gone: undo what was not committed, end
 * what was. Everything here can be repeated, and does nothing where nothing is to be done.
 */
#pragma once

#include "roles/journal.h"

/* What is true afterwards. */
enum verdict {
	VERDICT_KEPT,  /* source: it runs here (or has ended here). Destination: nothing is here */
	VERDICT_MOVED, /* it was given away, or came here */
	VERDICT_DOUBT, /* source: only the peer, or the operator, can tell. Nothing was changed */
};
/* "kept", "moved", "in_doubt". */
const char *verdict_name(enum verdict v);

/* boot_id: of this host now. On error the same must be tried again. */
struct err *recover_source(
	const struct journal_record *r, const char *boot_id, enum verdict *ret) must_check;
struct recover_host {
	const char *state_dir, *boot_id;
	const char *cgroup_dir; /* as in the config, "" for automatic */
};
/* VERDICT_DOUBT: whether it ever ran before it was gone nobody knows: it was committed, without
 * cgroup v2, or this host has lost its power, and with it COMMIT may be. */
struct err *recover_destination(
	struct journal *j, const struct recover_host *h, enum verdict *ret) must_check;

/* What to do with a source's original when the doubt is over: it goes on, or it is ended. */
struct err *recover_keep(const struct journal_record *r) must_check;
struct err *recover_end(const struct journal_record *r) must_check;
/* The control group that holds it, or NULL; the caller frees it. */
struct err *recover_group(const struct journal_record *r, char **dir) must_check;
/* Is the process of this record there, in this boot? One that cannot be looked at is. */
bool recover_alive(const struct journal_record *r, const char *boot_id);

/* Removes scratch directories that nobody uses and no journal speaks of. */
void recover_scratch(const char *state_dir);
