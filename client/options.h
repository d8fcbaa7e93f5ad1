/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of migratectl: tables of verbs and options, and what they were set to.
 * An option that is promised but not built yet is known here, so that it is refused with a reason
 * and not as a typing error.
 */
#pragma once

#include "base/err.h"
#include "base/text.h"

#define CONTROL_DEFAULT "/run/migrated/control.sock"
#define ARGS_MAX        3

/* What migratectl's exit status says. */
enum exit_status {
	EXIT_DONE = 0,     /* it runs there now; or the verb did what it says */
	EXIT_KEPT = 1,     /* it runs here still; or the verb did not work */
	EXIT_USAGE = 2,    /* the command line or the request makes no sense, or has not landed */
	EXIT_IN_DOUBT = 3, /* it stands still here and may run there */
};

enum verb {
	VERB_SEND,
	VERB_CHECK,
	VERB_LIST,
	VERB_STATUS,
	VERB_WATCH,
	VERB_CANCEL,
	VERB_RESOLVE,
	VERB_IDENTITY,
	VERB_IDENTITY_ROTATE,
	VERB_IDENTITY_RETIRE,
	VERB_PEER_ADD,
	VERB_PEER_LIST,
	VERB_PEER_REMOVE,
	VERBS,
};

struct options {
	const char *control; /* path of the daemon's socket */
	bool json, help, version;
	enum verb verb; /* VERBS: none was given (help or version) */
	const char *args[ARGS_MAX];
	int n_args;
	int32_t pid;                                 /* the first argument of send and check */
	uint64_t downtime_us, timeout_us, bandwidth; /* 0: the daemon's default */
	uint32_t max_rounds;                         /* 0: the daemon's default */
	uint32_t streams;                            /* 0: what suits both hosts */
	bool force_switch, dry_run;
	const char *unit;
	const char *take_address; /* NULL: auto */
	const char *accept_queue; /* NULL: refuse */
	const char *key;          /* of peer remove: this one only; NULL: the peer */
	bool force;               /* of identity retire */
};

/* Strings of *ret point into argv. INVALID for what is unknown, UNSUPPORTED for what is to come. */
struct err *options_parse(int argc, char **argv, struct options *ret) must_check;
/* Help for one verb, or for all when it is VERBS. */
void options_help(enum verb verb, struct text *out);
const char *verb_name(enum verb v);
