/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line in the log for each decision about who may do what: "audit" and key=value, in a fixed
 * order, what is not known is left out. Other people's words are quoted (text_value), so that a
 * line says what was decided and not what somebody wanted it to say.
 *
 *     audit what=send decision=denied uid=1000 client=4711 peer=b pid=4242 comm=redis reason="..."
 */
#pragma once

#include "roles/policy.h"

struct audit {
	const char *what;        /* "send", "receive", "peer-add", ... */
	const struct asker *who; /* a local user; NULL: nobody here asked */
	const char *from;        /* address of a peer or a stranger */
	const char *peer, *key;  /* name, fingerprint */
	const char *id;          /* of a migration */
	int32_t pid;             /* of the process that it is about */
	const char *comm;
	bool has_uid;
	uint32_t uid;             /* of that process */
	const char *other;        /* more, in words: an argument of the request */
	const struct err *denied; /* why; NULL: it may */
};
void audit(const struct audit *a);
/* The text of that line, without level and tag; the caller frees it. */
char *audit_text(const struct audit *a) must_check;
