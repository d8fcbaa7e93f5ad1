/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the worker role share. */
#pragma once

#include <pthread.h>

#include "engine/hook.h"
#include "engine/network.h"
#include "roles/ipc.h"
#include "roles/journal.h"
#include "roles/policy.h"
#include "roles/unit.h"

#define WORKER_SAY_US 2000000 /* how long the monitor may take to read */

struct worker {
	Migrate__Work *work;
	struct receive_policy policy;
	char *id, *comm; /* owned; NULL until they are known */
	int32_t pid;
	struct pids pids;         /* owned; all of the tree, as far as it is known */
	const char *carrier;      /* of the stream, for status; NULL: there is none */
	struct engine_stats seen; /* the last that the engine reported */
	int64_t said_us;
	bool monitor_gone, monitor_hangs;
	bool no_hooks; /* an answer was waited for in vain: a late one must not pass for the next */
	/* destination: what the monitor has let in */
	uint32_t uid;
	uint64_t reserved_bytes;
	int64_t measured_us;
	struct err *too_much; /* owned; why we have stopped it ourselves */
	bool address_denied;  /* the log has it */
	int interrupt_fd;
	/* That come along, as the engine said last. */
	char addresses[NETWORK_ADDRESSES_MAX][NET_IP_TEXT];
	size_t n_addresses;
	/* Who asks the monitor holds it until the answer is there. */
	pthread_mutex_t asking;
	struct joined *joined;
	struct journal journal;
	/* source */
	const struct unit *unit; /* to be stopped when the original has ended; NULL: none */
	struct err *unit_left;   /* owned; why it was not */
};

/* A further connection; the engine closes the stream, the memory is ours. */
struct joined {
	struct joined *next;
	struct stream stream;
};

/* worker.c */
const char *worker_side(const struct worker *w);
/* A monitor that hangs is waited for once: the process may stand still meanwhile. */
struct err *worker_tell(struct worker *w, const Migrate__Ipc *m) must_check;
/* With a descriptor, which stays ours; -1: without. */
struct err *worker_tell_with(struct worker *w, const Migrate__Ipc *m, int fd) must_check;
void worker_say(struct worker *w, const Migrate__Ipc *m);
/* The answer to what was asked. A connection whose asker has given up may come in between: it is
 * closed. `wanted`: the number of the one that is asked for, 0 for something else. */
struct err *worker_answer(
	const struct worker *w, uint32_t wanted, struct deadline d, struct ipc_msg *ret) must_check;
/* Borrows everything. */
void worker_fill_progress(
	const struct worker *w, const struct engine_stats *s, Migrate__Progress *p);
/* For messages; "" for NULL. */
char *worker_text(const char *s);

/* worker_hooks.c */
struct err *worker_hooks(
	struct worker *w, const struct engine_hook *h, const struct engine_stats *s) must_check;

/* worker_streams.c */
/* engine_io.open_stream */
struct err *worker_open_stream(
	void *worker, unsigned number, struct deadline d, struct stream **ret) must_check;
void worker_close_streams(struct worker *w);
/* A stream of what the monitor has sent. Takes fd. */
struct err *worker_carry(
	const struct worker *w, int fd, bool kernel_tls, struct stream *ret) must_check;

/* worker_rights.c */
/* Asks the monitor to let in so much of this peer. */
struct err *worker_reserve(struct worker *w, uint64_t bytes) must_check;
/* Now and then, while pages come in: more than that interrupts the engine. */
void worker_watch_growth(struct worker *w);
/* engine_io.why */
struct err *worker_why(void *arg, struct err *cancelled) must_check;
/* It stands still: is it, at the source still, at the destination at all, what may be moved? */
struct err *worker_check_rights(const struct worker *w, const char *event) must_check;
/* receive_options.on_address. Of many that are denied the log names the first. */
struct err *worker_check_address(struct worker *w, const struct net_ip *ip) must_check;
/* receive_options.on_processes. */
struct err *worker_check_processes(
	const struct worker *w, const uint32_t *uids, size_t n) must_check;
