/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may do what. Pure: facts in, error out, so that the whole policy can be read and tested in
 * one place. Gathering the facts is subject.c's work.
 */
#pragma once

#include "base/err.h"
#include "kernel/netend.h"

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
/* Replaces *s. */
void uid_set_copy(struct uid_set *s, const struct uid_set *from);
bool uid_set_has(const struct uid_set *s, uint32_t uid);
/* In the form that uid_set_parse reads; the caller frees it. */
char *uid_set_text(const struct uid_set *s) must_check;

struct ip_range {
	struct net_ip ip;
	unsigned prefix; /* bits */
};
struct ip_set { /* n == 0: any, unless none */
	struct ip_range *v;
	size_t n;
	bool none;
};
void ip_set_fini(struct ip_set *s);
/* "any", "none" or "10.0.0.1, fd00::/64"; replaces *s. */
struct err *ip_set_parse(struct ip_set *s, const char *text) must_check;
/* Replaces *s. */
void ip_set_copy(struct ip_set *s, const struct ip_set *from);
bool ip_set_has(const struct ip_set *s, const struct net_ip *ip);
/* In the form that ip_set_parse reads; the caller frees it. */
char *ip_set_text(const struct ip_set *s) must_check;

/* What a peer may send us. */
struct receive_policy {
	bool allow; /* at all */
	bool allow_capabilities;
	uint64_t max_memory;     /* bytes of one process with its descendants; 0: no limit */
	uint64_t max_processes;  /* of one that comes, itself counted; 0: no limit */
	uint64_t max_total;      /* of all that are coming in from it; 0: no limit */
	uint64_t max_incoming;   /* at once */
	uint64_t max_per_minute; /* that begin; 0: no limit */
	struct uid_set uids;
	struct ip_set addresses; /* that may come along, or that its connections may stand on */
};

/* Who is at the other end of a client's socket: the kernel's word (subject.c). */
struct asker {
	uint32_t uid, gid;
	pid_t pid;        /* may have ended; for the log */
	uint32_t *groups; /* supplementary; owned */
	size_t n_groups;
};
void asker_fini(struct asker *a);
struct asker asker_copy(const struct asker *a);

/* What a process may, over all of its threads. */
struct rights {
	uint32_t *uids; /* real, effective, saved, file system; owned */
	size_t n_uids;
	uint32_t *gids; /* the same, and supplementary groups; owned */
	size_t n_gids;
	uint64_t capabilities; /* permitted, inheritable and ambient, or'ed */
	uint64_t memory_bytes;
};
void rights_fini(struct rights *r);

/* What is known of a process that somebody wants to move. */
struct subject {
	pid_t pid;
	char comm[64];
	uint64_t start_time; /* clock ticks after boot */
	uint32_t owner;      /* of files in /proc/PID: root's when the process is not dumpable */
	struct rights rights;
	bool zombie, kernel_thread;
	bool ours; /* any process of a migrated */
};
void subject_fini(struct subject *s);

/* What a local user can ask for. */
enum policy_verb {
	MAY_LIST,     /* list, status, watch: what ps would show, and the numbers */
	MAY_IDENTITY, /* this host's fingerprints */
	MAY_PEERS,    /* peer list */
	MAY_SEND,     /* send, check */
	MAY_DETAILS,  /* of list, status, watch: reasons, blockers, notes */
	MAY_CANCEL,
	MAY_RESOLVE,
	MAY_CHANGE_PEERS, /* peer add, peer remove */
	MAY_CHANGE_KEY,   /* identity rotate, identity retire */
	MAY_VERBS,
};
/* May `who` do that? `owner`: of the migration or process that it is about (what comes in belongs
 * to root); who asks for what belongs to nobody says 0. MAY_SEND has rules of its own besides:
 * policy_send. */
struct err *policy_may(enum policy_verb verb, uint32_t who, uint32_t owner) must_check;
/* May `who` move (or check) it? */
struct err *policy_send(
	const struct asker *who, bool users_own, const struct subject *s) must_check;
/* What the peer announces. */
struct err *policy_receive(const struct receive_policy *p, uint32_t uid, uint64_t bytes) must_check;
/* May so many processes come here as one migration? */
struct err *policy_count(const struct receive_policy *p, size_t n) must_check;
/* May an address come here with a process of that peer, or its connections stand on it? */
struct err *policy_address(const struct receive_policy *p, const struct net_ip *ip) must_check;
/* What was rebuilt from what the peer sent. */
struct err *policy_rebuilt(const struct receive_policy *p, const struct rights *r) must_check;
