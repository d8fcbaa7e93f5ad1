/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is left of a migration when its worker is gone, by its journal: settled at once where this
 * host can tell, else by asking the peer, with back-off, until it answers or the operator decides.
 *
 * The source asks by id in a HELLO of its own; the answer comes from the destination's journal and
 * from what lives there: see fates. Only "running" and "ended" let the source end the original, and
 * only "never" lets it go on.
 */
#pragma once

#include "roles/monitor.h"
#include "roles/recover.h"

struct doubt;

/* What became of a migration at its destination. */
enum fate {
	FATE_UNKNOWN,  /* it was committed, and is gone; nobody can tell whether it ever ran */
	FATE_WAIT,     /* its worker is still at it */
	FATE_RUNNING,  /* it runs there */
	FATE_ENDED,    /* it ran there, and has ended */
	FATE_NEVER,    /* it never ran there, and never will */
	FATE_REBOOTED, /* that host has restarted since */
	FATES,
};
const char *fate_name(enum fate f);
enum fate fate_parse(const char *name); /* FATE_UNKNOWN for what is none */

/* For recover_destination. */
struct recover_host settle_host(const struct monitor *m);
/* When the daemon starts: everything that is in the journal. */
struct err *settle_start(struct monitor *m) must_check;
/* The worker of v is gone. True if v is over; else it is in doubt, and told as such when the peer
 * could not say in time. `e`: why it ended, if the worker has not said so itself; borrowed. */
void settle_move(struct move *v, const struct err *e, enum verdict *ret);
/* Connected with `asked`, from net. */
void settle_answered(struct monitor *m, const Migrate__Connected *c);
/* FateAsk, from net. */
void settle_asked(void *net_service, struct ipc_msg *msg);
void settle_net_died(struct monitor *m);
/* That peer has just been heard of: it is asked now, not at the next try. */
void settle_poke(struct monitor *m, const char *peer);
/* The operator, or who began it, decides. */
struct err *settle_resolve(
	struct monitor *m, uint32_t who, const char *id, const char *where) must_check;
/* The migration in doubt that holds this process here; NULL: none. */
const char *settle_holds(const struct monitor *m, pid_t pid);
/* Tells control about all of them. */
void settle_tell(struct monitor *m, const char *id);
void settle_fini(struct monitor *m);
