/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor: root, reads nothing but its own roles' messages. It starts the others, knows which
 * migration belongs to whom and who runs the process, asks the kernel who a client is, keeps key
 * and peers, has hooks run. monitor.c: start, roles, signals; asks.c: clients; moves.c: moves.
 */
#pragma once

#include <event2/event.h>

#include "roles/admit.h"
#include "roles/child.h"
#include "roles/config.h"
#include "roles/joins.h"
#include "roles/migrations.h"
#include "roles/rates.h"
#include "roles/state.h"

#define MOVE_ID_BYTES  65
#define LOCAL_IP_BYTES 64

struct monitor;

/* One migration, from either side. */
struct move {
	struct move *next;
	struct monitor *monitor;
	char id[MOVE_ID_BYTES]; /* "" until an incoming one has said it */
	bool receive, dry_run;
	struct asker asker; /* uid 0 for what comes in */
	pid_t pid;          /* source: pinned by start_time */
	uint64_t start_time;
	int64_t began_us;
	Migrate__SendRequest *send; /* source; owned */
	char *comm, *peer;          /* owned; peer: its name */
	int stream_fd; /* the worker's end: until it has it, or (receive) until it ends; -1: none */
	bool kernel_tls;     /* stream_fd is the connection itself: see Connected */
	int interrupt_fd;    /* ours; a byte cancels */
	uint64_t connection; /* net's number; 0: none */
	bool dialling, cancelled, over, told; /* told: to hooks, how it has ended */
	struct child *worker;
	struct hook_job *hooks;  /* running, not yet answered */
	Migrate__Progress *last; /* owned; what the worker said last */
	struct err *why;         /* with doubtful */
	struct err *lost;        /* why a connection ended, as net saw it */
	struct address to;       /* source: whom to dial */
	char *key;               /* owned; the peer's fingerprint; NULL: not connected yet */
	char peer_boot_id[BOOT_ID_BYTES], local_ip[LOCAL_IP_BYTES]; /* source: our end */
	bool doubtful;      /* the worker has said so: not told to anybody yet */
	struct joins joins; /* further connections */
	/* admit.c: destination */
	bool begun; /* the peer has said what it wants */
	int64_t accepted_us;
	uint64_t reserved_bytes;
	struct event *silence;
};

/* control or net, restarted when it dies. */
struct service {
	struct monitor *monitor;
	enum role_kind kind;
	struct child *child;
	bool ready;
	unsigned deaths;
	struct event *again;
};

struct monitor_options {
	const char *control_path, *state_dir, *config_path;
	bool config_required, debug;
	const char *listen[CONFIG_LISTEN_MAX]; /* instead of those of the config */
	size_t n_listen;
};

struct monitor {
	struct event_base *base;
	const struct monitor_options *options;
	struct config config;
	struct state state;
	char boot_id[40];
	int unix_fds[IPC_FDS_MAX], tcp_fds[IPC_FDS_MAX];
	size_t n_unix, n_tcp;
	bool made_socket; /* control_path is ours to remove */
	struct service control, net;
	struct move *moves;
	size_t n_moves;
	struct child *sweeper;
	struct tell *tells;
	struct doubt *doubts;      /* settle.c's */
	struct hook_job *answered; /* move_hooks.c's */
	struct groups *groups;
	struct rates rates;                   /* of peers */
	struct event *always[4], *seen_later; /* of watch_signals; writes down who was seen */
	struct migrations ended; /* for a control that is started anew; without their notes */
	bool ready, ending;
	int status;
};

/* Runs the daemon; returns its exit status. */
int monitor_main(const struct monitor_options *o);
/* Tells control and net the peers, and ends the migrations of those that are none now. */
void monitor_post_peers(struct monitor *m);
/* Our keys have changed. */
void monitor_post_keys(struct monitor *m);
/* A connection to or from a peer is there. */
void monitor_seen(struct monitor *m, const Migrate__Connected *c);
/* Ends the loop if the daemon is ending and nothing is left to wait for. */
void monitor_check_end(struct monitor *m);

static inline bool monitor_debug(const struct monitor *m)
{
	return m->options->debug || m->config.debug;
}

/* asks.c */
void monitor_ask(void *arg, struct ipc_msg *msg);

/* moves.c */
/* Begins to send; *id is for the client. Takes nothing. `who` may do it: checked here. */
struct err *move_begin_send(struct monitor *m, const struct asker *who,
	const Migrate__SendRequest *r, const char **id) must_check;
/* ERR_INVALID: no such migration goes on. */
struct err *move_cancel(struct monitor *m, uint32_t who, const char *id) must_check;
/* Has it end, unless it is committed: an enum why. */
void move_end(struct move *v, char why);
/* One that goes on. NULL if there is none. */
struct move *move_find(struct monitor *m, const char *id, bool receive);
/* The client of a send closed its connection. */
void monitor_client_left(void *arg, struct ipc_msg *msg);
/* Has net dial the peer, for connection `join` (0: the first). *stream_fd is the worker's end, if
 * the answer brings no other. */
struct err *move_dial(struct move *v, uint32_t join, int *stream_fd) must_check;
const char *move_side(const struct move *v);
/* Removes it as soon as it is over and none of its processes is left. */
void move_check_end(struct move *v);
/* move_hooks.c: from its worker */
void move_hook_asked(void *move, struct ipc_msg *msg);
void move_hook_stop(void *move, struct ipc_msg *msg);
void move_hooks_fini(struct move *v);
void monitor_hooks_fini(struct monitor *m);
void moves_remember(struct monitor *m, const Migrate__Done *d);
/* From net; when it has died, what it was dialling will not come. */
void monitor_connected(void *arg, struct ipc_msg *msg);
void monitor_lost(void *arg, struct ipc_msg *msg);
void moves_net_died(struct monitor *m);
/* Tells control the numbers of one migration, or of all (NULL: control is new). */
void moves_tell(struct monitor *m, const char *id);
void moves_tell_ended(struct monitor *m);
void moves_cancel_all(struct monitor *m);
void moves_fini(struct monitor *m);
