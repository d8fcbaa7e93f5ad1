/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of ipc.proto with descriptors between our own processes, over SOCK_SEQPACKET pairs.
 *
 * Two ways to use it: blocking (worker, hooks, children of net) and with an event loop (monitor,
 * control, net), where nothing ever waits for a slow receiver: what does not fit is queued.
 */
#pragma once

#include <event2/event.h>

#include "base/clock.h"
#include "base/err.h"
#include "ipc.pb-c.h"

#define IPC_FD        3 /* where every role but the monitor finds its end */
#define IPC_FDS_MAX   32
#define IPC_BYTES_MAX (256 << 10) /* of one message */
#define IPC_QUEUE_MAX (16 << 20)  /* bytes that wait for one receiver: more means that it hangs */

#define IPC_CASES (MIGRATE__IPC__BODY_TELL + 1)

struct ipc_msg {
	Migrate__Ipc *m;
	int fds[IPC_FDS_MAX]; /* owned; a handler takes what it wants by take_fd */
	size_t n_fds;
	bool no_room; /* there were some, for which this process has no room: they are gone */
};
/* LIMIT if there was no room. */
struct err *ipc_no_room(const struct ipc_msg *msg) must_check;
void ipc_msg_fini(struct ipc_msg *msg);
/* A copy of any message of these; free_unpacked of its type frees it. */
void *ipc_copy(const ProtobufCMessage *m) must_check;
#define autoipc AUTO(ipc_msg_fini)

/* Both ends close-on-exec and with buffers that take IPC_BYTES_MAX (as far as we may). */
struct err *ipc_pair(int fds[2]) must_check;
/* Blocking. A receiver that is gone is GONE; one that does not read until `d` is TIMEOUT. */
struct err *ipc_send(
	int fd, const Migrate__Ipc *m, const int *fds, size_t n_fds, struct deadline d) must_check;
/* Blocking. The end of the other process is GONE; one that says nothing until `d` is TIMEOUT; a
 * message that does not parse is BUG. */
struct err *ipc_recv(int fd, struct deadline d, struct ipc_msg *ret) must_check;

struct ipc;
/* A handler gets the message for the time of the call. */
typedef void (*ipc_handler)(void *arg, struct ipc *from, struct ipc_msg *msg);
struct ipc_handlers {
	/* By Migrate__Ipc__BodyCase; NULL: this one may not come here, the sender is cut off. */
	ipc_handler by_case[IPC_CASES];
	/* The other end is gone, or was cut off for sending nonsense. Must free the ipc (or may end
	 * the loop). */
	void (*closed)(void *arg, struct ipc *from);
};

/* Takes fd. `handlers` must outlive it. */
struct ipc *ipc_new(
	struct event_base *base, int fd, const struct ipc_handlers *handlers, void *arg) must_check;
void ipc_free(struct ipc *p);
/* Queues if it must; descriptors are duplicated for the time in the queue. An error of the receiver
 * shows as `closed`, never here. */
void ipc_post(struct ipc *p, const Migrate__Ipc *m, const int *fds, size_t n_fds);
/* True while something waits to be sent. */
bool ipc_pending(const struct ipc *p);
/* For `closed`: whether there may have been more to read. */
bool ipc_was_cut(const struct ipc *p);
/* Reads and handles what is there already: the last words of a process that has ended. */
void ipc_drain(struct ipc *p);
