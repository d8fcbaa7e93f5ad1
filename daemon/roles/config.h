/* SPDX-License-Identifier: Apache-2.0 */
/*
 * migrated.conf: lines of `key = value`, # begins a comment; after a line `[peer NAME]` what holds
 * for that peer instead. A table of keys; read by the monitor, at start and when it is told to. See
 * migrated.conf.5.
 */
#pragma once

#include "base/err.h"
#include "roles/policy.h"
#include "session/peers.h"

#define CONFIG_PATH       "/etc/migrated/migrated.conf"
#define CONFIG_LISTEN_MAX 16

/* A section. It begins as a copy of what holds for all. */
struct peer_section {
	char name[PEER_NAME_BYTES];
	struct receive_policy receive;
};

struct config {
	struct address listen[CONFIG_LISTEN_MAX];
	size_t n_listen;
	bool listen_none; /* no TCP at all: this host only sends */
	char *hooks_dir;
	int64_t hook_limit_us;         /* each program */
	int64_t frozen_us;             /* a process of this host stands still so long at most */
	int64_t handshake_us;          /* TLS and HELLO together */
	int64_t connect_us;            /* name service and connect */
	bool kernel_tls;               /* where the kernel has it */
	uint64_t max_migrations;       /* both directions together */
	bool allow_users_own;          /* users may move their own processes */
	struct receive_policy receive; /* for peers without a section */
	struct peer_section *peers;
	size_t n_peers;
	char *cgroup_dir;    /* NULL: automatic */
	const char *tracker; /* "auto", or of kernel/dirty.h; static */
	const char *pages;   /* "auto", or a page source of pages/pages.h; static */
	const char *sink;    /* "auto", or a page sink of pages/pages.h; static */
	bool debug;
};

/* The defaults. */
void config_init(struct config *c);
void config_fini(struct config *c);
/* `name` is the file's name for errors, which carry the line. A key may come once, but for listen.
 */
struct err *config_parse(struct config *c, const char *name, const char *text) must_check;
/* A missing file is an error only if `required`. */
struct err *config_load(struct config *c, const char *path, bool required) must_check;
/* What may come from that peer. */
const struct receive_policy *config_receive(const struct config *c, const char *peer);
/* Takes the values of *next that can change while the daemon runs; *next is left to be freed.
 * Returns what has changed and needs a restart, in words; the caller frees it; NULL for nothing. */
char *config_reload(struct config *c, struct config *next) must_check;
/* Adds one address to listen on, or "none". */
struct err *config_listen(struct config *c, const char *value) must_check;
