/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may do what. Pure: facts in, error out, so that the whole policy can be read and tested in
 * one place. Gathering the facts is subject.c's work.
 */
#pragma once

#include "base/err.h"

struct uid_range {
	uint32_t first, last;
};
struct uid_set { /* n == 0: any */
	struct uid_range *v;
	size_t n;
};
void uid_set_fini(struct uid_set *s);
/* "any" or "0, 1000-1999"; replaces *s. */
struct err *uid_set_parse(struct uid_set *s, const char *text) must_check;
bool uid_set_has(const struct uid_set *s, uint32_t uid);
/* In the form that uid_set_parse reads; the caller frees it. */
char *uid_set_text(const struct uid_set *s) must_check;

/* What a peer may send us. */
struct receive_policy {
	uint64_t max_memory; /* bytes; 0: no limit */
	struct uid_set uids;
	bool allow_capabilities;
};

/* What is known of a process that somebody wants to move. */
struct subject {
	pid_t pid;
	char comm[64];
	uint64_t start_time;   /* clock ticks after boot */
	uint32_t uids[4];      /* real, effective, saved, file system */
	uint32_t owner;        /* of /proc/PID: root's when the process is not dumpable */
	uint64_t capabilities; /* permitted */
	bool zombie, kernel_thread;
	bool ours; /* any process of a migrated */
};

/* May user `who` move (or check) it? */
struct err *policy_send(uint32_t who, bool users_own, const struct subject *s) must_check;
/* May `who` cancel a migration that `owner` began? (What comes in belongs to root.) */
struct err *policy_cancel(uint32_t who, uint32_t owner) must_check;
/* May `who` change the peers? */
struct err *policy_peers(uint32_t who) must_check;
/* What the peer announces. */
struct err *policy_receive(const struct receive_policy *p, uint32_t uid, uint64_t bytes) must_check;
/* What was rebuilt from what the peer sent, over all threads. */
struct rights {
	uint32_t *uids; /* real, effective, saved, file system; owned */
	size_t n_uids;
	uint64_t capabilities; /* permitted and inheritable, or'ed */
	uint64_t memory_bytes;
};
void rights_fini(struct rights *r);
struct err *policy_rebuilt(const struct receive_policy *p, const struct rights *r) must_check;
